//! Who holds which arena block: reference counts and the free list, without the memory.
//!
//! Invariant: a slot is either on the free list with count 0, or held with count >= 1. It moves
//! to the free list exactly once, by the thread that dropped the last handle. `tests/loom_arena.rs`
//! runs this file through every order of the steps of a few threads.

use crate::sync::{AtomicBool, AtomicU32, AtomicUsize, Mutex, Ordering, fence};

/// Far above any honest number of handles to one block, far below overflow.
const REFS_MAX: u32 = 1 << 30;

/// One block's state. On its own cache line: neighbours belong to other objects and cores.
#[repr(align(64))]
struct Slot {
    refs: AtomicU32,
    /// Bytes from the block's start that readers may see. Only the one writer raises it.
    published: AtomicU32,
    /// The writer is gone and the tail up to the next 4 KiB boundary is zero.
    sealed: AtomicBool,
    /// The network may hold its pages.
    lent: AtomicBool,
}

pub(crate) struct Slots {
    slots: Box<[Slot]>,
    /// Last in, first out: the block freed last is the one still warm in the cache.
    free: Mutex<Vec<u32>>,
    /// Follows `free.len()`, so that gauges do not take the lock.
    free_count: AtomicUsize,
}

impl Slots {
    pub(crate) fn new(count: usize) -> Slots {
        let count_u32 = u32::try_from(count).expect("fewer than 2^32 arena blocks");
        let slots = (0..count)
            .map(|_| Slot {
                refs: AtomicU32::new(0),
                published: AtomicU32::new(0),
                sealed: AtomicBool::new(false),
                lent: AtomicBool::new(false),
            })
            .collect();
        // Reversed, so that a fresh arena is filled from its start.
        let free = (0..count_u32).rev().collect();
        Slots { slots, free: Mutex::new(free), free_count: AtomicUsize::new(count) }
    }

    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn free_count(&self) -> usize {
        self.free_count.load(Ordering::Relaxed)
    }

    /// Takes a free slot, with one handle on it and nothing published.
    pub(crate) fn take(&self) -> Option<u32> {
        let index = {
            let mut free = self.free.lock();
            let index = free.pop()?;
            self.free_count.store(free.len(), Ordering::Relaxed);
            index
        };
        let slot = &self.slots[index as usize];
        slot.published.store(0, Ordering::Relaxed);
        slot.sealed.store(false, Ordering::Relaxed);
        let before = slot.refs.swap(1, Ordering::Relaxed);
        assert_eq!(before, 0, "arena block {index} was on the free list while held");
        Some(index)
    }

    /// One more handle, made from an existing one.
    pub(crate) fn retain(&self, index: u32) {
        let before = self.slots[index as usize].refs.fetch_add(1, Ordering::Relaxed);
        assert!(before > 0 && before < REFS_MAX, "arena block {index}: {before} handles");
    }

    /// The count of one slot, for [`release`].
    pub(crate) fn refs(&self, index: u32) -> &AtomicU32 {
        &self.slots[index as usize].refs
    }

    /// Puts a slot back whose last handle is gone. Called once for every `release` that said so.
    pub(crate) fn give_back(&self, index: u32) {
        assert_eq!(self.slots[index as usize].refs.load(Ordering::Relaxed), 0);
        let mut free = self.free.lock();
        assert!(free.len() < self.slots.len());
        free.push(index);
        self.free_count.store(free.len(), Ordering::Relaxed);
    }

    pub(crate) fn published(&self, index: u32) -> usize {
        self.slots[index as usize].published.load(Ordering::Acquire) as usize
    }

    /// Makes the first `len` bytes visible. Called by the one writer, after it wrote them.
    pub(crate) fn publish(&self, index: u32, len: usize) {
        let published = &self.slots[index as usize].published;
        let len = u32::try_from(len).expect("a block is shorter than 4 GiB");
        assert!(len >= published.load(Ordering::Relaxed), "published bytes never shrink");
        published.store(len, Ordering::Release);
    }

    pub(crate) fn seal(&self, index: u32) {
        self.slots[index as usize].sealed.store(true, Ordering::Release);
    }

    /// Its pages go to the network by reference. Called by who holds the slot.
    pub(crate) fn lend(&self, index: u32) {
        self.slots[index as usize].lent.store(true, Ordering::Relaxed);
    }

    /// Whether they did, and no longer matter from now on. Called by who dropped the last handle:
    /// that has ordered all the others' stores before this.
    pub(crate) fn take_lent(&self, index: u32) -> bool {
        let lent = &self.slots[index as usize].lent;
        let was_lent = lent.load(Ordering::Relaxed);
        if was_lent {
            lent.store(false, Ordering::Relaxed);
        }
        was_lent
    }

    pub(crate) fn is_sealed(&self, index: u32) -> bool {
        self.slots[index as usize].sealed.load(Ordering::Acquire)
    }
}

/// One handle less. True when it was the last: the caller then gives the slot back.
///
/// It takes the counter alone, not the table: as soon as the count is down, another thread may
/// drop the last handle and with it the whole table.
pub(crate) fn release(refs: &AtomicU32) -> bool {
    let before = refs.fetch_sub(1, Ordering::Release);
    assert!(before > 0, "an arena block was released more often than held");
    if before > 1 {
        return false;
    }
    // Every other holder's last access happens before the block can be handed out again.
    fence(Ordering::Acquire);
    true
}
