//! The bytes tapeloop keeps on disk: layouts, encoders, strict decoders.
//!
//! docs/disk-format.md is the normative text; this crate is its only implementation. No I/O, no
//! clock, no unsafe. Every decoder takes a slice, never panics on it, allocates no more than the
//! format's own bounds allow, and refuses whatever the encoder would not have written.
#![forbid(unsafe_code)]

mod checkpoint;
mod checksum;
mod codec;
mod error;
mod footer;
mod geometry;
mod key;
mod kill;
mod layout;
mod record;
mod shape;
mod store;
mod trailer;
mod volume;
mod zone;

pub use checkpoint::{Checkpoint, ClockMark, GIVEN_UP_WHOLLY, OpenZoneMark};
pub use checksum::{PayloadChecksums, Salt, StoreId, StoreIdParseError, chunk_crc};
pub use codec::Field;
pub use error::{FormatError, Structure};
pub use footer::{FOOTER_ENTRY_LEN, FooterBuilder, FooterEntries, FooterEntry, FooterSummary};
pub use geometry::{
    BLOCK, CAPACITY_MIN, CARRY_JOURNAL_LEN, CARRY_JOURNAL_OFFSET, CHECKPOINT_SLOTS, CHUNK,
    COUNTED_MAX, DATA_OFFSET, Geometry, KEY_LEN_MAX, METADATA_LEN_MAX, OPEN_ZONES_MAX,
    ZONE_COUNT_MAX, ZONE_COUNT_MIN, ZONE_SIZE_MAX, ZONE_SIZE_MIN, round_up,
};
pub use key::{Key, KeyError, KeyHash, KeyHasher};
pub use kill::{KILL_LEN, Kill, KillList};
pub use layout::{Layout, layouts};
pub use record::{MORE_VICTIMS_MAX, RecordHeader, RecordKind};
pub use shape::{CHUNK_COUNT_MAX, RECORD_FIXED_LEN, RECORD_HEADER_LEN_MAX, RecordShape};
pub use store::{StoreGeometry, VOLUME_COUNT_MAX};
pub use trailer::{FooterTable, FooterTrailer, TableSpan, footer_len};
pub use volume::{FORMAT_VERSION, VolumeHeader};
pub use zone::{ClassId, ZoneHeader, ZoneLap};
