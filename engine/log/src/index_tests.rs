//! The index on its own: memory, lookups, sweeps, building. They lie beside their file because the
//! loom model compiles that file too.

use crate::index::{Index, IndexBuilder, IndexEntry, SHARD_COUNT, Shard};
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
        let (index, mut builder) = (Index::default(), IndexBuilder::new());
        for n in 1..=per_shard * SHARDS {
            let mut hash = hash(n);
            hash.0[7] = 0;
            hash.0[6] = (n % SHARDS) as u8 * 16;
            match built {
                true => builder.add_version(hash, n, entry(n)),
                false => index.insert(&hash, entry(n), |_| true),
            }
        }
        let index = if built { IndexBuilder::build(vec![builder], 1) } else { index };
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

#[test]
fn the_builder_keeps_the_newest_version_in_any_order_unless_it_was_killed() {
    for order in [[1u64, 2, 3], [3, 2, 1], [2, 3, 1]] {
        let mut builder = IndexBuilder::new();
        for lsn in order {
            builder.add_version(hash(1), lsn, entry(lsn));
            builder.add_version(hash(2), lsn, entry(lsn));
            builder.add_version(hash(3), lsn, entry(lsn));
        }
        builder.add_kill(hash(1), 3);
        builder.add_kill(hash(2), 4);
        let index = IndexBuilder::build(vec![builder], 2);
        assert_eq!(candidates(&index, &hash(1)), [entry(3)], "killed only before lsn 3");
        assert_eq!(candidates(&index, &hash(2)), [], "a delete outlives its victims");
        assert_eq!(candidates(&index, &hash(3)), [entry(3)]);
    }
}

#[test]
fn who_found_a_version_or_a_kill_makes_no_difference() {
    for threads in [1, 2, 5] {
        let mut parts = vec![IndexBuilder::new(), IndexBuilder::new(), IndexBuilder::new()];
        for n in 1..=3_000 {
            // Three versions of every key; every third is killed by whoever knows none of them.
            (0..3).for_each(|version| {
                let lsn = n * 3 + version;
                parts[((n + version) % 2) as usize].add_version(hash(n), lsn, entry(lsn));
            });
            if n % 3 == 0 {
                parts[2].add_kill(hash(n), n * 3 + 3);
            }
        }
        let index = IndexBuilder::build(parts, threads);
        for n in 1..=3_000 {
            let expected = if n % 3 == 0 { vec![] } else { vec![entry(n * 3 + 2)] };
            assert_eq!(candidates(&index, &hash(n)), expected, "key {n}");
        }
        assert_eq!(index.entry_count(), 2_000);
    }
}

#[test]
fn a_built_index_goes_on_like_a_grown_one() {
    let mut builder = IndexBuilder::new();
    for n in 1..=100_000 {
        builder.add_version(hash(n), n, entry(n));
    }
    let index = IndexBuilder::build(vec![builder], 3);
    for n in 100_001..=200_000 {
        index.insert(&hash(n), entry(n), |_| true);
    }
    assert!((1..=200_000).all(|n| candidates(&index, &hash(n)) == [entry(n)]));
}
