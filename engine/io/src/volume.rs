//! Volumes: preallocated files or block devices, opened for direct transfers.
//!
//! A volume open for writing is locked against every other process; the lock ends with the last
//! descriptor, the kernel's own references in a ring included.

mod create;
mod error;
mod lock;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::buffers::AlignedBuf;
use crate::runtime::READS_PER_DRIVE_MAX;
use crate::{BLOCK, round_up_to_block};
pub use error::VolumeError;

/// Bytes moved per call by the blocking helpers when they go through an aligned buffer.
const BOUNCE_LEN: usize = 1024 * 1024;

/// One open volume.
pub struct VolumeFile {
    file: File,
    path: PathBuf,
    len: u64,
    access: Access,
    is_device: bool,
    /// Turns at the drive, shared by the readers of all runtimes.
    read_slots: Arc<Semaphore>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Read and write past the page cache, exclusively locked.
    Direct,
    /// Read only through the page cache, not locked: any alignment, any file system.
    ReadOnly,
}

impl VolumeFile {
    /// Opens for the engine: direct, read and write, locked. Fails when another process has it.
    pub fn open_direct(path: &Path) -> Result<VolumeFile, VolumeError> {
        let is_device = kind_is_device(path)?;
        let exclusive = if is_device { libc::O_EXCL } else { 0 };
        let open = |flags| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(libc::O_DIRECT | exclusive | flags);
            options.open(path)
        };
        // A read that notes its time in the inode waits for the file system's journal: on a drive
        // that hangs it would hold up the reader's whole thread, which serves other drives too.
        let open_unnoted = || match open(libc::O_NOATIME) {
            // Somebody else's file.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => open(0),
            opened => opened,
        };
        let file = lock::open_exclusive(&mut || open_unnoted())
            .map_err(|source| open_error(path, is_device, source))?;
        lock::lock_exclusive(&file, path)?;
        check_alignment(&file, path)?;
        VolumeFile::from_file(file, path, Access::Direct, is_device)
    }

    /// Opens for tools: read only, not locked, any alignment. A running engine is not disturbed,
    /// and what is read may change meanwhile.
    pub fn open_read_only(path: &Path) -> Result<VolumeFile, VolumeError> {
        let is_device = kind_is_device(path)?;
        let file = File::open(path).map_err(|source| open_error(path, is_device, source))?;
        VolumeFile::from_file(file, path, Access::ReadOnly, is_device)
    }

    fn from_file(
        mut file: File,
        path: &Path,
        access: Access,
        is_device: bool,
    ) -> Result<VolumeFile, VolumeError> {
        // Metadata of a block device says 0: its size is where its end is.
        let len = file.seek(SeekFrom::End(0)).map_err(|e| VolumeError::io("size", path, e))?;
        let path = path.to_path_buf();
        let read_slots = Arc::new(Semaphore::new(READS_PER_DRIVE_MAX));
        Ok(VolumeFile { file, path, len, access, is_device, read_slots })
    }

    /// Creates a volume file of `len` bytes whose extents are all written: see
    /// [`create_with`](Self::create_with).
    pub fn create_preallocated(
        path: &Path,
        len: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), VolumeError> {
        create::create_with(path, len, &[], progress)
    }

    /// Creates a volume file of `len` zero bytes with `first` (offset and bytes) written into it,
    /// then makes it appear under `path`: whole, durable, or not at all. `progress` hears bytes
    /// done and bytes wanted. An existing file is never replaced.
    ///
    /// Written, not only allocated, extents make later overwrites cheap to flush.
    pub fn create_with(
        path: &Path,
        len: u64,
        first: &[(u64, &[u8])],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), VolumeError> {
        create::create_with(path, len, first, progress)
    }

    /// Writes `first` (offset and bytes, whole drive blocks) onto a block device, durably, and
    /// nothing else: a device needs no allocation, and what an earlier store left on it carries
    /// other checksums. Fails when the device is mounted or in use.
    pub fn prepare_device(path: &Path, first: &[(u64, &[u8])]) -> Result<(), VolumeError> {
        let volume = VolumeFile::open_direct(path)?;
        if !volume.is_device {
            return Err(VolumeError::Exists { path: path.into() });
        }
        let written = first.iter().try_for_each(|(offset, bytes)| volume.write_at(bytes, *offset));
        let written = written.and_then(|()| volume.sync());
        written.map_err(|source| VolumeError::io("write", path, source))
    }

    /// The process that has this volume open for writing, as far as the kernel tells. For tools
    /// that opened it read-only.
    pub fn holder_pid(&self) -> Option<u32> {
        lock::holder_pid(&self.file)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in the file or device, as of the opening.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True for a file of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True for a block device.
    pub fn is_device(&self) -> bool {
        self.is_device
    }

    /// Fills `buf` from `offset`, or fails with [`io::ErrorKind::UnexpectedEof`]. Blocking. Any
    /// alignment: unaligned direct reads go through a buffer.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if self.access == Access::ReadOnly || is_aligned(buf, offset) {
            return self.file.read_exact_at(buf, offset);
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let skip = (at % BLOCK as u64) as usize;
            let wanted = (buf.len() - done).min(BOUNCE_LEN - skip);
            let mut bounce = AlignedBuf::zeroed(round_up_to_block(skip + wanted));
            self.file.read_exact_at(&mut bounce, at - skip as u64)?;
            buf[done..done + wanted].copy_from_slice(&bounce[skip..skip + wanted]);
            done += wanted;
        }
        Ok(())
    }

    /// Writes `bytes` at `offset`, both in whole drive blocks; the memory may lie anywhere.
    /// Blocking. Durable only after [`sync`](Self::sync).
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let whole = bytes.len().is_multiple_of(BLOCK) && offset.is_multiple_of(BLOCK as u64);
        if !whole {
            let text = format!("write of {} bytes at {offset}: not whole blocks", bytes.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if is_aligned(bytes, offset) {
            return self.file.write_all_at(bytes, offset);
        }
        for (index, part) in bytes.chunks(BOUNCE_LEN).enumerate() {
            let at = offset + (index * BOUNCE_LEN) as u64;
            self.file.write_all_at(&AlignedBuf::padded_from(part), at)?;
        }
        Ok(())
    }

    /// Waits until everything written is durable (fdatasync).
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Reads of the data path that have their turn at the drive now.
    pub fn reads_in_flight(&self) -> usize {
        READS_PER_DRIVE_MAX - self.read_slots.available_permits()
    }

    /// A turn at the drive for one read, first come first served.
    pub(crate) async fn read_slot(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.read_slots).acquire_owned().await.expect("never closed")
    }
}

