//! Values that no encoder writes are refused even under a valid checksum, each by the name of its
//! field. The checksum is made right after every change, so nothing else can refuse it.

mod samples;

use samples::STORE;
use std::ops::RangeInclusive;
use tapeloop_format::{
    BLOCK, COUNTED_MAX, Checkpoint, FooterEntries, FooterTable, FooterTrailer, FormatError,
    RecordHeader, RecordKind, Structure, VolumeHeader, ZONE_SIZE_MAX, ZoneHeader,
};

struct Case {
    offset: usize,
    value: Vec<u8>,
    error: FormatError,
}

/// `at` is where the error places the field: within its own structure, an open zone mark say.
fn field(
    what: Structure,
    name: &'static str,
    (offset, at): (usize, usize),
    value: impl Into<u64>,
    len: usize,
    allowed: RangeInclusive<u64>,
) -> Case {
    let found = value.into();
    let (min, max) = allowed.into_inner();
    let error = FormatError::Field { what, field: name, offset: at, found, min, max };
    Case { offset, value: found.to_le_bytes()[..len].to_vec(), error }
}

fn reserved(what: Structure, offset: usize) -> Case {
    Case { offset, value: vec![0x10], error: FormatError::Reserved { what, offset, found: 0x10 } }
}

fn refused<T: std::fmt::Debug + PartialEq>(
    good: &[u8],
    cases: Vec<Case>,
    sign: impl Fn(&mut [u8]),
    decode: impl Fn(&[u8]) -> Result<T, FormatError>,
) {
    assert!(decode(good).is_ok());
    for Case { offset, value, error } in cases {
        let mut bytes = good.to_vec();
        bytes[offset..offset + value.len()].copy_from_slice(&value);
        sign(&mut bytes);
        assert_eq!(decode(&bytes), Err(error));
    }
}

fn sign_block(bytes: &mut [u8]) {
    let crc = STORE.salt().crc(&bytes[..BLOCK - 4]);
    bytes[BLOCK - 4..].copy_from_slice(&crc.to_le_bytes());
}

fn sign_record(bytes: &mut [u8]) {
    let header_len = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    if let Some(covered) = bytes.get(8..header_len) {
        let crc = STORE.salt().crc(covered);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    }
}

#[test]
fn a_volume_header_with_a_value_out_of_bounds_is_refused() {
    let what = Structure::VolumeHeader;
    let cases = vec![
        field(what, "header_len", (12, 12), 4095_u64, 4, 4096..=4096),
        field(what, "volume_count", (34, 34), 0_u64, 2, 1..=16),
        field(what, "volume_index", (32, 32), 3_u64, 2, 0..=2),
        reserved(what, 4091),
    ];
    let sign = |bytes: &mut [u8]| {
        let crc = crc32fast::hash(&bytes[..BLOCK - 4]);
        bytes[BLOCK - 4..].copy_from_slice(&crc.to_le_bytes());
    };
    refused(&samples::volume_header().encode()[..], cases, sign, VolumeHeader::decode);
}

#[test]
fn a_checkpoint_with_a_value_out_of_bounds_is_refused() {
    let what = Structure::Checkpoint;
    let too_long = ZONE_SIZE_MAX + BLOCK as u64;
    let cases = vec![
        field(what, "sequence", (24, 24), 0_u64, 8, 1..=COUNTED_MAX),
        field(what, "next_lsn", (88, 88), 0_u64, 8, 1..=COUNTED_MAX),
        field(what, "next_lsn", (88, 88), COUNTED_MAX + 1, 8, 1..=COUNTED_MAX),
        field(what, "incarnation", (32, 32), COUNTED_MAX + 1, 8, 0..=COUNTED_MAX),
        field(what, "boottime_ms", (56, 56), COUNTED_MAX + 1, 8, 0..=COUNTED_MAX),
        field(what, "store_ms", (64, 64), COUNTED_MAX + 1, 8, 0..=COUNTED_MAX),
        field(what, "wall_ms", (72, 72), COUNTED_MAX + 1, 8, 0..=COUNTED_MAX),
        field(what, "next_base_position", (96, 96), COUNTED_MAX + 1, 8, 0..=COUNTED_MAX),
        field(what, "next_base_position", (96, 96), 1_u64, 8, 0..=0),
        field(what, "lap", (112 + 24 + 8, 8), 0_u64, 8, 1..=COUNTED_MAX),
        field(what, "durable_len", (112 + 16, 16), too_long, 8, 0..=ZONE_SIZE_MAX),
        field(what, "given_up", (1648 + 15 * 8, 1648), 1_u64, 8, 0..=0),
        reserved(what, 106),
        reserved(what, 1776),
        reserved(what, 4091),
        Case {
            offset: 112 + 4,
            value: vec![1],
            error: FormatError::Reserved { what, offset: 4, found: 1 },
        },
    ];
    let good = samples::checkpoint().encode(&STORE);
    refused(&good[..], cases, sign_block, |bytes| Checkpoint::decode(bytes, &STORE));
}

