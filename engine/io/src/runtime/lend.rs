//! Arena memory to sockets without a copy: its pages go through a pipe.
//!
//! Whoever lends gives up knowing when the pages come back: a client may leave them unread for
//! long, and on the loopback interface they are the very bytes it reads. So a block that was lent
//! is not written to again; see `Block::lend`.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::chunk::Chunk;
use crate::socket::check;

/// Room in the pipe, if the system grants it: 256 pages. With less, less is sent at once.
const PIPE_BYTES: libc::c_int = 1 << 20;

/// The pipe of a runtime. Empty between calls.
#[derive(Default)]
pub(super) struct Lender {
    pipe: RefCell<Option<Pipe>>,
}

struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Lender {
    /// Sends `parts`, all in the arena, as far as there is room in the socket now. At least one.
    pub(super) fn lend<S: AsRawFd>(&self, socket: &S, parts: &[Chunk]) -> io::Result<usize> {
        let mut place = self.pipe.borrow_mut();
        let pipe = match place.take() {
            Some(pipe) => pipe,
            None => Pipe::new()?,
        };
        let filled = pipe.fill(parts)?;
        let sent = pipe.drain(socket, filled);
        if sent.as_ref().is_ok_and(|sent| *sent == filled) {
            // What stayed in it would be the next client's.
            *place = Some(pipe);
        }
        sent
    }
}

impl Pipe {
    fn new() -> io::Result<Pipe> {
        let mut ends = [0; 2];
        // SAFETY: the call writes two descriptors to an array of two.
        check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
        // SAFETY: both were just made and nobody else owns them.
        let [out, into] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: the call takes integers. It may refuse, which costs more calls later.
        let _ = unsafe { libc::fcntl(into.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES) };
        Ok(Pipe { out, into })
    }

    /// Puts the pages of `parts` into the empty pipe, as many as fit.
    fn fill(&self, parts: &[Chunk]) -> io::Result<usize> {
        let iovec = |part: &Chunk| match part {
            Chunk::Arena(block, range) => {
                let bytes = block.lend(range.clone());
                // The kernel only takes the pages; iovec has no const form.
                libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
            }
            Chunk::Read(_) | Chunk::Heap(..) => panic!("only arena memory is lent"),
        };
        let list: Vec<libc::iovec> = parts.iter().map(iovec).collect();
        let flags = libc::SPLICE_F_NONBLOCK;
        // SAFETY: the list outlives the call, and what it names is arena memory, whose pages are
        // not written to any more once they were lent: they may be held for as long as it takes.
        count_of(unsafe { libc::vmsplice(self.into.as_raw_fd(), list.as_ptr(), list.len(), flags) })
    }

    /// Moves up to `filled` bytes from the pipe to the socket, which must be non-blocking: the flag
    /// of the call is about the pipe.
    fn drain<S: AsRawFd>(&self, socket: &S, filled: usize) -> io::Result<usize> {
        let (out, socket, flags) =
            (self.out.as_raw_fd(), socket.as_raw_fd(), libc::SPLICE_F_NONBLOCK);
        let mut sent = 0;
        while sent < filled {
            // SAFETY: two descriptors that are open, no offsets, no memory.
            let moved = unsafe {
                libc::splice(out, ptr::null_mut(), socket, ptr::null_mut(), filled - sent, flags)
            };
            match count_of(moved) {
                Ok(moved) if moved > 0 => sent += moved,
                Err(error) if sent == 0 => return Err(error),
                // Full, or dead: the next call will tell.
                Ok(_) | Err(_) => break,
            }
        }
        Ok(sent)
    }
}

/// What a system call says that gives a count, or -1 and errno.
pub(super) fn count_of(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
