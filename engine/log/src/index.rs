//! The in-memory index: where the newest version of every key lies.
//!
//! Invariants:
//! - A slot is 16 bytes and a shard has at most an eighth more room than it needed when it was last
//!   swept, so an object costs at most 20 bytes once there are some tens of thousands. Shard number
//!   (12 bits) and tag (48 bits) together are 60 bits of a keyed key hash: with 10 million objects
//!   a lookup of an absent key meets a false candidate with probability 9e-12. A candidate is only
//!   ever a hint: the full key is verified in the read.
//! - The slots of a shard are sorted by tag, without gaps. Tags are uniform, so a search starts
//!   where the tag must be by its size, and is near. Two keys may share a tag; both stay.
//! - Nothing is removed when a zone is freed: a slot names the low bits of the lap it was written
//!   in, and is dead once the zone moved on. Dead slots are swept when their shard fills up.

use crate::sync::RwLock;
use tapeloop_format::KeyHash;

const SHARD_BITS: u32 = 12;
pub(crate) const SHARD_COUNT: usize = 1 << SHARD_BITS;
pub(crate) const TAG_BITS: u32 = 48;
pub(crate) const LEN_BITS: u32 = 28;
const BLOCK_BITS: u32 = 36;
/// Room to grow: one slot for so many in use, and a few.
const GROWTH_DIVISOR: usize = 8;
const GROWTH_MIN: usize = 2;

const _: () = assert!(TAG_BITS + 16 == 64);
const _: () = assert!(LEN_BITS + BLOCK_BITS == 64);

/// Largest payload an index entry can describe, in bytes.
pub const INDEXED_LEN_MAX: u64 = (1 << LEN_BITS) - 1;
/// Number of 4 KiB blocks that an index entry can address: 256 TiB of store.
pub const INDEXED_BLOCKS_MAX: u64 = 1 << BLOCK_BITS;

/// What the index knows of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Position in the store in 4 KiB blocks, zone headers included; never 0.
    pub block: u64,
    /// Exact payload length in bytes.
    pub len: u32,
    /// Low 16 bits of the lap of the zone.
    pub lap_low: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    tag_and_lap: u64,
    block_and_len: u64,
}

const _: () = assert!(size_of::<Slot>() == 16);

impl Slot {
    fn new(tag: u64, entry: IndexEntry) -> Slot {
        assert!(tag < 1 << TAG_BITS);
        assert!(entry.block > 0 && entry.block < INDEXED_BLOCKS_MAX, "block {}", entry.block);
        assert!(u64::from(entry.len) <= INDEXED_LEN_MAX, "length {}", entry.len);
        Slot {
            tag_and_lap: tag << 16 | u64::from(entry.lap_low),
            block_and_len: entry.block << LEN_BITS | u64::from(entry.len),
        }
    }

    fn tag(self) -> u64 {
        self.tag_and_lap >> 16
    }

    fn entry(self) -> IndexEntry {
        IndexEntry {
            block: self.block_and_len >> LEN_BITS,
            len: (self.block_and_len & INDEXED_LEN_MAX) as u32,
            lap_low: self.tag_and_lap as u16,
        }
    }
}

/// Shard number and tag of a key hash.
pub(crate) fn place(hash: &KeyHash) -> (usize, u64) {
    let mut word = [0; 8];
    word.copy_from_slice(&hash.0[..8]);
    let word = u64::from_le_bytes(word);
    let shard = (word >> (64 - SHARD_BITS)) as usize;
    let tag = word & ((1 << TAG_BITS) - 1);
    (shard, tag)
}

fn with_room_to_grow(slots: usize) -> usize {
    slots + slots / GROWTH_DIVISOR + GROWTH_MIN
}

#[derive(Default)]
pub(crate) struct Shard {
    slots: Vec<Slot>,
}

impl Shard {
    /// Takes so many entries, which come in the order of their tags, into a shard that is empty.
    pub(crate) fn fill(&mut self, count: usize, entries: impl Iterator<Item = (u64, IndexEntry)>) {
        assert!(self.slots.is_empty());
        if count > 0 {
            self.slots.reserve_exact(with_room_to_grow(count));
        }
        self.slots.extend(entries.map(|(tag, entry)| Slot::new(tag, entry)));
        debug_assert!(self.slots.is_sorted_by_key(|slot| slot.tag()));
        assert_eq!(self.slots.len(), count);
    }

    /// First slot with a tag of at least `tag`. Interpolates once, then doubles its steps.
    fn find(&self, tag: u64) -> usize {
        let len = self.slots.len();
        let guess = ((u128::from(tag) * len as u128) >> TAG_BITS) as usize;
        let is_below = |at: usize| self.slots[at].tag() < tag;
        let (mut low, mut high, mut step) = (0, len, 4);
        if guess < len && is_below(guess) {
            low = guess + 1;
            while low + step < len && is_below(low + step) {
                (low, step) = (low + step + 1, step * 2);
            }
            high = len.min(low + step);
        } else {
            high = guess.min(high);
            while high >= step && !is_below(high - step) {
                (high, step) = (high - step, step * 2);
            }
            low = low.max(high.saturating_sub(step));
        }
        low + self.slots[low..high].partition_point(|slot| slot.tag() < tag)
    }

