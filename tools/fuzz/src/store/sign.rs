//! Makes the checksums of an edited structure right again, so that edits reach the checks that lie
//! behind them. What is so broken that its checksum has no place is left alone.

use std::sync::LazyLock;

use tapeloop_format::{
    BLOCK, CARRY_JOURNAL_OFFSET, CHUNK, DATA_OFFSET, FOOTER_ENTRY_LEN, Field, Geometry, KILL_LEN,
    RECORD_FIXED_LEN, layouts, round_up,
};

use super::STORE;
use super::disk::Disk;

/// Where the checksum of a block lies that has one.
const BLOCK_CRC: usize = BLOCK - 4;

struct Places {
    header_crc: Field,
    header_len: Field,
    key_len: Field,
    metadata_len: Field,
    chunk_count: Field,
    payload_len: Field,
    /// Length in the trailer, bytes of each, checksum in the trailer: of each table.
    tables: [(Field, usize, Field); 3],
}

static PLACES: LazyLock<Places> = LazyLock::new(|| {
    let record = |name| field("record header", name);
    let trailer = |name| field("footer trailer", name);
    Places {
        header_crc: record("header_crc"),
        header_len: record("header_len"),
        key_len: record("key_len"),
        metadata_len: record("metadata_len"),
        chunk_count: record("chunk_count"),
        payload_len: record("payload_len"),
        tables: [
            (trailer("entry_count"), FOOTER_ENTRY_LEN, trailer("entries_crc")),
            (trailer("kill_count"), KILL_LEN, trailer("kills_crc")),
            (trailer("keys_len"), 1, trailer("keys_crc")),
        ],
    }
});

/// A field of the format, by its name in docs/disk-format.md.
pub fn field(structure: &str, name: &str) -> Field {
    let layouts = layouts();
    let layout = layouts.iter().find(|layout| layout.name == structure);
    let fields = layout.expect("a structure of the format").fields;
    *fields.iter().find(|field| field.name == name).expect("a field of the structure")
}

/// The number in a field of at most eight bytes.
pub fn number(bytes: &[u8], field: Field) -> u64 {
    let mut number = [0; 8];
    number[..field.len].copy_from_slice(&bytes[field.offset..field.end()]);
    u64::from_le_bytes(number)
}

/// Signs the structure that block `block` belongs to.
pub fn sign(disk: &mut Disk, geometry: &Geometry, block: usize) {
    let offset = (block * BLOCK) as u64;
    match offset {
        _ if offset == 0 || offset == geometry.header_b_offset() => {
            let crc = crc32fast::hash(&disk.bytes()[block * BLOCK..][..BLOCK_CRC]);
            disk.edit(block * BLOCK + BLOCK_CRC, 4).copy_from_slice(&crc.to_le_bytes());
        }
        _ if offset < CARRY_JOURNAL_OFFSET => sign_block(disk, block),
        _ if offset < DATA_OFFSET => sign_record(disk, CARRY_JOURNAL_OFFSET, DATA_OFFSET, block),
        _ => {
            let zone = (offset - DATA_OFFSET) / geometry.zone_size();
            let start = DATA_OFFSET + zone * geometry.zone_size();
            sign_in_zone(disk, start, start + geometry.zone_size(), block);
        }
    }
}

fn sign_in_zone(disk: &mut Disk, start: u64, end: u64, block: usize) {
    let (first, last) = (start as usize / BLOCK, end as usize / BLOCK - 1);
    if block == first {
        return sign_block(disk, block);
    }
    let footer = footer_start(disk, start, end);
    if footer.is_some_and(|footer| block >= footer) || block == last {
        sign_footer(disk, start, end);
        return sign_block(disk, last);
    }
    sign_record(disk, start + BLOCK as u64, end, block);
}

fn sign_block(disk: &mut Disk, block: usize) {
    let crc = STORE.salt().crc(&disk.bytes()[block * BLOCK..][..BLOCK_CRC]);
    disk.edit(block * BLOCK + BLOCK_CRC, 4).copy_from_slice(&crc.to_le_bytes());
}

/// The first block of a zone's footer, if a trailer says where that is.
fn footer_start(disk: &Disk, start: u64, end: u64) -> Option<usize> {
    let trailer = &disk.bytes()[end as usize - BLOCK..end as usize];
    let tables = PLACES.tables.iter();
    let len = tables.map(|(count, each, _)| padded(number(trailer, *count), *each)).sum::<u64>();
    let is_trailer = trailer.starts_with(b"TLFOOTER");
    let footer = end.checked_sub(BLOCK as u64)?.checked_sub(len)?;
    (is_trailer && footer > start).then_some(footer as usize / BLOCK)
}

fn padded(count: u64, each: usize) -> u64 {
    // Counts are 32-bit: this cannot overflow.
    (count * each as u64).next_multiple_of(BLOCK as u64)
}

fn sign_footer(disk: &mut Disk, start: u64, end: u64) {
    let Some(footer) = footer_start(disk, start, end) else { return };
    let trailer_at = end as usize - BLOCK;
    let mut at = footer * BLOCK;
    for (count, each, crc_at) in PLACES.tables {
        let count = number(&disk.bytes()[trailer_at..], count);
        let len = padded(count, each) as usize;
        let crc = STORE.salt().crc(&disk.bytes()[at..at + len]);
        let crc_at = trailer_at + crc_at.offset;
        disk.edit(crc_at, 4).copy_from_slice(&crc.to_le_bytes());
        at += len;
    }
}

/// Signs the record that covers `block`: the nearest start of one before it, in its region.
fn sign_record(disk: &mut Disk, start: u64, end: u64, block: usize) {
    let first = start as usize / BLOCK;
    let is_start = |block: &usize| disk.bytes()[block * BLOCK..].starts_with(b"TLRC");
    let Some(at) = (first..=block).rev().find(is_start).map(|block| block * BLOCK) else { return };
    let room = end as usize - at;
    let number = |disk: &Disk, field| number(&disk.bytes()[at..], field) as usize;
    let header_len = number(disk, PLACES.header_len);
    if !(RECORD_FIXED_LEN..=room).contains(&header_len) {
        return;
    }
    let payload_len = number(disk, PLACES.payload_len);
    let table = RECORD_FIXED_LEN + number(disk, PLACES.key_len) + number(disk, PLACES.metadata_len);
    let chunk_count = number(disk, PLACES.chunk_count);
    let is_inline = header_len.saturating_add(payload_len) <= BLOCK;
    let payload_at = if is_inline { header_len } else { round_up(header_len, BLOCK) };
    let payload_end = payload_at.saturating_add(payload_len).min(room);
    for index in 0..chunk_count {
        let (chunk_at, crc_at) = (payload_at + index * CHUNK, table + index * 4);
        if chunk_at >= payload_end || crc_at + 4 > header_len {
            break;
        }
        let chunk = &disk.bytes()[at..][chunk_at..payload_end.min(chunk_at + CHUNK)];
        let crc = STORE.salt().crc(chunk);
        disk.edit(at + crc_at, 4).copy_from_slice(&crc.to_le_bytes());
    }
    let from = PLACES.header_crc.end();
    let crc = STORE.salt().crc(&disk.bytes()[at + from..at + header_len]);
    disk.edit(at + PLACES.header_crc.offset, 4).copy_from_slice(&crc.to_le_bytes());
}
