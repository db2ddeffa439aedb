//! What the scrub tells.

use super::ScrubOptions;
use std::fmt;
use std::time::Duration;
use tapeloop_format::{FormatError, Key, KeyHash};

/// The scrub of a whole store.
#[derive(Clone, Debug, Default)]
pub struct ScrubReport {
    /// How it is done.
    pub options: ScrubOptions,
    /// One for each volume.
    pub volumes: Vec<VolumeScrub>,
    /// Damage known now, by volume and place.
    pub findings: Vec<ScrubFinding>,
}

impl ScrubReport {
    /// Damage known but beyond the bound of the list.
    pub fn omitted(&self) -> u64 {
        self.volumes.iter().map(|volume| volume.omitted).sum()
    }

    /// All damage known now.
    pub fn damage_count(&self) -> u64 {
        self.findings.len() as u64 + self.omitted()
    }
}

/// The scrub of one volume.
#[derive(Clone, Debug)]
pub struct VolumeScrub {
    /// The volume's number.
    pub volume: u16,
    /// What it does now.
    pub activity: ScrubActivity,
    /// Number of the cycle under way, or of the last one; 0 before the first.
    pub cycle: u64,
    /// How much of that cycle is done, 0 to 1.
    pub progress: f64,
    /// Of that cycle.
    pub counts: ScrubCounts,
    /// The last cycle that came to its end.
    pub last: Option<ScrubCycle>,
    /// Cycles that came to their end since the opening.
    pub cycles_completed: u64,
    /// Since the opening.
    pub total: ScrubCounts,
    /// Findings that are counted but not listed.
    pub omitted: u64,
}

/// What a scrub thread does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ScrubActivity {
    /// Until its next cycle is due.
    #[default]
    Waiting,
    /// In a cycle: reading, or letting others read and write.
    Running,
    /// In a cycle, and kept from going on.
    Paused {
        /// By what.
        cause: String,
    },
    /// The store is closed.
    Stopped,
}

/// What was read and found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubCounts {
    /// Bytes read from the drive.
    pub bytes_read: u64,
    /// Objects verified, damaged ones included.
    pub objects_read: u64,
    /// Damaged objects, each counted once in each cycle that meets it.
    pub objects_damaged: u64,
    /// Damaged footers and zone headers, likewise.
    pub structures_damaged: u64,
}

/// A cycle that came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubCycle {
    /// Its number.
    pub number: u64,
    /// Wall clock of its end, milliseconds since 1970.
    pub ended_wall_ms: u64,
    /// How long it took.
    pub duration: Duration,
    /// Of all of it.
    pub counts: ScrubCounts,
}

/// Something damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubFinding {
    /// What it is.
    pub part: ScrubPart,
    /// The key, if it could be found out.
    pub key: Option<Key>,
    /// Hash of the key; not known of a structure, or when nothing names the object any more.
    pub key_hash: Option<KeyHash>,
    /// Volume.
    pub volume: u16,
    /// Zone.
    pub zone: u32,
    /// Lap of the zone.
    pub lap: u64,
    /// Where it starts in the zone, in bytes.
    pub offset: u64,
    /// Where it starts on the volume, in bytes.
    pub volume_offset: u64,
    /// Payload length of an object, in bytes.
    pub len: u32,
    /// Store time from which it is gone anyway.
    pub expires_ms: u64,
    /// What is wrong: the first thing that is.
    pub fault: ScrubFault,
    /// Wall clock when it was last met, milliseconds since 1970.
    pub found_wall_ms: u64,
}

/// What was damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScrubPart {
    /// An object: header, payload or padding of its record.
    Object,
    /// The footer of a sealed zone: listings and a fast restart need it, its objects do not.
    Footer,
    /// The header of a zone.
    ZoneHeader,
}

impl fmt::Display for ScrubPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ScrubPart::Object => "object",
            ScrubPart::Footer => "footer",
            ScrubPart::ZoneHeader => "zone header",
        })
    }
}

/// Why it counts as damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScrubFault {
    /// The drive could not read it.
    #[error("{len} bytes at offset {offset} of the zone cannot be read: {message}")]
    Unreadable {
        /// From the start of the zone, in bytes.
        offset: u64,
        /// Bytes wanted.
        len: usize,
        /// The drive's answer.
        message: String,
    },
    /// The bytes do not verify, or do not belong where they lie.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// All checksums hold, and yet it is not what was uploaded.
    #[error("payload has content hash {computed:032x}, its header says {stored:032x}")]
    ContentHash {
        /// In the record header.
        stored: u128,
        /// Of the bytes read.
        computed: u128,
    },
    /// A valid record, but not the one that the index points at.
    #[error("the record here is of another key or version than the index says")]
    OtherRecord,
}