impl AsRawFd for VolumeFile {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl fmt::Debug for VolumeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VolumeFile({}, {} bytes, {:?})", self.path.display(), self.len, self.access)
    }
}

fn is_aligned(bytes: &[u8], offset: u64) -> bool {
    bytes.as_ptr().addr().is_multiple_of(BLOCK)
        && bytes.len().is_multiple_of(BLOCK)
        && offset.is_multiple_of(BLOCK as u64)
}

fn kind_is_device(path: &Path) -> Result<bool, VolumeError> {
    let metadata = path.metadata().map_err(|source| open_error(path, false, source))?;
    let kind = metadata.file_type();
    if kind.is_block_device() {
        return Ok(true);
    }
    if kind.is_file() { Ok(false) } else { Err(VolumeError::NotAVolume { path: path.into() }) }
}

fn open_error(path: &Path, is_device: bool, source: io::Error) -> VolumeError {
    let path = path.to_path_buf();
    match source.raw_os_error() {
        Some(libc::EINVAL) => VolumeError::NoDirectIo { path },
        Some(libc::EBUSY) if is_device => VolumeError::DeviceBusy { path },
        _ => VolumeError::Open { path, source },
    }
}

/// Refuses a file whose direct transfers need more than 4096-byte alignment, or that takes none.
pub(crate) fn check_alignment(file: &File, path: &Path) -> Result<(), VolumeError> {
    let Some((memory, offset)) = direct_alignment(file) else { return Ok(()) };
    if memory == 0 || offset == 0 {
        return Err(VolumeError::NoDirectIo { path: path.into() });
    }
    if memory as usize > BLOCK || offset as usize > BLOCK {
        return Err(VolumeError::Alignment { path: path.into(), memory, offset });
    }
    Ok(())
}

/// What the file demands of memory addresses and of offsets, in bytes; 0 means direct transfers
/// are not taken. `None` before Linux 6.1 and on file systems that do not say.
pub(crate) fn direct_alignment(file: &File) -> Option<(u32, u32)> {
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is an empty C string, which AT_EMPTY_PATH allows; `stat` is writable and
    // of the size the kernel fills.
    let status = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            stat.as_mut_ptr(),
        )
    };
    if status != 0 {
        return None;
    }
    // SAFETY: all-zero bytes are a valid statx (integers only), and the kernel filled in more.
    let stat = unsafe { stat.assume_init() };
    let told = stat.stx_mask & libc::STATX_DIOALIGN != 0;
    told.then_some((stat.stx_dio_mem_align, stat.stx_dio_offset_align))
}
