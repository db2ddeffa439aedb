//! The payload of one object in the arena, from its first byte on: written by one upload, read by
//! any number of followers, and later the live edge.
//!
//! Invariants: every block but the last is full, so block i is payload chunk i. `received` only
//! grows. The blocks may be taken away (the arena wraps) only once the object is stored on the
//! drive.

use crate::error::ReadError;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tapeloop_format::{Key, KeyHash};
use tapeloop_io::{ARENA_BLOCK, Block, Chunk};
use tapeloop_log::Location;
use tokio::sync::watch;

/// From this many readers on, bytes leave by reference. New pages for a block cost as much as eight
/// copies of it: whoever has been copied so often is likely to have cost less than twice the best.
const READERS_MANY: u32 = 8;

/// How far an upload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) received: u64,
    pub(crate) state: BodyState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyState {
    /// More may come.
    Receiving,
    /// Complete, durable and published.
    Stored,
    /// Will never be an object.
    Failed,
}

/// What is known once the object is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    pub(crate) location: Location,
    pub(crate) expires_ms: u64,
    pub(crate) content_hash: [u8; 16],
    pub(crate) stored_ms: u64,
}

/// One payload.
pub(crate) struct Body {
    pub(crate) key: Key,
    pub(crate) hash: KeyHash,
    pub(crate) metadata: Arc<[u8]>,
    pub(crate) created_wall_ms: u64,
    blocks: RwLock<Vec<Block>>,
    stored: OnceLock<Stored>,
    /// What its readers keep with it.
    pub(crate) note: OnceLock<Box<[u8]>>,
    received: AtomicU64,
    /// How often it, or a range of it, has been read from memory.
    readers: AtomicU32,
    progress: watch::Sender<Progress>,
}

impl Body {
    pub(crate) fn new(key: Key, hash: KeyHash, metadata: Arc<[u8]>, created_wall_ms: u64) -> Body {
        let progress = Progress { received: 0, state: BodyState::Receiving };
        Body {
            key,
            hash,
            metadata,
            created_wall_ms,
            blocks: RwLock::new(Vec::new()),
            stored: OnceLock::new(),
            note: OnceLock::new(),
            received: AtomicU64::new(0),
            readers: AtomicU32::new(0),
            progress: watch::Sender::new(progress),
        }
    }

    pub(crate) fn push_block(&self, block: Block) {
        self.blocks.write().push(block);
    }

    /// `n` more bytes are in the blocks: followers are woken.
    pub(crate) fn advance(&self, n: u64) {
        let received = self.received.fetch_add(n, Ordering::Release) + n;
        self.progress.send_modify(|progress| progress.received = received);
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// One more reader; true when there have been many, so that others will come.
    pub(crate) fn count_reader(&self) -> bool {
        self.readers.fetch_add(1, Ordering::Relaxed) >= READERS_MANY
    }

    /// The object is on the drive, here. Nobody is told yet.
    pub(crate) fn set_stored(&self, stored: Stored) {
        let first = self.stored.set(stored).is_ok();
        assert!(first, "an upload is stored once");
    }

    /// Followers come to a clean end.
    pub(crate) fn end_stored(&self) {
        assert!(self.stored().is_some());
        self.progress.send_modify(|progress| progress.state = BodyState::Stored);
    }

    /// Followers are told that it never will be an object; its memory returns.
    pub(crate) fn end_failed(&self) {
        self.progress.send_modify(|progress| progress.state = BodyState::Failed);
        self.blocks.write().clear();
    }

    pub(crate) fn stored(&self) -> Option<&Stored> {
        self.stored.get()
    }

    pub(crate) fn follow(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// The blocks, for the drive.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        self.blocks.read().clone()
    }

    /// The arena takes its memory back; readers go on from the drive.
    pub(crate) fn evict(&self) -> usize {
        assert!(self.stored().is_some(), "only the drive's copy makes the arena's superfluous");
        std::mem::take(&mut *self.blocks.write()).len()
    }

    /// False once its blocks have been taken away.
    pub(crate) fn is_in_arena(&self) -> bool {
        !self.blocks.read().is_empty()
    }

    /// Received bytes from `position` on, at most to `end` and at most to the end of their block.
    /// `None` once the blocks have been taken away.
    pub(crate) fn chunk(&self, position: u64, end: u64) -> Option<Chunk> {
        let end = end.min(self.received());
        assert!(position < end);
        let index = (position / ARENA_BLOCK as u64) as usize;
        let block = self.blocks.read().get(index)?.clone();
        let from = (position % ARENA_BLOCK as u64) as usize;
        let to = ((end - index as u64 * ARENA_BLOCK as u64) as usize).min(ARENA_BLOCK);
        Some(Chunk::from_block(block, from..to))
    }
}

/// Follows an upload from its first byte.
pub(crate) struct Follower {
    body: Arc<Body>,
    progress: watch::Receiver<Progress>,
    position: u64,
}

impl Follower {
    pub(crate) fn new(body: Arc<Body>) -> Follower {
        let progress = body.follow();
        Follower { body, progress, position: 0 }
    }

    /// Bytes as they arrive; `None` once the object is durable; an error if it never will be.
    pub(crate) async fn next(&mut self) -> Option<Result<Chunk, ReadError>> {
        loop {
            let now = *self.progress.borrow_and_update();
            if self.position < now.received {
                let Some(chunk) = self.body.chunk(self.position, now.received) else {
                    return Some(Err(ReadError::Recycled));
                };
                self.position += chunk.len() as u64;
                return Some(Ok(chunk));
            }
            match now.state {
                BodyState::Stored => return None,
                BodyState::Failed => {
                    return Some(Err(ReadError::Aborted { received: now.received }));
                }
                BodyState::Receiving => {}
            }
            if self.progress.changed().await.is_err() {
                return Some(Err(ReadError::Aborted { received: now.received }));
            }
        }
    }
}