#[test]
fn a_zone_header_with_a_value_out_of_bounds_is_refused() {
    let what = Structure::ZoneHeader;
    let cases = vec![
        field(what, "base_position", (48, 48), 4097_u64, 8, 4096..=4096),
        reserved(what, 31),
        reserved(what, 72),
        field(what, "lap", (40, 40), COUNTED_MAX + 1, 8, 1..=COUNTED_MAX),
        field(what, "base_position", (48, 48), COUNTED_MAX + 1, 8, 0..=COUNTED_MAX),
        field(what, "opened_store_ms", (56, 56), COUNTED_MAX + 1, 8, 0..=COUNTED_MAX),
        field(what, "incarnation", (64, 64), COUNTED_MAX + 1, 8, 0..=COUNTED_MAX),
    ];
    let good = samples::zone_header().encode(&STORE);
    refused(&good[..], cases, sign_block, |bytes| ZoneHeader::decode(bytes, &STORE));
}

#[test]
fn a_put_with_a_value_out_of_bounds_is_refused() {
    let what = Structure::Record;
    let (header, payload) = samples::small_put();
    let at = header.position;
    let cases = vec![
        field(what, "header_len", (8, 8), 229_u64, 4, 228..=228),
        field(what, "key_len", (14, 14), 0_u64, 2, 1..=1024),
        field(what, "metadata_len", (16, 16), 1025_u64, 2, 0..=1024),
        field(what, "payload_len", (24, 24), ZONE_SIZE_MAX + 1, 8, 0..=ZONE_SIZE_MAX),
        field(what, "lap", (40, 40), 0_u64, 8, 1..=COUNTED_MAX),
        field(what, "position", (48, 48), at + 512, 8, at..=at),
        field(what, "lsn", (56, 56), 0_u64, 8, 1..=COUNTED_MAX),
        field(what, "lap", (40, 40), COUNTED_MAX + 1, 8, 1..=COUNTED_MAX),
        field(what, "position", (48, 48), COUNTED_MAX + 1, 8, 0..=COUNTED_MAX),
        field(what, "lsn", (56, 56), COUNTED_MAX + 1, 8, 1..=COUNTED_MAX),
        field(what, "incarnation", (64, 64), COUNTED_MAX + 1, 8, 0..=COUNTED_MAX),
        field(what, "durable_lsn", (72, 72), COUNTED_MAX + 1, 8, 0..=COUNTED_MAX),
        field(what, "stored_ms", (80, 80), COUNTED_MAX + 1, 8, 0..=COUNTED_MAX),
        reserved(what, 18),
        reserved(what, 140),
        reserved(what, 191),
        reserved(what, 300),
    ];
    let good = samples::record_bytes(&header, &payload);
    refused(&good, cases, sign_record, |bytes| RecordHeader::decode(bytes, STORE.salt()));
}

#[test]
fn fields_that_a_kind_does_not_have_must_be_zero() {
    let what = Structure::Record;
    let decode = |bytes: &[u8]| RecordHeader::decode(bytes, STORE.salt());
    let encoded = |kind, payload: &[u8]| {
        samples::record_bytes(&samples::record(kind, 0x1000, 9, payload), payload)
    };
    let tombstone = vec![
        field(what, "metadata_len", (16, 16), 1_u64, 2, 0..=0),
        field(what, "payload_len", (24, 24), 1_u64, 8, 0..=0),
        reserved(what, 104),
    ];
    refused(&encoded(RecordKind::Tombstone, b""), tombstone, sign_record, decode);
    let carry = vec![
        field(what, "key_len", (14, 14), 1_u64, 2, 0..=0),
        field(what, "payload_len", (24, 24), 0_u64, 8, 32..=ZONE_SIZE_MAX),
        field(what, "payload_len", (24, 24), 65_u64, 8, 64..=64),
        field(what, "victim_lap", (144, 144), 1_u64, 8, 0..=0),
        field(what, "more_victim_laps", (168, 168), 1_u64, 8, 0..=0),
        reserved(what, 104),
        reserved(what, 120),
    ];
    refused(&encoded(RecordKind::Carry, &[7; 64]), carry, sign_record, decode);
    let void = vec![
        field(what, "key_len", (14, 14), 1_u64, 2, 0..=0),
        field(what, "payload_len", (24, 24), 1_u64, 8, 0..=0),
        field(what, "record_len", (32, 32), 0_u64, 4, BLOCK as u64..=ZONE_SIZE_MAX),
        field(what, "record_len", (32, 32), 4097_u64, 4, 4096..=4096),
        field(what, "victim_lap", (144, 144), 1_u64, 8, 0..=0),
        field(what, "more_victim_laps", (168, 168), 1_u64, 8, 0..=0),
        reserved(what, 104),
        reserved(what, 120),
    ];
    refused(&encoded(RecordKind::Void, b""), void, sign_record, decode);
}

