//! Why bytes were refused: numbers, not sentences, so that tools and tests can tell cases apart.

use crate::StoreId;
use std::fmt;

/// The on-disk structure an error speaks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Structure {
    /// Volume header, copy A or B.
    VolumeHeader,
    /// Checkpoint slot.
    Checkpoint,
    /// First block of a zone.
    ZoneHeader,
    /// Record header.
    Record,
    /// Payload chunk of a record.
    Payload,
    /// Padding behind a record's payload.
    RecordPadding,
    /// Last block of a sealed zone.
    FooterTrailer,
    /// Table of puts in a footer.
    FooterEntries,
    /// Table of kills in a footer.
    FooterKills,
    /// Key blob in a footer.
    FooterKeys,
    /// Kill list in the payload of a carry record.
    KillList,
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Structure::VolumeHeader => "volume header",
            Structure::Checkpoint => "checkpoint",
            Structure::ZoneHeader => "zone header",
            Structure::Record => "record header",
            Structure::Payload => "record payload",
            Structure::RecordPadding => "record padding",
            Structure::FooterTrailer => "footer trailer",
            Structure::FooterEntries => "footer entry table",
            Structure::FooterKills => "footer kill table",
            Structure::FooterKeys => "footer key blob",
            Structure::KillList => "kill list",
        })
    }
}

/// Why a slice is not the structure it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The first bytes are not a tapeloop volume's.
    #[error("not a tapeloop volume: it starts with {found:02x?}")]
    NotTapeloop {
        /// The bytes in the place of the magic.
        found: [u8; 8],
    },
    /// Written by a later release, whose layout this one does not know.
    #[error("format version {found} is newer than {supported}, the newest this release knows")]
    Newer {
        /// Version in the volume header.
        found: u32,
        /// Newest version understood.
        supported: u32,
    },
    /// The slice is shorter than the structure's fixed size.
    #[error("{what} needs {needed} bytes, got {found}")]
    Truncated {
        /// Which structure.
        what: Structure,
        /// Bytes it takes.
        needed: usize,
        /// Bytes given.
        found: usize,
    },
    /// The header is plausible so far and goes on: read this many bytes in all, then decode again.
    #[error("record header goes on: {needed} bytes needed")]
    NeedMore {
        /// Bytes from the start of the record, a multiple of the block size.
        needed: usize,
    },
    /// Every byte is zero: nothing was ever written here.
    #[error("{what} is blank")]
    Blank {
        /// Which structure.
        what: Structure,
    },
    /// The magic differs, and the bytes are not blank.
    #[error("{what} has magic {found:#x}, expected {expected:#x}")]
    Magic {
        /// Which structure.
        what: Structure,
        /// The magic as a little-endian number.
        expected: u64,
        /// What stands there.
        found: u64,
    },
    /// The structure names another store.
    #[error("{what} belongs to store {found}, not to {expected}")]
    ForeignStore {
        /// Which structure.
        what: Structure,
        /// The store being read.
        expected: StoreId,
        /// The store the structure names.
        found: StoreId,
    },
    /// The checksum in the structure is not the checksum of its bytes.
    #[error("{what} checksum is {stored:#010x}, its bytes give {computed:#010x}")]
    Checksum {
        /// Which structure.
        what: Structure,
        /// Checksum kept on disk.
        stored: u32,
        /// Checksum of the bytes read.
        computed: u32,
    },
    /// A payload chunk does not match the checksum in its record header.
    #[error("payload chunk {index} checksum is {stored:#010x}, its bytes give {computed:#010x}")]
    ChunkChecksum {
        /// Chunk number within the payload.
        index: usize,
        /// Checksum kept in the record header.
        stored: u32,
        /// Checksum of the bytes read.
        computed: u32,
    },
    /// A field holds a value the encoder would not have written.
    #[error("{what} field {field} at byte {offset} is {found}, allowed is {min}..={max}")]
    Field {
        /// Which structure.
        what: Structure,
        /// Field name as in docs/disk-format.md.
        field: &'static str,
        /// Byte offset within the structure.
        offset: usize,
        /// The value found.
        found: u64,
        /// Smallest value allowed here.
        min: u64,
        /// Largest value allowed here.
        max: u64,
    },
    /// A reserved or padding byte is not zero.
    #[error("{what} byte {offset} is reserved and must be zero, found {found:#04x}")]
    Reserved {
        /// Which structure.
        what: Structure,
        /// Byte offset within the structure.
        offset: usize,
        /// The value found.
        found: u8,
    },
    /// A valid structure read from where it does not belong (misdirected write, or an older lap).
    #[error("{what} says {field} {found}, but it was read where {expected} belongs")]
    Misplaced {
        /// Which structure.
        what: Structure,
        /// Field that disagrees.
        field: &'static str,
        /// The value this place calls for.
        expected: u64,
        /// The value found.
        found: u64,
    },
    /// The zone size is not a power of two within the format's bounds.
    #[error("zone size {found} is not a power of two within {min}..={max}")]
    ZoneSize {
        /// The size asked for.
        found: u64,
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// Too few or too many zones.
    #[error("{found} zones, allowed is {min}..={max}")]
    ZoneCount {
        /// The count asked for.
        found: u64,
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// No volume, or more than a store may have.
    #[error("{found} volumes, allowed is 1..={max}")]
    VolumeCount {
        /// The count asked for.
        found: u16,
        /// Most of a store.
        max: u16,
    },
    /// The capacity asked for is too small for a store.
    #[error("capacity {found} bytes is below the minimum of {min}")]
    Capacity {
        /// Bytes asked for.
        found: u64,
        /// Smallest allowed.
        min: u64,
    },
}
