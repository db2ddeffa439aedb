//! What an engine is opened with.

use crate::scrub::ScrubOptions;
use std::path::{Path, PathBuf};
use tapeloop_log::GroupPolicy;

/// Options of [`crate::Engine::open`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The volumes of the store: files or block devices. This version takes exactly one.
    pub volumes: Vec<PathBuf>,
    /// Memory for payloads: uploads in progress and the live edge.
    pub arena_bytes: u64,
    /// Read buffers of 288 KiB for each thread that reads.
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
            arena_bytes: 256 << 20,
            read_buffers: 24,
            groups: Vec::new(),
            scrub: ScrubOptions::default(),
        }
    }
}

/// The volume behind a data path: the path itself if it is a file or a device, else the one file
/// that a data directory holds.
pub fn volume_path(data: &Path) -> PathBuf {
    let is_volume = data.metadata().is_ok_and(|metadata| !metadata.is_dir());
    if is_volume { data.to_path_buf() } else { data.join("volume-0.tape") }
}
