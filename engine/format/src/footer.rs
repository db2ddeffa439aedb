//! Zone footer: a summary of every put and kill of a sealed zone, so that recovery reads footers
//! and not bodies. Entry table, kill table, key blob, trailer, each on a block boundary, ending
//! with the zone.

use crate::codec::{Field, Reader, Writer, layout_holds};
use crate::trailer::{FooterTable, FooterTrailer, footer_len};
use crate::{
    BLOCK, FormatError, KEY_LEN_MAX, KILL_LEN, KeyHash, Kill, METADATA_LEN_MAX, RecordHeader,
    RecordKind, RecordShape, StoreId, Structure, ZONE_SIZE_MAX, ZoneHeader, round_up,
};

const KEY_HASH: Field = Field::first("key_hash", 16);
const LSN: Field = KEY_HASH.then("lsn", 8);
const OFFSET_BLOCKS: Field = LSN.then("offset_blocks", 4);
const PAYLOAD_LEN: Field = OFFSET_BLOCKS.then("payload_len", 4);
const EXPIRES_AFTER_S: Field = PAYLOAD_LEN.then("expires_after_s", 4);
const KEY_LEN: Field = EXPIRES_AFTER_S.then("key_len", 2);
const METADATA_LEN: Field = KEY_LEN.then("metadata_len", 2);

pub(crate) const LAYOUT: &[Field] =
    &[KEY_HASH, LSN, OFFSET_BLOCKS, PAYLOAD_LEN, EXPIRES_AFTER_S, KEY_LEN, METADATA_LEN];

/// Bytes of one footer entry on disk.
pub const FOOTER_ENTRY_LEN: usize = METADATA_LEN.end();
const _: () = assert!(FOOTER_ENTRY_LEN == 40 && layout_holds(LAYOUT, FOOTER_ENTRY_LEN));

/// Summary of one put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterEntry {
    /// Hash of the key.
    pub key_hash: KeyHash,
    /// LSN of the record.
    pub lsn: u64,
    /// Where the record starts in the zone, in blocks; at least 1.
    pub offset_blocks: u32,
    /// Exact payload length.
    pub payload_len: u32,
    /// Expiry in seconds after the zone was opened, rounded up; `u32::MAX` means this or later.
    pub expires_after_s: u32,
    /// Length of the key; it lies in the key blob.
    pub key_len: u16,
    /// Length of the metadata, which with the rest gives the record's length.
    pub metadata_len: u16,
}

impl FooterEntry {
    /// The summary of a put record in the zone opened with `zone`. Panics on other kinds and on
    /// records that do not belong to the zone.
    pub fn of(record: &RecordHeader, zone: &ZoneHeader) -> FooterEntry {
        assert_eq!(record.kind, RecordKind::Put);
        assert_eq!((record.zone, record.lap), (zone.zone, zone.lap));
        let offset = record.position - zone.base_position;
        assert!(offset >= BLOCK as u64 && offset < ZONE_SIZE_MAX);
        let life_ms = record.expires_ms.saturating_sub(zone.opened_store_ms);
        FooterEntry {
            key_hash: record.key_hash,
            lsn: record.lsn,
            offset_blocks: (offset / BLOCK as u64) as u32,
            payload_len: record.payload_len as u32,
            expires_after_s: u32::try_from(life_ms.div_ceil(1000)).unwrap_or(u32::MAX),
            key_len: record.key.len() as u16,
            metadata_len: record.metadata.len() as u16,
        }
    }

    /// Offset of the record from the start of its zone.
    pub fn offset(&self) -> u64 {
        u64::from(self.offset_blocks) * BLOCK as u64
    }

    /// Store time of expiry; at most one second later than the record itself says.
    pub fn expires_ms(&self, opened_store_ms: u64) -> u64 {
        match self.expires_after_s {
            u32::MAX => u64::MAX,
            seconds => opened_store_ms.saturating_add(u64::from(seconds) * 1000),
        }
    }

