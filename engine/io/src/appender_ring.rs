//! The appender's own ring: direct writes, flushes and reads on one volume, from one thread.
//!
//! - One completion per push, carrying the caller's token, in no particular order.
//! - A flush covers the writes whose completion was popped before it was pushed, no others.
//! - The memory of an operation belongs to the ring until the kernel is done with it; dropping
//!   the ring waits for what the kernel already has and discards what it has not. A drive that
//!   does not answer within [`DROP_WAIT_MAX`] keeps the memory: it is never used again.

mod ops;

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};

use crate::BLOCK;
use crate::buffers::AlignedBuf;
use crate::ring_setup::{self, RingFlags, unless_passing};
use crate::volume::VolumeFile;
use crate::waker::Waker;
pub use ops::{Completion, ShortTransfer, WriteSource};
use ops::{Ops, PieceEnd};

/// Bytes in one kernel operation. Larger ones come back as EAGAIN from block devices above
/// 1 MiB and would make others wait behind them.
pub const OPERATION_MAX: usize = 512 * 1024;

/// Operations in one submit. Nothing is left to gain past 16 to 32, and a submit of hundreds
/// holds the thread for milliseconds.
pub const SUBMIT_MAX: usize = 32;

/// Kernel operations (pieces of at most [`OPERATION_MAX`]) that may be queued or in flight.
pub const QUEUE_MAX: usize = 1024;

/// How long a dropped ring waits for a drive that brings nothing to its end.
pub const DROP_WAIT_MAX: Duration = Duration::from_secs(5);

/// The longest wait. Nobody waits so long for nothing; it keeps deadlines representable.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// The smallest ring: two full submits.
const ENTRIES_MIN: u32 = 64;

/// The user data of the poll on the waker. Pieces are numbered from 0.
const WAKE: u64 = u64::MAX;

/// The queue has no room for this push. What was pushed comes back.
#[derive(Debug, thiserror::Error)]
#[error("write ring is full: {queued} of {QUEUE_MAX} operations queued, {needed} more wanted")]
pub struct Full<T> {
    /// What was not taken.
    pub rejected: T,
    /// Operations queued or in flight.
    pub queued: usize,
    /// Operations this push would have added.
    pub needed: usize,
}

/// The ring. It stays on the thread that made it.
pub struct WriteRing {
    ring: IoUring,
    flags: RingFlags,
    volume: Arc<VolumeFile>,
    /// Pieces the kernel may have at once.
    depth: usize,
    in_flight: usize,
    ops: Ops,
    done: VecDeque<Completion>,
    waker: Waker,
    wake_armed: bool,
    woken: bool,
    /// How long to wait for the drive at the end.
    drop_wait: Duration,
    /// SINGLE_ISSUER binds the ring to its thread.
    _not_send: PhantomData<*const ()>,
}

impl WriteRing {
    /// A ring on `volume` that lets the kernel have `depth` operations at once.
    pub fn new(volume: Arc<VolumeFile>, depth: u32) -> io::Result<WriteRing> {
        assert!(depth > 0, "a ring of depth 0 never writes");
        // One entry more than the depth, for the waker's poll: the queue can then never be full.
        let entries = (depth + 1).next_power_of_two().max(ENTRIES_MIN);
        let (ring, flags) = ring_setup::build(entries)?;
        Ok(WriteRing {
            ring,
            flags,
            volume,
            depth: depth as usize,
            in_flight: 0,
            ops: Ops::default(),
            done: VecDeque::new(),
            waker: Waker::new()?,
            wake_armed: false,
            woken: false,
            drop_wait: DROP_WAIT_MAX,
            _not_send: PhantomData,
        })
    }

    /// The set-up flags the kernel took.
    pub fn flags(&self) -> RingFlags {
        self.flags
    }

    /// A handle with which any thread ends a [`submit_and_wait`](Self::submit_and_wait).
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Kernel operations queued or in flight, of [`QUEUE_MAX`].
    pub fn queued(&self) -> usize {
        self.ops.pieces()
    }

    /// Queues a write at `offset`. Panics when offset or source are not whole drive blocks.
    pub fn push_write(
        &mut self,
        token: u64,
        source: WriteSource,
        offset: u64,
    ) -> Result<(), Full<WriteSource>> {
        assert!(offset.is_multiple_of(BLOCK as u64), "write at {offset}, not a block boundary");
        let source = self.check_room(source.len().div_ceil(OPERATION_MAX), source)?;
        self.ops.push_write(token, source, offset);
        Ok(())
    }

    /// Queues an fdatasync. See the module's note on what it covers.
    pub fn push_flush(&mut self, token: u64) -> Result<(), Full<()>> {
        self.check_room(1, ())?;
        self.ops.push_flush(token);
        Ok(())
    }

    /// Queues a read that fills `buf` from `offset`; both must be whole drive blocks.
    pub fn push_read(
        &mut self,
        token: u64,
        buf: AlignedBuf,
        offset: u64,
    ) -> Result<(), Full<AlignedBuf>> {
        assert!(offset.is_multiple_of(BLOCK as u64), "read at {offset}, not a block boundary");
        assert!(buf.len().is_multiple_of(BLOCK), "read of {} bytes, not blocks", buf.len());
        let buf = self.check_room(buf.len().div_ceil(OPERATION_MAX), buf)?;
        self.ops.push_read(token, buf, offset);
        Ok(())
    }

