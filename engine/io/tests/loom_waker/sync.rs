//! loom's atomics under the names of `engine/io/src/sync.rs`.

pub(crate) use loom::sync::Arc;
pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};
