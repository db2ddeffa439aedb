//! Making a volume file: whole and durable under its name, or nothing.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{VolumeError, check_alignment, lock, open_error};
use crate::BLOCK;
use crate::buffers::AlignedBuf;

/// Bytes per zeroing write. Large enough that the drive, not the system call, is what counts.
const ZERO_WRITE_LEN: usize = 1024 * 1024;

pub(super) fn create_with(
    path: &Path,
    len: u64,
    first: &[(u64, &[u8])],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), VolumeError> {
    if len == 0 || !len.is_multiple_of(BLOCK as u64) {
        return Err(VolumeError::Length { path: path.into(), len });
    }
    if path.symlink_metadata().is_ok() {
        return Err(VolumeError::Exists { path: path.into() });
    }
    let partial = Partial::create(path)?;
    partial.reserve(len)?;
    partial.zero(len, progress)?;
    for (offset, bytes) in first {
        partial.write(bytes, *offset, len)?;
    }
    partial.publish()
}

/// The file under its working name. Dropped before [`publish`](Partial::publish), also by a
/// panic, it removes itself.
struct Partial {
    file: File,
    working: PathBuf,
    path: PathBuf,
    published: bool,
}

impl Partial {
    fn create(path: &Path) -> Result<Partial, VolumeError> {
        let mut working = path.as_os_str().to_os_string();
        working.push(".partial");
        let working = PathBuf::from(working);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(libc::O_DIRECT)
            .open(&working)
            .map_err(|source| {
                if source.raw_os_error() == Some(libc::EINVAL) {
                    // The name was made before the flag was refused.
                    let _ = fs::remove_file(&working);
                }
                open_error(&working, false, source)
            })?;
        // Whoever holds the lock is making this volume now; a leftover of a killed process is
        // not locked and is taken over.
        let locked = lock::try_lock(&file).map_err(|e| VolumeError::io("lock", &working, e))?;
        if !locked || !is_same_file(&file, &working) {
            let holder_pid = lock::holder_pid(&file);
            return Err(VolumeError::Locked { path: working, holder_pid });
        }
        let partial = Partial { file, working, path: path.into(), published: false };
        partial.file.set_len(0).map_err(|e| VolumeError::io("truncate", &partial.working, e))?;
        check_alignment(&partial.file, &partial.working)?;
        Ok(partial)
    }

    /// Takes the space at once, so that a full disk is known before minutes of zeroing. Asks
    /// first: an fallocate that fails may fill the disk for everyone for a moment.
    fn reserve(&self, len: u64) -> Result<(), VolumeError> {
        let free = self.free_bytes()?;
        let no_space = VolumeError::NoSpace { path: self.path.clone(), needed: len, free };
        let Ok(file_len) = libc::off64_t::try_from(len) else { return Err(no_space) };
        if len > free {
            return Err(no_space);
        }
        // SAFETY: the call takes a descriptor that `self.file` keeps open, and integers.
        let status = unsafe { libc::fallocate64(self.file.as_raw_fd(), 0, 0, file_len) };
        if status == 0 {
            return Ok(());
        }
        let source = io::Error::last_os_error();
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EFBIG | libc::EDQUOT) => Err(no_space),
            // No fallocate here: the zeroing allocates.
            Some(libc::EOPNOTSUPP) => Ok(()),
            _ => Err(VolumeError::io("allocate", &self.working, source)),
        }
    }

    fn free_bytes(&self) -> Result<u64, VolumeError> {
        let mut stat = MaybeUninit::<libc::statvfs64>::zeroed();
        // SAFETY: the descriptor is open and `stat` is writable.
        let status = unsafe { libc::fstatvfs64(self.file.as_raw_fd(), stat.as_mut_ptr()) };
        if status != 0 {
            let source = io::Error::last_os_error();
            return Err(VolumeError::io("ask the free space of", &self.working, source));
        }
        // SAFETY: all-zero bytes are a valid statvfs (integers only), and the call filled it.
        let stat = unsafe { stat.assume_init() };
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn zero(&self, len: u64, progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
        let zeros = AlignedBuf::zeroed(ZERO_WRITE_LEN);
        let mut done = 0;
        progress(done, len);
        while done < len {
            let step = (len - done).min(ZERO_WRITE_LEN as u64);
            let written = self.file.write_all_at(&zeros[..step as usize], done);
            written.map_err(|source| self.write_error(len, source))?;
            done += step;
            progress(done, len);
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8], offset: u64, len: u64) -> Result<(), VolumeError> {
        assert!(bytes.len().is_multiple_of(BLOCK) && offset.is_multiple_of(BLOCK as u64));
        assert!(offset + bytes.len() as u64 <= len, "first bytes outside the volume");
        let aligned = AlignedBuf::padded_from(bytes);
        let written = self.file.write_all_at(&aligned, offset);
        written.map_err(|source| self.write_error(len, source))
    }

    fn write_error(&self, len: u64, source: io::Error) -> VolumeError {
        if !matches!(source.raw_os_error(), Some(libc::ENOSPC | libc::EFBIG | libc::EDQUOT)) {
            return VolumeError::io("write", &self.working, source);
        }
        let free = self.free_bytes().unwrap_or(0);
        VolumeError::NoSpace { path: self.path.clone(), needed: len, free }
    }

    /// Makes the contents durable, then the name.
    fn publish(mut self) -> Result<(), VolumeError> {
        self.file.sync_all().map_err(|e| VolumeError::io("flush", &self.working, e))?;
        rename_new(&self.working, &self.path)?;
        self.published = true;
        sync_parent(&self.path)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published && is_same_file(&self.file, &self.working) {
            let _ = fs::remove_file(&self.working);
        }
    }
}

fn is_same_file(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), path.symlink_metadata()) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

/// Renames without replacing what may have appeared meanwhile.
fn rename_new(from: &Path, to: &Path) -> Result<(), VolumeError> {
    let c_path = |path: &Path| {
        CString::new(path.as_os_str().as_bytes())
            .map_err(|source| VolumeError::io("name", path, source.into()))
    };
    let (c_from, c_to) = (c_path(from)?, c_path(to)?);
    // SAFETY: both are C strings that outlive the call.
    let status = unsafe {
        libc::renameat2(
            libc::AT_FDCWD,
            c_from.as_ptr(),
            libc::AT_FDCWD,
            c_to.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    if status == 0 {
        return Ok(());
    }
    let source = io::Error::last_os_error();
    match source.raw_os_error() {
        Some(libc::EEXIST) => Err(VolumeError::Exists { path: to.into() }),
        _ => Err(VolumeError::io("rename", from, source)),
    }
}

fn sync_parent(path: &Path) -> Result<(), VolumeError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let synced = File::open(parent).and_then(|directory| directory.sync_all());
    synced.map_err(|source| VolumeError::io("flush directory", parent, source))
}
