//! What an engine is opened with.

use crate::scrub::ScrubOptions;
use std::path::{Path, PathBuf};
use tapeloop_format::BLOCK;
use tapeloop_io::buffers::{READ_BUF, SMALL_PER_LARGE, SMALL_READ_BUF};
use tapeloop_log::GroupPolicy;

/// What one object may take of the index: 18 bytes while it is served, more while a start rebuilds
/// the index from all versions there are.
const INDEX_BYTES_PER_OBJECT: u64 = 32;
/// Everything else that belongs to a volume: footers of its open zones, pieces that are written.
const VOLUME_BYTES: u64 = 16 << 20;
/// What is known of one object in the arena; it takes a block of 64 KiB there, or more.
const ARENA_OVERHEAD_DIVISOR: u64 = 32;

/// Read buffers of a thread for each volume, when there are several.
const READ_BUFFERS_PER_VOLUME: usize = 4;

/// Options of [`crate::Engine::open`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The volumes of the store: files or block devices, in any order.
    pub volumes: Vec<PathBuf>,
    /// Opens the store although volumes are missing, and gives up what they hold for good: they
    /// come back empty. A key whose newest version, or whose delete, lay on a missing volume may
    /// show the version before it.
    pub degraded: bool,
    /// Memory for payloads: uploads in progress and the live edge.
    pub arena_bytes: u64,
    /// Read buffers of 288 KiB for each thread that reads; at least four for each of several
    /// volumes.
    pub read_buffers: usize,
    /// Namespaces with a quota or a guarantee of their own.
    pub groups: Vec<GroupPolicy>,
    /// How it is scrubbed.
    pub scrub: ScrubOptions,
}

impl Options {
    /// A store of one volume with default memory.
    pub fn new(volume: impl Into<PathBuf>) -> Options {
        Options {
            volumes: vec![volume.into()],
            degraded: false,
            arena_bytes: 256 << 20,
            read_buffers: 64,
            groups: Vec::new(),
            scrub: ScrubOptions::default(),
        }
    }
}

impl Options {
    /// Read buffers of each thread, if the store has so many volumes: every one has its share, and
    /// a share must not be too small to read ahead.
    pub fn read_buffers_for(&self, volumes: usize) -> usize {
        match volumes {
            1 => self.read_buffers,
            _ => self.read_buffers.max(volumes * READ_BUFFERS_PER_VOLUME),
        }
    }
}

/// The most memory a store takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryMax {
    /// The arena, and what is known of the objects in it.
    pub arena: u64,
    /// Read buffers of one reading thread.
    pub read_buffers: u64,
    /// The index, were the store full of objects of one drive block each.
    pub index: u64,
    /// Open zones, and what is being written.
    pub volumes: u64,
}

impl Options {
    /// The most memory that a store with these options takes, its volumes together having a
    /// capacity of so many bytes.
    pub fn memory_max(&self, capacity_bytes: u64) -> MemoryMax {
        let volumes = self.volumes.len();
        let read_buffer = READ_BUF + SMALL_PER_LARGE * SMALL_READ_BUF;
        MemoryMax {
            arena: self.arena_bytes + self.arena_bytes / ARENA_OVERHEAD_DIVISOR,
            read_buffers: self.read_buffers_for(volumes) as u64 * read_buffer as u64,
            index: capacity_bytes / BLOCK as u64 * INDEX_BYTES_PER_OBJECT,
            volumes: volumes as u64 * VOLUME_BYTES,
        }
    }
}

/// The volume behind a data path: the path itself if it is a file or a device, else the one file
/// that a data directory holds.
pub fn volume_path(data: &Path) -> PathBuf {
    volume_path_at(data, 0)
}

/// The volumes behind the data paths of a store, each of which is the place of one volume.
pub fn volume_paths(data: &[PathBuf]) -> Vec<PathBuf> {
    data.iter().enumerate().map(|(index, path)| volume_path_at(path, index)).collect()
}

/// A directory holds one volume, whatever its number: the order of paths may have changed since.
fn volume_path_at(data: &Path, index: usize) -> PathBuf {
    if data.metadata().is_ok_and(|metadata| !metadata.is_dir()) {
        return data.to_path_buf();
    }
    let is_volume = |name: &str| name.starts_with("volume-") && name.ends_with(".tape");
    let names = data.read_dir().into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut found: Vec<_> = names.filter(|name| name.to_str().is_some_and(is_volume)).collect();
    found.sort();
    match found.into_iter().next() {
        Some(name) => data.join(name),
        None => data.join(format!("volume-{index}.tape")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_stands_for_the_one_volume_in_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let [first, second] = ["a", "b"].map(|name| dir.path().join(name));
        let paths = [first.clone(), second.clone()];
        let fresh = [first.join("volume-0.tape"), second.join("volume-1.tape")];
        assert_eq!(volume_paths(&paths), fresh, "not there yet");
        std::fs::create_dir(&second).expect("made");
        std::fs::write(second.join("notes.txt"), b"").expect("written");
        std::fs::write(&fresh[1], b"").expect("written");
        assert_eq!(volume_path(&second), fresh[1], "found under any number");
        assert_eq!(volume_path(&fresh[1]), fresh[1], "a file is itself");
    }
}
