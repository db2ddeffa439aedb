//! What can go wrong, with numbers.

use std::path::PathBuf;
use tapeloop_format::{FormatError, StoreId};
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
    /// A volume of another store among them.
    #[error(
        "{}: is volume {index} of store {found}, but {} belongs to store {expected}",
        path.display(), first.display()
    )]
    ForeignVolume {
        /// The volume.
        path: PathBuf,
        /// Its number.
        index: u16,
        /// Store of the volume that was named first.
        expected: StoreId,
        /// Its store.
        found: StoreId,
        /// The volume that was named first.
        first: PathBuf,
    },
    /// Volumes of one store that do not fit together.
    #[error(
        "{}: volume {index} says {} volumes of {} zones of {} bytes, but {} says {}, {} and {}",
        path.display(), found.0, found.2, found.1, first.display(), expected.0, expected.2,
        expected.1
    )]
    OtherShape {
        /// The volume.
        path: PathBuf,
        /// Its number.
        index: u16,
        /// Volumes, zone size and zones per volume as the volume named first has them.
        expected: (u16, u64, u32),
        /// As this one has them.
        found: (u16, u64, u32),
        /// The volume that was named first.
        first: PathBuf,
    },
    /// One volume twice.
    #[error("{} and {} are both volume {index} of the store", earlier.display(), path.display())]
    SameVolume {
        /// The number of both.
        index: u16,
        /// The one named later.
        path: PathBuf,
        /// The one named before.
        earlier: PathBuf,
    },
    /// A volume is not there.
    #[error(
        "volume {index} of {count} is missing{}; --degraded opens the store without it and gives \
         up what it holds",
        why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
    )]
    Missing {
        /// Its number.
        index: u16,
        /// Volumes of the store.
        count: u16,
        /// Why the path that may have been meant for it was no help.
        why: Option<String>,
    },
    /// More volumes than the store has.
    #[error("{found} volumes given; the store has {expected}")]
    TooMany {
        /// Given.
        found: usize,
        /// Of the store.
        expected: u16,
    },
    /// No volume at all.
    #[error("no volume given")]
    NoVolume,
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
    /// One file or device for two volumes.
    #[error("{} and {} are the same volume", earlier.display(), path.display())]
    SameVolume {
        /// The one named later.
        path: PathBuf,
        /// The one named before.
        earlier: PathBuf,
    },
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
    #[error(
        "object is damaged at offset {offset} of its record in zone {zone} of volume {volume}: \
         {error}"
    )]
    Damaged {
        /// Volume.
        volume: u16,
        /// Zone.
        zone: u32,
        /// Offset of the record in the zone.
        offset: u64,
        /// What does not hold.
        error: FormatError,
    },
    /// The drive could not read.
    #[error("volume {volume}, zone {zone}, offset {offset}: {message}")]
    Io {
        /// Volume.
        volume: u16,
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
    #[error("the drive of volume {volume} has not answered for {waited_ms} ms")]
    Stalled {
        /// Volume.
        volume: u16,
        /// Time waited.
        waited_ms: u64,
    },
    /// So many readers wait for the drive that another one would wait for too long.
    #[error("{waiting} reads wait for the drive of volume {volume}")]
    Overloaded {
        /// Volume.
        volume: u16,
        /// Reads that wait on this thread.
        waiting: usize,
    },
    /// The engine has been closed.
    #[error("store is closed")]
    Closed,
}
