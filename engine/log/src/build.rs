//! Building the index from every version and every kill that recovery finds, in any order, by any
//! number of threads.
//!
//! Invariants:
//! - A version waits in 28 bytes with all 128 bits of its key's hash, a kill likewise: against the
//!   18 that it takes in the index that is 1.6 times. A shard that has twice as many as when it was
//!   last looked through is looked through again, and keeps one of each key: what is superseded
//!   takes at most as much again.
//! - Shards are turned into index shards one by one, so there is no second copy of the whole.
//! - Of one key what has the largest LSN counts. Is that a kill, the key is dead; a put and a kill
//!   of the same LSN are one record, and the put counts.

use crate::index::{Index, IndexEntry, LEN_BITS, SHARD_COUNT, Shard, TAG_BITS, place};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use tapeloop_format::KeyHash;

/// Bits of the LSN of a packed version; one with more waits in full length.
const LSN_BITS: u32 = 44;
/// Bits of the hash behind tag and shard number, as far as they stand in the first word.
const REST_BITS: u32 = 4;
const SHARD_BITS: u32 = SHARD_COUNT.trailing_zeros();
/// A shard is not looked through for less.
const REDUCE_MIN: usize = 256;

const _: () = assert!(TAG_BITS + REST_BITS + SHARD_BITS == 64);
const _: () = assert!(TAG_BITS + REST_BITS + 64 + 64 + LSN_BITS == 8 * size_of::<Packed>() as u32);

/// One version of a key, or the death of all versions before an LSN. The shard says the rest of the
/// hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    tag_and_rest: u64,
    hash_end: u64,
    lsn: u64,
    /// Block and length as in an index slot; 0 for a kill.
    at: u64,
}

/// The same in fewer bytes.
#[derive(Clone, Copy, Debug)]
struct Packed([u32; 7]);

impl Version {
    fn new(hash: &KeyHash, lsn: u64, at: u64) -> (usize, Version) {
        let (shard, tag) = place(hash);
        let word = |at: usize| {
            let bytes = hash.0[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        let rest = word(0) >> TAG_BITS & ((1 << REST_BITS) - 1);
        (shard, Version { tag_and_rest: tag << REST_BITS | rest, hash_end: word(8), lsn, at })
    }

    fn key(&self) -> (u64, u64) {
        (self.tag_and_rest, self.hash_end)
    }

    fn is_kill(&self) -> bool {
        self.at == 0
    }

    fn entry(&self, lap_low: &impl Fn(u64) -> u16) -> (u64, IndexEntry) {
        let block = self.at >> LEN_BITS;
        let len = (self.at & ((1 << LEN_BITS) - 1)) as u32;
        (self.tag_and_rest >> REST_BITS, IndexEntry { block, len, lap_low: lap_low(block) })
    }

    fn pack(&self) -> Option<Packed> {
        let halves = |word: u64| [word as u32, (word >> 32) as u32];
        let [low, high] = halves(self.lsn);
        let [a, b] = halves(self.tag_and_rest << (LSN_BITS - 32) | u64::from(high));
        let ([c, d], [e, f]) = (halves(self.hash_end), halves(self.at));
        (self.lsn >> LSN_BITS == 0).then_some(Packed([a, b, c, d, e, f, low]))
    }
}

impl Packed {
    fn unpack(&self) -> Version {
        let [a, b, c, d, e, f, low] = self.0;
        let word = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let first = word(a, b);
        let high = first as u32 & ((1 << (LSN_BITS - 32)) - 1);
        Version {
            tag_and_rest: first >> (LSN_BITS - 32),
            hash_end: word(c, d),
            lsn: word(low, high),
            at: word(e, f),
        }
    }
}

/// What is known so far of the keys of one shard.
#[derive(Default)]
struct Waiting {
    packed: Vec<Packed>,
    /// As many as it kept when it was last looked through.
    reduced_len: u32,
}

/// Builds the index from every version and every kill found on the drive, in any order.
pub struct IndexBuilder {
    shards: Box<[Mutex<Waiting>]>,
    /// By shard, those that do not fit a packed version.
    wide: Mutex<BTreeMap<usize, Vec<Version>>>,
    /// So many versions and kills will come.
    announced: AtomicU64,
}

impl IndexBuilder {
    /// An empty builder.
    #[expect(clippy::new_without_default, reason = "it is large: nobody makes one in passing")]
    pub fn new() -> IndexBuilder {
        IndexBuilder {
            shards: (0..SHARD_COUNT).map(|_| Mutex::default()).collect(),
            wide: Mutex::default(),
            announced: AtomicU64::new(0),
        }
    }

    /// So many versions and kills are going to come: room for them is made in one go.
    pub fn announce(&self, count: u64) {
        self.announced.fetch_add(count, Ordering::Relaxed);
    }

    /// A version of a key lies in this block of the store, with so many payload bytes.
    pub fn add_version(&self, hash: &KeyHash, lsn: u64, block: u64, len: u32) {
        self.add(Version::new(hash, lsn, version_at(block, len)));
    }

    /// Every version of the key before `lsn` is dead.
    pub fn add_kill(&self, hash: &KeyHash, lsn: u64) {
        self.add(Version::new(hash, lsn, 0));
    }

    fn add(&self, (shard, version): (usize, Version)) {
        match version.pack() {
            Some(packed) => self.push(shard, &[packed]),
            None => self.wide.lock().entry(shard).or_default().push(version),
        }
    }

    /// Adds all of a batch and empties it.
    pub fn add_all(&self, batch: &mut Batch) {
        for (shard, version) in batch.wide.drain(..) {
            self.wide.lock().entry(shard).or_default().push(version);
        }
        let found = &mut batch.packed;
        if found.len() < SHARD_COUNT / 4 {
            found.drain(..).for_each(|(shard, packed)| self.push(shard.into(), &[packed]));
            return;
        }
        // By shard first, so that each is locked and looked for once.
        let mut ends = vec![0; SHARD_COUNT];
        found.iter().for_each(|(shard, _)| ends[usize::from(*shard)] += 1);
        let mut from = 0;
        for end in &mut ends {
            from += std::mem::replace(end, from);
        }
        let mut sorted = vec![Packed([0; 7]); found.len()];
        for (shard, packed) in found.drain(..) {
            let at = &mut ends[usize::from(shard)];
            sorted[*at] = packed;
            *at += 1;
        }
        let mut from = 0;
        for (shard, end) in ends.into_iter().enumerate() {
            if from < end {
                self.push(shard, &sorted[from..end]);
            }
            from = end;
        }
    }

    /// The most that wait in a shard.
    #[cfg(test)]
    pub(crate) fn waiting_max(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().packed.len()).max().unwrap_or(0)
    }

    fn push(&self, shard: usize, packed: &[Packed]) {
        let mut waiting = self.shards[shard].lock();
        let waiting = &mut *waiting;
        let len = waiting.packed.len() + packed.len();
        if len > waiting.packed.capacity() {
            let share = self.announced.load(Ordering::Relaxed) as usize / SHARD_COUNT;
            // Shares differ by chance, as square roots do.
            let room = (share + 3 * share.isqrt()).max(len + len / 8);
            waiting.packed.reserve_exact(room - waiting.packed.len());
        }
        waiting.packed.extend_from_slice(packed);
        if len >= 2 * (waiting.reduced_len as usize).max(REDUCE_MIN) {
            waiting.reduce();
        }
    }

    /// The index of all that was added: the newest version of every key, unless it is killed.
    /// `lap_low` says in which lap the zone of a block is.
    pub fn build(self, threads: usize, lap_low: impl Fn(u64) -> u16 + Sync) -> Index {
        assert!(threads > 0);
        let mut index = Index::default();
        let (mut wide, lap_low) = (self.wide.into_inner(), &lap_low);
        let mut work: Vec<Share<'_>> = Vec::new();
        for ((number, waiting), shard) in (0..).zip(self.shards).zip(index.shards_alone()) {
            let packed = waiting.into_inner().packed;
            let wide = if wide.is_empty() { None } else { wide.remove(&number) };
            if !packed.is_empty() || wide.is_some() {
                work.push(Share { packed, wide: wide.unwrap_or_default(), shard });
            }
        }
        if threads == 1 {
            build_all(work, lap_low);
            return index;
        }
        let share = work.len().div_ceil(threads);
        std::thread::scope(|scope| {
            while !work.is_empty() {
                let part = work.split_off(work.len().saturating_sub(share));
                scope.spawn(move || build_all(part, lap_low));
            }
        });
        index
    }
}

fn version_at(block: u64, len: u32) -> u64 {
    assert!(block > 0, "block 0 holds no record");
    block << LEN_BITS | u64::from(len)
}

/// Versions and kills on their way into a builder.
#[derive(Default)]
pub struct Batch {
    packed: Vec<(u16, Packed)>,
    wide: Vec<(usize, Version)>,
}

impl Batch {
    pub(crate) fn reserve(&mut self, count: usize) {
        self.packed.reserve_exact(count);
    }

