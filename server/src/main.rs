//! The tapeloop origin server.
#![forbid(unsafe_code)]

fn main() {}
