//! Every version of every key, cheaply: from the footers of sealed zones and from the record
//! headers of open ones. Payloads are not read.

use tapeloop_format::{KeyHash, Kill, KillList, RecordHeader, RecordKind, Salt};

use super::footer::Footer;
use super::payload::{check_payload, payload};
use super::reader::{WINDOW_HEADERS, ZoneReader};
use super::scan::{Found, RecordScan};
use super::store::Store;
use super::zone::{ZoneState, ZoneView};

/// How a version came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionKind {
    Put,
    /// Every version below this LSN is dead: an overwrite, a deletion, or either carried on.
    Kill,
}

/// One version of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) kind: VersionKind,
    pub(crate) key_hash: KeyHash,
    pub(crate) lsn: u64,
    pub(crate) zone: u32,
    pub(crate) lap: u64,
    /// Offset of the record in its zone; of a kill, that of the zone's start.
    pub(crate) offset: u64,
}

/// Calls `visit` for every version in the store, as far as its volumes are here.
pub(crate) fn for_each_version(store: &Store, visit: &mut dyn FnMut(Version)) {
    for (_, journal) in store.journals() {
        for kill in journal.kills {
            let (kind, zone, lap, offset) = (VersionKind::Kill, kill.victim_zone, 0, 0);
            visit(Version { kind, key_hash: kill.key_hash, lsn: kill.lsn, zone, lap, offset });
        }
    }
    for (volume, zone) in store.zones() {
        let view = ZoneView::read(volume, zone);
        let footer = Footer::read(volume, &view);
        let version = |kind, key_hash, lsn, offset| Version {
            kind,
            key_hash,
            lsn,
            zone,
            lap: view.lap(),
            offset,
        };
        if view.state == ZoneState::Sealed && footer.is_usable() {
            for put in &footer.puts {
                let entry = &put.entry;
                visit(version(VersionKind::Put, entry.key_hash, entry.lsn, entry.offset()));
            }
            for kill in &footer.kills {
                visit(version(VersionKind::Kill, kill.key_hash, kill.lsn, 0));
            }
            continue;
        }
        let mut reader = ZoneReader::new(volume, zone, WINDOW_HEADERS);
        let Some(mut scan) = RecordScan::new(volume, &view, &footer) else { continue };
        while let Some(found) = scan.next(&mut reader) {
            let (offset, header, is_mended) = match found {
                Found::Record { offset, header } => (offset, header, false),
                Found::Mended { offset, mended, .. } => (offset, mended.header, true),
                Found::Unreadable(_) => continue,
            };
            if !counts(&mut reader, volume.salt(), &view, offset, &header) {
                continue;
            }
            if is_mended {
                // It cannot be read and kills nothing; nothing older stands in for it either.
                if header.kind == RecordKind::Put {
                    visit(version(VersionKind::Put, header.key_hash, header.lsn, offset));
                }
                continue;
            }
            for kill in header.kills() {
                visit(version(VersionKind::Kill, kill.key_hash, kill.lsn, offset));
            }
            match header.kind {
                RecordKind::Put => {
                    visit(version(VersionKind::Put, header.key_hash, header.lsn, offset));
                }
                RecordKind::Carry => {
                    for kill in carried(&mut reader, volume.salt(), offset, &header) {
                        visit(version(VersionKind::Kill, kill.key_hash, kill.lsn, offset));
                    }
                }
                RecordKind::Tombstone | RecordKind::Void => {}
            }
        }
    }
}

/// Header and payload are one write, which a crash may have torn anywhere: what is not known to be
/// durable counts only whole. In a sealed zone without a usable footer nothing is known.
fn counts(
    reader: &mut ZoneReader<'_>,
    salt: Salt,
    view: &ZoneView,
    offset: u64,
    header: &RecordHeader,
) -> bool {
    let is_durable = view.state == ZoneState::Open && offset < view.durable_len;
    is_durable || check_payload(reader, salt, offset, header).is_none()
}

/// The kills in a carry record; none of a damaged one.
fn carried(
    reader: &mut ZoneReader<'_>,
    salt: Salt,
    offset: u64,
    header: &RecordHeader,
) -> Vec<Kill> {
    if check_payload(reader, salt, offset, header).is_some() {
        return Vec::new();
    }
    let Ok(bytes) = payload(reader, offset, header) else { return Vec::new() };
    KillList::new(bytes).map(Iterator::collect).unwrap_or_default()
}
