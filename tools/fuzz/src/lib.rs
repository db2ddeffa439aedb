//! What the fuzz targets run, as plain functions over bytes: libFuzzer drives them for hours, and
//! `tests/seeds.rs` drives them for seconds in every `cargo test`.
//!
//! Every function here takes any bytes, returns when they were handled well, and panics when a
//! promise was broken. The same bytes always take the same path: a finding replays.
#![forbid(unsafe_code)]

/// What a target may hold, images included: nothing on a drive makes anybody ask for more. Every
/// target's allocator fails beyond its bound, and that ends the run.
pub const MEMORY_MAX: usize = 192 << 20;
/// The same for requests and for structures of the disk format: inputs are a few KiB, and what is
/// made of them is no larger.
pub const DECODER_MEMORY_MAX: usize = 1 << 20;
/// The same for one recovery of a volume of 1.4 MiB, and for the work after it, beside the images.
pub const RECOVERY_MEMORY_MAX: usize = 4 << 20;

pub mod body;
pub mod config;
/// Checks of the decoders of tapeloop-format.
#[path = "../../../engine/format/tests/decoders/mod.rs"]
pub mod decoders;
#[path = "../../src/error.rs"]
#[allow(dead_code, reason = "tapectl's own file: not all of it is used here")]
mod error;
#[path = "../../src/fsck/mod.rs"]
#[allow(dead_code, reason = "tapectl's own file: not all of it is used here")]
mod fsck;
#[path = "../../src/inspect/mod.rs"]
#[allow(dead_code, reason = "tapectl's own file: not all of it is used here")]
mod inspect;
pub mod recovery;
pub mod request;
pub mod splits;
pub mod store;
pub mod tapectl;
#[path = "../../src/units.rs"]
#[allow(dead_code, reason = "tapectl's own file: not all of it is used here")]
mod units;
#[path = "../../src/walk/mod.rs"]
#[allow(dead_code, reason = "tapectl's own file: not all of it is used here")]
mod walk;

use tapectl::{output, progress};
