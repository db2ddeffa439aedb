//! What threads share here is built from these locks and atomics and no others, so that the model
//! in `tests/loom_index.rs` can compile the very same files over loom's.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use parking_lot::RwLock;
