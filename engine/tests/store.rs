//! The engine as an embedder sees it, on a real file.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;
use tapeloop_engine::{
    Ack, Chunks, Engine, Key, OpenError, Options, PutError, PutOptions, ReadError, block_on, spawn,
    yield_now,
};

const CAPACITY: u64 = 32 << 20;

struct Store {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Store {
    fn new() -> Store {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let path = dir.path().join("volume-0.tape");
        tapeloop_engine::format(std::slice::from_ref(&path), CAPACITY, &mut |_, _| {})
            .expect("a new store");
        Store { _dir: dir, path }
    }

    fn open(&self) -> Engine {
        Engine::open(options(&self.path)).expect("a store that opens").0
    }
}

fn options(path: &Path) -> Options {
    Options { arena_bytes: 20 << 20, ..Options::new(path) }
}

fn key(name: &str) -> Key {
    Key::new(name.as_bytes()).expect("a valid key")
}

fn payload(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ seed).collect()
}

async fn put(engine: &Engine, name: &str, bytes: &[u8], ttl_ms: u64) -> Result<bool, PutError> {
    let options = PutOptions { ttl_ms, ..PutOptions::default() };
    let mut upload = engine.put(&key(name), options).await?;
    upload.write(bytes).await?;
    Ok(upload.commit(Ack::Durable).await?.replaced)
}

async fn collect(mut chunks: Chunks) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

async fn get(engine: &Engine, name: &str) -> Option<Vec<u8>> {
    let object = engine.get(&key(name)).await.expect("a readable store")?;
    let len = object.info().len.expect("a stored object");
    Some(collect(object.read(0..len)).await.expect("verified bytes"))
}

/// Pushes everything that is in the arena out of it.
async fn flood_arena(engine: &Engine) {
    for n in 0..12 {
        put(engine, &format!("flood/{n}"), &payload(1 << 20, n), 1000).await.expect("stored");
    }
    for n in 12..24 {
        put(engine, &format!("flood/{n}"), &payload(1 << 20, n), 1000).await.expect("stored");
    }
}

const SIZES: [usize; 9] = [0, 1, 2048, 4096, 65_535, 65_536, 65_537, 300_000, 1_100_000];

#[test]
fn every_size_reads_back_from_the_arena_from_the_drive_and_after_a_restart() {
    let store = Store::new();
    let engine = store.open();
    block_on(64, async {
        for (seed, len) in SIZES.into_iter().enumerate() {
            let name = format!("a/{len}");
            assert_eq!(
                put(&engine, &name, &payload(len, seed as u8), 3_600_000).await.ok(),
                Some(false)
            );
            assert_eq!(get(&engine, &name).await, Some(payload(len, seed as u8)), "arena, {len}");
        }
        flood_arena(&engine).await;
        for (seed, len) in SIZES.into_iter().enumerate() {
            let object =
                engine.get(&key(&format!("a/{len}"))).await.expect("readable").expect("there");
            assert!(!object.info().in_arena, "the flood took the arena");
            let bytes = collect(object.read(0..len as u64)).await.expect("verified");
            assert_eq!(bytes, payload(len, seed as u8), "drive, {len}");
        }
    })
    .expect("a ring");
    engine.close();
    let engine = store.open();
    block_on(64, async {
        for (seed, len) in SIZES.into_iter().enumerate() {
            assert_eq!(get(&engine, &format!("a/{len}")).await, Some(payload(len, seed as u8)));
        }
    })
    .expect("a ring");
    engine.close();
}

#[test]
fn readers_of_the_same_bytes_at_the_same_time_share_one_read_of_the_drive() {
    const READERS: u64 = 16;
    let store = Store::new();
    let engine = store.open();
    let bytes = payload(1_100_000, 7);
    block_on(64, async {
        put(&engine, "a/shared", &bytes, 3_600_000).await.expect("stored");
        flood_arena(&engine).await;
        let start = engine.stats().drive_reads;
        assert_eq!(get(&engine, "a/shared").await.as_ref(), Some(&bytes));
        let alone = engine.stats().drive_reads - start;
        assert!(alone > 1, "the header's read and those of the payload: {alone}");

        let read = |engine: Engine| async move { get(&engine, "a/shared").await };
        let mut crowd: Vec<_> = (0..READERS).map(|_| spawn(read(engine.clone()))).collect();
        // One who goes away at once keeps nothing from the others, the first of them least of all.
        crowd.remove(0).abort();
        for reader in crowd {
            assert_eq!(reader.await.as_ref(), Some(&bytes));
        }
        let together = engine.stats().drive_reads - start - alone;
        assert!((alone..=2 * alone).contains(&together), "{together} reads, one needs {alone}");
    })
    .expect("a ring");
    engine.close();
}

