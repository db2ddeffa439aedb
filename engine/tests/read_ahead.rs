//! The second read of an object is begun with the first, and nobody ever waits for its buffer.

mod common;

use common::{Store, collect, get, key, payload, put};
use std::future::{Future, poll_fn};
use std::task::Poll;
use tapeloop_engine::{Engine, Object, Options, block_on, spawn, yield_now};

const READ_LEN: usize = 256 << 10;
const HOUR_MS: u64 = 3_600_000;

/// A store with these objects on its drive, and nothing of them in memory.
fn store_of(objects: &[(&str, usize)]) -> Store {
    let store = Store::of(1);
    let engine = store.open();
    block_on(64, async {
        for (seed, (name, len)) in objects.iter().enumerate() {
            put(&engine, name, &payload(*len, seed as u8), HOUR_MS).await.expect("stored");
        }
    })
    .expect("a ring");
    engine.close();
    store
}

fn open(store: &Store, read_buffers: usize) -> Engine {
    let options = Options { read_buffers, ..store.options() };
    Engine::open(options).expect("a store that opens").0
}

/// Lets everything that has been begun come to the drive.
async fn settle() {
    for _ in 0..64 {
        yield_now().await;
    }
}

#[test]
fn the_second_read_of_a_long_object_does_not_wait_for_the_first() {
    const LEN: usize = 5 * READ_LEN + 1;
    let store = store_of(&[("a/long", LEN), ("a/short", READ_LEN)]);
    let engine = store.open();
    block_on(64, async {
        let start = engine.stats().drive_reads;
        let begun = || engine.stats().drive_reads - start;
        let long = key("a/long");
        let mut found = Box::pin(engine.get(&long));
        let waits = poll_fn(|cx| Poll::Ready(found.as_mut().poll(cx).is_pending())).await;
        assert!(waits, "a drive does not answer at once");
        settle().await;
        // Nobody has looked at an answer yet.
        assert_eq!(begun(), 2, "header with first bytes, and the next");

        let object = found.await.expect("readable").expect("there");
        let mut chunks = object.read(0..LEN as u64);
        let first = chunks.next().await.expect("bytes").expect("verified");
        assert_eq!(first.len(), READ_LEN);
        settle().await;
        assert_eq!(begun(), 3, "two are under way while the first is sent");
        let second = chunks.next().await.expect("bytes").expect("verified");
        settle().await;
        assert_eq!(begun(), 4, "still two");
        let rest = collect(chunks).await.expect("verified");
        let all = [&first[..], &second[..], &rest[..]].concat();
        assert!(all == payload(LEN, 0));
        assert_eq!(begun(), 6, "no byte is read twice");

        assert!(get(&engine, "a/short").await == Some(payload(READ_LEN, 1)));
        assert_eq!(begun(), 7, "there is nothing to read ahead");
    })
    .expect("a ring");
    engine.close();
}

#[test]
fn only_a_reader_of_the_whole_has_it_read_ahead() {
    let store = store_of(&[("a/long", 3 * READ_LEN)]);
    let engine = store.open();
    block_on(64, async {
        let start = engine.stats().drive_reads;
        let begun = || engine.stats().drive_reads - start;
        let head = engine.head(&key("a/long")).await.expect("readable").expect("there");
        settle().await;
        assert_eq!(begun(), 1, "the header");
        drop(head);
        let object = engine.get_start(&key("a/long")).await.expect("readable").expect("there");
        let bytes = collect(object.read(0..1000)).await.expect("verified");
        assert!(bytes == payload(3 * READ_LEN, 0)[..1000]);
        settle().await;
        assert_eq!(begun(), 2, "header and first bytes");
    })
    .expect("a ring");
    engine.close();
}

