//! Ends the ring thread's wait from any other thread. `tests/loom_waker.rs` runs this file through
//! every order of its steps.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use crate::event::EventFd;
use crate::sync::{Arc, AtomicBool, Ordering};

/// Wakes the ring's thread. Cheap to clone; many wakes before the ring looks are one wake-up.
#[derive(Clone, Debug)]
pub struct Waker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    event: EventFd,
    /// A wake-up is on its way and the ring has not seen it yet: no second system call.
    signalled: AtomicBool,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        let inner = Inner { event: EventFd::new()?, signalled: AtomicBool::new(false) };
        Ok(Waker { inner: Arc::new(inner) })
    }

    /// Ends the current wait, or the next one. Queue the work first, then call this.
    pub fn wake(&self) {
        if self.inner.signalled.swap(true, Ordering::AcqRel) {
            return;
        }
        // The count cannot overflow: the ring takes it before a second signal is possible.
        let signalled = self.inner.event.signal();
        debug_assert!(signalled.is_ok());
    }

    /// Takes the wake-up. Whoever calls `wake` from here on signals anew; whoever called it
    /// before has queued its work where the ring's thread now looks.
    ///
    /// In this order: were the flag lowered first, a `wake` in between would raise it again, its
    /// signal would be taken here, and no later `wake` would signal any more.
    pub(crate) fn reset(&self) {
        self.inner.event.take();
        self.inner.signalled.swap(false, Ordering::AcqRel);
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.event.as_raw_fd()
    }
}
