//! Why a volume could not be opened or made.

use std::io;
use std::path::{Path, PathBuf};

/// Every variant names the path, and where there is one, the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// The file or device could not be opened.
    #[error("cannot open volume {}: {source}", path.display())]
    Open {
        /// The volume.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process has it open.
    #[error(
        "volume {} is in use by {}: stop that process, or give this one other data",
        path.display(), describe_holder(*holder_pid)
    )]
    Locked {
        /// The volume.
        path: PathBuf,
        /// The process, when the kernel tells.
        holder_pid: Option<u32>,
    },
    /// A block device that is mounted or held open exclusively.
    #[error("block device {} is in use: unmount it, or stop what has it open", path.display())]
    DeviceBusy {
        /// The device.
        path: PathBuf,
    },
    /// Neither a regular file nor a block device.
    #[error("{} is neither a file nor a block device", path.display())]
    NotAVolume {
        /// The path.
        path: PathBuf,
    },
    /// The file system refuses O_DIRECT.
    #[error(
        "{} is on a file system that takes no direct I/O: put it on ext4 or XFS (no encryption, \
         no data=journal) or on a block device",
        path.display()
    )]
    NoDirectIo {
        /// The volume.
        path: PathBuf,
    },
    /// Direct transfers need a larger alignment than a drive block.
    #[error(
        "{} needs direct I/O aligned to {memory} bytes in memory and {offset} on the drive; \
         at most 4096 is supported: use another drive or file system",
        path.display()
    )]
    Alignment {
        /// The volume.
        path: PathBuf,
        /// Memory alignment, bytes.
        memory: u32,
        /// Offset alignment, bytes.
        offset: u32,
    },
    /// A new volume would replace something.
    #[error("{} exists already: remove it first, or choose another path", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The file system is too full, or its largest file too small.
    #[error(
        "no space for volume {}: {needed} bytes needed, {free} free in its file system; \
         choose a smaller capacity or another place",
        path.display()
    )]
    NoSpace {
        /// The volume.
        path: PathBuf,
        /// Bytes it would have.
        needed: u64,
        /// Bytes the file system had free.
        free: u64,
    },
    /// A length that is no whole number of drive blocks.
    #[error("volume {}: {len} bytes is not a multiple of 4096", path.display())]
    Length {
        /// The volume.
        path: PathBuf,
        /// The length asked for.
        len: u64,
    },
    /// Any other failure.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl VolumeError {
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> VolumeError {
        VolumeError::Io { doing, path: path.to_path_buf(), source }
    }
}

impl From<VolumeError> for io::Error {
    fn from(error: VolumeError) -> io::Error {
        io::Error::other(error)
    }
}

fn describe_holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| String::from("another process"), |pid| format!("process {pid}"))
}
