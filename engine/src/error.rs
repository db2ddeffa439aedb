//! What can go wrong, with numbers.

use std::path::PathBuf;
use tapeloop_format::FormatError;
use tapeloop_io::VolumeError;
use tapeloop_io::probe::ProbeError;
use tapeloop_log::AppendError;

/// Why a store was not opened. Nothing on the drive has been changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The machine cannot run the engine.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The volume cannot be opened or is in use.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Not a volume of ours, a newer one, or a damaged one.
    #[error("{}: {error}", path.display())]
    Header {
        /// The volume.
        path: PathBuf,
        /// What is wrong with its header.
        error: FormatError,
    },
    /// Shorter than its own header says.
    #[error(
        "{}: volume is {found} bytes long, its header says {expected}: it was truncated",
        path.display()
    )]
    Truncated {
        /// The volume.
        path: PathBuf,
        /// By its header.
        expected: u64,
        /// In the file system.
        found: u64,
    },
    /// The volume belongs to a store of several.
    #[error(
        "{}: is volume {index} of a store of {count}; this version opens single volumes",
        path.display()
    )]
    SeveralVolumes {
        /// The volume.
        path: PathBuf,
        /// Its number.
        index: u16,
        /// Volumes of the store.
        count: u16,
    },
    /// Exactly one volume can be opened.
    #[error("{found} volumes given; this version opens stores of one volume")]
    VolumeCount {
        /// Given.
        found: usize,
    },
    /// The arena is smaller than uploads and readers need.
    #[error("arena of {found} bytes is too small; the least is {min} bytes")]
    ArenaTooSmall {
        /// Asked.
        found: u64,
        /// Needed.
        min: u64,
    },
    /// No thread.
    #[error("cannot start the scrub: {0}")]
    Scrub(#[from] std::io::Error),
    /// Reading or repairing failed.
    #[error("{}: {context}: {source}", path.display())]
    Io {
        /// The volume.
        path: PathBuf,
        /// What was being done.
        context: &'static str,
        /// The answer.
        source: std::io::Error,
    },
}

/// Why a store was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The capacity makes no store.
    #[error(transparent)]
    Geometry(#[from] FormatError),
    /// The file could not be made.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// No random bytes for the store's identity.
    #[error("no random bytes for the store id: {0}")]
    Random(String),
}

/// Why nothing was stored or deleted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PutError {
    /// Larger than a zone, or half the arena, can take.
    #[error("object of {len} bytes is too large: this store takes up to {max} bytes")]
    TooLarge {
        /// Declared, or received so far.
        len: u64,
        /// Possible.
        max: u64,
    },
    /// The body is not as long as it was declared.
    #[error("body was declared as {declared} bytes and had {received}")]
    Length {
        /// Declared.
        declared: u64,
        /// Received.
        received: u64,
    },
    /// Metadata beyond the format's bound.
    #[error("metadata of {len} bytes; at most {max} fit")]
    Metadata {
        /// Given.
        len: usize,
        /// Possible.
        max: usize,
    },
    /// The log refused or failed.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// The drive has not answered for too long; the outcome is not known.
    #[error(
        "the drive has not answered for {waited_ms} ms; whether the object is stored is unknown"
    )]
    Stalled {
        /// How long its oldest operation has waited.
        waited_ms: u64,
    },
    /// The engine has been closed.
    #[error("store is closed")]
    Closed,
}

/// Why an object, or the rest of it, could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The drive's bytes do not verify.
    #[error("object is damaged at offset {offset} of its record in zone {zone}: {error}")]
    Damaged {
        /// Zone.
        zone: u32,
        /// Offset of the record in the zone.
        offset: u64,
        /// What does not hold.
        error: FormatError,
    },
    /// The drive could not read.
    #[error("zone {zone}, offset {offset}: {message}")]
    Io {
        /// Zone.
        zone: u32,
        /// Offset in the zone.
        offset: u64,
        /// The drive's answer.
        message: String,
    },
    /// The zone was taken back while a slow reader was in it.
    #[error("object was evicted while it was being read")]
    Recycled,
    /// The upload that was being followed came to nothing.
    #[error("upload was aborted after {received} bytes")]
    Aborted {
        /// Bytes that followers may have seen.
        received: u64,
    },
    /// The drive has not answered.
    #[error("the drive has not answered for {waited_ms} ms")]
    Stalled {
        /// Time waited.
        waited_ms: u64,
    },
    /// The engine has been closed.
    #[error("store is closed")]
    Closed,
}
