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

const PRODUCT_ZONE_SIZE_MIN: u64 = 8 << 20;
const ZONES_WANTED: u64 = 16;

const _: () = assert!(CHUNK.is_multiple_of(BLOCK));
const _: () = assert!(CHECKPOINT_SLOTS[1] + (BLOCK as u64) <= DATA_OFFSET);
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

    /// The product rule: a sixteenth of the capacity, rounded down to a power of two, in 8..=256 MiB.
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
