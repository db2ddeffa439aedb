//! Reading records from the drive on the calling runtime's own ring.

use crate::ahead::ReadAhead;
use crate::chunks::OnDrive;
use crate::drive::Drive;
use crate::engine::Shared;
use crate::error::ReadError;
use crate::joined;
use std::cell::RefCell;
use std::future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tapeloop_format::{FormatError, KeyHash, StoreId};
use tapeloop_io::{DiskReader, ExpectedRead, ReadBuf, runtime};
use tapeloop_log::Location;
use tapeloop_log::read::{
    self as log_read, Find, FindStep, First, PayloadRead, Refusal, Verdict, ZoneRead,
};

/// A read that takes longer fails: the drive hangs.
pub(crate) const READ_TIMEOUT_MS: u64 = 4_500;

/// Reads of a drive that may be asked for, on each thread: of 256 KiB each, at half a gigabyte a
/// second, the last waits for half a second. What is in memory needs no drive, so overload is felt
/// here first, by those who read what is old.
pub(crate) const READS_WAITING_MAX: usize = 1024;

thread_local! {
    /// This thread's readers, one per open store. Emptied before the runtime ends: their
    /// descriptors belong to its ring.
    static READERS: RefCell<Vec<(StoreId, DiskReader)>> = const { RefCell::new(Vec::new()) };
}

/// Runs a future on this thread with a ring for sockets and disk reads; the engine's reads work
/// only inside.
pub fn block_on<F: Future>(entries: u32, future: F) -> io::Result<F::Output> {
    tapeloop_io::block_on(entries, async {
        let output = future.await;
        READERS.with_borrow_mut(Vec::clear);
        output
    })
}

fn reader(shared: &Shared) -> io::Result<DiskReader> {
    READERS.with_borrow_mut(|readers| {
        if let Some((_, reader)) = readers.iter().find(|(store, _)| *store == shared.store_id) {
            return Ok(reader.clone());
        }
        let files: Vec<_> = shared.hub.drives.iter().filter_map(Drive::file).cloned().collect();
        let reader = DiskReader::new(&files, shared.read_buffers)?;
        readers.push((shared.store_id, reader.clone()));
        Ok(reader)
    })
}

/// A read that goes on while nobody waits for it; given up when it is dropped.
pub(crate) type PendingRead = Pin<Box<dyn Future<Output = Result<ReadBuf, ReadError>>>>;

/// Begins to read part of a zone in its `lap`: it has its turn from now on.
pub(crate) async fn begin(shared: &Arc<Shared>, lap: u64, read: ZoneRead) -> PendingRead {
    let mut pending: PendingRead = Box::pin(zone(Arc::clone(shared), lap, read));
    match future::poll_fn(|cx| Poll::Ready(pending.as_mut().poll(cx))).await {
        Poll::Ready(done) => Box::pin(future::ready(done)),
        Poll::Pending => pending,
    }
}

/// Reads part of a zone in its `lap`, together with whoever wants the same at this moment.
pub(crate) async fn zone(
    shared: Arc<Shared>,
    lap: u64,
    read: ZoneRead,
) -> Result<ReadBuf, ReadError> {
    let ZoneRead { zone, offset, len } = read;
    let target = joined::Target { store: shared.store_id, zone, lap, offset, len };
    joined::read(target, || {
        // Counted from now on: the read itself begins a moment later.
        let expected = expect(&shared, read.zone);
        async move {
            let _expected = expected;
            from_drive(shared, read).await
        }
    })
    .await
}

/// A drive that hangs is not asked again until it has answered its appender: what it has keeps
/// memory and kernel threads until then.
async fn from_drive(shared: Arc<Shared>, read: ZoneRead) -> Result<ReadBuf, ReadError> {
    let ZoneRead { zone, offset, len } = read;
    let volume = shared.geometry.volume_of(zone);
    let failed = |error: io::Error| {
        let message = error.to_string();
        ReadError::Io { volume, zone, offset, message }
    };
    let drive = &shared.hub.drives[usize::from(volume)];
    // No entry of the index points to a volume that is not there.
    let Some(number) = drive.reader() else { return Err(ReadError::Recycled) };
    if let Some(waited_ms) = drive.hung_ms() {
        return Err(ReadError::Stalled { volume, waited_ms });
    }
    let reader = reader(&shared).map_err(failed)?;
    drive.count_read();
    let start = shared.geometry.zone_offset(zone) + offset;
    let waited = Duration::from_millis(READ_TIMEOUT_MS);
    match runtime::timeout(waited, reader.read(number, start, len)).await {
        Ok(result) => result.map_err(failed),
        Err(_) => {
            drive.lose_read(READ_TIMEOUT_MS);
            Err(ReadError::Stalled { volume, waited_ms: READ_TIMEOUT_MS })
        }
    }
}

