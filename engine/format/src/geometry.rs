//! Where things lie on a volume: pure arithmetic from zone size and zone count.

use crate::FormatError;
use crate::shape::RecordShape;
use crate::trailer::footer_len;

/// Unit of alignment and of O_DIRECT transfers, in bytes.
pub const BLOCK: usize = 4096;
/// Unit of payload checksums, in bytes.
pub const CHUNK: usize = 65_536;
/// Longest key, in bytes.
pub const KEY_LEN_MAX: usize = 1024;
/// Longest metadata of a record, in bytes.
pub const METADATA_LEN_MAX: usize = 1024;
/// Most zones a checkpoint can name as open.
pub const OPEN_ZONES_MAX: usize = 64;
/// Offset of zone 0: the first MiB belongs to the volume header and the checkpoints.
pub const DATA_OFFSET: u64 = 1 << 20;
/// Offsets of the two checkpoint slots.
pub const CHECKPOINT_SLOTS: [u64; 2] = [BLOCK as u64, 2 * BLOCK as u64];
/// Offset of the carry journal: kills that must outlive a zone are durable here before its reuse.
pub const CARRY_JOURNAL_OFFSET: u64 = 64 << 10;
/// Bytes of the carry journal.
pub const CARRY_JOURNAL_LEN: u64 = DATA_OFFSET - CARRY_JOURNAL_OFFSET;
/// Smallest zone (tests only; the product rule never goes below 8 MiB).
pub const ZONE_SIZE_MIN: u64 = 64 << 10;
/// Largest zone: lengths and offsets within a zone fit in 32 bits.
pub const ZONE_SIZE_MAX: u64 = 256 << 20;
/// Fewest zones of a volume.
pub const ZONE_COUNT_MIN: u32 = 4;
/// Most zones of a volume: 1 PiB of the largest zones, and a bound on what a reader allocates.
pub const ZONE_COUNT_MAX: u32 = 1 << 22;
/// Smallest capacity the product rule accepts.
pub const CAPACITY_MIN: u64 = 32 << 20;

/// Numbers that only grow are never larger: laps, LSNs, log positions, incarnations, sequences and
/// times. Nothing gets there in any life, and who adds a few of them cannot overflow.
pub const COUNTED_MAX: u64 = (1 << 62) - 1;

const PRODUCT_ZONE_SIZE_MIN: u64 = 8 << 20;
const ZONES_WANTED: u64 = 16;

const _: () = assert!(CHUNK.is_multiple_of(BLOCK));
const _: () = assert!(CHECKPOINT_SLOTS[1] + (BLOCK as u64) <= CARRY_JOURNAL_OFFSET);
const _: () = assert!(CARRY_JOURNAL_OFFSET.is_multiple_of(BLOCK as u64));
const _: () = assert!(CAPACITY_MIN / PRODUCT_ZONE_SIZE_MIN >= ZONE_COUNT_MIN as u64);
const _: () = assert!(ZONE_SIZE_MAX <= u32::MAX as u64);

/// Rounds `len` up to a multiple of `unit`, a power of two.
pub const fn round_up(len: usize, unit: usize) -> usize {
    assert!(unit.is_power_of_two());
    (len + unit - 1) & !(unit - 1)
}

/// Zone size and zone count of a volume; everything else follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    zone_size: u64,
    zone_count: u32,
}

impl Geometry {
    /// Any geometry the format can express.
    pub fn new(zone_size: u64, zone_count: u32) -> Result<Geometry, FormatError> {
        let (min, max) = (ZONE_SIZE_MIN, ZONE_SIZE_MAX);
        if !zone_size.is_power_of_two() || !(min..=max).contains(&zone_size) {
            return Err(FormatError::ZoneSize { found: zone_size, min, max });
        }
        let (min, max) = (ZONE_COUNT_MIN, ZONE_COUNT_MAX);
        if !(min..=max).contains(&zone_count) {
            let (min, max) = (u64::from(min), u64::from(max));
            return Err(FormatError::ZoneCount { found: u64::from(zone_count), min, max });
        }
        Ok(Geometry { zone_size, zone_count })
    }

    /// The product rule: a sixteenth of the capacity, rounded down to a power of two, in 8..=256
    /// MiB.
    pub fn for_capacity(capacity: u64) -> Result<Geometry, FormatError> {
        if capacity < CAPACITY_MIN {
            return Err(FormatError::Capacity { found: capacity, min: CAPACITY_MIN });
        }
        let sixteenth = capacity / ZONES_WANTED;
        let power = 1 << sixteenth.ilog2();
        let zone_size = u64::clamp(power, PRODUCT_ZONE_SIZE_MIN, ZONE_SIZE_MAX);
        let zones = capacity / zone_size;
        let zone_count = u32::try_from(zones).map_err(|_| FormatError::ZoneCount {
            found: zones,
            min: u64::from(ZONE_COUNT_MIN),
            max: u64::from(ZONE_COUNT_MAX),
        })?;
        Geometry::new(zone_size, zone_count)
    }

    /// The product rule for a device of fixed length: what is left beside headers is the capacity.
    pub fn for_device(device_len: u64) -> Result<Geometry, FormatError> {
        let overhead = DATA_OFFSET + BLOCK as u64;
        let geometry = Geometry::for_capacity(device_len.saturating_sub(overhead))?;
        assert!(geometry.volume_len() <= device_len);
        Ok(geometry)
    }

