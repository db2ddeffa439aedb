//! Who may take arena memory, so that uploads wait for each other but never for ever.
//!
//! Uploads take blocks one by one. The last `reserve` blocks, enough for one object of the largest
//! size, go only to one upload at a time, the finisher: it can always complete, and gives
//! everything back. So a full arena means waiting sockets, never a deadlock and never a refused
//! PUT. Blocks that a hung drive keeps are counted out, or there would be promises without memory.

use crate::live::Live;
use std::sync::atomic::{AtomicUsize, Ordering};
use tapeloop_io::{ARENA_BLOCK, Arena, BlockWriter};
use tokio::sync::Notify;

/// The gate to the arena.
pub(crate) struct Admission {
    arena: Arena,
    /// Blocks of the largest object.
    reserve: usize,
    /// Blocks held by uploads that are not stored yet.
    held: AtomicUsize,
    /// Blocks that hung drives keep; nobody can have them.
    stuck: AtomicUsize,
    /// The upload that may use the reserve; 0 for none.
    finisher: AtomicUsize,
    next_upload: AtomicUsize,
    room: Notify,
}

/// One upload's claim on the arena. Dropping it gives everything back.
pub(crate) struct Claim {
    id: usize,
    blocks: usize,
}

impl Admission {
    pub(crate) fn new(arena: Arena, reserve: usize) -> Admission {
        assert!(arena.block_count() >= 2 * reserve);
        Admission {
            arena,
            reserve,
            held: AtomicUsize::new(0),
            stuck: AtomicUsize::new(0),
            finisher: AtomicUsize::new(0),
            next_upload: AtomicUsize::new(1),
            room: Notify::new(),
        }
    }

    pub(crate) fn claim(&self) -> Claim {
        Claim { id: self.next_upload.fetch_add(1, Ordering::Relaxed), blocks: 0 }
    }

    /// A block for the upload, if there is one for it now.
    pub(crate) fn block_now(&self, claim: &mut Claim, live: &Live) -> Option<BlockWriter> {
        self.try_block(claim, live)
    }

    /// A block for the upload, when there is one for it.
    pub(crate) async fn block(&self, claim: &mut Claim, live: &Live) -> BlockWriter {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            if let Some(block) = self.try_block(claim, live) {
                // Two blocks freed before two waiters slept leave one wake-up: pass it on.
                if self.arena.free_blocks() > 0 {
                    self.arena.freed().notify_one();
                }
                return block;
            }
            let freed = self.arena.freed().notified();
            tokio::select! {
                () = room => {}
                () = freed => {}
            }
        }
    }

    fn try_block(&self, claim: &mut Claim, live: &Live) -> Option<BlockWriter> {
        if !self.may_hold_one_more(claim) {
            return None;
        }
        loop {
            if let Some(block) = self.arena.try_alloc() {
                claim.blocks += 1;
                return Some(block);
            }
            if !live.evict_oldest() {
                // Readers hold what was evicted; their blocks come back one by one.
                self.held.fetch_sub(1, Ordering::AcqRel);
                return None;
            }
        }
    }

    fn may_hold_one_more(&self, claim: &Claim) -> bool {
        let finishing = self.finisher.load(Ordering::Acquire) == claim.id;
        let all = self.arena.block_count() - self.stuck.load(Ordering::Acquire);
        let limit = if finishing { all } else { all - self.reserve };
        let below = |held: usize| (held < limit).then_some(held + 1);
        if self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, below).is_ok() {
            return true;
        }
        let role = self.finisher.compare_exchange(0, claim.id, Ordering::AcqRel, Ordering::Acquire);
        role.is_ok() && self.may_hold_one_more(claim)
    }

    /// The upload is stored or has failed: its blocks are no longer an upload's.
    pub(crate) fn release(&self, claim: Claim) {
        self.held.fetch_sub(claim.blocks, Ordering::AcqRel);
        let _ = self.finisher.compare_exchange(claim.id, 0, Ordering::AcqRel, Ordering::Acquire);
        self.room.notify_waiters();
    }

    /// Drives that hang keep so many bytes of the arena. What they keep beyond half of it is not
    /// counted: the reserve must stay.
    pub(crate) fn set_stuck(&self, bytes: u64) {
        let blocks = usize::try_from(bytes / ARENA_BLOCK as u64).unwrap_or(usize::MAX);
        let most = self.arena.block_count() - self.reserve;
        self.stuck.store(blocks.min(most), Ordering::Release);
        self.room.notify_waiters();
    }

    /// Blocks held by uploads, and all.
    pub(crate) fn usage(&self) -> (usize, usize) {
        (self.held.load(Ordering::Relaxed), self.arena.block_count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapeloop_io::ARENA_BLOCK;

    #[test]
    fn uploads_that_fill_the_arena_wait_and_one_of_them_can_always_finish() {
        let arena = Arena::new(8 * ARENA_BLOCK).expect("memory");
        let (admission, live) = (Admission::new(arena, 3), Live::new());
        let (mut first, mut second) = (admission.claim(), admission.claim());
        let mut blocks = Vec::new();
        for _ in 0..5 {
            blocks.push(admission.try_block(&mut first, &live).expect("below the reserve"));
        }
        for _ in 0..3 {
            blocks.push(admission.try_block(&mut first, &live).expect("the finisher's reserve"));
            assert!(admission.try_block(&mut second, &live).is_none(), "not the second's");
        }
        assert!(admission.try_block(&mut first, &live).is_none(), "8 blocks are 8 blocks");
        drop(blocks);
        admission.release(first);
        assert!(admission.try_block(&mut second, &live).is_some());
        assert_eq!(admission.usage(), (1, 8));
    }

    #[test]
    fn memory_that_a_hung_drive_keeps_is_promised_to_nobody() {
        let arena = Arena::new(8 * ARENA_BLOCK).expect("memory");
        let (admission, live) = (Admission::new(arena, 3), Live::new());
        let mut stuck_claim = admission.claim();
        let take = |claim: &mut Claim| admission.try_block(claim, &live);
        let stuck = [(); 2].map(|()| take(&mut stuck_claim).expect("free"));
        admission.set_stuck(2 * ARENA_BLOCK as u64);
        admission.release(stuck_claim);
        let (mut first, mut second) = (admission.claim(), admission.claim());
        let held = [(); 3].map(|()| take(&mut first).expect("8 less 2 stuck less the reserve"));
        let finishing = [(); 3].map(|()| take(&mut second).expect("the finisher's reserve"));
        assert!(take(&mut first).is_none() && take(&mut second).is_none());
        drop((held, finishing, stuck));
        admission.release(first);
        admission.release(second);
        admission.set_stuck(0);
        let mut all = admission.claim();
        let blocks: Vec<_> = std::iter::from_fn(|| take(&mut all)).collect();
        assert_eq!(blocks.len(), 8, "the drive has answered");
    }
}
