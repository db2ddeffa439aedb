//! Objects that are in the arena: uploads in progress and, until the arena wraps, what they became.
//!
//! Invariants: per key at most one stored body and one upload (the newest) can be found. Stored
//! bodies leave in the order they came; one that was superseded or deleted leaves at once.

use crate::body::Body;
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use tapeloop_format::KeyHash;

const SHARD_COUNT: usize = 64;

#[derive(Default)]
struct Slot {
    stored: Option<Arc<Body>>,
    upload: Option<Arc<Body>>,
}

type Shard = HashMap<KeyHash, Slot, BuildHasherDefault<AlreadyHashed>>;

/// Key hashes are keyed with the store id: hashing them again would make them no more random.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write(&mut self, bytes: &[u8]) {
        // The shard was chosen by the first byte, so the other half spreads better.
        let (_, half) = bytes.split_last_chunk().expect("a key hash has 16 bytes");
        self.0 = u64::from_le_bytes(*half);
    }

    // The length that goes before the bytes.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The objects in the arena.
pub(crate) struct Live {
    shards: Box<[RwLock<Shard>]>,
    order: Mutex<VecDeque<Arc<Body>>>,
}

impl Live {
    pub(crate) fn new() -> Live {
        let shards = (0..SHARD_COUNT).map(|_| RwLock::default()).collect();
        Live { shards, order: Mutex::default() }
    }

    fn shard(&self, hash: &KeyHash) -> &RwLock<Shard> {
        &self.shards[usize::from(hash.0[0]) % SHARD_COUNT]
    }

    pub(crate) fn stored(&self, hash: &KeyHash) -> Option<Arc<Body>> {
        self.shard(hash).read().get(hash)?.stored.clone()
    }

    pub(crate) fn upload(&self, hash: &KeyHash) -> Option<Arc<Body>> {
        self.shard(hash).read().get(hash)?.upload.clone()
    }

    pub(crate) fn begin_upload(&self, body: &Arc<Body>) {
        let mut shard = self.shard(&body.hash).write();
        shard.entry(body.hash).or_default().upload = Some(Arc::clone(body));
    }

    /// The upload came to nothing. Nobody finds it any more when its followers hear of it: who asks
    /// again then must not meet it again.
    pub(crate) fn end_upload(&self, body: &Arc<Body>) {
        self.change(&body.hash, |slot| forget_upload(slot, body));
        body.end_failed();
    }

    /// The upload became the newest version of its key. Gives the one before it, to be evicted.
    /// Called in the order of versions, before followers hear of the end.
    pub(crate) fn store(&self, body: &Arc<Body>) -> Option<Arc<Body>> {
        let mut old = None;
        self.change(&body.hash, |slot| {
            forget_upload(slot, body);
            old = slot.stored.replace(Arc::clone(body));
        });
        self.order.lock().push_back(Arc::clone(body));
        old
    }

    /// The key was deleted. Gives what was there, to be evicted.
    pub(crate) fn take_stored(&self, hash: &KeyHash) -> Option<Arc<Body>> {
        let mut old = None;
        self.change(hash, |slot| old = slot.stored.take());
        old
    }

    /// Takes the oldest stored body out of the arena; false if there is none.
    pub(crate) fn evict_oldest(&self) -> bool {
        loop {
            let Some(oldest) = self.order.lock().pop_front() else { return false };
            self.change(&oldest.hash, |slot| {
                if slot.stored.as_ref().is_some_and(|stored| Arc::ptr_eq(stored, &oldest)) {
                    slot.stored = None;
                }
            });
            if oldest.evict() > 0 {
                return true;
            }
        }
    }

    /// Stored bodies in the arena.
    pub(crate) fn stored_count(&self) -> usize {
        self.order.lock().len()
    }

    fn change(&self, hash: &KeyHash, change: impl FnOnce(&mut Slot)) {
        let mut shard = self.shard(hash).write();
        let slot = shard.entry(*hash).or_default();
        change(slot);
        if slot.stored.is_none() && slot.upload.is_none() {
            shard.remove(hash);
        }
    }
}

fn forget_upload(slot: &mut Slot, body: &Arc<Body>) {
    if slot.upload.as_ref().is_some_and(|upload| Arc::ptr_eq(upload, body)) {
        slot.upload = None;
    }
}
