//! One check per decoder: any bytes may go in, no panic comes out, and whatever is accepted is
//! exactly what the encoder writes. `tools/fuzz` runs these under libFuzzer, `any_bytes.rs` runs
//! them on seeded random bytes in every `cargo test`.
//!
//! Random bytes never pass a checksum, so each check also signs the input and tries again: that is
//! what reaches the checks behind the checksum.
#![allow(unreachable_pub)] // a module of two crates, public in one of them

use tapeloop_format::{
    BLOCK, Checkpoint, FOOTER_ENTRY_LEN, FooterEntries, FooterTable, FooterTrailer, FormatError,
    KILL_LEN, Kill, KillList, RECORD_HEADER_LEN_MAX, RecordHeader, StoreId, VolumeHeader,
    ZoneHeader, round_up,
};

/// The store that all checks read.
pub const STORE: StoreId = StoreId(*b"the fuzzed store");

/// A block from the first bytes of the input, zero padded.
fn block(bytes: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let len = bytes.len().min(BLOCK);
    block[..len].copy_from_slice(&bytes[..len]);
    block
}

/// The block with magic, store id and checksum made right.
fn signed(bytes: &[u8], magic: &[u8; 8]) -> [u8; BLOCK] {
    let mut block = block(bytes);
    block[..8].copy_from_slice(magic);
    block[8..24].copy_from_slice(&STORE.0);
    let crc = STORE.salt().crc(&block[..BLOCK - 4]);
    block[BLOCK - 4..].copy_from_slice(&crc.to_le_bytes());
    block
}

/// Volume header.
pub fn volume_header(bytes: &[u8]) {
    let check = |bytes: &[u8]| {
        if let Ok(header) = VolumeHeader::decode(bytes) {
            assert_eq!(header.encode()[..], bytes[..BLOCK]);
            assert!(header.geometry.record_payload_max() < header.geometry.zone_size());
        }
    };
    check(bytes);
    let mut signed = block(bytes);
    signed[..8].copy_from_slice(b"TAPELOOP");
    let crc = crc32fast::hash(&signed[..BLOCK - 4]);
    signed[BLOCK - 4..].copy_from_slice(&crc.to_le_bytes());
    check(&signed);
}

/// Checkpoint slot.
pub fn checkpoint(bytes: &[u8]) {
    for bytes in [bytes, &signed(bytes, b"TLCHECKP")] {
        if let Ok(checkpoint) = Checkpoint::decode(bytes, &STORE) {
            assert_eq!(checkpoint.encode(&STORE)[..], bytes[..BLOCK]);
        }
    }
}

/// Zone header.
pub fn zone_header(bytes: &[u8]) {
    for bytes in [bytes, &signed(bytes, b"TLZONEHD")] {
        if let Ok(header) = ZoneHeader::decode(bytes, &STORE) {
            assert_eq!(header.encode(&STORE)[..], bytes[..BLOCK]);
        }
    }
}

/// Record header, with everything a reader does with it.
pub fn record(bytes: &[u8]) {
    record_as_given(bytes);
    let mut signed = bytes.to_vec();
    signed.resize(round_up(bytes.len().max(1), BLOCK), 0);
    signed[..4].copy_from_slice(b"TLRC");
    let header_len = u32::from_le_bytes(signed[8..12].try_into().unwrap()) as usize;
    if let Some(covered) = signed.get(8..header_len) {
        let crc = STORE.salt().crc(covered);
        signed[4..8].copy_from_slice(&crc.to_le_bytes());
    }
    record_as_given(&signed);
}

fn record_as_given(bytes: &[u8]) {
    let peeked = RecordHeader::peek_len(bytes);
    if let Ok(len) = peeked {
        assert!(len.is_multiple_of(BLOCK) && len <= round_up(RECORD_HEADER_LEN_MAX, BLOCK));
    }
    match RecordHeader::decode(bytes, STORE.salt()) {
        Ok(header) => {
            let shape = header.shape();
            assert_eq!(peeked, Ok(shape.header_blocks_len()));
            assert!(header.chunk_crcs.len() * 4 <= bytes.len());
            let encoded = header.encode(STORE.salt());
            assert_eq!(encoded[..shape.header_len], bytes[..shape.header_len]);
            if let Some(record) = bytes.get(..shape.record_len) {
                let _ = header.verify_padding(record);
                for index in 0..header.chunk_crcs.len() {
                    let at = shape.payload_offset + index * tapeloop_format::CHUNK;
                    let chunk = &record[at..at + header.chunk_len(index)];
                    let _ = header.verify_chunk(STORE.salt(), index, chunk);
                }
            }
        }
        Err(FormatError::NeedMore { needed }) => {
            assert_eq!(peeked, Ok(needed));
            assert!(needed > bytes.len());
        }
        Err(_) => {}
    }
}

/// Footer: the last block of the input is the trailer, what precedes it are the tables.
pub fn footer(bytes: &[u8]) {
    let (tables, last) = bytes.split_at(bytes.len().saturating_sub(BLOCK));
    for last in [last, &signed(last, b"TLFOOTER")] {
        let Ok(trailer) = FooterTrailer::decode(last, &STORE) else { continue };
        assert_eq!(trailer.encode(&STORE)[..], last[..BLOCK]);
        for table in [FooterTable::Entries, FooterTable::Kills, FooterTable::Keys] {
            let span = trailer.table(table);
            assert!(span.offset >= trailer.used_len && span.len <= span.padded_len);
            assert!(span.offset + span.padded_len as u64 <= trailer.zone_size - BLOCK as u64);
            let _ = trailer.verify_table(&STORE, table, tables);
        }
    }
    let whole = tables.len() - tables.len() % FOOTER_ENTRY_LEN;
    let entries = FooterEntries::new(&tables[..whole]).expect("a whole number of entries");
    assert_eq!(entries.len(), whole / FOOTER_ENTRY_LEN);
    for (entry, key) in entries.with_keys(tables).flatten() {
        assert_eq!(key.len(), usize::from(entry.key_len));
        assert!(entry.offset() + entry.shape().record_len as u64 <= 256 << 20);
        assert!(entry.expires_ms(u64::MAX - 1) >= u64::MAX - 1);
    }
}

/// Kill list: the payload of a carry record, or a footer's kill table.
pub fn carry(bytes: &[u8]) {
    match KillList::new(bytes) {
        Ok(kills) => {
            let kills: Vec<Kill> = kills.collect();
            assert_eq!(Kill::encode_list(&kills), bytes);
        }
        Err(error) => {
            assert!(!bytes.len().is_multiple_of(KILL_LEN), "refused whole kills: {error}");
        }
    }
}