#[test]
fn a_trailer_with_a_value_out_of_bounds_is_refused() {
    let what = Structure::FooterTrailer;
    let bytes = samples::footer_bytes();
    let good = &bytes[bytes.len() - BLOCK..];
    let size = samples::ZONE_SIZE;
    let kills_max = (size - 0x25000) / 32;
    let cases = vec![
        field(what, "class_bucket", (28, 28), 32_u64, 1, 0..=31),
        field(what, "lap", (40, 40), 0_u64, 8, 1..=COUNTED_MAX),
        field(what, "base_position", (48, 48), 1_u64, 8, 0..=0),
        field(what, "zone_size", (56, 56), 0_u64, 8, 64 << 10..=ZONE_SIZE_MAX),
        field(what, "used_len", (80, 80), 0_u64, 8, 4096..=size - 4096),
        field(what, "used_len", (80, 80), 0x25001_u64, 8, 0x25000..=0x25000),
        field(what, "lsn_last", (96, 96), 1000_u64, 8, 1001..=COUNTED_MAX),
        field(what, "lap", (40, 40), COUNTED_MAX + 1, 8, 1..=COUNTED_MAX),
        field(what, "base_position", (48, 48), COUNTED_MAX + 1, 8, 0..=COUNTED_MAX),
        field(what, "opened_store_ms", (64, 64), COUNTED_MAX + 1, 8, 0..=COUNTED_MAX),
        field(what, "sealed_store_ms", (72, 72), COUNTED_MAX + 1, 8, 0..=COUNTED_MAX),
        field(what, "kill_count", (116, 116), u64::from(u32::MAX), 4, 0..=kills_max),
        field(what, "keys_len", (120, 120), 2049_u64, 4, 2..=2048),
        reserved(what, 29),
        reserved(what, 148),
    ];
    refused(good, cases, sign_block, |bytes| FooterTrailer::decode(bytes, &STORE));
}

#[test]
fn a_footer_table_with_dirty_padding_is_refused_under_a_valid_checksum() {
    let bytes = samples::footer_bytes();
    let good = FooterTrailer::decode(&bytes[bytes.len() - BLOCK..], &STORE).unwrap();
    let mut table = bytes[..BLOCK].to_vec();
    table[80] = 1;
    let trailer = FooterTrailer { entries_crc: STORE.salt().crc(&table), ..good };
    let what = Structure::FooterEntries;
    assert_eq!(
        trailer.verify_table(&STORE, FooterTable::Entries, &table),
        Err(FormatError::Reserved { what, offset: 80, found: 1 })
    );
    assert_eq!(
        good.verify_table(&STORE, FooterTable::Entries, &table[..100]),
        Err(FormatError::Truncated { what, needed: BLOCK, found: 100 })
    );
}

#[test]
fn a_footer_entry_with_a_value_out_of_bounds_is_refused() {
    let what = Structure::FooterEntries;
    let cases = vec![
        field(what, "lsn", (16, 16), 0_u64, 8, 1..=COUNTED_MAX),
        field(what, "payload_len", (28, 28), ZONE_SIZE_MAX + 1, 4, 0..=ZONE_SIZE_MAX),
        field(what, "key_len", (36, 36), 0_u64, 2, 1..=1024),
        field(what, "key_len", (36, 36), 1025_u64, 2, 1..=1024),
        field(what, "metadata_len", (38, 38), 1025_u64, 2, 0..=1024),
        field(what, "offset_blocks", (24, 24), 65536_u64, 4, 1..=65535),
    ];
    let good = &samples::footer_bytes()[..40];
    refused(good, cases, |_| {}, |bytes| FooterEntries::new(bytes)?.collect::<Result<Vec<_>, _>>());
}
