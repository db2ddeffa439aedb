//! Stores on real files, and the shortest way to put and get.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use std::path::PathBuf;
use std::time::{Duration, Instant};
use tapeloop_engine::{
    Ack, Chunks, Engine, Key, Options, PutError, PutOptions, ReadError, ScrubOptions,
};

/// Of each volume.
pub const CAPACITY: u64 = 32 << 20;
/// Nothing here takes this long; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Store {
    pub dir: tempfile::TempDir,
    pub paths: Vec<PathBuf>,
}

impl Store {
    /// A new store of so many volumes.
    pub fn of(volumes: usize) -> Store {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let path = |index| dir.path().join(format!("volume-{index}.tape"));
        let paths: Vec<PathBuf> = (0..volumes).map(path).collect();
        tapeloop_engine::format(&paths, CAPACITY, &mut |_, _| {}).expect("a new store");
        Store { dir, paths }
    }

    pub fn options(&self) -> Options {
        Options { volumes: self.paths.clone(), ..small_options() }
    }

    pub fn open(&self) -> Engine {
        Engine::open(self.options()).expect("a store that opens").0
    }
}

/// Little memory, and no scrub in between.
pub fn small_options() -> Options {
    let scrub = ScrubOptions { cycle: None, ..ScrubOptions::default() };
    Options { arena_bytes: 20 << 20, scrub, ..Options::new("") }
}

pub fn key(name: &str) -> Key {
    Key::new(name.as_bytes()).expect("a valid key")
}

pub fn payload(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ seed).collect()
}

pub async fn put(engine: &Engine, name: &str, bytes: &[u8], ttl_ms: u64) -> Result<bool, PutError> {
    let options = PutOptions { ttl_ms, ..PutOptions::default() };
    let mut upload = engine.put(&key(name), options).await?;
    upload.write(bytes).await?;
    Ok(upload.commit(Ack::Durable).await?.replaced)
}

pub async fn collect(mut chunks: Chunks) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

pub async fn get(engine: &Engine, name: &str) -> Option<Vec<u8>> {
    let object = engine.get(&key(name)).await.expect("a readable store")?;
    let len = object.info().len.expect("a stored object");
    Some(collect(object.read(0..len)).await.expect("verified bytes"))
}

/// Waits until `done` holds; the condition, not a time, ends the wait.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "still waiting until {what}");
        std::thread::yield_now();
    }
}
