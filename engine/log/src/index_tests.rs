//! The index on its own: memory, lookups, sweeps, building. They lie beside their file because the
//! loom model compiles that file too.

use crate::build::{Batch, IndexBuilder};
use crate::index::{INDEXED_BLOCKS_MAX, Index, IndexEntry, SHARD_COUNT, Shard};
use crate::sync::RwLock;
use std::collections::HashMap;
use tapeloop_format::KeyHash;

fn hash(seed: u64) -> KeyHash {
    // SplitMix64, twice: test hashes must spread like SipHash does.
    let mix = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mix(seed).to_le_bytes());
    bytes[8..].copy_from_slice(&mix(!seed).to_le_bytes());
    KeyHash(bytes)
}

fn entry(block: u64) -> IndexEntry {
    IndexEntry { block, len: block as u32, lap_low: 7 }
}

fn candidates(index: &Index, key: &KeyHash) -> Vec<IndexEntry> {
    let mut all = Vec::new();
    index.lookup(key, |entry| {
        all.push(entry);
        false
    });
    all
}

#[test]
fn an_object_costs_at_most_20_bytes_at_every_count_from_200_000() {
    let index = Index::default();
    let mut worst: f64 = 0.0;
    for n in 1..=1_200_000 {
        index.insert(&hash(n), entry(n), |_| true);
        if n >= 200_000 && n % 10_000 == 0 {
            worst = worst.max(index.memory_bytes() as f64 / n as f64);
        }
    }
    assert!(worst <= 20.0, "{worst} bytes per object");
}

/// Ten million objects are 2,441 in each of 4,096 shards: a few shards of that size tell.
#[test]
fn an_object_costs_at_most_20_bytes_at_ten_million() {
    const SHARDS: u64 = 16;
    let per_shard = 10_000_000 / SHARD_COUNT as u64;
    for built in [false, true] {
        let (index, builder) = (Index::default(), IndexBuilder::new());
        for n in 1..=per_shard * SHARDS {
            let mut hash = hash(n);
            hash.0[7] = 0;
            hash.0[6] = (n % SHARDS) as u8 * 16;
            match built {
                true => builder.add_version(&hash, n, n, n as u32),
                false => index.insert(&hash, entry(n), |_| true),
            }
        }
        let index = if built { builder.build(1, |_| 7) } else { index };
        let fixed = SHARD_COUNT * size_of::<RwLock<Shard>>();
        let slots = (index.memory_bytes() - fixed) as f64 / (per_shard * SHARDS) as f64;
        let bytes = slots + fixed as f64 / 10_000_000.0;
        assert!(bytes <= 20.0, "{bytes} bytes per object");
    }
}

#[test]
fn every_inserted_key_is_found_and_every_removed_one_is_gone() {
    let index = Index::default();
    let mut model = HashMap::new();
    for step in 0..400_000u64 {
        let key = hash(step * 7919 % 50_021);
        match model.remove(&key.0) {
            Some(old) if step % 3 == 0 => assert!(index.remove(&key, &old)),
            Some(old) => {
                assert!(index.replace(&key, &old, entry(step + 1)));
                model.insert(key.0, entry(step + 1));
            }
            None => {
                index.insert(&key, entry(step + 1), |_| true);
                model.insert(key.0, entry(step + 1));
            }
        }
    }
    assert_eq!(index.entry_count(), model.len());
    for n in 0..50_021 {
        let key = hash(n);
        assert_eq!(candidates(&index, &key).first(), model.get(&key.0));
    }
}

#[test]
fn two_keys_with_one_tag_both_stay() {
    let index = Index::default();
    let (first, mut second) = (hash(1), hash(1));
    second.0[15] ^= 1;
    index.insert(&first, entry(1), |_| true);
    index.insert(&second, entry(2), |_| true);
    assert_eq!(candidates(&index, &first).len(), 2);
    assert!(index.remove(&second, &entry(2)));
    assert_eq!(candidates(&index, &first), [entry(1)]);
}

#[test]
fn entries_of_a_past_lap_are_swept_before_the_table_grows() {
    let index = Index::default();
    for n in 1..=400_000 {
        let live_from = n.max(50_000) - 50_000;
        index.insert(&hash(n), entry(n), |entry| entry.block > live_from);
    }
    assert!(index.entry_count() < 120_000, "{} entries", index.entry_count());
    for n in 350_001..=400_000 {
        assert_eq!(candidates(&index, &hash(n)), [entry(n)]);
    }
}

/// LSNs that a packed version holds, and such as it does not.
const LSNS: [u64; 3] = [1, (1 << 44) - 2, 1 << 61];