/// Finds the object with its second read begun. What the kernel still has of reads that were given
/// up may keep a buffer for some reads at most.
async fn get_with_next(engine: &Engine, name: &str) -> Object {
    for _ in 0..1000 {
        let start = engine.stats().drive_reads;
        let object = engine.get(&key(name)).await.expect("no buffer is missing").expect("there");
        settle().await;
        if engine.stats().drive_reads - start == 2 {
            return object;
        }
    }
    panic!("nothing is read ahead any more");
}

#[test]
fn what_was_read_ahead_for_nobody_is_given_up_and_its_buffer_comes_back() {
    const LEN: usize = 3 * READ_LEN + 77;
    let store = store_of(&[("a/long", LEN)]);
    let engine = open(&store, 3);
    let bytes = payload(LEN, 0);
    let ranges = [0..10, 0..0, 262_143..262_145, 262_144..524_288, 300_000..300_001];
    let far = [400_000..LEN, 600_000..600_010, LEN - 1..LEN];
    block_on(64, async {
        for range in ranges.iter().chain(&far) {
            let object = get_with_next(&engine, "a/long").await;
            let part = object.read(range.start as u64..range.end as u64);
            let part = collect(part).await.expect("verified");
            assert!(part == bytes[range.clone()], "{range:?}");
            // Nobody asks for the bytes, or for the object after all.
            drop(get_with_next(&engine, "a/long").await);
            let long = key("a/long");
            let mut left = Box::pin(engine.get(&long));
            let first = poll_fn(|cx| Poll::Ready(left.as_mut().poll(cx).is_pending())).await;
            assert!(first, "a drive does not answer at once");
        }
        drop(get_with_next(&engine, "a/long").await);
        assert!(get(&engine, "a/long").await.as_ref() == Some(&bytes));
    })
    .expect("a ring");
    engine.close();
}

#[test]
fn a_crowd_of_readers_with_few_buffers_comes_to_its_end() {
    const READERS: usize = 12;
    const LEN: usize = 2 * READ_LEN + 9;
    let names: Vec<String> = (0..READERS).map(|number| format!("a/{number}")).collect();
    let objects: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), LEN)).collect();
    let store = store_of(&objects);
    for buffers in [1, 2, 3, 4, 7, 24] {
        let engine = open(&store, buffers);
        block_on(64, async {
            for _ in 0..3 {
                let read = |name: String| {
                    let engine = engine.clone();
                    spawn(async move { get(&engine, &name).await })
                };
                let crowd: Vec<_> = names.iter().cloned().map(read).collect();
                for (seed, reader) in crowd.into_iter().enumerate() {
                    let read = reader.await;
                    assert!(read == Some(payload(LEN, seed as u8)), "{seed} of {buffers} buffers");
                }
            }
        })
        .expect("a ring");
        engine.close();
    }
}

#[test]
fn objects_that_wait_to_be_read_leave_the_larger_half_of_the_buffers_to_first_reads() {
    const OBJECTS: usize = 5;
    const LEN: usize = 2 * READ_LEN;
    let names: Vec<String> = (0..OBJECTS).map(|number| format!("a/{number}")).collect();
    let objects: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), LEN)).collect();
    let store = store_of(&objects);
    // Three of eight may be taken ahead: five objects are found, each with a buffer of its own.
    let engine = open(&store, 8);
    block_on(64, async {
        let start = engine.stats().drive_reads;
        let find = |name: &String| {
            let (engine, name) = (engine.clone(), key(name));
            spawn(async move { engine.get(&name).await })
        };
        let crowd: Vec<_> = names.iter().map(find).collect();
        let mut held = Vec::new();
        for found in crowd {
            held.push(found.await.expect("readable").expect("there"));
        }
        settle().await;
        assert_eq!(engine.stats().drive_reads - start, 8, "five first reads, three ahead");
        for (seed, object) in held.into_iter().enumerate() {
            let bytes = collect(object.read(0..LEN as u64)).await.expect("verified");
            assert!(bytes == payload(LEN, seed as u8));
        }
        assert_eq!(engine.stats().drive_reads - start, 10, "the others have their second now");
    })
    .expect("a ring");
    engine.close();
}
