//! What threads share here is built from these locks and atomics and no others, so that the models
//! in `tests/loom_*.rs` can compile the very same files over loom's.

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};

pub(crate) use parking_lot::Mutex;
pub(crate) use tokio::sync::Notify;