#[test]
fn p17_readers_of_old_objects_are_refused_first_when_too_many_wait_for_the_drive() {
    const WAITING_MAX: usize = 1024;
    let store = Store::new();
    let engine = store.open();
    let name = |number: usize| format!("a/{number}");
    block_on(64, async {
        for number in 0..WAITING_MAX + 32 {
            put(&engine, &name(number), &payload(900, number as u8), 3_600_000)
                .await
                .expect("stored");
        }
    })
    .expect("a ring");
    engine.close();
    let options = Options { read_buffers: 1, ..options(&store.path) };
    let (engine, _) = Engine::open(options).expect("opens, with nothing in memory");
    block_on(64, async {
        // An object that was found keeps the buffer of its first read until its bytes are asked
        // for.
        let mut held = Vec::new();
        for number in 0..8 {
            held.push(engine.get(&key(&name(number))).await.expect("readable").expect("there"));
        }
        let waiting = Rc::new(Cell::new(0));
        let wait = |number: usize| {
            let (engine, name, waiting) = (engine.clone(), name(number), Rc::clone(&waiting));
            spawn(async move {
                waiting.set(waiting.get() + 1);
                get(&engine, &name).await
            })
        };
        let crowd: Vec<_> = (8..8 + WAITING_MAX).map(wait).collect();
        while waiting.get() < WAITING_MAX {
            yield_now().await;
        }
        let refused = engine.get(&key(&name(8 + WAITING_MAX))).await.map(|found| found.is_some());
        assert!(
            matches!(refused, Err(ReadError::Overloaded { volume: 0, waiting: WAITING_MAX })),
            "{refused:?}"
        );
        assert_eq!(engine.stats().reads_shed, 1);
        // Ingest, and what is in memory, do not wait for the drive's readers.
        put(&engine, "a/live", b"now", 3_600_000).await.expect("stored");
        assert_eq!(get(&engine, "a/live").await.as_deref(), Some(&b"now"[..]));
        drop(held);
        for (number, reader) in (8..).zip(crowd) {
            assert_eq!(reader.await, Some(payload(900, number as u8)), "who waited is served");
        }
    })
    .expect("a ring");
    engine.close();
}

#[test]
fn a_read_that_all_its_readers_have_left_is_begun_anew_by_the_next() {
    let store = Store::new();
    let engine = store.open();
    let bytes = payload(300_000, 9);
    block_on(64, async {
        put(&engine, "a/left", &bytes, 3_600_000).await.expect("stored");
        flood_arena(&engine).await;
        for turns in 0..50 {
            let mut left = Box::pin(get(&engine, "a/left"));
            let first = poll_fn(|cx| Poll::Ready(left.as_mut().poll(cx).is_pending())).await;
            assert!(first, "a drive does not answer at once");
            // Left before the read has begun, at its start, or when the drive has it.
            for _ in 0..turns % 4 {
                yield_now().await;
            }
            drop(left);
            assert_eq!(get(&engine, "a/left").await.as_ref(), Some(&bytes));
        }
    })
    .expect("a ring");
    engine.close();
}

#[test]
fn every_range_is_exactly_its_bytes_from_arena_and_drive() {
    let store = Store::new();
    let engine = store.open();
    let len = 1_100_000u64;
    let bytes = payload(len as usize, 7);
    let ranges = [
        0..len,
        0..1,
        len - 1..len,
        65_535..65_537,
        262_143..262_145,
        300_000..900_000,
        5..5,
        1_048_576..len,
        262_144..524_288,
    ];
    block_on(64, async {
        put(&engine, "a/big", &bytes, 3_600_000).await.expect("stored");
        for flooded in [false, true] {
            if flooded {
                flood_arena(&engine).await;
            }
            for range in &ranges {
                let expected = &bytes[range.start as usize..range.end as usize];
                let whole = engine.get(&key("a/big")).await.expect("readable").expect("there");
                assert_eq!(collect(whole.read(range.clone())).await.expect("verified"), expected);
                let head = engine.head(&key("a/big")).await.expect("readable").expect("there");
                assert_eq!(collect(head.read(range.clone())).await.expect("verified"), expected);
            }
        }
    })
    .expect("a ring");
    engine.close();
}

