//! Whether this machine can run tapeloop, found by doing what tapeloop will do.
//!
//! Kernel versions prove nothing: sandboxes, sysctls and limits say no where the version says
//! yes. Each failure is one line with the errno, what is set, and the remedy.

mod explain;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use io_uring::{IoUring, Probe, opcode, types};

use crate::BLOCK;
use crate::buffers::AlignedBuf;
use crate::ring_setup::{self, RingFlags};
use crate::volume::{VolumeError, check_alignment, direct_alignment};
pub use explain::{Setting, explain};

/// Entries of the probe's ring: enough for one read.
const ENTRIES: u32 = 8;

/// What the machine offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Set-up flags of the appender's ring.
    pub ring_flags: RingFlags,
    /// Read buffers can be registered with a ring under the present memory-lock limit.
    pub registered_buffers: bool,
    /// RLIMIT_MEMLOCK, bytes; `None` is unlimited.
    pub memlock_bytes: Option<u64>,
    /// Alignment the file system or device asks of direct transfers: memory and offset.
    pub direct_alignment: Option<(u32, u32)>,
}

/// Why it cannot. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// No ring could be made.
    #[error("io_uring is not usable: {explanation}")]
    Ring {
        /// Errno, setting and remedy.
        explanation: String,
        /// The cause.
        source: io::Error,
    },
    /// The ring lacks an operation.
    #[error("io_uring of kernel {kernel} lacks {operation}: Linux 5.11 or newer is needed")]
    Operation {
        /// Kernel release.
        kernel: String,
        /// The missing operation or feature.
        operation: &'static str,
    },
    /// The file system takes no direct transfers.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The trial file or the trial read failed.
    #[error("cannot {doing} at {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The directory or volume.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The ring read other bytes than were written.
    #[error("a direct read through io_uring at {} returned wrong bytes", path.display())]
    WrongBytes {
        /// The directory or volume.
        path: PathBuf,
    },
}

/// Tries everything once: on a volume that exists by reading its first block, in a directory with a
/// nameless file. Leaves nothing behind, and needs no free space where a volume exists.
pub fn probe(place: &Path) -> Result<Capabilities, ProbeError> {
    let (mut ring, ring_flags) = ring_setup::build(ENTRIES).map_err(|source| {
        let explanation = explain(source.raw_os_error().unwrap_or(0), &Setting::read());
        ProbeError::Ring { explanation, source }
    })?;
    let kernel = kernel_release();
    check_operations(&ring, &kernel)?;
    let file = match place.is_dir() {
        true => trial_file(place)?,
        false => open_volume(place)?,
    };
    check_alignment(&file, place)?;
    let direct_alignment = direct_alignment(&file);
    check_direct_read(&mut ring, &file, place)?;
    let registered_buffers = can_register(&ring);
    let memlock_bytes = Setting::read().memlock_bytes;
    Ok(Capabilities { kernel, ring_flags, registered_buffers, memlock_bytes, direct_alignment })
}

fn check_operations(ring: &IoUring, kernel: &str) -> Result<(), ProbeError> {
    let missing = |operation| ProbeError::Operation { kernel: kernel.to_owned(), operation };
    let mut known = Probe::new();
    // The operation list itself came with Linux 5.6.
    let asked = ring.submitter().register_probe(&mut known);
    asked.map_err(|_| missing("IORING_REGISTER_PROBE"))?;
    let needed = [
        (opcode::Read::CODE, "IORING_OP_READ"),
        (opcode::ReadFixed::CODE, "IORING_OP_READ_FIXED"),
        (opcode::Write::CODE, "IORING_OP_WRITE"),
        (opcode::Writev::CODE, "IORING_OP_WRITEV"),
        (opcode::Fsync::CODE, "IORING_OP_FSYNC"),
        (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
        (opcode::Accept::CODE, "IORING_OP_ACCEPT"),
        (opcode::Recv::CODE, "IORING_OP_RECV"),
    ];
    if let Some((_, name)) = needed.iter().find(|(code, _)| !known.is_supported(*code)) {
        return Err(missing(name));
    }
    let params = ring.params();
    if !params.is_feature_ext_arg() {
        return Err(missing("IORING_FEAT_EXT_ARG"));
    }
    if !params.is_feature_nodrop() {
        return Err(missing("IORING_FEAT_NODROP"));
    }
    Ok(())
}

/// A volume, not locked: it may be in use.
fn open_volume(path: &Path) -> Result<File, ProbeError> {
    match OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path) {
        Ok(file) => Ok(file),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Err(VolumeError::NoDirectIo { path: path.into() }.into())
        }
        Err(source) => Err(ProbeError::Io { doing: "open a volume", path: path.into(), source }),
    }
}

