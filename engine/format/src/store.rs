//! A store over several volumes of one geometry: where a zone of the store lies.
//!
//! Zones are numbered through: volume 0 has the first ones, volume 1 goes on behind them. This
//! number stands in every structure on every volume, so a record can name a zone of any volume. A
//! store of one volume has the numbers of its volume.

use crate::{BLOCK, FormatError, Geometry, ZONE_COUNT_MIN};
use std::ops::Range;

/// Most volumes of a store.
pub const VOLUME_COUNT_MAX: u16 = 16;
/// Most blocks of a store, 256 TiB: who keeps an index of it has 36 bits for the place.
const STORE_BLOCKS_MAX: u64 = 1 << 36;

/// All volumes of a store, each of the same geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreGeometry {
    volume: Geometry,
    volume_count: u16,
}

impl StoreGeometry {
    /// Refuses a count that the format cannot express and a store that no index can address.
    pub fn new(volume: Geometry, volume_count: u16) -> Result<StoreGeometry, FormatError> {
        if !(1..=VOLUME_COUNT_MAX).contains(&volume_count) {
            return Err(FormatError::VolumeCount { found: volume_count, max: VOLUME_COUNT_MAX });
        }
        let found = u64::from(volume.zone_count()) * u64::from(volume_count);
        let max = STORE_BLOCKS_MAX / (volume.zone_size() / BLOCK as u64);
        if found > max {
            return Err(FormatError::ZoneCount { found, min: u64::from(ZONE_COUNT_MIN), max });
        }
        Ok(StoreGeometry { volume, volume_count })
    }

    /// Geometry of each volume.
    pub const fn volume(&self) -> &Geometry {
        &self.volume
    }

    /// Volumes of the store.
    pub const fn volume_count(&self) -> u16 {
        self.volume_count
    }

    /// Zones on all volumes together.
    pub const fn zone_count(&self) -> u32 {
        self.volume.zone_count() * self.volume_count as u32
    }

    /// Bytes per zone.
    pub const fn zone_size(&self) -> u64 {
        self.volume.zone_size()
    }

    /// The volume of a zone, and the zone's number there.
    pub const fn split(&self, zone: u32) -> (u16, u32) {
        assert!(zone < self.zone_count());
        ((zone / self.volume.zone_count()) as u16, zone % self.volume.zone_count())
    }

    /// The volume that a zone lies on.
    pub const fn volume_of(&self, zone: u32) -> u16 {
        self.split(zone).0
    }

    /// The zones of a volume.
    pub const fn zones_of(&self, volume: u16) -> Range<u32> {
        assert!(volume < self.volume_count);
        let first = self.volume.zone_count() * volume as u32;
        first..first + self.volume.zone_count()
    }

    /// Offset of a zone's first byte on its volume.
    pub const fn zone_offset(&self, zone: u32) -> u64 {
        self.volume.zone_offset(self.split(zone).1)
    }

    /// Largest payload of one object: see [`Geometry::record_payload_max`].
    pub const fn record_payload_max(&self) -> u64 {
        self.volume.record_payload_max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(zone_count: u32) -> Geometry {
        Geometry::new(1 << 20, zone_count).unwrap()
    }

    #[test]
    fn the_zones_of_a_store_are_numbered_through_its_volumes() {
        let store = StoreGeometry::new(geometry(5), 3).unwrap();
        assert_eq!(store.zone_count(), 15);
        let places: Vec<(u16, u32)> = (0..15).map(|zone| store.split(zone)).collect();
        let expected: Vec<(u16, u32)> =
            (0..3).flat_map(|volume| (0..5).map(move |zone| (volume, zone))).collect();
        assert_eq!(places, expected);
        assert_eq!(
            [store.zones_of(0), store.zones_of(1), store.zones_of(2)],
            [0..5, 5..10, 10..15]
        );
        assert_eq!(store.zone_offset(11), store.volume().zone_offset(1));
        assert_eq!(store.volume_of(4), 0);
        assert_eq!(store.volume_of(5), 1);
    }

    #[test]
    fn a_store_of_one_volume_has_the_places_of_its_volume() {
        let store = StoreGeometry::new(geometry(9), 1).unwrap();
        let same = |zone| store.zone_offset(zone) == store.volume().zone_offset(zone);
        assert!((0..9).all(same));
        assert_eq!(store.zones_of(0), 0..store.volume().zone_count());
    }

    #[test]
    fn too_many_volumes_none_and_more_than_an_index_can_address_are_refused() {
        for found in [0, VOLUME_COUNT_MAX + 1, u16::MAX] {
            let refused = StoreGeometry::new(geometry(4), found);
            assert_eq!(refused, Err(FormatError::VolumeCount { found, max: VOLUME_COUNT_MAX }));
        }
        let large = Geometry::new(256 << 20, 1 << 19).unwrap();
        assert!(StoreGeometry::new(large, 2).is_ok());
        let found = 3 << 19;
        let refused = FormatError::ZoneCount { found, min: 4, max: 1 << 20 };
        assert_eq!(StoreGeometry::new(large, 3), Err(refused));
    }
}