    /// Layout of the record.
    pub fn shape(&self) -> RecordShape {
        let (key_len, metadata_len) = (usize::from(self.key_len), usize::from(self.metadata_len));
        RecordShape::of(key_len, metadata_len, u64::from(self.payload_len))
    }

    fn encode_into(&self, out: &mut [u8]) {
        Writer::new(out)
            .bytes(KEY_HASH, &self.key_hash.0)
            .u64(LSN, self.lsn)
            .u32(OFFSET_BLOCKS, self.offset_blocks)
            .u32(PAYLOAD_LEN, self.payload_len)
            .u32(EXPIRES_AFTER_S, self.expires_after_s)
            .u16(KEY_LEN, self.key_len)
            .u16(METADATA_LEN, self.metadata_len);
    }

    fn decode(bytes: &[u8; FOOTER_ENTRY_LEN]) -> Result<FooterEntry, FormatError> {
        let reader = Reader::new(Structure::FooterEntries, bytes, FOOTER_ENTRY_LEN)?;
        let entry = FooterEntry {
            key_hash: KeyHash(reader.array(KEY_HASH)),
            lsn: reader.u64(LSN),
            offset_blocks: reader.u32(OFFSET_BLOCKS),
            payload_len: reader.u32(PAYLOAD_LEN),
            expires_after_s: reader.u32(EXPIRES_AFTER_S),
            key_len: reader.u16(KEY_LEN),
            metadata_len: reader.u16(METADATA_LEN),
        };
        reader.counted(LSN, entry.lsn, 1)?;
        reader.within(PAYLOAD_LEN, u64::from(entry.payload_len), 0..=ZONE_SIZE_MAX)?;
        reader.within(KEY_LEN, u64::from(entry.key_len), 1..=KEY_LEN_MAX as u64)?;
        let metadata_len = u64::from(entry.metadata_len);
        reader.within(METADATA_LEN, metadata_len, 0..=METADATA_LEN_MAX as u64)?;
        let room = ZONE_SIZE_MAX.saturating_sub(entry.shape().record_len as u64);
        let blocks_max = room / BLOCK as u64;
        reader.within(OFFSET_BLOCKS, u64::from(entry.offset_blocks), 1..=blocks_max)?;
        Ok(entry)
    }
}

/// Reads entries one by one from a table whose checksum was verified before.
#[derive(Clone, Debug)]
pub struct FooterEntries<'a> {
    rest: &'a [[u8; FOOTER_ENTRY_LEN]],
}

impl<'a> FooterEntries<'a> {
    /// Refuses a table that is not a whole number of entries.
    pub fn new(bytes: &'a [u8]) -> Result<FooterEntries<'a>, FormatError> {
        let (rest, odd) = bytes.as_chunks::<FOOTER_ENTRY_LEN>();
        if !odd.is_empty() {
            let needed = bytes.len() - odd.len() + FOOTER_ENTRY_LEN;
            let what = Structure::FooterEntries;
            return Err(FormatError::Truncated { what, needed, found: bytes.len() });
        }
        Ok(FooterEntries { rest })
    }

    /// Pairs every entry with its key from the key blob.
    pub fn with_keys(
        self,
        mut keys: &'a [u8],
    ) -> impl Iterator<Item = Result<(FooterEntry, &'a [u8]), FormatError>> {
        self.map(move |entry| {
            let entry = entry?;
            let (needed, found) = (usize::from(entry.key_len), keys.len());
            let Some((key, rest)) = keys.split_at_checked(needed) else {
                return Err(FormatError::Truncated { what: Structure::FooterKeys, needed, found });
            };
            keys = rest;
            Ok((entry, key))
        })
    }
}

impl Iterator for FooterEntries<'_> {
    type Item = Result<FooterEntry, FormatError>;

    fn next(&mut self) -> Option<Result<FooterEntry, FormatError>> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(FooterEntry::decode(first))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.rest.len(), Some(self.rest.len()))
    }
}

impl ExactSizeIterator for FooterEntries<'_> {}

