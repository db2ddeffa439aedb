//! Ends the ring thread's wait from any other thread.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Wakes the ring's thread. Cheap to clone; many wakes before the ring looks are one wake-up.
#[derive(Clone, Debug)]
pub struct Waker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// An eventfd. `&File` reads and writes, so no lock is needed.
    event: File,
    /// A wake-up is on its way and the ring has not seen it yet: no second system call.
    signalled: AtomicBool,
}

impl Waker {
    pub(super) fn new() -> io::Result<Waker> {
        // SAFETY: the call takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made and nobody else owns it.
        let event = unsafe { File::from_raw_fd(fd) };
        let signalled = AtomicBool::new(false);
        Ok(Waker { inner: Arc::new(Inner { event, signalled }) })
    }

    /// Ends the current wait, or the next one. Queue the work first, then call this.
    pub fn wake(&self) {
        if self.inner.signalled.swap(true, Ordering::AcqRel) {
            return;
        }
        // Any count but 0 makes it readable, in either byte order. It cannot overflow: the ring
        // resets it before a second signal is possible.
        let written = (&self.inner.event).write(&[1; 8]);
        debug_assert!(written.is_ok());
    }

    /// Takes the wake-up. Whoever calls `wake` from here on signals anew; whoever called it
    /// before has queued its work where the ring's thread now looks.
    pub(super) fn reset(&self) {
        let mut count = [0u8; 8];
        let _ = (&self.inner.event).read(&mut count);
        self.inner.signalled.swap(false, Ordering::AcqRel);
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.event.as_raw_fd()
    }
}