    /// As `IndexBuilder::add_version`.
    pub fn add_version(&mut self, hash: &KeyHash, lsn: u64, block: u64, len: u32) {
        self.add(Version::new(hash, lsn, version_at(block, len)));
    }

    /// As `IndexBuilder::add_kill`.
    pub fn add_kill(&mut self, hash: &KeyHash, lsn: u64) {
        self.add(Version::new(hash, lsn, 0));
    }

    fn add(&mut self, (shard, version): (usize, Version)) {
        match version.pack() {
            Some(packed) => self.packed.push((shard as u16, packed)),
            None => self.wide.push((shard, version)),
        }
    }
}

impl Waiting {
    /// Forgets what is superseded already.
    fn reduce(&mut self) {
        let mut versions: Vec<Version> = self.packed.iter().map(Packed::unpack).collect();
        reduce(&mut versions);
        self.packed.clear();
        self.packed.extend(versions.iter().map(|one| one.pack().expect("was packed")));
        self.reduced_len = u32::try_from(self.packed.len()).unwrap_or(u32::MAX);
    }
}

/// What counts of every key, in the order of tags.
fn reduce(versions: &mut Vec<Version>) {
    let oldest_first = planted!(Bug::OldVersionWins);
    versions.sort_unstable_by_key(|one| {
        let lsn = if oldest_first { one.lsn } else { !one.lsn };
        (one.tag_and_rest, one.hash_end, lsn, Reverse(one.at))
    });
    versions.dedup_by(|later, kept| later.key() == kept.key());
}

/// What makes one shard, and where it goes.
struct Share<'i> {
    packed: Vec<Packed>,
    wide: Vec<Version>,
    shard: &'i mut Shard,
}

fn build_all(work: Vec<Share<'_>>, lap_low: &impl Fn(u64) -> u16) {
    let mut versions = Vec::new();
    for share in work {
        versions.clear();
        versions.extend(share.packed.iter().map(Packed::unpack));
        versions.extend(share.wide);
        // Before the shard takes its memory.
        drop(share.packed);
        reduce(&mut versions);
        versions.retain(|one| !one.is_kill());
        share.shard.fill(versions.len(), versions.iter().map(|one| one.entry(lap_low)));
    }
}
