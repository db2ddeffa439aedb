//! What the fuzz targets run, as plain functions over bytes: libFuzzer drives them for hours, and
//! `tests/seeds.rs` drives them for seconds in every `cargo test`.
//!
//! Every function here takes any bytes, returns when they were handled well, and panics when a
//! promise was broken. The same bytes always take the same path: a finding replays.
#![forbid(unsafe_code)]

/// What a target may hold, images included: nothing on a drive or in a request makes anybody ask for
/// more. Every target's allocator fails beyond it, and that ends the run.
pub const MEMORY_MAX: usize = 192 << 20;

pub mod body;
pub mod config;
/// Checks of the decoders of tapeloop-format.
#[path = "../../../engine/format/tests/decoders/mod.rs"]
pub mod decoders;
pub mod recovery;
pub mod request;
pub mod splits;
pub mod store;
