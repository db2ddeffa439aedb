//! Criterion benches and the side-by-side comparison harness.
#![forbid(unsafe_code)]

fn main() {}
