//! A connection and its deadline.
//!
//! The sweeper of its thread shuts it down when the deadline has
//! passed; the operation in flight then ends by itself and its memory comes back.

use super::listener::UNSENT_BYTES_MAX;
use std::cell::Cell;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use tapeloop_engine::{Chunk, Spare, Stream, socket};

/// What happens at the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// Nothing is to be said to an idle client: both directions are shut.
    Idle,
    /// The same for one that has not asked for anything yet.
    IdleFresh,
    /// The same for one that pushes: it is never cut for want of room.
    IdleIngest,
    /// Reading ends, so that the client can still be told why.
    StopReading,
    /// Both directions are shut.
    Cut,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    at_ms: u64,
    expiry: Expiry,
}

const NEVER: Deadline = Deadline { at_ms: u64::MAX, expiry: Expiry::Cut };

/// A connected socket with its deadline.
pub(super) struct Socket {
    stream: Stream,
    deadline: Cell<Deadline>,
    has_expired: Cell<bool>,
    /// It has taken much without delay: the kernel may keep as much for it as it likes.
    is_fast: Cell<bool>,
}

impl Socket {
    pub(super) fn new(stream: Stream) -> Socket {
        // A socket that is already dead says so at the first read.
        let _ = stream.set_nodelay();
        Socket {
            stream,
            deadline: Cell::new(NEVER),
            has_expired: Cell::new(false),
            is_fast: Cell::new(false),
        }
    }

    pub(super) fn set_deadline(&self, at_ms: u64, expiry: Expiry) {
        self.deadline.set(Deadline { at_ms, expiry });
    }

    /// No deadline while we keep the client waiting, not it us.
    pub(super) fn clear_deadline(&self) {
        self.deadline.set(NEVER);
    }

    pub(super) fn is_idle(&self) -> bool {
        let deadline = self.deadline.get();
        let is_idle =
            matches!(deadline.expiry, Expiry::Idle | Expiry::IdleFresh | Expiry::IdleIngest);
        is_idle && deadline.at_ms != u64::MAX
    }

    /// When a client will have been idle for too long, if it may be cut before that: one that only
    /// reads, or one that will have been silent for long since it came, at `fresh_until_ms`.
    pub(super) fn may_be_cut(&self, fresh_until_ms: u64) -> Option<u64> {
        let Deadline { at_ms, expiry } = self.deadline.get();
        match expiry {
            Expiry::Idle => Some(at_ms),
            Expiry::IdleFresh if at_ms <= fresh_until_ms => Some(at_ms),
            _ => None,
        }
    }

    /// True once a deadline has passed.
    pub(super) fn has_expired(&self) -> bool {
        self.has_expired.get()
    }

    /// Called by the sweeper. True when the deadline had passed.
    pub(super) fn sweep(&self, now_ms: u64) -> bool {
        let deadline = self.deadline.get();
        let is_late = now_ms >= deadline.at_ms;
        if is_late {
            self.has_expired.set(true);
            self.clear_deadline();
            match deadline.expiry {
                Expiry::StopReading => self.shut(Shutdown::Read),
                _ => self.shut(Shutdown::Both),
            }
        }
        is_late
    }

    /// Ends both directions; operations in flight complete.
    pub(super) fn cut(&self) {
        self.shut(Shutdown::Both);
    }

    /// Tells the client that nothing more comes.
    pub(super) fn end_sending(&self) {
        self.shut(Shutdown::Write);
    }

    /// Makes the coming close a reset, so that nobody takes what was sent for all there is.
    pub(super) fn reset_on_close(&self) {
        // On failure the close is a plain one; the length or the missing last chunk tells as well.
        let _ = socket::set_reset_on_close(self.stream.as_raw_fd());
    }

    /// Acknowledge what arrives at once: encoders send head and body in small writes.
    pub(super) fn quickack(&self) {
        let _ = socket::set_quickack(self.stream.as_raw_fd());
    }

    /// Reads behind the bytes in `buffer`, whose spare capacity must not be empty.
    pub(super) async fn read(&self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        self.stream.read(buffer).await
    }

    /// Reads into arena memory.
    pub(super) async fn read_spare(&self, spare: Spare) -> (io::Result<usize>, Spare) {
        self.stream.read_spare(spare).await
    }

    /// Writes once; the count may be short.
    pub(super) async fn write(&self, buffer: Vec<u8>, from: usize) -> (io::Result<usize>, Vec<u8>) {
        self.stream.write(buffer, from).await
    }

    /// Writes several chunks once; the count may be short.
    pub(super) async fn write_chunks(&self, parts: Vec<Chunk>) -> (io::Result<usize>, Vec<Chunk>) {
        self.stream.write_chunks(parts).await
    }

    /// Sends as much as there is room for, what is in the arena by reference.
    pub(super) async fn lend_chunks(&self, parts: &[Chunk]) -> io::Result<usize> {
        self.stream.lend_chunks(parts).await
    }

    /// What has been seen of the client: for one that takes what it is given, large writes save
    /// turns; one that does not should keep little waiting.
    pub(super) fn set_fast(&self, is_fast: bool) {
        if self.is_fast.replace(is_fast) != is_fast {
            let max = if is_fast { i32::MAX } else { UNSENT_BYTES_MAX };
            // It only costs more turns, or memory, than it should if the kernel says no.
            let _ = socket::set_unsent_max(self.stream.as_raw_fd(), max);
        }
    }

    /// Waits for room in the send buffer. Nothing is in flight meanwhile, so this may be given up
    /// at any time. A socket that is shut down counts as having room: the next write tells.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    fn shut(&self, how: Shutdown) {
        // ENOTCONN: the client was faster.
        let _ = self.stream.shutdown(how);
    }
}
