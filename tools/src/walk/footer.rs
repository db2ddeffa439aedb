//! The tables of a sealed zone.

use tapeloop_format::{FooterEntries, FooterEntry, FooterTable, Kill, KillList};

use super::fault::Fault;
use super::volume::Volume;
use super::zone::ZoneView;

/// A put as the footer lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedPut {
    pub(crate) entry: FooterEntry,
    /// None when the key blob cannot be read.
    pub(crate) key: Option<Box<[u8]>>,
}

/// The readable tables of one footer and what is wrong with the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Footer {
    /// In order of offset.
    pub(crate) puts: Vec<ListedPut>,
    pub(crate) kills: Vec<Kill>,
    pub(crate) faults: Vec<(FooterTable, Fault)>,
}

impl Footer {
    /// Reads the tables that the zone's trailer names; nothing if it has none.
    pub(crate) fn read(volume: &Volume, view: &ZoneView) -> Footer {
        let mut footer = Footer::default();
        let Some(trailer) = &view.trailer else { return footer };
        let table = |which: FooterTable| -> Result<Vec<u8>, Fault> {
            let span = trailer.table(which);
            let mut bytes = vec![0; span.padded_len];
            if span.padded_len > 0 {
                volume.read(volume.zone_offset(view.zone) + span.offset, &mut bytes)?;
            }
            let len = trailer.verify_table(volume.store_id(), which, &bytes)?.len();
            bytes.truncate(len);
            Ok(bytes)
        };
        let mut readable = |which: FooterTable| match table(which) {
            Ok(bytes) => Some(bytes),
            Err(fault) => {
                footer.faults.push((which, fault));
                None
            }
        };
        let entries = readable(FooterTable::Entries);
        let kills = readable(FooterTable::Kills);
        let keys = readable(FooterTable::Keys);
        if let Some(bytes) = kills {
            match KillList::new(&bytes) {
                Ok(kills) => footer.kills = kills.collect(),
                Err(error) => footer.faults.push((FooterTable::Kills, error.into())),
            }
        }
        if let Some(entries) = entries {
            footer.list(&entries, keys.as_deref());
        }
        footer
    }

    fn list(&mut self, entries: &[u8], mut keys: Option<&[u8]>) {
        let parsed = FooterEntries::new(entries).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries: Vec<FooterEntry> = match parsed {
            Ok(entries) => entries,
            Err(error) => return self.faults.push((FooterTable::Entries, error.into())),
        };
        for entry in entries {
            let split = keys.and_then(|rest| rest.split_at_checked(usize::from(entry.key_len)));
            keys = split.map(|(_, rest)| rest);
            self.puts.push(ListedPut { entry, key: split.map(|(key, _)| key.into()) });
        }
        self.puts.sort_by_key(|put| put.entry.offset_blocks);
    }

    /// Do entries and kills verify? They decide; keys are for listings only.
    pub(crate) fn is_usable(&self) -> bool {
        self.faults.iter().all(|(table, _)| *table == FooterTable::Keys)
    }

    /// The put listed at this offset of the zone.
    pub(crate) fn put_at(&self, offset: u64) -> Option<&ListedPut> {
        let found = self.puts.binary_search_by_key(&offset, |put| put.entry.offset());
        found.ok().map(|index| &self.puts[index])
    }

    /// Offset of the first listed put behind `offset`.
    pub(crate) fn next_offset(&self, offset: u64) -> Option<u64> {
        let behind = self.puts.partition_point(|put| put.entry.offset() <= offset);
        self.puts.get(behind).map(|put| put.entry.offset())
    }
}
