//! Read buffers of one runtime: two classes, a fixed count of each, shared out evenly among the
//! drives, and first come first served within a share. So a drive that hangs with reads in flight
//! keeps no other drive's readers waiting for memory.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::driver::Registration;
use crate::buffers::{AlignedBuf, READ_BUF, SMALL_PER_LARGE, SMALL_READ_BUF};

/// Buffers that one runtime registers at most; the kernel takes 16,384.
const BUFFERS_MAX: usize = 1024;

/// The pool. Clones share it; it stays on its thread.
#[derive(Clone)]
pub struct ReadPool {
    small: Rc<Class>,
    large: Rc<Class>,
    registered: bool,
}

struct Class {
    /// For each drive, one permit per buffer of its share. It hands out turns fairly; the buffer
    /// may follow a moment later, when a dropped read left it with the kernel.
    turns: Box<[Arc<Semaphore>]>,
    store: Rc<Store>,
}

struct Store {
    free: RefCell<Vec<Numbered>>,
    returned: Notify,
    /// As long as the kernel knows the buffers, they stay at home or with who has them.
    _registration: Option<Rc<Registration>>,
}

/// A buffer, and the number by which the kernel knows it.
struct Numbered {
    buf: AlignedBuf,
    number: Option<u16>,
}

impl ReadPool {
    /// At most `large` buffers of [`READ_BUF`] and eight times as many of [`SMALL_READ_BUF`], the
    /// same number for each drive, registered with this thread's ring if the memory-lock limit
    /// allows it.
    pub(crate) fn new(large: usize, drives: usize) -> io::Result<ReadPool> {
        let share = large.checked_div(drives).unwrap_or(0);
        let large = share * drives;
        let small = large * SMALL_PER_LARGE;
        if large == 0 || large + small > BUFFERS_MAX {
            let most = BUFFERS_MAX / (SMALL_PER_LARGE + 1);
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{large} read buffers for a runtime with {drives} drives: 1 to {most}"),
            ));
        }
        let make = |count: usize, len: usize| (0..count).map(move |_| AlignedBuf::zeroed(len));
        let mut large_bufs: Vec<_> = make(large, READ_BUF).collect();
        let mut small_bufs: Vec<_> = make(small, SMALL_READ_BUF).collect();
        let iovec = |buf: &mut AlignedBuf| libc::iovec {
            iov_base: buf.as_mut_ptr().cast(),
            iov_len: buf.len(),
        };
        let memory: Vec<_> = large_bufs.iter_mut().chain(&mut small_bufs).map(iovec).collect();
        // SAFETY: the registration lives in the stores, and a buffer that is out keeps its store.
        let registration = match unsafe { super::driver().register(&memory) } {
            Ok(registration) => Some(Rc::new(registration)),
            // ENOMEM: over RLIMIT_MEMLOCK. EPERM and EOPNOTSUPP: seen from sandboxes. EBUSY: this
            // ring has buffers already (a second reader on one runtime). Plain
            // buffers do the same work for more CPU.
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOMEM | libc::EPERM | libc::EOPNOTSUPP | libc::EBUSY) => None,
                _ => return Err(error),
            },
        };
        let registered = registration.is_some();
        let class = |bufs: Vec<AlignedBuf>, number_first: usize| {
            let count = bufs.len();
            let number = |at: usize| u16::try_from(number_first + at).expect("at most 1024");
            let numbered = bufs.into_iter().enumerate().map(|(at, buf)| {
                let number = registered.then(|| number(at));
                Numbered { buf, number }
            });
            let free = RefCell::new(numbered.collect());
            let _registration = registration.clone();
            let store = Rc::new(Store { free, returned: Notify::new(), _registration });
            let turns = (0..drives).map(|_| Arc::new(Semaphore::new(count / drives))).collect();
            Rc::new(Class { turns, store })
        };
        let (large, small) = (class(large_bufs, 0), class(small_bufs, large));
        Ok(ReadPool { small, large, registered })
    }

    /// Whether the kernel knows the buffers (no page pinning per read).
    pub fn registered(&self) -> bool {
        self.registered
    }

    /// Large buffers nobody holds.
    pub fn free_large(&self) -> usize {
        self.large.free()
    }

    /// Small buffers nobody holds.
    pub fn free_small(&self) -> usize {
        self.small.free()
    }

    /// A buffer for `len` bytes of one drive, in turn.
    pub(super) async fn get(&self, drive: usize, len: usize) -> Lease {
        assert!(len <= READ_BUF, "a read of {len} bytes, the largest buffer has {READ_BUF}");
        let class = if len <= SMALL_READ_BUF { &self.small } else { &self.large };
        let turn = Arc::clone(&class.turns[drive]).acquire_owned().await.expect("never closed");
        let buf = class.store.next().await;
        Lease { buf, turn }
    }
}

impl Class {
    fn free(&self) -> usize {
        self.turns.iter().map(|turns| turns.available_permits()).sum()
    }
}

impl Store {
    async fn next(self: &Rc<Self>) -> PoolBuf {
        loop {
            let free = self.free.borrow_mut().pop();
            if let Some(buf) = free {
                return PoolBuf { buf: Some(buf), home: Rc::clone(self) };
            }
            self.returned.notified().await;
        }
    }
}

impl fmt::Debug for ReadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadPool")
            .field("registered", &self.registered)
            .field("free_large", &self.free_large())
            .field("free_small", &self.free_small())
            .finish()
    }
}

/// A buffer taken from the pool and the right to it. The buffer goes back first.
pub(super) struct Lease {
    pub(super) buf: PoolBuf,
    pub(super) turn: OwnedSemaphorePermit,
}

/// A pool buffer. It finds its way home from wherever it is dropped, also from the driver's list of
/// abandoned operations.
pub(super) struct PoolBuf {
    buf: Option<Numbered>,
    home: Rc<Store>,
}

impl PoolBuf {
    fn numbered(&self) -> &Numbered {
        self.buf.as_ref().expect("present until dropped")
    }

    /// Its bytes, in whole.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.numbered().buf
    }

    /// The same to be written to.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf.as_mut().expect("present until dropped").buf
    }

    /// The number by which the kernel knows it, if it does.
    pub(super) fn number(&self) -> Option<u16> {
        self.numbered().number
    }
}

impl Drop for PoolBuf {
    fn drop(&mut self) {
        self.home.free.borrow_mut().extend(self.buf.take());
        self.home.returned.notify_one();
    }
}

/// Bytes read from a volume. Clones and slices share one pooled buffer, which returns to the
/// pool with the last of them.
#[derive(Clone)]
pub struct ReadBuf {
    lease: Rc<Lease>,
    range: Range<usize>,
}

impl ReadBuf {
    pub(super) fn new(lease: Lease, len: usize) -> ReadBuf {
        ReadBuf { lease: Rc::new(lease), range: 0..len }
    }

    /// The part at `range` of these bytes, in the same buffer.
    pub fn slice(&self, range: Range<usize>) -> ReadBuf {
        let len = self.len();
        assert!(range.start <= range.end && range.end <= len, "bytes {range:?} of a read of {len}");
        let start = self.range.start;
        ReadBuf { lease: Rc::clone(&self.lease), range: start + range.start..start + range.end }
    }
}

impl Deref for ReadBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.lease.buf.bytes()[self.range.clone()]
    }
}

impl fmt::Debug for ReadBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadBuf({} bytes)", self.len())
    }
}