    /// Submits what is queued, then waits until a completion can be popped, the waker is used,
    /// or `timeout` (at most an hour) has passed. Look at the queues that the waker guards after
    /// it returns.
    pub fn submit_and_wait(&mut self, timeout: Duration) -> io::Result<()> {
        let deadline = Instant::now() + timeout.min(WAIT_MAX);
        loop {
            self.arm_waker();
            self.submit_full_batches()?;
            let left = deadline.saturating_duration_since(Instant::now());
            let idle = self.done.is_empty() && !self.woken;
            self.enter(usize::from(idle), left)?;
            self.reap();
            if self.done.is_empty() && !self.woken && !left.is_zero() {
                continue;
            }
            self.woken = false;
            // What the reaping made room for must not wait for the caller's next turn.
            if self.submit_full_batches()? > 0 {
                self.enter(0, Duration::ZERO)?;
            }
            return Ok(());
        }
    }

    /// The next finished push, if any.
    pub fn pop(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }

    /// Bytes of the pushes that have not ended: memory that nobody else may use.
    pub fn bytes_held(&self) -> u64 {
        self.ops.bytes()
    }

    /// Forgets every push of which the kernel has nothing: they will never complete, and their
    /// tokens come back. Those of which it has a part complete with ECANCELED when the kernel is
    /// done with that part.
    pub fn discard_queued(&mut self) -> Vec<u64> {
        self.ops.discard_queued()
    }

    /// The drive hangs: the end of the ring does not wait for it.
    pub fn abandon(&mut self) {
        self.drop_wait = Duration::ZERO;
    }

    fn check_room<T>(&self, needed: usize, pushed: T) -> Result<T, Full<T>> {
        assert!(needed > 0 && needed <= QUEUE_MAX, "one push of {needed} operations");
        let queued = self.ops.pieces();
        if queued + needed > QUEUE_MAX {
            return Err(Full { rejected: pushed, queued, needed });
        }
        Ok(pushed)
    }

    /// Gives the kernel what it may have now in batches of [`SUBMIT_MAX`]. The last, smaller
    /// batch stays staged for the next enter; returns its size.
    fn submit_full_batches(&mut self) -> io::Result<usize> {
        loop {
            let staged = self.stage();
            if staged < SUBMIT_MAX {
                return Ok(staged);
            }
            self.enter(0, Duration::ZERO)?;
        }
    }

    fn stage(&mut self) -> usize {
        let fd = types::Fd(self.volume.as_raw_fd());
        let mut staged = 0;
        while staged < SUBMIT_MAX && self.in_flight < self.depth {
            let Some(entry) = self.ops.next_entry(fd) else { break };
            self.push_entry(&entry);
            self.in_flight += 1;
            staged += 1;
        }
        staged
    }

    fn push_entry(&mut self, entry: &squeue::Entry) {
        // SAFETY: the memory the entry names is owned by `ops` (pieces and their operations are
        // removed only when their completion arrives, or leaked), or the entry names none.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("the ring has more entries than the depth and the waker need");
    }

    fn arm_waker(&mut self) {
        if self.wake_armed {
            return;
        }
        let fd = types::Fd(self.waker.as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).build().user_data(WAKE);
        self.push_entry(&entry);
        self.wake_armed = true;
    }

    /// One io_uring_enter.
    fn enter(&mut self, want: usize, timeout: Duration) -> io::Result<()> {
        let timespec = types::Timespec::from(timeout);
        let args = types::SubmitArgs::new().timespec(&timespec);
        unless_passing(self.ring.submitter().submit_with_args(want, &args))
    }

    /// Takes every completion that is there. With DEFER_TASKRUN one wait brings only a part of
    /// a long queue; the rest comes with the next enter, which then does not block.
    fn reap(&mut self) {
        loop {
            let Some(entry) = self.ring.completion().next() else { return };
            self.complete(entry.user_data(), entry.result());
        }
    }

    fn complete(&mut self, user_data: u64, result: i32) {
        if user_data == WAKE {
            self.wake_armed = false;
            self.woken = true;
            self.waker.reset();
            return;
        }
        assert!(self.in_flight > 0, "a completion without an operation in flight");
        self.in_flight -= 1;
        match self.ops.piece_ended(user_data, result) {
            PieceEnd::OperationDone(completion) => self.done.push_back(completion),
            PieceEnd::Continues => {}
        }
    }
}

impl Drop for WriteRing {
    fn drop(&mut self) {
        self.ops.discard_queued();
        let mut deadline = Instant::now() + self.drop_wait;
        while self.in_flight > 0 {
            let (before, left) = (self.in_flight, deadline - Instant::now().min(deadline));
            if left.is_zero() || self.enter(1, left).is_err() {
                // The kernel may still write to or read from this memory: never free it.
                mem::forget(mem::take(&mut self.ops));
                return;
            }
            self.reap();
            if self.in_flight < before {
                deadline = Instant::now() + self.drop_wait;
            }
        }
    }
}
