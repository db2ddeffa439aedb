//! Footer tables, taken apart by whichever thread has time: most of the work of a recovery.
//!
//! Invariant: a table goes into the one index builder and says how it ended; which thread that
//! was, and when, makes no difference to the index.

use crate::build::{Batch, IndexBuilder};
use crate::directory::{Location, entry_of};
use crate::index::IndexEntry;
use std::sync::Arc;
use tapeloop_format::{
    FooterEntries, FooterTable, FooterTrailer, FormatError, KillList, StoreGeometry, StoreId,
};

/// A footer table that has been read, and all there is to know for taking it apart.
pub struct TableWork {
    pub(crate) store_id: StoreId,
    pub(crate) geometry: StoreGeometry,
    pub(crate) zone: u32,
    pub(crate) trailer: FooterTrailer,
    pub(crate) table: FooterTable,
    pub(crate) builder: Arc<IndexBuilder>,
}

/// Why a table is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableFault {
    /// It is not what the trailer says.
    Damaged(FormatError),
    /// Its checksum holds, and one of its entries cannot be.
    Impossible,
}

impl TableWork {
    /// Adds what the table lists, or nothing if there is anything wrong with it.
    pub fn run(self, bytes: &[u8]) -> Result<(), TableFault> {
        let table = self.trailer.verify_table(&self.store_id, self.table, bytes);
        let table = table.map_err(TableFault::Damaged)?;
        let mut batch = Batch::default();
        match self.table {
            FooterTable::Entries => self.add_entries(table, &mut batch)?,
            FooterTable::Kills => {
                for kill in KillList::new(table).expect("the trailer counts whole kills") {
                    batch.add_kill(&kill.key_hash, kill.lsn);
                }
            }
            FooterTable::Keys => unreachable!("a recovery reads no keys"),
        }
        self.builder.add_all(&mut batch);
        Ok(())
    }

    fn add_entries(&self, table: &[u8], batch: &mut Batch) -> Result<(), TableFault> {
        let entries = FooterEntries::new(table).expect("the trailer counts whole entries");
        batch.reserve(entries.len());
        for entry in entries {
            let entry = entry.map_err(|_| TableFault::Impossible)?;
            let end = entry.offset() + entry.shape().record_len as u64;
            if end > self.geometry.zone_size() {
                return Err(TableFault::Impossible);
            }
            let (zone, lap) = (self.zone, self.trailer.lap);
            let (offset, len) = (entry.offset(), entry.payload_len);
            let IndexEntry { block, len, .. } =
                entry_of(&self.geometry, &Location { zone, lap, offset, len });
            batch.add_version(&entry.key_hash, entry.lsn, block, len);
        }
        Ok(())
    }
}
