//! Direct reads of volumes on the runtime's ring.
//!
//! A read that nobody waits for any more keeps its buffer and its turn at the drive until the
//! kernel is done with it: a drive that hangs gets no more reads than its share, however often its
//! readers give up.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;

use io_uring::opcode;
use io_uring::types::Fd;

use super::driver::{Held, count};
use super::in_flight::{InFlight, Unabandoned};
use super::pool::{Lease, PoolBuf, ReadBuf, ReadPool};
use crate::BLOCK;
use crate::appender_ring::ShortTransfer;
use crate::buffers::READ_BUF;
use crate::ring_setup;
use crate::volume::VolumeFile;

/// Reads one drive works on at once, over all runtimes. NVMe drives reach their throughput with
/// 256 KiB reads at a depth of 8 to 32 and with 4 KiB reads at about 64; what is queued deeper
/// adds only to everyone's tail, the appender's included.
pub const READS_PER_DRIVE_MAX: usize = 64;

/// Times a read is tried again after EAGAIN or EINTR.
const RETRIES_MAX: u8 = 8;

/// Reads volumes on this thread's ring. Clones share files and buffers.
#[derive(Clone)]
pub struct DiskReader {
    inner: Rc<Inner>,
}

struct Inner {
    drives: Vec<Rc<Drive>>,
    pool: ReadPool,
}

struct Drive {
    volume: Arc<VolumeFile>,
    expected: Cell<usize>,
}

/// A read that waits, or is under way.
pub struct ExpectedRead(Rc<Drive>);

impl Drop for ExpectedRead {
    fn drop(&mut self) {
        self.0.expected.set(self.0.expected.get() - 1);
    }
}

impl DiskReader {
    /// Call inside [`block_on`](super::block_on). `pool_buffers` is the count of large buffers,
    /// shared out evenly among the volumes.
    pub fn new(volumes: &[Arc<VolumeFile>], pool_buffers: usize) -> io::Result<DiskReader> {
        let drive = |volume: &Arc<VolumeFile>| {
            Rc::new(Drive { volume: Arc::clone(volume), expected: Cell::new(0) })
        };
        let drives = volumes.iter().map(drive).collect();
        let pool = ReadPool::new(pool_buffers, volumes.len())?;
        if volumes.len() > 1 {
            // Reads that the kernel cannot do inline wait for a drive in one of its worker
            // threads. One drive must never take them all; where the kernel says no, it can.
            let _ = ring_setup::allow_io_workers(volumes.len() * READS_PER_DRIVE_MAX);
        }
        Ok(DiskReader { inner: Rc::new(Inner { drives, pool }) })
    }

    /// The buffers, for gauges.
    pub fn pool(&self) -> &ReadPool {
        &self.inner.pool
    }

    /// Counts a read that is going to be asked for, until the guard is dropped.
    pub fn expect_read(&self, volume: u16) -> ExpectedRead {
        let drive = Rc::clone(&self.inner.drives[usize::from(volume)]);
        drive.expected.set(drive.expected.get() + 1);
        ExpectedRead(drive)
    }

    /// How many reads of a volume are counted now, on this thread.
    pub fn expected_reads(&self, volume: u16) -> usize {
        self.inner.drives[usize::from(volume)].expected.get()
    }

    /// Reads exactly `len` bytes at `offset`, both in whole drive blocks, `len` at most
    /// [`READ_BUF`]. Reads of up to 8 KiB use the small buffers. Waits for its turn at a buffer
    /// of the drive's share, then at the drive: nobody holds the drive while waiting for memory.
    pub async fn read(&self, volume: u16, offset: u64, len: usize) -> io::Result<ReadBuf> {
        assert!(len > 0 && len <= READ_BUF && len.is_multiple_of(BLOCK), "a read of {len} bytes");
        assert!(offset.is_multiple_of(BLOCK as u64), "a read at {offset}, not a block boundary");
        let drives = &self.inner.drives;
        let drive = drives.get(usize::from(volume)).ok_or_else(|| {
            let text = format!("volume {volume} of a reader with {}", drives.len());
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        let drive = Rc::clone(drive);
        let Lease { buf, turn } = self.inner.pool.get(usize::from(volume), len).await;
        let slot = drive.volume.read_slot().await;
        let in_flight = InFlight::begin();
        let read = async move {
            let read = read_exact(&drive, buf, offset, len).await;
            drop((slot, in_flight));
            read.map(|buf| ReadBuf::new(Lease { buf, turn }, len))
        };
        Unabandoned::new(read).await
    }
}

impl fmt::Debug for DiskReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskReader")
            .field("volumes", &self.inner.drives.len())
            .field("pool", &self.inner.pool)
            .finish()
    }
}

async fn read_exact(
    drive: &Rc<Drive>,
    buf: PoolBuf,
    offset: u64,
    len: usize,
) -> io::Result<PoolBuf> {
    let mut buf = buf;
    let mut done = 0;
    let mut retries_left = RETRIES_MAX;
    loop {
        let (result, back) = read_once(drive, buf, done..len, offset + done as u64).await;
        buf = back;
        match result {
            Ok(moved) if done + moved == len => return Ok(buf),
            Ok(moved) => {
                // Direct reads go on at block boundaries; less than a block is the file's end.
                let kept = moved - moved % BLOCK;
                if kept == 0 {
                    let moved = done + moved;
                    let short = ShortTransfer { kind: "read", offset, wanted: len, moved };
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, short));
                }
                done += kept;
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) if retries_left > 0 => retries_left -= 1,
                _ => return Err(error),
            },
        }
    }
}

/// What a read keeps in place: its buffer, and the drive, whose descriptor is open so long.
struct OnDrive(#[expect(dead_code, reason = "open for the kernel")] Rc<Drive>, PoolBuf);

impl Held for OnDrive {}

async fn read_once(
    drive: &Rc<Drive>,
    mut buf: PoolBuf,
    range: std::ops::Range<usize>,
    offset: u64,
) -> (io::Result<usize>, PoolBuf) {
    let fd = Fd(drive.volume.as_raw_fd());
    let number = buf.number();
    let room = &mut buf.bytes_mut()[range];
    let len = u32::try_from(room.len()).expect("a short read");
    let entry = match number {
        Some(number) => {
            opcode::ReadFixed::new(fd, room.as_mut_ptr(), len, number).offset(offset).build()
        }
        None => opcode::Read::new(fd, room.as_mut_ptr(), len).offset(offset).build(),
    };
    let held = OnDrive(Rc::clone(drive), buf);
    // SAFETY: an aligned buffer's memory stays where it is when the buffer is moved, and nobody
    // touches one that is held; the number is that of its registration, which its store keeps.
    let (result, OnDrive(_, buf)) = unsafe { super::driver().start(held, entry) }.await;
    (count(result), buf)
}
