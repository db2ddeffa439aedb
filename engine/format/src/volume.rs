//! Volume header: the first and, as an identical copy, the last block of a volume. Its checksum is
//! the only unsalted one, so that a foreign file can be told from a damaged one.

use crate::codec::{Field, Reader, Writer, layout_holds};
use crate::{BLOCK, FormatError, Geometry, Salt, StoreId, Structure, VOLUME_COUNT_MAX};

/// The version of the whole on-disk format that this crate writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC_BYTES: &[u8; 8] = b"TAPELOOP";

const MAGIC: Field = Field::first("magic", 8);
const FORMAT_VERSION_AT: Field = MAGIC.then("format_version", 4);
const HEADER_LEN: Field = FORMAT_VERSION_AT.then("header_len", 4);
const STORE_ID: Field = HEADER_LEN.then("store_id", 16);
const VOLUME_INDEX: Field = STORE_ID.then("volume_index", 2);
const VOLUME_COUNT: Field = VOLUME_INDEX.then("volume_count", 2);
const ZONE_COUNT: Field = VOLUME_COUNT.then("zone_count", 4);
const ZONE_SIZE: Field = ZONE_COUNT.then("zone_size", 8);
const CREATED_WALL_MS: Field = ZONE_SIZE.then("created_wall_ms", 8);
const RESERVED: Field = CREATED_WALL_MS.reserved_to(BLOCK - 4);
const CRC: Field = RESERVED.then("crc", 4);

pub(crate) const LAYOUT: &[Field] = &[
    MAGIC,
    FORMAT_VERSION_AT,
    HEADER_LEN,
    STORE_ID,
    VOLUME_INDEX,
    VOLUME_COUNT,
    ZONE_COUNT,
    ZONE_SIZE,
    CREATED_WALL_MS,
    RESERVED,
    CRC,
];
const _: () = assert!(layout_holds(LAYOUT, BLOCK));
const _: () = assert!(STORE_ID.offset == 16 && RESERVED.offset == 56);

/// What a volume is: identity and geometry. Written once, at format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeHeader {
    /// The store this volume belongs to.
    pub store_id: StoreId,
    /// Which of the store's volumes this is, from 0.
    pub volume_index: u16,
    /// How many volumes the store has, at most [`VOLUME_COUNT_MAX`].
    pub volume_count: u16,
    /// Zone size and count.
    pub geometry: Geometry,
    /// Wall clock at format, for people; nothing is computed from it.
    pub created_wall_ms: u64,
}

impl VolumeHeader {
    /// The block to write at offset 0 and at [`Geometry::header_b_offset`].
    pub fn encode(&self) -> Box<[u8; BLOCK]> {
        let mut block = Box::new([0; BLOCK]);
        Writer::new(&mut block[..])
            .bytes(MAGIC, MAGIC_BYTES)
            .u32(FORMAT_VERSION_AT, FORMAT_VERSION)
            .u32(HEADER_LEN, BLOCK as u32)
            .bytes(STORE_ID, &self.store_id.0)
            .u16(VOLUME_INDEX, self.volume_index)
            .u16(VOLUME_COUNT, self.volume_count)
            .u32(ZONE_COUNT, self.geometry.zone_count())
            .u64(ZONE_SIZE, self.geometry.zone_size())
            .u64(CREATED_WALL_MS, self.created_wall_ms);
        let crc = Salt::NONE.crc(&block[..CRC.offset]);
        Writer::new(&mut block[..]).u32(CRC, crc);
        debug_assert_eq!(VolumeHeader::decode(&block[..]).as_ref(), Ok(self));
        block
    }

    /// Tells foreign from newer from damaged, in this order.
    pub fn decode(bytes: &[u8]) -> Result<VolumeHeader, FormatError> {
        let reader = Reader::new(Structure::VolumeHeader, bytes, BLOCK)?;
        let found = reader.array(MAGIC);
        if found != *MAGIC_BYTES {
            return Err(FormatError::NotTapeloop { found });
        }
        let version = reader.u32(FORMAT_VERSION_AT);
        if version > FORMAT_VERSION {
            return Err(FormatError::Newer { found: version, supported: FORMAT_VERSION });
        }
        reader.crc(CRC, Salt::NONE)?;
        reader.exactly(FORMAT_VERSION_AT, u64::from(version), u64::from(FORMAT_VERSION))?;
        reader.exactly(HEADER_LEN, u64::from(reader.u32(HEADER_LEN)), BLOCK as u64)?;
        let (index, count) = (reader.u16(VOLUME_INDEX), reader.u16(VOLUME_COUNT));
        reader.within(VOLUME_COUNT, u64::from(count), 1..=u64::from(VOLUME_COUNT_MAX))?;
        reader.within(VOLUME_INDEX, u64::from(index), 0..=u64::from(count) - 1)?;
        reader.zero(RESERVED)?;
        Ok(VolumeHeader {
            store_id: StoreId(reader.array(STORE_ID)),
            volume_index: index,
            volume_count: count,
            geometry: Geometry::new(reader.u64(ZONE_SIZE), reader.u32(ZONE_COUNT))?,
            created_wall_ms: reader.u64(CREATED_WALL_MS),
        })
    }
}
