//! What recovery tells the operator.

use crate::types::IoFailure;
use tapeloop_format::FormatError;

/// Damage that recovery met in what had been durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// Both checkpoints of a volume are gone.
    #[error("volume {volume}: neither checkpoint is readable")]
    Checkpoint {
        /// Volume.
        volume: u16,
    },
    /// A zone header is damaged.
    #[error("zone {zone}: header: {error}")]
    ZoneHeader {
        /// Zone.
        zone: u32,
        /// What is wrong.
        error: FormatError,
    },
    /// A table of a footer is damaged; the zone was scanned instead.
    #[error("zone {zone}: footer: {error}")]
    Footer {
        /// Zone.
        zone: u32,
        /// What is wrong.
        error: FormatError,
    },
    /// Something durable is no valid record any more.
    #[error("zone {zone}: {len} bytes at offset {offset} were durable and are damaged: {error}")]
    Record {
        /// Zone.
        zone: u32,
        /// From the start of the zone, in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// What is wrong with its first block.
        error: FormatError,
    },
    /// The drive could not read.
    #[error("volume {volume}: {len} bytes at offset {offset}: {failure}")]
    Unreadable {
        /// Volume.
        volume: u16,
        /// Offset in the volume.
        offset: u64,
        /// Length.
        len: usize,
        /// The drive's answer.
        failure: IoFailure,
    },
}

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Objects that can be served.
    pub objects: u64,
    /// Zones taken from their footers.
    pub zones_sealed: u32,
    /// Zones that were open and were scanned.
    pub zones_scanned: u32,
    /// Zones that were never used or hold nothing unexpired.
    pub zones_free: u32,
    /// Zones whose content does not count, because the store was opened without their volume once.
    pub zones_given_up: u32,
    /// Bytes scanned in open zones.
    pub bytes_scanned: u64,
    /// Torn stretches dropped: writes that had never been acknowledged.
    pub torn_dropped: u32,
    /// Kills taken from the carry journal because its zone had not got them yet.
    pub kills_from_journal: u32,
    /// Part of a wall-clock jump over a reboot that was not believed.
    pub clock_held_ms: u64,
    /// Damage, the first thousand.
    pub findings: Vec<Finding>,
    /// Damage, all.
    pub findings_count: u64,
}
