//! Naming what a damaged record header was.
//!
//! A header with one flipped bit is found again by trying every bit until the checksum agrees. The
//! result is used to name the object and to go on to the next record, never to serve it.

use std::ops::Range;
use std::sync::LazyLock;

use tapeloop_format::{
    BLOCK, Field, FormatError, RECORD_FIXED_LEN, RECORD_HEADER_LEN_MAX, RecordHeader, RecordKind,
    Salt, layouts, round_up,
};

/// Where a record of a certain zone and lap must say that it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) zone: u32,
    pub(crate) lap: u64,
    pub(crate) position: u64,
}

/// A header as it was before one bit flipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mended {
    pub(crate) header: RecordHeader,
    /// Byte of the record that holds the flipped bit.
    pub(crate) byte: usize,
    pub(crate) bit: u8,
}

struct Identity {
    magic: Field,
    zone: Field,
    lap: Field,
    position: Field,
    lsn: Field,
    incarnation: Field,
    header_len: Field,
}

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let layouts = layouts();
    let fields = layouts
        .iter()
        .find(|layout| layout.name == "record header")
        .expect("the format has a record header")
        .fields;
    let field = |name: &str| {
        *fields.iter().find(|field| field.name == name).expect("record header fields are fixed")
    };
    Identity {
        magic: field("magic"),
        zone: field("zone"),
        lap: field("lap"),
        position: field("position"),
        lsn: field("lsn"),
        incarnation: field("incarnation"),
        header_len: field("header_len"),
    }
});

/// What damaged bytes say of themselves. Only good for deciding whether a write was ever complete.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) lsn: u64,
    pub(crate) incarnation: u64,
}

/// Whether these bytes claim, but for at most one flipped bit, to be a record of this place. Bytes
/// of an earlier lap, payload and blank space do not.
pub(crate) fn claim(bytes: &[u8], place: Place) -> Option<Claim> {
    let identity = &*IDENTITY;
    let distance = bits_off(bytes, identity.magic, b"TLRC")
        + bits_off(bytes, identity.zone, &place.zone.to_le_bytes())
        + bits_off(bytes, identity.lap, &place.lap.to_le_bytes())
        + bits_off(bytes, identity.position, &place.position.to_le_bytes());
    let claim = Claim {
        lsn: number(bytes, identity.lsn, 8),
        incarnation: number(bytes, identity.incarnation, 8),
    };
    (distance <= 1).then_some(claim)
}

fn number(bytes: &[u8], field: Field, len: usize) -> u64 {
    let mut number = [0; 8];
    number[..len].copy_from_slice(&bytes[field.offset..field.end()]);
    u64::from_le_bytes(number)
}

fn bits_off(bytes: &[u8], field: Field, expected: &[u8]) -> u32 {
    let found = &bytes[field.offset..field.end()];
    found.iter().zip(expected).map(|(a, b)| (a ^ b).count_ones()).sum()
}

/// The bytes that can hold the flipped bit: the padding byte that decoding stumbles over, else the
/// header. A length that is itself wrong lies in the fixed part, which is tried first.
fn candidates(bytes: &[u8], salt: Salt) -> Range<usize> {
    if let Err(FormatError::Reserved { offset, .. }) = RecordHeader::decode(bytes, salt) {
        return offset..offset + 1;
    }
    let claimed = number(bytes, IDENTITY.header_len, 4);
    let len = usize::try_from(claimed).unwrap_or(usize::MAX);
    0..len.clamp(RECORD_FIXED_LEN, bytes.len())
}

/// A carry record's header, wherever it is meant to lie, as it was before one bit flipped. Only for
/// deciding whether it is needed.
pub(super) fn mend_carry(bytes: &[u8], salt: Salt) -> Option<RecordHeader> {
    let identity = &*IDENTITY;
    // What is far from a record needs no search.
    if bytes.len() < BLOCK || bits_off(bytes, identity.magic, b"TLRC") > 1 {
        return None;
    }
    let mut bytes = bytes[..bytes.len().min(round_up(RECORD_HEADER_LEN_MAX, BLOCK))].to_vec();
    for byte in candidates(&bytes, salt) {
        for bit in 0..8 {
            bytes[byte] ^= 1 << bit;
            let decoded = RecordHeader::decode(&bytes, salt);
            bytes[byte] ^= 1 << bit;
            if let Some(header) = decoded.ok().filter(|header| header.kind == RecordKind::Carry) {
                return Some(header);
            }
        }
    }
    None
}

/// Tries every bit that can have flipped. `bytes` holds the record's header blocks, or more.
pub(crate) fn mend(bytes: &[u8], salt: Salt, place: Place) -> Option<Mended> {
    claim(bytes, place)?;
    let mut bytes = bytes.to_vec();
    for byte in candidates(&bytes, salt) {
        for bit in 0..8 {
            bytes[byte] ^= 1 << bit;
            let decoded = RecordHeader::decode(&bytes, salt);
            bytes[byte] ^= 1 << bit;
            let belongs =
                |header: &RecordHeader| header.expect(place.zone, place.lap, place.position);
            if let Ok(header) = decoded
                && belongs(&header).is_ok()
            {
                return Some(Mended { header, byte, bit });
            }
        }
    }
    None
}
