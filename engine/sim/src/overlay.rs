//! What is wrong with what a drive holds: flipped bits and unreadable sectors, which lie over the
//! contents and change nothing beneath (lift them and the truth is back); and marks where a lost
//! write left old bytes, or a misdirected one brought foreign ones.
//!
//! Writing a sector ends its overlay, as it does on a drive.

use std::collections::BTreeMap;
use std::ops::Range;

/// Unit of overlays, in bytes: the smallest that a drive writes whole.
pub(crate) const SECTOR: usize = 512;

/// What is wrong with one sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Patch {
    /// One bit reads inverted.
    Flip { at: usize, mask: u8 },
    /// Reads fail.
    Unreadable,
    /// Holds bytes from another time or place than the last write that was said to be done.
    Other,
}

/// Overlays that a write ended, by sector.
pub(crate) type Covered = Vec<(u64, Patch)>;

/// The overlays of one drive, by sector.
#[derive(Clone, Default)]
pub(crate) struct Overlays {
    patches: BTreeMap<u64, Patch>,
}

impl Overlays {
    pub(crate) fn is_empty(&self) -> bool {
        self.patches.is_empty()
    }

    /// Puts one over the sector at `offset`.
    pub(crate) fn put(&mut self, offset: u64, patch: Patch) {
        self.patches.insert(offset / SECTOR as u64, patch);
    }

    /// Everything from `offset` on is not what was written there last.
    pub(crate) fn mark(&mut self, offset: u64, len: usize) {
        for sector in sectors(offset, len) {
            self.patches.insert(sector, Patch::Other);
        }
    }

    /// The stretch has been written. What lay over it, should the write not last.
    pub(crate) fn written(&mut self, offset: u64, len: usize) -> Covered {
        if self.patches.is_empty() {
            return Covered::default();
        }
        let range = sectors(offset, len);
        let covered = self.patches.range(range).map(|(at, patch)| (*at, patch.clone())).collect();
        self.patches.retain(|at, _| !sectors(offset, len).contains(at));
        covered
    }

    /// Part of a write did not last.
    pub(crate) fn restore(&mut self, covered: &Covered, offset: u64, len: usize) {
        for (sector, patch) in covered {
            if sectors(offset, len).contains(sector) {
                self.patches.insert(*sector, patch.clone());
            }
        }
    }

    /// Takes away the one over the sector at `offset`.
    pub(crate) fn lift(&mut self, offset: u64) {
        self.patches.remove(&(offset / SECTOR as u64));
    }

    pub(crate) fn touches(&self, offset: u64, len: usize) -> bool {
        self.patches.range(sectors(offset, len)).next().is_some()
    }

    /// Changes what was read from `offset` on; false if a sector in it cannot be read.
    pub(crate) fn apply(&self, offset: u64, bytes: &mut [u8]) -> bool {
        for (sector, patch) in self.patches.range(sectors(offset, bytes.len())) {
            let at = (sector * SECTOR as u64 - offset) as usize;
            match patch {
                Patch::Flip { at: byte, mask } => bytes[at + byte] ^= mask,
                Patch::Unreadable => return false,
                Patch::Other => {}
            }
        }
        true
    }

    /// Offset of every sector with an overlay, and whether it shows whole bytes of another time or
    /// place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, bool)> + '_ {
        self.patches
            .iter()
            .map(|(sector, patch)| (sector * SECTOR as u64, matches!(patch, Patch::Other)))
    }
}

fn sectors(offset: u64, len: usize) -> Range<u64> {
    assert!(offset.is_multiple_of(SECTOR as u64) && len.is_multiple_of(SECTOR));
    offset / SECTOR as u64..(offset + len as u64) / SECTOR as u64
}