/// What the log knows about a zone at its seal beyond the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterSummary {
    /// Store time at the seal.
    pub sealed_store_ms: u64,
    /// Bytes from the zone's start to the end of its last record, zone header included.
    pub used_len: u64,
    /// Smallest LSN of any record in the zone, voids and carries included.
    pub lsn_first: u64,
    /// Largest LSN of any record in the zone, voids and carries included.
    pub lsn_last: u64,
    /// Store time from which no put in the zone is alive.
    pub expires_ms_max: u64,
}

/// Collects a zone's footer while records are appended.
#[derive(Clone, Debug, Default)]
pub struct FooterBuilder {
    entries: Vec<u8>,
    kills: Vec<u8>,
    keys: Vec<u8>,
}

impl FooterBuilder {
    /// An empty footer.
    pub fn new() -> FooterBuilder {
        FooterBuilder::default()
    }

    /// Adds a put; its kill, if it has a victim, is pushed on its own.
    pub fn push_put(&mut self, entry: &FooterEntry, key: &[u8]) {
        assert_eq!(key.len(), usize::from(entry.key_len));
        let mut bytes = [0; FOOTER_ENTRY_LEN];
        entry.encode_into(&mut bytes);
        debug_assert_eq!(FooterEntry::decode(&bytes).as_ref(), Ok(entry));
        self.entries.extend_from_slice(&bytes);
        self.keys.extend_from_slice(key);
    }

    /// Adds the kill of an overwrite or tombstone, or a carried one.
    pub fn push_kill(&mut self, kill: &Kill) {
        let mut bytes = [0; KILL_LEN];
        kill.encode_into(&mut bytes);
        self.kills.extend_from_slice(&bytes);
    }

    /// Puts so far.
    pub fn entry_count(&self) -> u64 {
        (self.entries.len() / FOOTER_ENTRY_LEN) as u64
    }

    /// Kills so far.
    pub fn kill_count(&self) -> u64 {
        (self.kills.len() / KILL_LEN) as u64
    }

    /// Bytes of keys so far.
    pub fn keys_len(&self) -> u64 {
        self.keys.len() as u64
    }

