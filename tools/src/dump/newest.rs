//! The newest version of every key under a prefix. Memory: one entry for each such key.
//!
//! Two passes over footers and headers: the first collects the keys, the second lets every version
//! and every kill of those keys, wherever it lies, have its say.

use std::collections::HashMap;

use tapeloop_format::{KeyHash, RecordHeader};

use crate::walk::{
    Fault, Footer, Found, RecordScan, Store, Version, VersionKind, WINDOW_HEADERS, ZoneReader,
    ZoneState, ZoneView, check_payload, for_each_version, payload,
};

/// Where the newest version of a key lies.
#[derive(Debug, Clone)]
pub(crate) struct Newest {
    pub(crate) key: Box<[u8]>,
    /// The largest LSN met, of a kill too.
    lsn: u64,
    put: Option<Version>,
}

impl Newest {
    /// The version that is served, unless it has expired or is damaged; None for a deleted key.
    pub(crate) fn version(&self) -> Option<&Version> {
        self.put.as_ref().filter(|put| put.lsn == self.lsn)
    }

    /// A damaged header still told the key, and nothing else is known of it.
    pub(crate) fn is_lost(&self) -> bool {
        self.lsn == 0
    }
}

/// Keys under `prefix` with their newest versions, in key order.
pub(crate) fn newest(store: &Store, prefix: &[u8]) -> Vec<Newest> {
    let mut keys: HashMap<KeyHash, Newest> = HashMap::new();
    for (volume, zone) in store.zones() {
        let view = ZoneView::read(volume, zone);
        let footer = Footer::read(volume, &view);
        let mut add = |key: &[u8], hash| {
            if key.starts_with(prefix) {
                keys.entry(hash).or_insert_with(|| Newest { key: key.into(), lsn: 0, put: None });
            }
        };
        if view.state == ZoneState::Sealed && footer.faults.is_empty() {
            for put in &footer.puts {
                add(put.key.as_deref().unwrap_or_default(), put.entry.key_hash);
            }
            continue;
        }
        let mut reader = ZoneReader::new(volume, zone, WINDOW_HEADERS);
        let Some(mut scan) = RecordScan::new(volume, &view, &footer) else { continue };
        while let Some(found) = scan.next(&mut reader) {
            match found {
                Found::Record { header, .. } if !header.key.is_empty() => {
                    add(&header.key, header.key_hash);
                }
                Found::Mended { mended, .. } if !mended.header.key.is_empty() => {
                    add(&mended.header.key, mended.header.key_hash);
                }
                _ => {}
            }
        }
    }
    for_each_version(store, &mut |version| {
        let Some(newest) = keys.get_mut(&version.key_hash) else { return };
        newest.lsn = newest.lsn.max(version.lsn);
        let is_put = version.kind == VersionKind::Put;
        if is_put && newest.put.is_none_or(|put| put.lsn < version.lsn) {
            newest.put = Some(version);
        }
    });
    let mut all: Vec<Newest> = keys.into_values().collect();
    all.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    all
}

/// Reads a version whole and verifies every byte of it.
pub(crate) fn read_object(
    store: &Store,
    key: &[u8],
    version: &Version,
) -> Result<(RecordHeader, Vec<u8>), String> {
    let volume = store.volume_of(version.zone).ok_or("its volume is missing")?;
    let said = |fault: Fault| fault.to_string();
    let mut reader = ZoneReader::new(volume, version.zone, WINDOW_HEADERS);
    let room = volume.zone_size() - version.offset;
    let block = reader.block(version.offset).map_err(said)?;
    let header_len = RecordHeader::peek_len(block).map_err(|error| error.to_string())?;
    if header_len as u64 > room {
        return Err(format!("a header of {header_len} bytes runs past the zone"));
    }
    let bytes = reader.bytes(version.offset, header_len).map_err(said)?;
    let header = RecordHeader::decode(bytes, volume.salt()).map_err(|error| error.to_string())?;
    if (header.zone, header.lap, header.lsn) != (version.zone, version.lap, version.lsn) {
        return Err(format!("LSN {} of lap {} lies there now", header.lsn, header.lap));
    }
    if *header.key != *key {
        return Err("another key lies there".to_owned());
    }
    if header.shape().record_len as u64 > room {
        return Err("it runs past the zone".to_owned());
    }
    if let Some((fault, _)) = check_payload(&mut reader, volume.salt(), version.offset, &header) {
        return Err(fault.to_string());
    }
    let payload = payload(&mut reader, version.offset, &header).map_err(said)?.to_vec();
    Ok((header, payload))
}
