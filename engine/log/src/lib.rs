//! The log of tapeloop as a pure state machine.
#![forbid(unsafe_code)]
