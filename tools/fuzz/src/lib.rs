//! What the fuzz targets run. The checks themselves live with the tests of the crate they check,
//! where `cargo test` runs them on seeded bytes as well.
#![forbid(unsafe_code)]

/// Checks of the decoders of tapeloop-format.
#[path = "../../../engine/format/tests/decoders/mod.rs"]
pub mod decoders;
