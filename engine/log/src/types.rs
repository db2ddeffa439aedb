//! What goes into the log and what comes out of it.

use std::fmt;
use tapeloop_format::{KeyHash, RecordShape};

/// Names one operation from `append` to its event. Chosen by the caller, never reused while in
/// flight.
pub type Ticket = u64;

/// An operation on one key.
#[derive(Debug)]
pub struct Append {
    /// Caller's name for it.
    pub ticket: Ticket,
    /// Hash of the key.
    pub hash: KeyHash,
    /// The key.
    pub key: Box<[u8]>,
    /// What to do with the key.
    pub op: Op,
}

/// Put a new version or delete.
#[derive(Debug)]
pub enum Op {
    /// A whole object; its payload stays with the caller, under the ticket.
    Put(Put),
    /// The key shall not exist.
    Delete,
}

/// All of an object but its bytes.
#[derive(Clone, Debug)]
pub struct Put {
    /// Opaque to the engine.
    pub metadata: Box<[u8]>,
    /// Payload length in bytes.
    pub payload_len: u64,
    /// Checksum of each 64 KiB of payload.
    pub chunk_crcs: Box<[u32]>,
    /// xxh3-128 of the payload.
    pub content_hash: [u8; 16],
    /// Life from now, in milliseconds.
    pub ttl_ms: u64,
    /// Group of the retention class: 0 shared, else a namespace with a quota or a guarantee of its
    /// own.
    pub group: u64,
    /// Wall clock of the upload, for Last-Modified.
    pub created_wall_ms: u64,
}

/// Limits of one retention group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupPolicy {
    /// Hash of the namespace; 0 is the group of all others.
    pub group: u64,
    /// Bytes of zones the group may hold before it is the first to give under pressure.
    pub quota_bytes: Option<u64>,
    /// Its unexpired objects are never evicted; when nothing else can be, PUTs fail instead.
    pub guaranteed: bool,
}

/// One I/O the log wants done. Completions may come in any order.
#[derive(Debug)]
pub struct Io {
    /// Names the I/O in `Log::io_done`.
    pub id: u64,
    /// What to do.
    pub op: IoOp,
}

/// Kinds of I/O. Offsets are from the start of the volume that the log was asked for, everything is
/// a multiple of 4 KiB.
#[derive(Debug)]
pub enum IoOp {
    /// Header and payload of an object, contiguous from `offset`.
    Record {
        /// Where the record starts.
        offset: u64,
        /// Header, zero-padded to whole blocks. Where the shape says so, the payload goes inside.
        header: Vec<u8>,
        /// Where the payload lies in the record.
        shape: RecordShape,
        /// Whose payload.
        ticket: Ticket,
    },
    /// Bytes of the log's own.
    Write {
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Make durable everything completed before this was asked for.
    Flush,
    /// Read; the bytes come back with the completion.
    Read {
        /// Where.
        offset: u64,
        /// How much.
        len: usize,
    },
}

/// The drive said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoFailure {
    /// Its errno.
    pub errno: i32,
}

impl fmt::Display for IoFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.errno))
    }
}

/// The end of an operation, or of a phase of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Recovery's repairs are durable: appends go ahead.
    Started,
    /// The object is on stable storage and published.
    Stored {
        /// Whose.
        ticket: Ticket,
        /// Log sequence number of its record.
        lsn: u64,
        /// Where it lies. A newer version may already have taken its place.
        location: crate::Location,
        /// When it expires, in store time.
        expires_ms: u64,
        /// An unexpired older version was replaced.
        replaced: bool,
    },
    /// The key does not exist any more, durably.
    Deleted {
        /// Whose.
        ticket: Ticket,
        /// An unexpired version was there before.
        existed: bool,
    },
    /// Nothing was stored.
    Failed {
        /// Whose.
        ticket: Ticket,
        /// Why.
        error: AppendError,
    },
    /// A flush failed, or the drive was found hung or gone: the volume is read-only from now on.
    Fenced {
        /// Which one.
        volume: u16,
        /// Why.
        failure: IoFailure,
    },
    /// Everything accepted has ended, and the last checkpoints are durable where the drive did not
    /// refuse them.
    Closed,
}

/// Why an append failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Larger than a zone can take.
    #[error("object of {len} bytes is larger than this store takes ({max} bytes)")]
    TooLarge {
        /// Asked.
        len: u64,
        /// Possible.
        max: u64,
    },
    /// Nothing is expired and nothing may be evicted.
    #[error("every zone holds objects of guaranteed retention")]
    NoSpace,
    /// The drive refused the record in several zones.
    #[error("write failed in {attempts} zones, last with: {failure}")]
    WriteFailed {
        /// Zones tried.
        attempts: u32,
        /// The last answer.
        failure: IoFailure,
    },
    /// No volume is left that could be written to.
    #[error("every volume is fenced read-only: {0}")]
    Fenced(IoFailure),
    /// The log is closing.
    #[error("store is closing")]
    Closing,
}

/// Counters and gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Zones that can be used at once.
    pub zones_free: u32,
    /// Zones being appended to, prepared or sealed.
    pub zones_open: u32,
    /// Zones full and servable.
    pub zones_sealed: u32,
    /// Zones taken out of use after a write error.
    pub zones_bad: u32,
    /// Records made durable.
    pub records_stored: u64,
    /// Payload bytes made durable.
    pub payload_bytes_stored: u64,
    /// Bytes written, headers, footers and padding included.
    pub bytes_written: u64,
    /// Tombstones made durable.
    pub tombstones: u64,
    /// Kills carried out of zones that were reused.
    pub kills_carried: u64,
    /// Flushes completed.
    pub flushes: u64,
    /// Failed writes that were placed again elsewhere.
    pub records_replaced: u64,
    /// Zones freed because everything in them had expired.
    pub zones_expired: u64,
    /// Zones taken back before their time because nothing had expired.
    pub zones_evicted: u64,
    /// Life that the last evicted zone's newest object had left, in milliseconds.
    pub evicted_early_ms: u64,
    /// Age of the oldest object when its zone was last evicted: the retention achieved.
    pub retention_achieved_ms: u64,
    /// Operations accepted and not finished.
    pub backlog: u32,
}

/// How one volume fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeStats {
    /// Zones that hold nothing unexpired.
    pub zones_free: u32,
    /// Zones being appended to, prepared or sealed.
    pub zones_open: u32,
    /// Zones full and servable.
    pub zones_sealed: u32,
    /// Zones taken out of use after a write error.
    pub zones_bad: u32,
    /// Why nothing is written to it any more.
    pub fenced: Option<IoFailure>,
    /// Its drive is slow, and others take its part.
    pub is_avoided: bool,
    /// The store was opened without it.
    pub is_missing: bool,
}