    /// Bytes per zone.
    pub const fn zone_size(&self) -> u64 {
        self.zone_size
    }

    /// Zones on the volume.
    pub const fn zone_count(&self) -> u32 {
        self.zone_count
    }

    /// Bytes of the volume file.
    pub const fn volume_len(&self) -> u64 {
        self.header_b_offset() + BLOCK as u64
    }

    /// Offset of the second copy of the volume header: the last block.
    pub const fn header_b_offset(&self) -> u64 {
        DATA_OFFSET + self.zone_size * self.zone_count as u64
    }

    /// Offset of a zone's first byte in the volume.
    pub const fn zone_offset(&self, zone: u32) -> u64 {
        assert!(zone < self.zone_count);
        DATA_OFFSET + self.zone_size * zone as u64
    }

    /// Largest payload of one object: a zone must hold its header, the record with the longest key
    /// and metadata, and a footer with that one put and one kill.
    pub const fn record_payload_max(&self) -> u64 {
        let footer = footer_len(1, 1, KEY_LEN_MAX as u64);
        let room = self.zone_size - BLOCK as u64 - footer;
        let mut payload = room;
        while RecordShape::of(KEY_LEN_MAX, METADATA_LEN_MAX, payload).record_len as u64 > room {
            payload -= BLOCK as u64;
        }
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_product_rule_gives_sixteenths_within_8_and_256_mib() {
        let cases = [
            (32 * MIB, 8 * MIB, 4),
            (200 * MIB, 8 * MIB, 25),
            (1024 * MIB, 64 * MIB, 16),
            (1500 * MIB, 64 * MIB, 23),
            (4096 * MIB, 256 * MIB, 16),
            (10 << 40, 256 * MIB, 40960),
        ];
        for (capacity, zone_size, zone_count) in cases {
            let geometry = Geometry::for_capacity(capacity).unwrap();
            assert_eq!((geometry.zone_size(), geometry.zone_count()), (zone_size, zone_count));
        }
    }

    #[test]
    fn a_capacity_too_small_or_too_large_is_refused_with_the_bounds() {
        let found = CAPACITY_MIN - 1;
        let small = FormatError::Capacity { found, min: CAPACITY_MIN };
        assert_eq!(Geometry::for_capacity(found), Err(small));
        for capacity in [u64::MAX, ZONE_SIZE_MAX << 33, ZONE_SIZE_MAX << 23] {
            let large = Geometry::for_capacity(capacity);
            assert!(matches!(large, Err(FormatError::ZoneCount { .. })), "{large:?}");
        }
    }

    #[test]
    fn a_volume_made_for_a_device_fits_it_and_wastes_less_than_a_zone() {
        for device_len in [34 * MIB, 1024 * MIB, 1_000_204_886_016] {
            let geometry = Geometry::for_device(device_len).unwrap();
            let unused = device_len - geometry.volume_len();
            assert!(unused < geometry.zone_size(), "{device_len}: {unused} unused");
        }
        assert!(Geometry::for_device(0).is_err());
    }

    #[test]
    fn odd_zone_sizes_and_counts_are_refused() {
        for zone_size in [0, 1, 4096, ZONE_SIZE_MIN / 2, 3 * ZONE_SIZE_MIN, 2 * ZONE_SIZE_MAX] {
            let refused = Geometry::new(zone_size, 8);
            assert!(
                matches!(refused, Err(FormatError::ZoneSize { found, .. }) if found == zone_size)
            );
        }
        for zone_count in [0, 3, ZONE_COUNT_MAX + 1] {
            let refused = Geometry::new(MIB, zone_count);
            assert!(matches!(refused, Err(FormatError::ZoneCount { .. })));
        }
    }

    #[test]
    fn zones_tile_the_volume_between_the_first_mib_and_the_last_block() {
        let geometry = Geometry::new(MIB, 5).unwrap();
        let mut ends = (0..5).map(|zone| geometry.zone_offset(zone) + geometry.zone_size());
        assert_eq!(geometry.zone_offset(0), DATA_OFFSET);
        assert!(ends.clone().zip(1..5).all(|(end, next)| end == geometry.zone_offset(next)));
        assert_eq!(ends.next_back(), Some(geometry.header_b_offset()));
        assert_eq!(geometry.volume_len(), geometry.header_b_offset() + BLOCK as u64);
    }

    #[test]
    fn the_largest_payload_fills_a_zone_to_the_block_in_every_zone_size() {
        for shift in 16..=28 {
            let geometry = Geometry::new(1 << shift, 4).unwrap();
            let room = geometry.zone_size() - BLOCK as u64 - footer_len(1, 1, KEY_LEN_MAX as u64);
            let taken =
                |payload| RecordShape::of(KEY_LEN_MAX, METADATA_LEN_MAX, payload).record_len as u64;
            let max = geometry.record_payload_max();
            assert!(taken(max) <= room && taken(max + 1) > room, "zone of 2^{shift}: {max}");
        }
        let product = Geometry::for_capacity(1 << 30).unwrap();
        assert_eq!(product.record_payload_max(), 64 * MIB - 7 * BLOCK as u64);
    }
}
