//! Zone header: the first block of a zone, durable before the first record of its lap.

use crate::codec::{Field, Reader, Writer, layout_holds};
use crate::{BLOCK, FormatError, StoreId, Structure};

const MAGIC_BYTES: &[u8; 8] = b"TLZONEHD";

const MAGIC: Field = Field::first("magic", 8);
const STORE_ID: Field = MAGIC.then("store_id", 16);
const ZONE: Field = STORE_ID.then("zone", 4);
const CLASS_BUCKET: Field = ZONE.then("class_bucket", 1);
const RESERVED_A: Field = CLASS_BUCKET.then("reserved", 3);
const CLASS_GROUP: Field = RESERVED_A.then("class_group", 8);
const LAP: Field = CLASS_GROUP.then("lap", 8);
const BASE_POSITION: Field = LAP.then("base_position", 8);
const OPENED_STORE_MS: Field = BASE_POSITION.then("opened_store_ms", 8);
const INCARNATION: Field = OPENED_STORE_MS.then("incarnation", 8);
const RESERVED_B: Field = INCARNATION.reserved_to(BLOCK - 4);
const CRC: Field = RESERVED_B.then("crc", 4);

pub(crate) const LAYOUT: &[Field] = &[
    MAGIC,
    STORE_ID,
    ZONE,
    CLASS_BUCKET,
    RESERVED_A,
    CLASS_GROUP,
    LAP,
    BASE_POSITION,
    OPENED_STORE_MS,
    INCARNATION,
    RESERVED_B,
    CRC,
];
const _: () = assert!(layout_holds(LAYOUT, BLOCK));
const _: () = assert!(LAP.offset == 40 && RESERVED_B.offset == 72);

/// One use of one zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ZoneLap {
    /// Zone number.
    pub zone: u32,
    /// How often the zone had been opened by then; the first opening is lap 1.
    pub lap: u64,
}

/// Retention class: objects of similar lifetime that share an open zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId {
    /// Power-of-two bucket of the TTL, see [`ClassId::ttl_bucket`].
    pub bucket: u8,
    /// 0 for the shared group, else the hash of a namespace with its own quota or guarantee.
    pub group: u64,
}

impl ClassId {
    /// Largest TTL bucket.
    pub const BUCKET_MAX: u8 = 31;

    /// Bucket b takes TTLs up to 2^b seconds; the last one takes everything longer as well.
    pub fn ttl_bucket(ttl_ms: u64) -> u8 {
        let seconds = ttl_ms.div_ceil(1000).max(1);
        let log2_ceil = u64::BITS - (seconds - 1).leading_zeros();
        log2_ceil.min(u32::from(ClassId::BUCKET_MAX)) as u8
    }
}

/// The first block of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneHeader {
    /// Zone number.
    pub zone: u32,
    /// How often the zone was opened, this time included; at least 1.
    pub lap: u64,
    /// Virtual log position of the zone's first byte; never reused.
    pub base_position: u64,
    /// Retention class of every record in this lap.
    pub class: ClassId,
    /// Store time at opening.
    pub opened_store_ms: u64,
    /// Incarnation of the process that opened the zone.
    pub incarnation: u64,
}

impl ZoneHeader {
    /// The block to write at the zone's offset.
    pub fn encode(&self, store_id: &StoreId) -> Box<[u8; BLOCK]> {
        let mut block = Box::new([0; BLOCK]);
        Writer::new(&mut block[..])
            .bytes(MAGIC, MAGIC_BYTES)
            .bytes(STORE_ID, &store_id.0)
            .u32(ZONE, self.zone)
            .u8(CLASS_BUCKET, self.class.bucket)
            .u64(CLASS_GROUP, self.class.group)
            .u64(LAP, self.lap)
            .u64(BASE_POSITION, self.base_position)
            .u64(OPENED_STORE_MS, self.opened_store_ms)
            .u64(INCARNATION, self.incarnation);
        let crc = store_id.salt().crc(&block[..CRC.offset]);
        Writer::new(&mut block[..]).u32(CRC, crc);
        debug_assert_eq!(ZoneHeader::decode(&block[..], store_id).as_ref(), Ok(self));
        block
    }

    /// Reads the first block of a zone; `Blank` means that the zone was never opened.
    pub fn decode(bytes: &[u8], store_id: &StoreId) -> Result<ZoneHeader, FormatError> {
        let reader = Reader::new(Structure::ZoneHeader, bytes, BLOCK)?;
        reader.magic(MAGIC, MAGIC_BYTES)?;
        reader.store(STORE_ID, store_id)?;
        reader.crc(CRC, store_id.salt())?;
        reader.zero(RESERVED_A)?;
        reader.zero(RESERVED_B)?;
        let header = ZoneHeader {
            zone: reader.u32(ZONE),
            lap: reader.u64(LAP),
            base_position: reader.u64(BASE_POSITION),
            class: ClassId { bucket: reader.u8(CLASS_BUCKET), group: reader.u64(CLASS_GROUP) },
            opened_store_ms: reader.u64(OPENED_STORE_MS),
            incarnation: reader.u64(INCARNATION),
        };
        let bucket = u64::from(header.class.bucket);
        reader.within(CLASS_BUCKET, bucket, 0..=u64::from(ClassId::BUCKET_MAX))?;
        reader.counted(LAP, header.lap, 1)?;
        reader.counted(BASE_POSITION, header.base_position, 0)?;
        reader.counted(OPENED_STORE_MS, header.opened_store_ms, 0)?;
        reader.counted(INCARNATION, header.incarnation, 0)?;
        reader.block_aligned(BASE_POSITION, header.base_position)?;
        Ok(header)
    }

    /// Binds the header to the zone it was read from.
    pub fn expect(&self, zone: u32) -> Result<(), FormatError> {
        if self.zone == zone {
            return Ok(());
        }
        Err(FormatError::Misplaced {
            what: Structure::ZoneHeader,
            field: ZONE.name,
            expected: u64::from(zone),
            found: u64::from(self.zone),
        })
    }

    /// Zone and lap together.
    pub fn zone_lap(&self) -> ZoneLap {
        ZoneLap { zone: self.zone, lap: self.lap }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_goes_to_the_smallest_power_of_two_seconds_that_holds_it() {
        let cases = [
            (0, 0),
            (1, 0),
            (1000, 0),
            (1001, 1),
            (2000, 1),
            (2001, 2),
            (60_000, 6),
            (64_000, 6),
            (64_001, 7),
            (3_600_000, 12),
            (86_400_000, 17),
            (1000 << 31, 31),
            (u64::MAX, 31),
        ];
        for (ttl_ms, bucket) in cases {
            assert_eq!(ClassId::ttl_bucket(ttl_ms), bucket, "{ttl_ms} ms");
        }
    }
}
