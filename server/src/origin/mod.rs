//! Media semantics: what a request means for the store, and what an object means to a player.
//!
//! Bytes come judged from `http`, objects come verified from the engine; this module decides
//! status, headers and life. It touches no socket and reads no clock.

pub mod cache;
pub mod failure;
pub mod media;
pub mod metadata;
pub mod request;
pub mod respond;

pub use failure::Failure;