/// A direct file with one block in it, that vanishes when closed.
fn trial_file(dir: &Path) -> Result<File, ProbeError> {
    let failed = |doing| move |source| ProbeError::Io { doing, path: dir.into(), source };
    let file = open_nameless(dir)?;
    let mut block = AlignedBuf::zeroed(BLOCK);
    block.fill(0xA5);
    file.write_all_at(&block, 0).map_err(failed("write a block"))?;
    Ok(file)
}

fn open_nameless(dir: &Path) -> Result<File, ProbeError> {
    let failed = |source| ProbeError::Io { doing: "make a file", path: dir.into(), source };
    match open_trial(dir, libc::O_DIRECT) {
        Ok(file) => Ok(file),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            // Without O_DIRECT it works, so O_DIRECT is what is refused.
            open_trial(dir, 0).map_err(failed)?;
            Err(VolumeError::NoDirectIo { path: dir.into() }.into())
        }
        Err(error) => Err(failed(error)),
    }
}

fn open_trial(dir: &Path, flags: i32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.custom_flags(flags | libc::O_TMPFILE).open(dir) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            // A file system without nameless files: one with a name, removed at once.
            let path = dir.join(format!(".tapeloop-probe-{}", std::process::id()));
            let file = options.create_new(true).custom_flags(flags).open(&path);
            let _ = fs::remove_file(&path);
            file
        }
        other => other,
    }
}

/// The ring must read what an ordinary direct read finds.
fn check_direct_read(ring: &mut IoUring, file: &File, place: &Path) -> Result<(), ProbeError> {
    let failed = |doing| move |source| ProbeError::Io { doing, path: place.into(), source };
    let mut expected = AlignedBuf::zeroed(BLOCK);
    file.read_exact_at(&mut expected, 0).map_err(failed("read a block"))?;
    let mut read = AlignedBuf::zeroed(BLOCK);
    let fd = types::Fd(file.as_raw_fd());
    let entry = opcode::Read::new(fd, read.as_mut_ptr(), BLOCK as u32).offset(0).build();
    // SAFETY: `read` and the file outlive the operation: the wait below ends only with its
    // completion, and when the wait itself fails, both are leaked.
    let pushed = unsafe { ring.submission().push(&entry) };
    pushed.expect("an empty ring has room");
    let completion = loop {
        match ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) => {
                std::mem::forget(read);
                return Err(failed("submit a read")(error));
            }
        }
        if let Some(completion) = ring.completion().next() {
            break completion;
        }
    };
    if completion.result() < 0 {
        let source = io::Error::from_raw_os_error(-completion.result());
        return Err(failed("read a block through io_uring")(source));
    }
    if completion.result() as usize != BLOCK || *read != *expected {
        return Err(ProbeError::WrongBytes { path: place.into() });
    }
    Ok(())
}

fn can_register(ring: &IoUring) -> bool {
    let buf = AlignedBuf::zeroed(crate::READ_BUF);
    let iovec = libc::iovec { iov_base: buf.as_ptr().cast_mut().cast(), iov_len: buf.len() };
    // SAFETY: the memory is unregistered again before `buf` is freed, and no operation uses it.
    let registered = unsafe { ring.submitter().register_buffers(&[iovec]) };
    if registered.is_err() {
        return false;
    }
    if ring.submitter().unregister_buffers().is_err() {
        std::mem::forget(buf);
    }
    true
}

fn kernel_release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    if release.is_empty() { String::from("unknown") } else { release.to_owned() }
}
