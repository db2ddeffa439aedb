//! Every single-bit flip of every structure is refused, and so is every torn write.

mod samples;

use samples::STORE;
use tapeloop_format::{
    BLOCK, CHUNK, Checkpoint, FooterEntries, FooterTable, FooterTrailer, FormatError, KillList,
    RecordHeader, RecordKind, VolumeHeader, ZoneHeader,
};

fn flips_are_refused(good: &[u8], refused: impl Fn(&[u8]) -> bool) {
    assert!(!refused(good), "the structure itself is accepted");
    let mut bytes = good.to_vec();
    for bit in 0..good.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(refused(&bytes), "flip of bit {} of byte {} was accepted", bit % 8, bit / 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(bytes, good);
}

/// A write torn at any sector, over zeros and over older bytes of another lap.
fn tears_are_refused(good: &[u8], older: &[u8], refused: impl Fn(&[u8]) -> bool) {
    assert_eq!(good.len(), older.len());
    for before in [older, &vec![0; good.len()]] {
        for cut in (512..good.len()).step_by(512) {
            for (head, tail) in [(good, before), (before, good)] {
                let torn = [&head[..cut], &tail[cut..]].concat();
                assert!(torn == good || refused(&torn), "torn at {cut} and accepted");
            }
        }
    }
}

/// Reads a record the way fsck does: header, place, every chunk, padding.
fn verify_record(bytes: &[u8], at: &RecordHeader) -> Result<(), FormatError> {
    let header = RecordHeader::decode(bytes, STORE.salt())?;
    header.expect(at.zone, at.lap, at.position)?;
    let shape = header.shape();
    for index in 0..header.chunk_crcs.len() {
        let start = shape.payload_offset + index * CHUNK;
        let chunk = &bytes[start..start + header.chunk_len(index)];
        header.verify_chunk(STORE.salt(), index, chunk)?;
    }
    if header.kind == RecordKind::Carry {
        let payload = &bytes[shape.payload_offset..][..header.payload_len as usize];
        assert_eq!(KillList::new(payload)?.collect::<Vec<_>>(), samples::kills());
    }
    header.verify_padding(bytes)
}

fn verify_footer(bytes: &[u8]) -> Result<(), FormatError> {
    let trailer = FooterTrailer::decode(&bytes[bytes.len() - BLOCK..], &STORE)?;
    trailer.expect(3, samples::LAP, samples::ZONE_SIZE)?;
    let table = |table| {
        let span = trailer.table(table);
        let start = (span.offset - trailer.footer_offset()) as usize;
        trailer.verify_table(&STORE, table, &bytes[start..start + span.padded_len])
    };
    let (entries, keys) = (table(FooterTable::Entries)?, table(FooterTable::Keys)?);
    for entry in FooterEntries::new(entries)?.with_keys(keys) {
        entry?;
    }
    KillList::new(table(FooterTable::Kills)?)?;
    Ok(())
}

#[test]
fn a_flipped_or_torn_volume_header_is_refused() {
    let good = samples::volume_header().encode();
    let refused = |bytes: &[u8]| VolumeHeader::decode(bytes).is_err();
    flips_are_refused(&good[..], refused);
    let mut older = samples::volume_header();
    older.created_wall_ms -= 1;
    tears_are_refused(&good[..], &older.encode()[..], refused);
}

#[test]
fn a_flipped_or_torn_checkpoint_is_refused() {
    let good = samples::checkpoint().encode(&STORE);
    let refused = |bytes: &[u8]| Checkpoint::decode(bytes, &STORE).is_err();
    flips_are_refused(&good[..], refused);
    let mut older = samples::checkpoint();
    older.sequence -= 2;
    tears_are_refused(&good[..], &older.encode(&STORE)[..], refused);
}

#[test]
fn a_flipped_or_torn_zone_header_is_refused() {
    let good = samples::zone_header().encode(&STORE);
    let refused = |bytes: &[u8]| ZoneHeader::decode(bytes, &STORE).is_err();
    flips_are_refused(&good[..], refused);
    let mut older = samples::zone_header();
    older.lap -= 1;
    tears_are_refused(&good[..], &older.encode(&STORE)[..], refused);
}

#[test]
fn a_flipped_or_torn_footer_is_refused() {
    let good = samples::footer_bytes();
    let refused = |bytes: &[u8]| verify_footer(bytes).is_err();
    flips_are_refused(&good, refused);
    tears_are_refused(&good, &vec![0xa5; good.len()], refused);
}

#[test]
fn a_flipped_or_torn_record_is_refused_inline_or_not() {
    let apart = samples::payload(5000);
    let apart_header = samples::record(RecordKind::Put, 0x1000, 1001, &apart);
    let tombstone = samples::record(RecordKind::Tombstone, 0x1000, 1001, b"");
    let cases =
        [samples::small_put(), (apart_header, apart), (tombstone, vec![]), samples::carry()];
    for (header, payload) in cases {
        let good = samples::record_bytes(&header, &payload);
        let refused = |bytes: &[u8]| verify_record(bytes, &header).is_err();
        flips_are_refused(&good, refused);
        let older = RecordHeader { lap: header.lap - 1, ..header.clone() };
        tears_are_refused(&good, &samples::record_bytes(&older, &payload), refused);
    }
}

#[test]
fn a_flipped_header_of_many_chunks_is_refused_in_every_block() {
    let chunks = 1500;
    let mut header = samples::large_put().0;
    header.payload_len = (chunks * CHUNK) as u64;
    header.chunk_crcs = (0..chunks as u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
    let good = header.encode(STORE.salt());
    assert_eq!(good.len(), 2 * BLOCK);
    flips_are_refused(&good, |bytes| RecordHeader::decode(bytes, STORE.salt()).is_err());
}

#[test]
fn a_flipped_void_header_is_refused_but_the_hole_behind_it_is_free() {
    let void = samples::record(RecordKind::Void, 0x1000, 1001, b"");
    let header = void.encode(STORE.salt());
    flips_are_refused(&header, |bytes| RecordHeader::decode(bytes, STORE.salt()).is_err());
    let mut bytes = samples::record_bytes(&void, b"");
    bytes[BLOCK..].fill(0xee);
    assert_eq!(verify_record(&bytes, &void), Ok(()));
}
