//! Footer trailer: the last block of a sealed zone. It says where the footer's three tables lie
//! and what their checksums are, so that a recoverer reads only the tables it needs.

use crate::codec::{Field, Reader, Writer, all_zero, layout_holds};
use crate::footer::FOOTER_ENTRY_LEN;
use crate::{
    BLOCK, COUNTED_MAX, ClassId, FormatError, KEY_LEN_MAX, KILL_LEN, StoreId, Structure,
    ZONE_SIZE_MAX, ZONE_SIZE_MIN,
};

const MAGIC_BYTES: &[u8; 8] = b"TLFOOTER";

const MAGIC: Field = Field::first("magic", 8);
const STORE_ID: Field = MAGIC.then("store_id", 16);
const ZONE: Field = STORE_ID.then("zone", 4);
const CLASS_BUCKET: Field = ZONE.then("class_bucket", 1);
const RESERVED_A: Field = CLASS_BUCKET.then("reserved", 3);
const CLASS_GROUP: Field = RESERVED_A.then("class_group", 8);
const LAP: Field = CLASS_GROUP.then("lap", 8);
const BASE_POSITION: Field = LAP.then("base_position", 8);
const ZONE_SIZE: Field = BASE_POSITION.then("zone_size", 8);
const OPENED_STORE_MS: Field = ZONE_SIZE.then("opened_store_ms", 8);
const SEALED_STORE_MS: Field = OPENED_STORE_MS.then("sealed_store_ms", 8);
const USED_LEN: Field = SEALED_STORE_MS.then("used_len", 8);
const LSN_FIRST: Field = USED_LEN.then("lsn_first", 8);
const LSN_LAST: Field = LSN_FIRST.then("lsn_last", 8);
const EXPIRES_MS_MAX: Field = LSN_LAST.then("expires_ms_max", 8);
const ENTRY_COUNT: Field = EXPIRES_MS_MAX.then("entry_count", 4);
const KILL_COUNT: Field = ENTRY_COUNT.then("kill_count", 4);
const KEYS_LEN: Field = KILL_COUNT.then("keys_len", 4);
const ENTRIES_OFFSET: Field = KEYS_LEN.then("entries_offset", 4);
const KILLS_OFFSET: Field = ENTRIES_OFFSET.then("kills_offset", 4);
const KEYS_OFFSET: Field = KILLS_OFFSET.then("keys_offset", 4);
const ENTRIES_CRC: Field = KEYS_OFFSET.then("entries_crc", 4);
const KILLS_CRC: Field = ENTRIES_CRC.then("kills_crc", 4);
const KEYS_CRC: Field = KILLS_CRC.then("keys_crc", 4);
const RESERVED_B: Field = KEYS_CRC.reserved_to(BLOCK - 4);
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
    ZONE_SIZE,
    OPENED_STORE_MS,
    SEALED_STORE_MS,
    USED_LEN,
    LSN_FIRST,
    LSN_LAST,
    EXPIRES_MS_MAX,
    ENTRY_COUNT,
    KILL_COUNT,
    KEYS_LEN,
    ENTRIES_OFFSET,
    KILLS_OFFSET,
    KEYS_OFFSET,
    ENTRIES_CRC,
    KILLS_CRC,
    KEYS_CRC,
    RESERVED_B,
    CRC,
];
const _: () = assert!(layout_holds(LAYOUT, BLOCK));
const _: () = assert!(ENTRY_COUNT.offset == 112 && RESERVED_B.offset == 148);

const fn blocks(len: u64) -> u64 {
    len.next_multiple_of(BLOCK as u64)
}

/// Bytes a footer takes at the end of its zone, padding and trailer included.
pub const fn footer_len(entries: u64, kills: u64, keys_len: u64) -> u64 {
    blocks(entries * FOOTER_ENTRY_LEN as u64)
        + blocks(kills * KILL_LEN as u64)
        + blocks(keys_len)
        + BLOCK as u64
}

/// One of the tables of a footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FooterTable {
    /// One entry per put.
    Entries,
    /// Every kill: overwrites, tombstones, carried.
    Kills,
    /// The keys of the puts, one behind the other in entry order.
    Keys,
}

impl FooterTable {
    const fn structure(self) -> Structure {
        match self {
            FooterTable::Entries => Structure::FooterEntries,
            FooterTable::Kills => Structure::FooterKills,
            FooterTable::Keys => Structure::FooterKeys,
        }
    }
}

/// Where a table lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSpan {
    /// Offset from the start of the zone, a multiple of the block size.
    pub offset: u64,
    /// Bytes of the table.
    pub len: usize,
    /// Bytes to read: the table and its zero padding up to the block boundary.
    pub padded_len: usize,
    /// Checksum of the padded table.
    pub crc: u32,
}

