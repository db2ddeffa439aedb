//! HTTP/1.1 without sockets: bytes in, verdicts out; values in, bytes out.
//!
//! Invariants: nothing here imports anything of ours outside this module, touches a socket or reads
//! a clock. A verdict depends on the bytes alone, never on how the network split them.

pub mod chunked;
pub mod conditional;
pub mod date;
pub mod fields;
pub mod head;
pub mod host;
pub mod range;
pub mod reject;
pub mod response;
pub mod target;

pub use reject::{Reason, Reject};
