//! Read buffers of one runtime: two classes, a fixed count of each, shared out evenly among the
//! drives, and first come first served within a share. So a drive that hangs with reads in flight
//! keeps no other drive's readers waiting for memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::iter;
use std::ops::{Deref, Range};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::driver::Registration;
use crate::buffers::{AlignedBuf, READ_BUF, SMALL_PER_LARGE, SMALL_READ_BUF};

/// Buffers that one runtime registers at most; the kernel takes 16,384.
const BUFFERS_MAX: usize = 1024;

/// A large buffer and its small ones.
const SET: usize = 1 + SMALL_PER_LARGE;

/// The pool. Clones share it; it stays on its thread.
#[derive(Clone)]
pub struct ReadPool {
    small: Rc<Class>,
    large: Rc<Class>,
    registered: usize,
}

struct Class {
    /// For each drive, one permit per buffer of its share. It hands out turns fairly; the buffer
    /// may follow a moment later, when a dropped read left it with the kernel.
    turns: Box<[Arc<Semaphore>]>,
    store: Rc<Store>,
}

struct Store {
    /// Those that the kernel knows at the end, from which they are taken.
    free: RefCell<VecDeque<Numbered>>,
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
    /// same number for each drive. As many of them are registered with this thread's ring as the
    /// memory-lock limit allows.
    pub(crate) fn new(large: usize, drives: usize) -> io::Result<ReadPool> {
        let share = large.checked_div(drives).unwrap_or(0);
        let large = share * drives;
        let small = large * SMALL_PER_LARGE;
        if large == 0 || large * SET > BUFFERS_MAX {
            let most = BUFFERS_MAX / SET;
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{large} read buffers for a runtime with {drives} drives: 1 to {most}"),
            ));
        }
        let mut large_bufs: Vec<_> = (0..large).map(|_| AlignedBuf::zeroed(READ_BUF)).collect();
        let mut small_bufs: Vec<_> =
            (0..small).map(|_| AlignedBuf::zeroed(SMALL_READ_BUF)).collect();
        let iovec = |buf: &mut AlignedBuf| libc::iovec {
            iov_base: buf.as_mut_ptr().cast(),
            iov_len: buf.len(),
        };
        // In sets of a large one and its small ones: both classes are registered to the same share.
        let sets = large_bufs.iter_mut().zip(small_bufs.chunks_mut(SMALL_PER_LARGE));
        let memory: Vec<_> =
            sets.flat_map(|(large, small)| iter::once(large).chain(small).map(iovec)).collect();
        let registered = as_many_as_allowed(large, |sets| {
            // SAFETY: the registration lives in the stores, and a buffer that is out keeps its
            // store.
            unsafe { super::driver().register(&memory[..sets * SET]) }
        })?;
        let (registration, sets) = match registered {
            Some((registration, sets)) => (Some(Rc::new(registration)), sets),
            None => (None, 0),
        };
        let class = |bufs: Vec<AlignedBuf>, per_set: usize, first_in_set: usize| {
            let count = bufs.len();
            let number = |at: usize| {
                let (set, in_set) = (at / per_set, first_in_set + at % per_set);
                (set < sets).then(|| u16::try_from(set * SET + in_set).expect("at most 1024"))
            };
            let numbered = bufs.into_iter().enumerate();
            let numbered = numbered.map(|(at, buf)| Numbered { buf, number: number(at) });
            let store = Rc::new(Store::new(registration.clone()));
            numbered.for_each(|buf| store.put(buf));
            let turns = (0..drives).map(|_| Arc::new(Semaphore::new(count / drives))).collect();
            Rc::new(Class { turns, store })
        };
        let (large, small) = (class(large_bufs, 1, 0), class(small_bufs, SMALL_PER_LARGE, 1));
        Ok(ReadPool { small, large, registered: sets })
    }

    /// Large buffers that the kernel knows (no page pinning per read), and eight times as many
    /// small ones.
    pub fn registered(&self) -> usize {
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

/// Registers `sets`, or fewer where the memory-lock limit is lower, or none where there is no
/// registering at all: plain buffers do the same work for more CPU.
fn as_many_as_allowed<T>(
    mut sets: usize,
    register: impl Fn(usize) -> io::Result<T>,
) -> io::Result<Option<(T, usize)>> {
    while sets > 0 {
        let error = match register(sets) {
            Ok(registration) => return Ok(Some((registration, sets))),
            Err(error) => error,
        };
        sets = match error.raw_os_error() {
            // Over RLIMIT_MEMLOCK, of which other rings may have a part: nobody says how far.
            Some(libc::ENOMEM) => sets * 3 / 4,
            // EPERM and EOPNOTSUPP: seen from sandboxes. EBUSY: this ring has buffers already (a
            // second reader on one runtime).
            Some(libc::EPERM | libc::EOPNOTSUPP | libc::EBUSY) => 0,
            _ => return Err(error),
        };
    }
    Ok(None)
}

impl Class {
    fn free(&self) -> usize {
        self.turns.iter().map(|turns| turns.available_permits()).sum()
    }
}

impl Store {
    fn new(registration: Option<Rc<Registration>>) -> Store {
        let free = RefCell::default();
        Store { free, returned: Notify::new(), _registration: registration }
    }

    fn put(&self, buf: Numbered) {
        let mut free = self.free.borrow_mut();
        match buf.number {
            Some(_) => free.push_back(buf),
            None => free.push_front(buf),
        }
    }

    async fn next(self: &Rc<Self>) -> PoolBuf {
        loop {
            let free = self.free.borrow_mut().pop_back();
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
        self.home.put(self.buf.take().expect("present until dropped"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_the_kernel_knows_are_taken_before_others_also_when_others_came_back_last() {
        let store = Rc::new(Store::new(None));
        for number in [Some(7), None, Some(8), None] {
            store.put(Numbered { buf: AlignedBuf::zeroed(1), number });
        }
        let numbers = super::super::block_on(8, async {
            let taken = [store.next().await, store.next().await, store.next().await];
            taken.each_ref().map(PoolBuf::number)
        });
        assert_eq!(numbers.expect("a ring"), [Some(8), Some(7), None]);
    }

    #[test]
    fn as_many_buffers_are_registered_as_the_memory_lock_limit_allows() {
        let registered = |limit: usize, errno: i32| {
            let register = |sets: usize| match sets <= limit {
                true => Ok(()),
                false => Err(io::Error::from_raw_os_error(errno)),
            };
            as_many_as_allowed(64, register).map(|found| found.map(|((), sets)| sets))
        };
        assert_eq!(registered(64, libc::ENOMEM).expect("allowed"), Some(64));
        assert_eq!(registered(30, libc::ENOMEM).expect("allowed"), Some(27), "64, 48, 36, 27");
        assert_eq!(registered(1, libc::ENOMEM).expect("allowed"), Some(1));
        assert_eq!(registered(0, libc::ENOMEM).expect("plain ones"), None);
        assert_eq!(registered(30, libc::EBUSY).expect("plain ones"), None);
        registered(30, libc::EINVAL).expect_err("a mistake of ours");
    }
}