/// The last block of a sealed zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterTrailer {
    /// Zone number.
    pub zone: u32,
    /// Lap that the footer sums up.
    pub lap: u64,
    /// As in the zone header.
    pub base_position: u64,
    /// As in the zone header.
    pub class: ClassId,
    /// Bytes of the zone.
    pub zone_size: u64,
    /// As in the zone header.
    pub opened_store_ms: u64,
    /// Store time at the seal.
    pub sealed_store_ms: u64,
    /// Bytes from the zone's start to the end of its last record, zone header included.
    pub used_len: u64,
    /// Smallest LSN of any record in the zone; 0 in an empty zone.
    pub lsn_first: u64,
    /// Largest LSN of any record in the zone; 0 in an empty zone.
    pub lsn_last: u64,
    /// Store time from which no put in the zone is alive.
    pub expires_ms_max: u64,
    /// Puts in the entry table.
    pub entry_count: u32,
    /// Kills in the kill table.
    pub kill_count: u32,
    /// Bytes of the key blob.
    pub keys_len: u32,
    /// Checksum of the padded entry table.
    pub entries_crc: u32,
    /// Checksum of the padded kill table.
    pub kills_crc: u32,
    /// Checksum of the padded key blob.
    pub keys_crc: u32,
}

impl FooterTrailer {
    /// Offset of the footer's first byte from the start of the zone.
    pub fn footer_offset(&self) -> u64 {
        let (entries, kills) = (u64::from(self.entry_count), u64::from(self.kill_count));
        self.zone_size - footer_len(entries, kills, u64::from(self.keys_len))
    }

    /// Where a table lies; its `padded_len` is 0 when it is empty.
    pub fn table(&self, table: FooterTable) -> TableSpan {
        let entries_len = u64::from(self.entry_count) * FOOTER_ENTRY_LEN as u64;
        let kills_len = u64::from(self.kill_count) * KILL_LEN as u64;
        let entries_offset = self.footer_offset();
        let kills_offset = entries_offset + blocks(entries_len);
        let keys_offset = kills_offset + blocks(kills_len);
        let (offset, len, crc) = match table {
            FooterTable::Entries => (entries_offset, entries_len, self.entries_crc),
            FooterTable::Kills => (kills_offset, kills_len, self.kills_crc),
            FooterTable::Keys => (keys_offset, u64::from(self.keys_len), self.keys_crc),
        };
        TableSpan { offset, len: len as usize, padded_len: blocks(len) as usize, crc }
    }

