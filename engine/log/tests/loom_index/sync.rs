//! loom's locks and atomics under the names of `engine/log/src/sync.rs`.

use loom::sync::{RwLockReadGuard, RwLockWriteGuard};

pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};

/// A lock without poisoning, as parking_lot's.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(loom::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().expect("no thread panics with it held")
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().expect("no thread panics with it held")
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().expect("no thread panics with it held")
    }
}
