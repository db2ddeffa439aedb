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
    order: Mutex<Order>,
}

/// Stored bodies, oldest first. Those that were superseded stay for a while, without their blocks:
/// at most as many as there are others, and a few.
struct Order {
    bodies: VecDeque<Arc<Body>>,
    /// From this length on the superseded are looked for.
    full_len: usize,
}

/// The shortest order that is worth going through.
const ORDER_LEN_MIN: usize = 1024;

impl Order {
    /// Gives those that hold no memory of the arena any more, once there are many.
    fn push(&mut self, body: Arc<Body>) -> Vec<Arc<Body>> {
        self.bodies.push_back(body);
        if self.bodies.len() < self.full_len {
            return Vec::new();
        }
        let mut gone = Vec::new();
        self.bodies.retain(|body| {
            let is_kept = body.is_in_arena();
            if !is_kept {
                gone.push(Arc::clone(body));
            }
            is_kept
        });
        self.full_len = ORDER_LEN_MIN.max(2 * self.bodies.len());
        gone
    }
}

impl Live {
    pub(crate) fn new() -> Live {
        let shards = (0..SHARD_COUNT).map(|_| RwLock::default()).collect();
        let order = Order { bodies: VecDeque::new(), full_len: ORDER_LEN_MIN };
        Live { shards, order: Mutex::new(order) }
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
        let gone = self.order.lock().push(Arc::clone(body));
        gone.iter().for_each(|body| self.forget_stored(body));
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
            let Some(oldest) = self.order.lock().bodies.pop_front() else { return false };
            self.forget_stored(&oldest);
            if oldest.evict() > 0 {
                return true;
            }
        }
    }

    fn forget_stored(&self, body: &Arc<Body>) {
        self.change(&body.hash, |slot| {
            if slot.stored.as_ref().is_some_and(|stored| Arc::ptr_eq(stored, body)) {
                slot.stored = None;
            }
        });
    }

    /// Stored bodies in the arena.
    pub(crate) fn stored_count(&self) -> usize {
        let stored = |shard: &RwLock<Shard>| {
            shard.read().values().filter(|slot| slot.stored.is_some()).count()
        };
        self.shards.iter().map(stored).sum()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Stored;
    use tapeloop_format::Key;
    use tapeloop_io::Arena;
    use tapeloop_log::Location;

    /// Stores a body as an upload does, and evicts what it supersedes.
    fn store(live: &Live, arena: &Arena, number: u8, len: usize) {
        let key = Key::new([b'a', b'/', number]).expect("valid");
        let body = Arc::new(Body::new(key, KeyHash([number; 16]), Arc::from(&b""[..]), 0));
        if len > 0 {
            let mut block = arena.try_alloc().expect("superseded blocks come back");
            block.append(&vec![7; len]);
            body.push_block(block.seal());
        }
        body.advance(len as u64);
        live.begin_upload(&body);
        let location = Location { zone: 1, lap: 1, offset: 4096, len: 100 };
        let (expires_ms, stored_ms) = (u64::MAX, 0);
        body.set_stored(Stored { location, expires_ms, content_hash: [0; 16], stored_ms });
        if let Some(old) = live.store(&body) {
            old.evict();
        }
    }

    #[test]
    fn versions_that_were_overwritten_do_not_pile_up() {
        let (live, arena) = (Live::new(), Arena::new(1 << 20).expect("memory"));
        store(&live, &arena, 1, 100);
        for _ in 0..5 * ORDER_LEN_MIN {
            store(&live, &arena, 2, 100);
            store(&live, &arena, 3, 0);
        }
        assert!(live.order.lock().bodies.len() < ORDER_LEN_MIN);
        for number in [1, 2] {
            let body = live.stored(&KeyHash([number; 16])).expect("still the newest");
            assert!(body.is_in_arena());
        }
        assert!(live.stored_count() <= 3);
        assert!(live.evict_oldest() && live.evict_oldest() && !live.evict_oldest());
        assert_eq!(live.stored_count(), 0);
    }
}