    /// Checks a table given its padded bytes, and returns it without the padding.
    pub fn verify_table<'a>(
        &self,
        store_id: &StoreId,
        table: FooterTable,
        padded: &'a [u8],
    ) -> Result<&'a [u8], FormatError> {
        let what = table.structure();
        let span = self.table(table);
        let reader = Reader::new(what, padded, span.padded_len)?;
        let padded = &padded[..span.padded_len];
        reader.same_crc(span.crc, store_id.salt().crc(padded))?;
        all_zero(what, &padded[span.len..], span.len)?;
        Ok(&padded[..span.len])
    }

    /// The block to write at the end of the zone.
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
            .u64(ZONE_SIZE, self.zone_size)
            .u64(OPENED_STORE_MS, self.opened_store_ms)
            .u64(SEALED_STORE_MS, self.sealed_store_ms)
            .u64(USED_LEN, self.used_len)
            .u64(LSN_FIRST, self.lsn_first)
            .u64(LSN_LAST, self.lsn_last)
            .u64(EXPIRES_MS_MAX, self.expires_ms_max)
            .u32(ENTRY_COUNT, self.entry_count)
            .u32(KILL_COUNT, self.kill_count)
            .u32(KEYS_LEN, self.keys_len)
            .u32(ENTRIES_OFFSET, self.table(FooterTable::Entries).offset as u32)
            .u32(KILLS_OFFSET, self.table(FooterTable::Kills).offset as u32)
            .u32(KEYS_OFFSET, self.table(FooterTable::Keys).offset as u32)
            .u32(ENTRIES_CRC, self.entries_crc)
            .u32(KILLS_CRC, self.kills_crc)
            .u32(KEYS_CRC, self.keys_crc);
        let crc = store_id.salt().crc(&block[..CRC.offset]);
        Writer::new(&mut block[..]).u32(CRC, crc);
        debug_assert_eq!(FooterTrailer::decode(&block[..], store_id).as_ref(), Ok(self));
        block
    }

    /// Reads the last block of a zone; any error means that this lap is not (validly) sealed.
    pub fn decode(bytes: &[u8], store_id: &StoreId) -> Result<FooterTrailer, FormatError> {
        let reader = Reader::new(Structure::FooterTrailer, bytes, BLOCK)?;
        reader.magic(MAGIC, MAGIC_BYTES)?;
        reader.store(STORE_ID, store_id)?;
        reader.crc(CRC, store_id.salt())?;
        reader.zero(RESERVED_A)?;
        reader.zero(RESERVED_B)?;
        let trailer = FooterTrailer {
            zone: reader.u32(ZONE),
            lap: reader.u64(LAP),
            base_position: reader.u64(BASE_POSITION),
            class: ClassId { bucket: reader.u8(CLASS_BUCKET), group: reader.u64(CLASS_GROUP) },
            zone_size: reader.u64(ZONE_SIZE),
            opened_store_ms: reader.u64(OPENED_STORE_MS),
            sealed_store_ms: reader.u64(SEALED_STORE_MS),
            used_len: reader.u64(USED_LEN),
            lsn_first: reader.u64(LSN_FIRST),
            lsn_last: reader.u64(LSN_LAST),
            expires_ms_max: reader.u64(EXPIRES_MS_MAX),
            entry_count: reader.u32(ENTRY_COUNT),
            kill_count: reader.u32(KILL_COUNT),
            keys_len: reader.u32(KEYS_LEN),
            entries_crc: reader.u32(ENTRIES_CRC),
            kills_crc: reader.u32(KILLS_CRC),
            keys_crc: reader.u32(KEYS_CRC),
        };
        trailer.check_fields(&reader)?;
        trailer.check_tables(&reader)?;
        Ok(trailer)
    }

    /// Binds the trailer to the zone it was read from and to that zone's current lap.
    pub fn expect(&self, zone: u32, lap: u64, zone_size: u64) -> Result<(), FormatError> {
        let places = [
            (ZONE.name, u64::from(zone), u64::from(self.zone)),
            (LAP.name, lap, self.lap),
            (ZONE_SIZE.name, zone_size, self.zone_size),
        ];
        match places.into_iter().find(|(_, expected, found)| expected != found) {
            None => Ok(()),
            Some((field, expected, found)) => {
                let what = Structure::FooterTrailer;
                Err(FormatError::Misplaced { what, field, expected, found })
            }
        }
    }

    fn check_fields(&self, reader: &Reader<'_>) -> Result<(), FormatError> {
        let bucket = u64::from(self.class.bucket);
        reader.within(CLASS_BUCKET, bucket, 0..=u64::from(ClassId::BUCKET_MAX))?;
        reader.counted(LAP, self.lap, 1)?;
        reader.counted(BASE_POSITION, self.base_position, 0)?;
        reader.counted(OPENED_STORE_MS, self.opened_store_ms, 0)?;
        reader.counted(SEALED_STORE_MS, self.sealed_store_ms, 0)?;
        reader.block_aligned(BASE_POSITION, self.base_position)?;
        reader.within(ZONE_SIZE, self.zone_size, ZONE_SIZE_MIN..=ZONE_SIZE_MAX)?;
        let power = 1 << self.zone_size.ilog2();
        reader.exactly(ZONE_SIZE, self.zone_size, power)?;
        reader.within(LSN_LAST, self.lsn_last, self.lsn_first..=COUNTED_MAX)?;
        reader.within(USED_LEN, self.used_len, BLOCK as u64..=self.zone_size - BLOCK as u64)?;
        reader.block_aligned(USED_LEN, self.used_len)
    }

    /// Counts must fit the zone, and the offsets must be the ones that follow from them.
    fn check_tables(&self, reader: &Reader<'_>) -> Result<(), FormatError> {
        let room = self.zone_size - self.used_len;
        let entries = u64::from(self.entry_count);
        let records = self.used_len / BLOCK as u64 - 1;
        reader.within(ENTRY_COUNT, entries, 0..=records)?;
        reader.within(
            KEYS_LEN,
            u64::from(self.keys_len),
            entries..=entries * KEY_LEN_MAX as u64,
        )?;
        let kills = u64::from(self.kill_count);
        reader.within(KILL_COUNT, kills, 0..=room / KILL_LEN as u64)?;
        let footer_len = footer_len(entries, kills, u64::from(self.keys_len));
        let used_max = self.zone_size.saturating_sub(footer_len);
        reader.within(USED_LEN, self.used_len, 0..=used_max)?;
        let offsets = [
            (ENTRIES_OFFSET, FooterTable::Entries),
            (KILLS_OFFSET, FooterTable::Kills),
            (KEYS_OFFSET, FooterTable::Keys),
        ];
        for (field, table) in offsets {
            reader.exactly(field, u64::from(reader.u32(field)), self.table(table).offset)?;
        }
        Ok(())
    }
}
