//! Reading records from the drive on the calling runtime's own ring.

use crate::chunks::{OnDrive, READ_LEN};
use crate::engine::Shared;
use crate::error::ReadError;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tapeloop_format::{FormatError, METADATA_LEN_MAX, RecordHeader, RecordShape, StoreId};
use tapeloop_io::{DiskReader, ReadBuf};
use tapeloop_log::Location;

/// A read that takes longer fails: the drive hangs.
const READ_TIMEOUT_MS: u64 = 4_500;

/// How much of a record to read at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// The header only.
    Header,
    /// The header and the first 256 KiB of payload in one read.
    Payload,
}

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
        let volumes = std::slice::from_ref(&shared.volume);
        let reader = DiskReader::new(volumes, shared.read_buffers)?;
        readers.push((shared.store_id, reader.clone()));
        Ok(reader)
    })
}

/// Reads part of a zone.
pub(crate) async fn zone(
    shared: Arc<Shared>,
    location: Location,
    offset: u64,
    len: usize,
) -> Result<ReadBuf, ReadError> {
    let failed = |error: io::Error| ReadError::Io {
        zone: location.zone,
        offset,
        message: error.to_string(),
    };
    let reader = reader(&shared).map_err(failed)?;
    let start = shared.geometry.zone_offset(location.zone) + offset;
    let waited = Duration::from_millis(READ_TIMEOUT_MS);
    match tokio::time::timeout(waited, reader.read(0, start, len)).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(ReadError::Stalled { waited_ms: READ_TIMEOUT_MS }),
    }
}

/// What lies where the index pointed.
pub(crate) enum At {
    /// The key's record.
    Record(OnDrive),
    /// Another key's record: the index knows only 60 bits of a hash.
    OtherKey,
    /// Bytes of a later lap: the zone was reused since the index was asked.
    Moved,
}

/// Reads the record of `key` at `location`.
pub(crate) async fn record(
    shared: &Arc<Shared>,
    location: Location,
    key: &[u8],
    first: First,
) -> Result<At, ReadError> {
    // The metadata is not known yet: the longest decides how far the header may reach.
    let payload_len = u64::from(location.len);
    let longest = RecordShape::of(key.len(), METADATA_LEN_MAX, payload_len);
    let wanted = match first {
        First::Header => longest.header_blocks_len(),
        First::Payload => longest.record_len.min(longest.payload_offset + READ_LEN as usize),
    };
    let wanted = tapeloop_format::round_up(wanted, tapeloop_format::BLOCK);
    let room = shared.geometry.zone_size() - location.offset;
    let len = wanted.min(room as usize);
    let buf = zone(Arc::clone(shared), location, location.offset, len).await?;
    let header = match decode(shared, &location, &buf) {
        Ok(header) => header,
        Err(error) => {
            let moved = !shared.directory.is_servable(location.zone, location.lap);
            return if moved { Ok(At::Moved) } else { Err(damaged(&location, error)) };
        }
    };
    if *header.key != *key {
        return Ok(At::OtherKey);
    }
    let end = header.shape().record_len.min(buf.len());
    let first = (first == First::Payload || header.shape().is_inline()).then(|| buf.slice(0..end));
    Ok(At::Record(OnDrive { header: Rc::new(header), location, first }))
}

fn decode(shared: &Shared, location: &Location, bytes: &[u8]) -> Result<RecordHeader, FormatError> {
    let header = RecordHeader::decode(bytes, shared.store_id.salt())?;
    // Base positions are multiples of the zone size, so the offset is bound with zone and lap.
    let zone_size = shared.geometry.zone_size();
    let base = header.position - header.position % zone_size;
    header.expect(location.zone, location.lap, base + location.offset)?;
    Ok(header)
}

/// Bytes that do not verify: damage, or a zone reused under the reader.
pub(crate) fn unverified(shared: &Shared, location: &Location, error: FormatError) -> ReadError {
    match shared.directory.is_servable(location.zone, location.lap) {
        true => damaged(location, error),
        false => ReadError::Recycled,
    }
}

fn damaged(location: &Location, error: FormatError) -> ReadError {
    ReadError::Damaged { zone: location.zone, offset: location.offset, error }
}
