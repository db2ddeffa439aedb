//! Footer tables, taken apart by whichever thread has time: most of the work of a recovery.
//!
//! Invariant: a table goes into an `IndexBuilder` of its own thread and says how it ended; which
//! thread that was, and when, makes no difference to the index.

use crate::directory::{Location, entry_of};
use crate::index::IndexBuilder;
use tapeloop_format::{
    FooterEntries, FooterTable, FooterTrailer, FormatError, KillList, StoreGeometry, StoreId,
};

/// A footer table that has been read, and all there is to know for taking it apart.
#[derive(Clone, Debug)]
pub struct TableWork {
    pub(crate) store_id: StoreId,
    pub(crate) geometry: StoreGeometry,
    pub(crate) zone: u32,
    pub(crate) trailer: FooterTrailer,
    pub(crate) table: FooterTable,
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
    /// Adds what the table lists. After a fault a part of it may have been added: the records that
    /// are then read one by one say the same.
    pub fn run(&self, bytes: &[u8], into: &mut IndexBuilder) -> Result<(), TableFault> {
        let table = self.trailer.verify_table(&self.store_id, self.table, bytes);
        let table = table.map_err(TableFault::Damaged)?;
        match self.table {
            FooterTable::Entries => self.add_entries(table, into),
            FooterTable::Kills => {
                for kill in KillList::new(table).expect("the trailer counts whole kills") {
                    into.add_kill(kill.key_hash, kill.lsn);
                }
                Ok(())
            }
            FooterTable::Keys => unreachable!("a recovery reads no keys"),
        }
    }

    fn add_entries(&self, table: &[u8], into: &mut IndexBuilder) -> Result<(), TableFault> {
        for entry in FooterEntries::new(table).expect("the trailer counts whole entries") {
            let entry = entry.map_err(|_| TableFault::Impossible)?;
            let end = entry.offset() + entry.shape().record_len as u64;
            if end > self.geometry.zone_size() {
                return Err(TableFault::Impossible);
            }
            let (zone, lap) = (self.zone, self.trailer.lap);
            let (offset, len) = (entry.offset(), entry.payload_len);
            let location = Location { zone, lap, offset, len };
            into.add_version(entry.key_hash, entry.lsn, entry_of(&self.geometry, &location));
        }
        Ok(())
    }
}