#[test]
fn an_overwrite_replaces_and_a_delete_removes_durably() {
    let store = Store::new();
    let engine = store.open();
    block_on(64, async {
        assert!(!put(&engine, "a/x", b"one", 60_000).await.expect("stored"));
        assert!(put(&engine, "a/x", b"two", 60_000).await.expect("stored"));
        assert_eq!(get(&engine, "a/x").await.as_deref(), Some(&b"two"[..]));
        put(&engine, "a/y", b"gone", 60_000).await.expect("stored");
        assert!(engine.delete(&key("a/y")).await.expect("deleted"));
        assert!(!engine.delete(&key("a/y")).await.expect("nothing there"));
        assert_eq!(get(&engine, "a/y").await, None);
    })
    .expect("a ring");
    // No close: the next open finds what a crash would leave.
    drop(engine);
    let engine = store.open();
    block_on(64, async {
        assert_eq!(get(&engine, "a/x").await.as_deref(), Some(&b"two"[..]));
        assert_eq!(get(&engine, "a/y").await, None);
    })
    .expect("a ring");
    engine.close();
}

#[test]
fn an_upload_is_followed_byte_by_byte_and_ends_when_it_is_durable() {
    let store = Store::new();
    let engine = store.open();
    block_on(64, async {
        let options = PutOptions { ttl_ms: 60_000, ..PutOptions::default() };
        let mut upload = engine.put(&key("a/live"), options).await.expect("admitted");
        let object = engine.get(&key("a/live")).await.expect("readable").expect("followable");
        assert_eq!(object.info().len, None);
        let mut follower = object.follow();
        let mut seen = Vec::new();
        for part in [&b"one "[..], b"two ", b"three"] {
            upload.write(part).await.expect("room");
            let chunk = follower.next().await.expect("more").expect("a true prefix");
            seen.extend_from_slice(&chunk);
        }
        assert_eq!(seen, b"one two three");
        upload.commit(Ack::Durable).await.expect("stored");
        assert!(follower.next().await.is_none(), "a clean end only after the commit");
    })
    .expect("a ring");
    engine.close();
}

#[test]
fn an_aborted_upload_never_becomes_an_object_and_followers_are_told() {
    let store = Store::new();
    let engine = store.open();
    let before = engine.stats().arena_blocks_uploading;
    block_on(64, async {
        let options = PutOptions { ttl_ms: 60_000, len: Some(10), ..PutOptions::default() };
        let mut upload = engine.put(&key("a/cut"), options.clone()).await.expect("admitted");
        upload.write(b"half").await.expect("room");
        let object = engine.get(&key("a/cut")).await.expect("readable").expect("followable");
        let mut follower = object.follow();
        assert_eq!(&*follower.next().await.expect("more").expect("prefix"), b"half");
        drop(upload);
        let end = follower.next().await.expect("told");
        assert!(matches!(end, Err(ReadError::Aborted { received: 4 })), "{end:?}");
        assert_eq!(get(&engine, "a/cut").await, None);

        let mut short = engine.put(&key("a/cut"), options.clone()).await.expect("admitted");
        short.write(b"half").await.expect("room");
        let error = short.commit(Ack::Durable).await.expect_err("short");
        assert!(matches!(error, PutError::Length { declared: 10, received: 4 }));
        let mut long = engine.put(&key("a/cut"), options).await.expect("admitted");
        let error = long.write(b"eleven bytes").await.expect_err("long");
        assert!(matches!(error, PutError::Length { declared: 10, received: 12 }));
        drop(long);
        assert_eq!(get(&engine, "a/cut").await, None);
    })
    .expect("a ring");
    assert_eq!(engine.stats().arena_blocks_uploading, before, "the space returns");
    engine.close();
}

