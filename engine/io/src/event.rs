//! An eventfd: a counter in the kernel that a ring can wait for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

/// Readable from a signal until it is taken. `&File` reads and writes, so no lock is needed.
#[derive(Debug)]
pub(crate) struct EventFd {
    file: File,
}

impl EventFd {
    pub(crate) fn new() -> io::Result<EventFd> {
        // SAFETY: the call takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made and nobody else owns it.
        let file = unsafe { File::from_raw_fd(fd) };
        Ok(EventFd { file })
    }

    /// Makes it readable. Any count but 0 does, in either byte order.
    pub(crate) fn signal(&self) -> io::Result<()> {
        (&self.file).write(&[1; 8]).map(drop)
    }

    /// Makes it unreadable until the next signal.
    pub(crate) fn take(&self) {
        let mut count = [0u8; 8];
        // Nothing to read means that it is so already.
        let _ = (&self.file).read(&mut count);
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
