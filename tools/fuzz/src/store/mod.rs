//! Small stores in memory for the targets that read volumes: images that the real log wrote, edits
//! that the fuzzer chooses, and the log opened over what came of it.

pub mod disk;
pub mod edit;
pub mod image;
pub mod session;
pub mod sign;

/// The store of all images.
pub use crate::decoders::STORE;