#[test]
fn an_object_larger_than_the_store_takes_is_refused_before_its_body() {
    let store = Store::new();
    let engine = store.open();
    block_on(64, async {
        let max = engine.object_len_max();
        let options = PutOptions { ttl_ms: 60_000, len: Some(max + 1), ..PutOptions::default() };
        let Err(error) = engine.put(&key("a/huge"), options).await else { panic!("admitted") };
        let PutError::TooLarge { len, max: limit } = error else { panic!("{error}") };
        assert_eq!((len, limit), (max + 1, max));
        let bytes = payload(max as usize, 3);
        put(&engine, "a/largest", &bytes, 60_000).await.expect("the largest fits");
        assert!(get(&engine, "a/largest").await == Some(bytes));
    })
    .expect("a ring");
    engine.close();
}

#[test]
fn listing_by_prefix_is_ordered_paged_and_knows_only_current_objects() {
    let store = Store::new();
    let engine = store.open();
    block_on(64, async {
        // More than a zone of 8 MiB, so that some keys come from a footer and some from memory.
        for n in 0..40 {
            put(&engine, &format!("list/{n:03}"), &payload(400_000, n), 3_600_000)
                .await
                .expect("stored");
        }
        put(&engine, "list/005", b"again", 3_600_000).await.expect("stored");
        engine.delete(&key("list/006")).await.expect("deleted");
        put(&engine, "other/1", b"no", 3_600_000).await.expect("stored");
    })
    .expect("a ring");
    let mut names = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = engine.list(b"list/", after.as_deref(), 7).expect("listed");
        let Some(last) = page.last() else { break };
        after = Some(last.key.as_bytes().to_vec());
        names.extend(page.iter().map(|entry| (entry.key.to_string(), entry.len)));
    }
    let expected: Vec<(String, u64)> = (0..40)
        .filter(|n| *n != 6)
        .map(|n| (format!("list/{n:03}"), if n == 5 { 5 } else { 400_000 }))
        .collect();
    assert_eq!(names, expected);
    engine.close();
}

#[test]
fn a_second_opener_is_refused_and_a_close_lets_it_in() {
    let store = Store::new();
    let engine = store.open();
    let error = Engine::open(options(&store.path)).err().expect("refused");
    assert!(matches!(error, OpenError::Volume(_)), "{error}");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    engine.close();
    store.open().close();
}

#[test]
fn foreign_newer_and_truncated_files_are_refused_and_left_as_they_are() {
    let store = Store::new();
    let good = std::fs::read(&store.path).expect("bytes");
    let mut newer = good.clone();
    newer[8..12].copy_from_slice(&2u32.to_le_bytes());
    let cases = [
        ("empty", Vec::new()),
        ("text", b"not a volume at all\n".repeat(1000)),
        ("newer", newer),
        ("truncated", good[..good.len() - 4096].to_vec()),
        ("cut short", good[..5000].to_vec()),
        ("another store's header, both copies", under_the_header_of_another_store(&good)),
    ];
    for (name, bytes) in cases {
        std::fs::write(&store.path, &bytes).expect("written");
        let error = Engine::open(options(&store.path)).err().unwrap_or_else(|| panic!("{name}"));
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        assert!(std::fs::read(&store.path).expect("bytes") == bytes, "{name} was touched");
    }
}

fn under_the_header_of_another_store(body: &[u8]) -> Vec<u8> {
    let other = std::fs::read(&Store::new().path).expect("bytes");
    let mut bytes = body.to_vec();
    let last = bytes.len() - 4096;
    bytes[..4096].copy_from_slice(&other[..4096]);
    bytes[last..].copy_from_slice(&other[last..]);
    bytes
}

#[test]
fn more_readers_than_buffers_all_come_to_their_end_while_their_objects_live() {
    let store = Store::new();
    let few = Options { read_buffers: 2, ..options(&store.path) };
    let engine = Engine::open(few).expect("a store that opens").0;
    let bytes = payload(1_100_000, 9);
    block_on(64, async {
        put(&engine, "a/big", &bytes, 3_600_000).await.expect("stored");
        flood_arena(&engine).await;
        let mut readers = Vec::new();
        for _ in 0..2 {
            let object = engine.get(&key("a/big")).await.expect("readable").expect("there");
            assert!(!object.info().in_arena);
            let chunks = object.read(0..bytes.len() as u64);
            readers.push((object, chunks));
        }
        for (object, chunks) in readers {
            assert!(collect(chunks).await.expect("verified") == bytes);
            drop(object);
        }
    })
    .expect("a ring");
    engine.close();
}