    fn matches(&self, tag: u64) -> impl Iterator<Item = IndexEntry> + '_ {
        self.slots[self.find(tag)..]
            .iter()
            .take_while(move |slot| slot.tag() == tag)
            .map(|slot| slot.entry())
    }

    fn insert(&mut self, tag: u64, entry: IndexEntry, is_live: &impl Fn(&IndexEntry) -> bool) {
        if self.slots.len() == self.slots.capacity() {
            self.sweep(is_live);
        }
        let at = self.find(tag);
        self.slots.insert(at, Slot::new(tag, entry));
    }

    fn position(&self, tag: u64, entry: &IndexEntry) -> Option<usize> {
        let from = self.find(tag);
        self.slots[from..]
            .iter()
            .take_while(|slot| slot.tag() == tag)
            .position(|slot| slot.entry() == *entry)
            .map(|offset| from + offset)
    }

    fn remove(&mut self, tag: u64, entry: &IndexEntry) -> bool {
        let found = self.position(tag, entry);
        if let Some(at) = found {
            self.slots.remove(at);
        }
        found.is_some()
    }

    /// Drops dead slots and makes room for some more.
    fn sweep(&mut self, is_live: &impl Fn(&IndexEntry) -> bool) {
        let live = self.slots.iter().filter(|slot| is_live(&slot.entry())).count();
        let mut slots = Vec::with_capacity(with_room_to_grow(live));
        slots.extend(self.slots.iter().filter(|slot| is_live(&slot.entry())));
        self.slots = slots;
    }
}

/// The index. Readers share it with the one writer; a lock covers one of 4,096 shards for the time
/// of one probe or, rarely, of one shard's rebuild.
pub struct Index {
    shards: Box<[RwLock<Shard>]>,
}

impl Default for Index {
    fn default() -> Index {
        Index { shards: (0..SHARD_COUNT).map(|_| RwLock::default()).collect() }
    }
}

impl Index {
    /// Calls `found` with every entry that may belong to `hash` until it returns true.
    pub fn lookup(&self, hash: &KeyHash, mut found: impl FnMut(IndexEntry) -> bool) {
        let (shard, tag) = place(hash);
        let shard = self.shards[shard].read();
        for entry in shard.matches(tag) {
            if found(entry) {
                return;
            }
        }
    }

    /// Calls `found` with every entry, dead ones included. Looks at all of the index, so it is for
    /// what happens rarely.
    pub fn for_each(&self, mut found: impl FnMut(IndexEntry)) {
        for shard in &self.shards {
            shard.read().slots.iter().for_each(|slot| found(slot.entry()));
        }
    }

    /// Adds an entry. `is_live` tells which old entries may be swept if the shard is full.
    pub fn insert(&self, hash: &KeyHash, entry: IndexEntry, is_live: impl Fn(&IndexEntry) -> bool) {
        let (shard, tag) = place(hash);
        self.shards[shard].write().insert(tag, entry, &is_live);
    }

    /// Puts `new` in the place of exactly `old` in one step: a reader sees one of them, never
    /// neither. False, and nothing changed, if `old` is not there.
    pub fn replace(&self, hash: &KeyHash, old: &IndexEntry, new: IndexEntry) -> bool {
        let (shard, tag) = place(hash);
        let mut shard = self.shards[shard].write();
        let Some(at) = shard.position(tag, old) else { return false };
        shard.slots[at] = Slot::new(tag, new);
        true
    }

    /// Removes exactly this entry; false if it is not there.
    pub fn remove(&self, hash: &KeyHash, entry: &IndexEntry) -> bool {
        let (shard, tag) = place(hash);
        self.shards[shard].write().remove(tag, entry)
    }

    /// The shards of an index that nobody shares yet.
    pub(crate) fn shards_alone(&mut self) -> impl Iterator<Item = &mut Shard> {
        self.shards.iter_mut().map(RwLock::get_mut)
    }

    /// As `entry_count`, of an index that nobody shares yet.
    pub(crate) fn entry_count_alone(&mut self) -> usize {
        self.shards.iter_mut().map(|shard| shard.get_mut().slots.len()).sum()
    }

    /// Entries held, dead ones included until they are swept.
    pub fn entry_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().slots.len()).sum()
    }

    /// Memory held, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let fixed = SHARD_COUNT * size_of::<RwLock<Shard>>();
        let slots = |shard: &RwLock<Shard>| shard.read().slots.capacity() * size_of::<Slot>();
        fixed + self.shards.iter().map(slots).sum::<usize>()
    }
}
