//! What the integration tests share. They run on the file system of the target directory.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tapeloop_io::{AlignedBuf, Completion, VolumeFile, WriteRing};
use tempfile::TempDir;

pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A directory with one zeroed volume file in it.
pub(crate) struct Store {
    pub(crate) dir: TempDir,
    pub(crate) path: PathBuf,
}

impl Store {
    pub(crate) fn new(len: u64) -> Store {
        let dir = scratch();
        let path = dir.path().join("ring");
        VolumeFile::create_preallocated(&path, len, &mut |_, _| {}).unwrap();
        Store { dir, path }
    }

    pub(crate) fn open(&self) -> Arc<VolumeFile> {
        Arc::new(VolumeFile::open_direct(&self.path).unwrap())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        names_in(&self.dir)
    }
}

pub(crate) fn names_in(dir: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(dir.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Bytes that differ from place to place and from seed to seed.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(step).take(len).collect()
}

pub(crate) fn aligned_pattern(seed: u64, len: usize) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(len);
    buf.copy_from_slice(&pattern(seed, len));
    buf
}

/// Waits for one completion; a ring that never completes fails the test, it does not hang it.
pub(crate) fn wait_for(ring: &mut WriteRing) -> Completion {
    for _ in 0..600 {
        if let Some(completion) = ring.pop() {
            return completion;
        }
        ring.submit_and_wait(Duration::from_millis(100)).unwrap();
    }
    panic!("no completion within a minute");
}