#[test]
fn the_builder_keeps_the_newest_version_in_any_order_unless_it_was_killed() {
    for (order, base) in
        LSNS.iter().flat_map(|base| [[1u64, 2, 3], [3, 2, 1], [2, 3, 1]].map(|order| (order, base)))
    {
        let builder = IndexBuilder::new();
        for n in order {
            (1..=3).for_each(|key| builder.add_version(&hash(key), base + n, n, n as u32));
        }
        builder.add_kill(&hash(1), base + 3);
        builder.add_kill(&hash(2), base + 4);
        let index = builder.build(2, |_| 7);
        assert_eq!(candidates(&index, &hash(1)), [entry(3)], "killed only before lsn 3");
        assert_eq!(candidates(&index, &hash(2)), [], "a delete outlives its victims");
        assert_eq!(candidates(&index, &hash(3)), [entry(3)]);
    }
}

#[test]
fn what_is_known_of_two_keys_with_one_tag_is_kept_apart() {
    for flipped in [6, 8, 15] {
        let (first, mut second) = (hash(1), hash(1));
        second.0[flipped] ^= 1;
        let builder = IndexBuilder::new();
        builder.add_version(&first, 1, 1, 1);
        builder.add_version(&second, 2, 2, 2);
        builder.add_kill(&second, 3);
        let index = builder.build(1, |_| 7);
        assert_eq!(candidates(&index, &first), [entry(1)], "bits of byte {flipped} tell");
    }
}

#[test]
fn every_field_of_an_entry_comes_through_with_the_lap_of_its_zone() {
    let largest = IndexEntry { block: INDEXED_BLOCKS_MAX - 1, len: (1 << 28) - 1, lap_low: 3 };
    let smallest = IndexEntry { block: 1, len: 0, lap_low: 9 };
    let builder = IndexBuilder::new();
    builder.add_version(&hash(1), 1, largest.block, largest.len);
    builder.add_version(&hash(2), 2, smallest.block, smallest.len);
    let index = builder.build(1, |block| if block == 1 { 9 } else { 3 });
    assert_eq!(candidates(&index, &hash(1)), [largest]);
    assert_eq!(candidates(&index, &hash(2)), [smallest]);
}

#[test]
fn who_found_a_version_or_a_kill_makes_no_difference() {
    for (threads, announced) in [(1, 0), (2, 2_000_000), (5, 50_000_000)] {
        let builder = IndexBuilder::new();
        builder.announce(announced);
        // Three versions of every key; every third is killed by whoever knows none of them. So many
        // that shards are looked through on the way.
        const KEYS: u64 = 600_000;
        let add = |part: u64| {
            let mut batch = Batch::default();
            for n in 1..=KEYS {
                for version in (0..3).filter(|version| (n + version) % 2 == part) {
                    let lsn = n * 3 + version;
                    batch.add_version(&hash(n), lsn, lsn, lsn as u32);
                }
                if part == 0 && n % 3 == 0 {
                    batch.add_kill(&hash(n), n * 3 + 3);
                }
                if n % 50_000 == 0 || n < 100 {
                    builder.add_all(&mut batch);
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| add(0));
            scope.spawn(|| add(1));
        });
        let index = builder.build(threads, |_| 7);
        for n in 1..=KEYS {
            let expected = if n % 3 == 0 { vec![] } else { vec![entry(n * 3 + 2)] };
            assert_eq!(candidates(&index, &hash(n)), expected, "key {n}");
        }
        assert_eq!(index.entry_count() as u64, KEYS / 3 * 2);
    }
}

#[test]
fn what_is_superseded_is_let_go_of_while_more_comes() {
    let builder = IndexBuilder::new();
    for lsn in 1..=1_000_000 {
        // One shard gets all of it.
        builder.add_version(&hash(lsn % 4), lsn, lsn, 1);
    }
    assert!(builder.waiting_max() <= 2 * 256, "{} waiting", builder.waiting_max());
    let index = builder.build(1, |_| 7);
    assert_eq!(index.entry_count(), 4);
}

#[test]
fn a_built_index_goes_on_like_a_grown_one() {
    let builder = IndexBuilder::new();
    for n in 1..=100_000 {
        builder.add_version(&hash(n), n, n, n as u32);
    }
    let index = builder.build(3, |_| 7);
    for n in 100_001..=200_000 {
        index.insert(&hash(n), entry(n), |_| true);
    }
    assert!((1..=200_000).all(|n| candidates(&index, &hash(n)) == [entry(n)]));
}