fn expect(shared: &Shared, zone: u32) -> Option<ExpectedRead> {
    let drive = &shared.hub.drives[usize::from(shared.geometry.volume_of(zone))];
    Some(reader(shared).ok()?.expect_read(drive.reader()?))
}

/// Refuses a new reader while too many wait for the drive. Whoever has begun may finish.
fn admit(shared: &Shared, zone: u32) -> Result<(), ReadError> {
    let volume = shared.geometry.volume_of(zone);
    let drive = &shared.hub.drives[usize::from(volume)];
    // One that is not there, or hangs, is refused in other words.
    let (Some(number), None) = (drive.reader(), drive.hung_ms()) else { return Ok(()) };
    let waiting = reader(shared).map_or(0, |reader| reader.expected_reads(number));
    if waiting < READS_WAITING_MAX {
        return Ok(());
    }
    drive.count_shed();
    Err(ReadError::Overloaded { volume, waiting })
}

/// This thread's share of read buffers for a volume, while nobody waits for one of them and the
/// drive has fewer reads of this thread than that.
pub(crate) fn idle_share(shared: &Shared, volume: u16) -> Option<usize> {
    let number = shared.hub.drives[usize::from(volume)].reader()?;
    let reader = reader(shared).ok()?;
    let volumes = shared.hub.drives.iter().filter_map(Drive::reader).count();
    let share = shared.read_buffers / volumes;
    // One is for the read that was begun a moment ago, and may not have it yet.
    let is_idle = reader.pool().free_large() > 1 && reader.expected_reads(number) < share;
    is_idle.then_some(share)
}

/// Reads the first bytes of a record, and begins what is known to come next at the same time.
async fn first_with_next(
    shared: &Arc<Shared>,
    location: &Location,
    first: ZoneRead,
    next: Option<PayloadRead>,
) -> (Result<ReadBuf, ReadError>, Option<ReadAhead>) {
    let Some(next) = next else {
        return (zone(Arc::clone(shared), location.lap, first).await, None);
    };
    // In this order: buffers are given out in turn.
    let first = begin(shared, location.lap, first).await;
    let ahead = ReadAhead::begin(shared, location, next).await;
    (first.await, ahead)
}

/// Finds the record of `key` on the drive.
pub(crate) async fn find(
    shared: &Arc<Shared>,
    key: &[u8],
    hash: KeyHash,
    first: First,
) -> Result<Option<OnDrive>, ReadError> {
    let (directory, salt) = (&shared.directory, shared.store_id.salt());
    let mut find = Find::new(directory, hash, key, first);
    loop {
        let (location, read) = match find.step(directory) {
            FindStep::Read(location, read) => (location, read),
            FindStep::Absent => return Ok(None),
            FindStep::Recycled => return Err(ReadError::Recycled),
        };
        let mut first = first;
        admit(shared, read.zone)?;
        let next = log_read::second_read(directory, key.len(), &location, first);
        let (buf, mut ahead) = first_with_next(shared, &location, read, next).await;
        let buf = match buf {
            // It may reach into the next record: what cannot be read there is not this object's.
            Err(ReadError::Io { .. }) if first != First::Header => {
                first = First::Header;
                // Nobody waits for a buffer while holding one.
                ahead = None;
                let own = log_read::first_read(directory, key.len(), &location, first);
                zone(Arc::clone(shared), location.lap, own).await?
            }
            other => other?,
        };
        let fed = find.feed(directory, salt, shared.now_ms(), &location, &buf);
        if let Some(header) = fed.map_err(|error| damaged(shared, &location, error))? {
            let record = OnDrive::new(header, location, first, &buf);
            return Ok(Some(OnDrive { ahead, ..record }));
        }
    }
}

/// Reads the record of `key` that is known to lie at `location`.
pub(crate) async fn record(
    shared: &Arc<Shared>,
    location: Location,
    key: &[u8],
) -> Result<OnDrive, ReadError> {
    let (directory, salt) = (&shared.directory, shared.store_id.salt());
    let first = First::Header;
    let read = log_read::first_read(directory, key.len(), &location, first);
    let buf = zone(Arc::clone(shared), location.lap, read).await?;
    match log_read::judge(directory, salt, key, &location, &buf) {
        Verdict::Record(header) => Ok(OnDrive::new(header, location, first, &buf)),
        Verdict::OtherKey | Verdict::Moved => Err(ReadError::Recycled),
        Verdict::Damaged(error) => Err(damaged(shared, &location, error)),
    }
}

/// Bytes that are not given out, in the reader's words.
pub(crate) fn refused(shared: &Shared, location: &Location, refusal: Refusal) -> ReadError {
    match refusal {
        Refusal::Moved => ReadError::Recycled,
        Refusal::Damaged(error) => damaged(shared, location, error),
    }
}

fn damaged(shared: &Shared, location: &Location, error: FormatError) -> ReadError {
    let Location { zone, offset, .. } = *location;
    ReadError::Damaged { volume: shared.geometry.volume_of(zone), zone, offset, error }
}
