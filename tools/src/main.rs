//! tapectl: format, inspect, check and load a tapeloop store.
#![forbid(unsafe_code)]

fn main() {}
