//! Index and directory under loom: the very files, compiled over loom's locks and atomics, with one
//! writer (the log) and readers, run through the orders in which they can take their steps.
#![allow(dead_code, unreachable_pub, reason = "the files are those of the library")]

#[path = "../src/directory.rs"]
mod directory;
#[path = "../src/index.rs"]
mod index;
#[path = "loom_index/sync.rs"]
mod sync;

use directory::{Directory, Location};
use index::Index;
use loom::sync::Arc;
use loom::thread;
use tapeloop_format::{BLOCK, Geometry, KeyHash, StoreGeometry};

/// A key of the first shard; all tests stay in it, because shards share nothing.
fn key(tag: u64) -> KeyHash {
    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&tag.to_le_bytes());
    KeyHash(hash)
}

fn place(zone: u32, lap: u64, block: u64) -> Location {
    Location { zone, lap, offset: block * BLOCK as u64, len: 100 }
}

/// Two zones in use: zone 1 in lap 5, zone 2 in lap 8.
fn directory() -> Arc<Directory> {
    let volume = Geometry::new(64 << 10, 4).expect("within the bounds of the format");
    let geometry = StoreGeometry::new(volume, 1).expect("one volume");
    let directory = Directory::new(geometry, Index::default());
    directory.set_lap(1, 5, true);
    directory.set_lap(2, 8, true);
    Arc::new(directory)
}

fn found(directory: &Directory, hash: &KeyHash) -> Vec<Location> {
    directory.lookup(hash).iter().collect()
}

fn model(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[test]
fn a_reader_sees_the_old_version_or_the_new_one_and_never_neither() {
    model(3, || {
        let directory = directory();
        let (old, new) = (place(1, 5, 1), place(2, 8, 3));
        directory.publish(&key(7), None, &old);
        let reader = {
            let directory = Arc::clone(&directory);
            thread::spawn(move || {
                let (first, second) = (found(&directory, &key(7)), found(&directory, &key(7)));
                assert!(first == [old] || first == [new], "{first:?}");
                assert!(second == [new] || second == first, "back to {second:?}");
            })
        };
        directory.publish(&key(7), Some(&old), &new);
        reader.join().expect("a reader that ends well");
        assert_eq!(found(&directory, &key(7)), [new]);
    });
}

#[test]
fn inserts_and_the_sweep_they_cause_hide_no_live_key_and_bring_no_dead_one_back() {
    model(3, || {
        let directory = directory();
        let live = place(2, 8, 1);
        // A shard begins with room for two: the next insert sweeps, and zone 1 is dead by then.
        directory.publish(&key(7), None, &live);
        directory.publish(&key(3), None, &place(1, 5, 1));
        directory.set_lap(1, 6, false);
        let readers = [(); 2].map(|()| {
            let directory = Arc::clone(&directory);
            thread::spawn(move || {
                assert_eq!(found(&directory, &key(7)), [live]);
                assert_eq!(found(&directory, &key(3)), []);
            })
        });
        directory.publish(&key(5), None, &place(2, 8, 2));
        directory.publish(&key(9), None, &place(2, 8, 4));
        readers.into_iter().for_each(|reader| reader.join().expect("a reader that ends well"));
        assert_eq!(found(&directory, &key(9)), [place(2, 8, 4)]);
    });
}

#[test]
fn a_zone_is_freed_for_all_its_keys_in_one_step() {
    model(3, || {
        let directory = directory();
        directory.publish(&key(1), None, &place(1, 5, 1));
        directory.publish(&key(2), None, &place(1, 5, 2));
        let reader = {
            let directory = Arc::clone(&directory);
            thread::spawn(move || {
                let first = found(&directory, &key(1));
                let second = found(&directory, &key(2));
                assert!(!first.is_empty() || second.is_empty(), "freed for one key and not both");
            })
        };
        directory.set_lap(1, 5, false);
        directory.retract(&key(1), &place(1, 5, 1));
        directory.set_lap(1, 6, true);
        directory.publish(&key(1), None, &place(1, 6, 1));
        reader.join().expect("a reader that ends well");
        assert_eq!(found(&directory, &key(1)), [place(1, 6, 1)]);
        assert_eq!(found(&directory, &key(2)), []);
    });
}
