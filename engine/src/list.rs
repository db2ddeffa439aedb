//! Listing keys by prefix. The index holds hashes, so the names come from the drive: from the key
//! tables of footers, and for open zones from the log. Memory: one zone's footer tables, and
//! `limit` entries.

use crate::engine::{Engine, Shared};
use crate::error::ReadError;
use crate::patience;
use crate::read::READ_TIMEOUT_MS;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;
use tapeloop_format::{
    BLOCK, FooterEntries, FooterTable, FooterTrailer, FormatError, Key, TableSpan,
};
use tapeloop_log::Location;

/// One listed object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// The key.
    pub key: Key,
    /// Payload length in bytes.
    pub len: u64,
    /// Store time at which it expires; up to a second late.
    pub expires_ms: u64,
    pub(crate) location: Location,
}

impl ListEntry {
    pub(crate) fn new(key: &[u8], location: Location, expires_ms: u64) -> ListEntry {
        let key = Key::new(key).expect("the log holds valid keys only");
        ListEntry { key, len: u64::from(location.len), expires_ms, location }
    }
}

/// The first `limit` entries in key order.
struct Page {
    entries: BTreeMap<Box<[u8]>, ListEntry>,
    limit: usize,
}

impl Page {
    fn offer(&mut self, shared: &Shared, entry: ListEntry) {
        let key = entry.key.as_bytes();
        let full = self.entries.len() >= self.limit;
        if full && self.entries.last_key_value().is_some_and(|(last, _)| **last <= *key) {
            return;
        }
        let hash = shared.hasher.hash(key);
        let current = shared.directory.is_current(&hash, &entry.location);
        if !current || entry.expires_ms <= shared.now_ms() {
            return;
        }
        self.entries.insert(key.into(), entry);
        if self.entries.len() > self.limit {
            self.entries.pop_last();
        }
    }
}

impl Engine {
    /// The first `limit` keys that start with `prefix` and come after `after`, in order. Blocking:
    /// reads the key tables of all sealed zones.
    pub fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<ListEntry>, ReadError> {
        let shared = &self.shared;
        let mut page = Page { entries: BTreeMap::new(), limit };
        if limit == 0 {
            return Ok(Vec::new());
        }
        // Open zones first: a zone sealed meanwhile is met again among the sealed ones.
        let wanted = |key: &[u8]| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        for entry in shared.hub.list_open(wanted) {
            page.offer(shared, entry);
        }
        for zone in 0..shared.geometry.zone_count() {
            if let Some(lap) = shared.directory.servable_lap(zone) {
                list_zone(shared, zone, lap, prefix, after, &mut page)?;
            }
        }
        Ok(page.entries.into_values().collect())
    }
}

fn list_zone(
    shared: &Shared,
    zone: u32,
    lap: u64,
    prefix: &[u8],
    after: Option<&[u8]>,
    page: &mut Page,
) -> Result<(), ReadError> {
    let last = shared.geometry.zone_size() - BLOCK as u64;
    let block = read(shared, zone, last, BLOCK)?;
    // No footer, or one of another lap: the zone is open, and its keys came from the log.
    let Ok(trailer) = FooterTrailer::decode(&block, &shared.store_id) else { return Ok(()) };
    if trailer.expect(zone, lap, shared.geometry.zone_size()).is_err() || trailer.entry_count == 0 {
        return Ok(());
    }
    let read_span = |span: TableSpan| read(shared, zone, span.offset, span.padded_len);
    let entries = read_span(trailer.table(FooterTable::Entries))?;
    let keys = read_span(trailer.table(FooterTable::Keys))?;
    let verified = verify(shared, &trailer, &entries, &keys);
    let (entries, keys) = match verified {
        Ok(tables) => tables,
        Err(_) if !shared.directory.is_servable(zone, lap) => return Ok(()),
        Err(error) => {
            return Err(damaged(shared, &trailer, error));
        }
    };
    for pair in entries.with_keys(keys) {
        let (entry, key) = pair.map_err(|error| damaged(shared, &trailer, error))?;
        if key.starts_with(prefix) && after.is_none_or(|after| key > after) {
            let location = Location { zone, lap, offset: entry.offset(), len: entry.payload_len };
            let expires_ms = entry.expires_ms(trailer.opened_store_ms);
            page.offer(shared, ListEntry::new(key, location, expires_ms));
        }
    }
    Ok(())
}

fn verify<'a>(
    shared: &Shared,
    trailer: &FooterTrailer,
    entries: &'a [u8],
    keys: &'a [u8],
) -> Result<(FooterEntries<'a>, &'a [u8]), FormatError> {
    let entries = trailer.verify_table(&shared.store_id, FooterTable::Entries, entries)?;
    let keys = trailer.verify_table(&shared.store_id, FooterTable::Keys, keys)?;
    Ok((FooterEntries::new(entries)?, keys))
}

fn damaged(shared: &Shared, trailer: &FooterTrailer, error: FormatError) -> ReadError {
    let (zone, offset) = (trailer.zone, trailer.footer_offset());
    ReadError::Damaged { volume: shared.geometry.volume_of(zone), zone, offset, error }
}

/// Reads part of a zone, and does not wait for a drive that hangs.
fn read(shared: &Shared, zone: u32, offset: u64, len: usize) -> Result<Vec<u8>, ReadError> {
    let volume = shared.geometry.volume_of(zone);
    let drive = &shared.hub.drives[usize::from(volume)];
    let Some(file) = drive.file().cloned() else { return Err(ReadError::Recycled) };
    if let Some(waited_ms) = drive.hung_ms() {
        return Err(ReadError::Stalled { volume, waited_ms });
    }
    let start = shared.geometry.zone_offset(zone) + offset;
    let read = move || {
        let mut bytes = vec![0; len];
        file.read_at(&mut bytes, start).map(|()| bytes)
    };
    let done = patience::within(Duration::from_millis(READ_TIMEOUT_MS), read);
    if done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
        drive.lose_read(READ_TIMEOUT_MS);
        return Err(ReadError::Stalled { volume, waited_ms: READ_TIMEOUT_MS });
    }
    done.flatten().map_err(|error| {
        let message = error.to_string();
        ReadError::Io { volume, zone, offset, message }
    })
}
