//! What readers share with the log: the index and, for each zone, the lap on the drive and whether
//! it may be served.
//!
//! Freeing a zone is one store: it is no longer servable and every index entry of it is dead to
//! readers at once. Its entries stay present to the log until the drive holds the next lap: until
//! then a crash could bring its objects back, so whoever supersedes one of them must name it as a
//! victim.

use crate::index::{Index, IndexEntry};
use crate::sync::{AtomicU64, Ordering};
use tapeloop_format::{BLOCK, KeyHash, StoreGeometry};

/// Where an object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Zone number, counted through all volumes.
    pub zone: u32,
    /// Lap of the zone the object was written in.
    pub lap: u64,
    /// Offset of the record from the start of the zone, in bytes.
    pub offset: u64,
    /// Payload length in bytes.
    pub len: u32,
}

/// Index and servable laps.
pub struct Directory {
    geometry: StoreGeometry,
    index: Index,
    /// Lap on the drive, shifted left by one; the low bit says that it may be served.
    laps: Box<[AtomicU64]>,
}

/// Number of live entries with one 60-bit hash a lookup returns. More never happen by chance.
const CANDIDATES_MAX: usize = 4;

/// The few places where an object may lie; nearly always none or one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Candidates {
    found: [Option<Location>; CANDIDATES_MAX],
}

impl Candidates {
    /// The locations, most of the time one.
    pub fn iter(&self) -> impl Iterator<Item = Location> + '_ {
        self.found.iter().flatten().copied()
    }
}

impl Directory {
    /// A directory over an index; no zone is servable yet.
    pub fn new(geometry: StoreGeometry, index: Index) -> Directory {
        let laps = (0..geometry.zone_count()).map(|_| AtomicU64::new(0)).collect();
        Directory { geometry, index, laps }
    }

    /// The live places of a key hash. The full key must be verified in the read.
    pub fn lookup(&self, hash: &KeyHash) -> Candidates {
        let mut candidates = Candidates::default();
        let mut count = 0;
        self.index.lookup(hash, |entry| {
            if let Some((location, true)) = self.locate(&entry) {
                candidates.found[count] = Some(location);
                count += 1;
            }
            count == CANDIDATES_MAX
        });
        candidates
    }

    /// Is this still the place of the newest version of the key?
    pub fn is_current(&self, hash: &KeyHash, location: &Location) -> bool {
        self.lookup(hash).iter().any(|current| current == *location)
    }

    /// Is the zone still in this lap, and servable?
    pub fn is_servable(&self, zone: u32, lap: u64) -> bool {
        self.laps[zone as usize].load(Ordering::Acquire) == lap << 1 | 1
    }

    /// The servable lap of a zone; `None` while it is free.
    pub fn servable_lap(&self, zone: u32) -> Option<u64> {
        let lap = self.laps[zone as usize].load(Ordering::Acquire);
        (lap & 1 == 1).then_some(lap >> 1)
    }

    /// The servable objects in a lap of a zone, in no order. Looks at all of the index: for a zone
    /// whose own list is damaged.
    pub fn objects_in(&self, zone: u32, lap: u64) -> Vec<Location> {
        let mut found = Vec::new();
        self.index.for_each(|entry| {
            if let Some((location, true)) = self.locate(&entry)
                && (location.zone, location.lap) == (zone, lap)
            {
                found.push(location);
            }
        });
        found
    }

    /// Geometry of the store.
    pub fn geometry(&self) -> &StoreGeometry {
        &self.geometry
    }

    /// Entries and bytes of the index.
    pub fn index_size(&self) -> (usize, usize) {
        (self.index.entry_count(), self.index.memory_bytes())
    }

    /// The drive holds this lap of the zone; every entry of another lap is gone for good.
    pub(crate) fn set_lap(&self, zone: u32, lap: u64, servable: bool) {
        assert!(lap < 1 << 63);
        self.laps[zone as usize].store(lap << 1 | u64::from(servable), Ordering::Release);
    }

    /// The places of a key hash that the drive still holds, servable or not.
    pub(crate) fn lookup_present(&self, hash: &KeyHash) -> Vec<Location> {
        let mut found = Vec::new();
        self.index.lookup(hash, |entry| {
            found.extend(self.locate(&entry).map(|(location, _)| location));
            false
        });
        found
    }

    pub(crate) fn is_present(&self, location: &Location) -> bool {
        self.laps[location.zone as usize].load(Ordering::Acquire) >> 1 == location.lap
    }

    /// Publishes the newest version of a key, in the place of `old` if there is one.
    pub(crate) fn publish(&self, hash: &KeyHash, old: Option<&Location>, new: &Location) {
        let entry = self.entry(new);
        let replaced = old.is_some_and(|old| self.index.replace(hash, &self.entry(old), entry));
        if !replaced {
            self.index.insert(hash, entry, |entry| self.locate(entry).is_some());
        }
    }

    pub(crate) fn retract(&self, hash: &KeyHash, old: &Location) {
        self.index.remove(hash, &self.entry(old));
    }

    pub(crate) fn entry(&self, location: &Location) -> IndexEntry {
        entry_of(&self.geometry, location)
    }

    /// Where a present entry points, and whether it may be served.
    fn locate(&self, entry: &IndexEntry) -> Option<(Location, bool)> {
        let blocks_per_zone = self.geometry.zone_size() / BLOCK as u64;
        let zone = (entry.block / blocks_per_zone) as u32;
        let state = self.laps[zone as usize].load(Ordering::Acquire);
        let lap = state >> 1;
        let present = lap != 0 && lap as u16 == entry.lap_low;
        let offset = entry.block % blocks_per_zone * BLOCK as u64;
        present.then_some((Location { zone, lap, offset, len: entry.len }, state & 1 == 1))
    }
}

/// The index entry of a location.
pub(crate) fn entry_of(geometry: &StoreGeometry, location: &Location) -> IndexEntry {
    let blocks_per_zone = geometry.zone_size() / BLOCK as u64;
    assert_eq!(location.offset % BLOCK as u64, 0);
    assert!(location.offset < geometry.zone_size());
    IndexEntry {
        block: u64::from(location.zone) * blocks_per_zone + location.offset / BLOCK as u64,
        len: location.len,
        lap_low: location.lap as u16,
    }
}