    /// The kills so far.
    pub fn kills(&self) -> crate::KillList<'_> {
        crate::KillList::new(&self.kills).expect("only whole kills are pushed")
    }

    /// Bytes the footer takes at the end of the zone if it is sealed now.
    pub fn encoded_len(&self) -> u64 {
        footer_len(self.entry_count(), self.kill_count(), self.keys_len())
    }

    /// Bytes the footer would take with so much more in it.
    pub fn encoded_len_with(&self, entries: u64, kills: u64, keys_len: u64) -> u64 {
        footer_len(
            self.entry_count() + entries,
            self.kill_count() + kills,
            self.keys_len() + keys_len,
        )
    }

    /// Exactly the bytes that end at the zone's end.
    pub fn encode(
        &self,
        store_id: &StoreId,
        zone: &ZoneHeader,
        zone_size: u64,
        summary: &FooterSummary,
    ) -> Vec<u8> {
        let len = self.encoded_len();
        assert!(summary.used_len + len <= zone_size, "the log keeps room for the footer");
        let mut out = vec![0; len as usize];
        let (entries, rest) = out.split_at_mut(round_up(self.entries.len(), BLOCK));
        let (kills, rest) = rest.split_at_mut(round_up(self.kills.len(), BLOCK));
        let (keys, last) = rest.split_at_mut(round_up(self.keys.len(), BLOCK));
        entries[..self.entries.len()].copy_from_slice(&self.entries);
        kills[..self.kills.len()].copy_from_slice(&self.kills);
        keys[..self.keys.len()].copy_from_slice(&self.keys);
        let salt = store_id.salt();
        let trailer = FooterTrailer {
            zone: zone.zone,
            lap: zone.lap,
            base_position: zone.base_position,
            class: zone.class,
            zone_size,
            opened_store_ms: zone.opened_store_ms,
            sealed_store_ms: summary.sealed_store_ms,
            used_len: summary.used_len,
            lsn_first: summary.lsn_first,
            lsn_last: summary.lsn_last,
            expires_ms_max: summary.expires_ms_max,
            entry_count: self.entry_count() as u32,
            kill_count: self.kill_count() as u32,
            keys_len: self.keys_len() as u32,
            entries_crc: salt.crc(entries),
            kills_crc: salt.crc(kills),
            keys_crc: salt.crc(keys),
        };
        debug_assert_eq!(trailer.table(FooterTable::Entries).padded_len, entries.len());
        last.copy_from_slice(&trailer.encode(store_id)[..]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ZoneLap;

    const ZONE: ZoneHeader = ZoneHeader {
        zone: 3,
        lap: 1,
        base_position: 1 << 20,
        class: crate::ClassId { bucket: 6, group: 0 },
        opened_store_ms: 10_500,
        incarnation: 1,
    };

    fn entry(key_len: u16, expires_after_s: u32) -> FooterEntry {
        FooterEntry {
            key_hash: KeyHash([2; 16]),
            lsn: 9,
            offset_blocks: 1,
            payload_len: 10,
            expires_after_s,
            key_len,
            metadata_len: 0,
        }
    }

    #[test]
    fn an_expiry_is_never_rounded_down() {
        assert_eq!(entry(1, 0).expires_ms(ZONE.opened_store_ms), 10_500);
        assert_eq!(entry(1, 3).expires_ms(ZONE.opened_store_ms), 13_500);
        assert_eq!(entry(1, u32::MAX).expires_ms(ZONE.opened_store_ms), u64::MAX);
    }

    #[test]
    fn the_builder_predicts_its_own_length() {
        let mut footer = FooterBuilder::new();
        assert_eq!(footer.encoded_len(), BLOCK as u64);
        let kill = Kill::new(KeyHash([2; 16]), 9, ZoneLap { zone: 1, lap: 1 });
        for _ in 0..150 {
            let predicted = footer.encoded_len_with(1, 1, 100);
            footer.push_put(&entry(100, 1), &[b'k'; 100]);
            footer.push_kill(&kill);
            assert_eq!(footer.encoded_len(), predicted);
        }
        let summary = FooterSummary {
            sealed_store_ms: 11_000,
            used_len: 151 * BLOCK as u64,
            lsn_first: 9,
            lsn_last: 9,
            expires_ms_max: 11_500,
        };
        let bytes = footer.encode(&StoreId([7; 16]), &ZONE, 1 << 20, &summary);
        assert_eq!(bytes.len() as u64, footer.encoded_len());
        assert_eq!(bytes.len(), 9 * BLOCK, "two blocks of entries, two of kills, four of keys");
    }

    #[test]
    fn a_key_blob_that_ends_too_early_is_an_error_not_a_panic() {
        let mut footer = FooterBuilder::new();
        footer.push_put(&entry(4, 1), b"abcd");
        footer.push_put(&entry(5, 1), b"efghi");
        let entries = FooterEntries::new(&footer.entries).unwrap();
        let found: Vec<_> = entries.with_keys(&footer.keys[..8]).collect();
        assert_eq!(found[0], Ok((entry(4, 1), &b"abcd"[..])));
        let what = Structure::FooterKeys;
        assert_eq!(found[1], Err(FormatError::Truncated { what, needed: 5, found: 4 }));
    }

    #[test]
    fn an_entry_that_reaches_beyond_any_zone_is_refused() {
        let mut bytes = [0; FOOTER_ENTRY_LEN];
        FooterEntry { payload_len: ZONE_SIZE_MAX as u32, ..entry(1, 1) }.encode_into(&mut bytes);
        let refused = FooterEntry::decode(&bytes);
        assert!(matches!(refused, Err(FormatError::Field { field: "offset_blocks", .. })));
        FooterEntry { offset_blocks: 0, ..entry(1, 1) }.encode_into(&mut bytes);
        let refused = FooterEntry::decode(&bytes);
        assert!(matches!(refused, Err(FormatError::Field { field: "offset_blocks", .. })));
    }
}
