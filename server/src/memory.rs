//! The most memory the process will take, whatever its clients do. Printed at start, and kept.

use crate::config::{Config, format_size};
use crate::net::{DataPlane, Limits};
use crate::store;
use std::fmt;

/// The program itself: code, stacks, rings, the admin plane, what allocators keep.
const PROGRAM_BYTES: u64 = 64 << 20;

/// The figure and its parts, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryMax {
    /// Payloads: uploads and recent objects.
    pub arena: u64,
    /// Objects on their way from a drive.
    pub read_buffers: u64,
    /// Where objects are, if the store is full of the smallest.
    pub index: u64,
    /// All connections.
    pub connections: u64,
    /// Everything else.
    pub rest: u64,
}

impl MemoryMax {
    /// For a store of such a capacity.
    pub fn of(config: &Config, capacity_bytes: u64) -> MemoryMax {
        let store = store::memory_max(config, capacity_bytes);
        let plane = DataPlane::of(config, Limits::default());
        MemoryMax {
            arena: store.arena,
            read_buffers: config.threads as u64 * store.read_buffers,
            index: store.index,
            connections: plane.memory_max(),
            rest: store.volumes + PROGRAM_BYTES,
        }
    }

    /// All of it.
    pub fn all(&self) -> u64 {
        self.arena + self.read_buffers + self.index + self.connections + self.rest
    }
}

impl fmt::Display for MemoryMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at most {}: arena {}, read buffers {}, index {}, connections {}, the rest {}",
            format_size(self.all()),
            format_size(self.arena),
            format_size(self.read_buffers),
            format_size(self.index),
            format_size(self.connections),
            format_size(self.rest),
        )
    }
}
