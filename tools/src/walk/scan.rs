//! The records of one zone, in order.
//!
//! Records lie one behind the other. Where one cannot be read the scan goes on at the next block
//! that holds a valid record of the same lap: one bad header never hides what lies behind it.

use tapeloop_format::{BLOCK, RECORD_HEADER_LEN_MAX, RecordHeader, Salt, round_up};

use super::fault::Fault;
use super::footer::{Footer, ListedPut};
use super::mend::{Mended, Place, claim, mend};
use super::reader::ZoneReader;
use super::volume::Volume;
use super::zone::{ZoneState, ZoneView};

/// What lies at an offset of the zone.
#[derive(Debug)]
pub(crate) enum Found {
    /// A valid header.
    Record { offset: u64, header: RecordHeader },
    /// A header with one bit flipped, as it was.
    Mended { offset: u64, mended: Mended, fault: Fault },
    /// Blocks that should hold a record and do not.
    Unreadable(Unreadable),
}

/// A place that should hold a record.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) fault: Fault,
    /// What the footer says of the place.
    pub(crate) listed: Option<ListedPut>,
    /// No record here can have a larger LSN: the one behind it, or what the bytes themselves claim.
    pub(crate) lsn_max: Option<u64>,
}

/// A scan of one zone.
#[derive(Debug)]
pub(crate) struct RecordScan<'f> {
    salt: Salt,
    zone: u32,
    lap: u64,
    base_position: u64,
    footer: &'f Footer,
    is_sealed: bool,
    durable_len: u64,
    counted_len: u64,
    incarnation_min: u64,
    offset: u64,
    end: u64,
}

impl<'f> RecordScan<'f> {
    /// None for a zone that holds no records or whose lap is not known.
    pub(crate) fn new(
        volume: &Volume,
        view: &ZoneView,
        footer: &'f Footer,
    ) -> Option<RecordScan<'f>> {
        let header = view.header.filter(|_| view.state != ZoneState::GivenUp)?;
        let end = match &view.trailer {
            Some(trailer) => trailer.used_len,
            None => volume.zone_size() - BLOCK as u64,
        };
        Some(RecordScan {
            salt: volume.salt(),
            zone: view.zone,
            lap: header.lap,
            base_position: header.base_position,
            footer,
            is_sealed: view.state == ZoneState::Sealed,
            durable_len: view.durable_len,
            counted_len: view.counted_len,
            incarnation_min: view.incarnation_min,
            offset: BLOCK as u64,
            end,
        })
    }

    /// The next place, until the zone's data ends.
    pub(crate) fn next(&mut self, reader: &mut ZoneReader<'_>) -> Option<Found> {
        if self.offset >= self.end {
            return None;
        }
        let offset = self.offset;
        let fault = match self.record_at(reader, offset) {
            Ok(header) => {
                self.pass(offset, &header);
                return Some(Found::Record { offset, header });
            }
            Err(fault) => fault,
        };
        if let Some(mended) = self.mend_at(reader, offset) {
            self.pass(offset, &mended.header);
            return Some(Found::Mended { offset, mended, fault });
        }
        self.unreadable(reader, offset, fault)
    }

    fn pass(&mut self, offset: u64, header: &RecordHeader) {
        self.offset = offset + header.shape().record_len as u64;
    }

    fn place(&self, offset: u64) -> Place {
        Place { zone: self.zone, lap: self.lap, position: self.base_position + offset }
    }

    fn record_at(&self, reader: &mut ZoneReader<'_>, offset: u64) -> Result<RecordHeader, Fault> {
        let header_len = RecordHeader::peek_len(reader.block(offset)?)?;
        let room = self.end + BLOCK as u64 - offset;
        if header_len as u64 > room {
            return Err(Fault::Overruns { len: header_len as u64 });
        }
        let header = RecordHeader::decode(reader.bytes(offset, header_len)?, self.salt)?;
        header.expect(self.zone, self.lap, self.base_position + offset)?;
        let len = header.shape().record_len as u64;
        if offset + len > self.end {
            return Err(Fault::Overruns { len });
        }
        if !self.is_current(offset, header.incarnation) {
            let (found, least) = (header.incarnation, self.incarnation_min);
            return Err(Fault::Incarnation { found, least });
        }
        Ok(header)
    }

    /// What an earlier process wrote behind the counted length was dropped when the store was
    /// opened again; what it left there is not a record any more.
    fn is_current(&self, offset: u64, incarnation: u64) -> bool {
        self.is_sealed || offset < self.counted_len || incarnation >= self.incarnation_min
    }

    fn mend_at(&self, reader: &mut ZoneReader<'_>, offset: u64) -> Option<Mended> {
        let most = round_up(RECORD_HEADER_LEN_MAX, BLOCK) as u64;
        let len = most.min(self.end + BLOCK as u64 - offset) as usize;
        let mended = mend(reader.bytes(offset, len).ok()?, self.salt, self.place(offset))?;
        let fits = offset + mended.header.shape().record_len as u64 <= self.end;
        (fits && self.is_current(offset, mended.header.incarnation)).then_some(mended)
    }

    fn unreadable(
        &mut self,
        reader: &mut ZoneReader<'_>,
        offset: u64,
        fault: Fault,
    ) -> Option<Found> {
        let claimed = reader.block(offset).ok().and_then(|block| claim(block, self.place(offset)));
        let claimed = claimed.filter(|claim| self.is_current(offset, claim.incarnation));
        if let Some(listed) = self.footer.put_at(offset) {
            let len = listed.entry.shape().record_len as u64;
            self.offset = offset + len;
            let (listed, lsn_max) = (Some(listed.clone()), Some(listed.entry.lsn));
            return Some(Found::Unreadable(Unreadable { offset, len, fault, listed, lsn_max }));
        }
        let (next, lsn_next) = self.resynchronise(reader, offset);
        self.offset = next.unwrap_or(self.end);
        let durable_end = if self.is_sealed { self.end } else { self.durable_len };
        let nothing_behind = next.is_none() && offset >= durable_end && claimed.is_none();
        if nothing_behind {
            return None;
        }
        let end = next.unwrap_or(durable_end.max(offset + BLOCK as u64));
        let lsn_max = lsn_next.map(|lsn| lsn - 1).or(claimed.map(|claim| claim.lsn));
        let len = end - offset;
        Some(Found::Unreadable(Unreadable { offset, len, fault, listed: None, lsn_max }))
    }

    /// The next offset that holds a record or should hold one, and the LSN of that record.
    fn resynchronise(&self, reader: &mut ZoneReader<'_>, from: u64) -> (Option<u64>, Option<u64>) {
        let listed = self.footer.next_offset(from);
        let mut offset = from + BLOCK as u64;
        while offset < self.end {
            if listed == Some(offset) {
                let lsn = self.footer.put_at(offset).map(|put| put.entry.lsn);
                return (Some(offset), lsn);
            }
            if let Ok(header) = self.record_at(reader, offset) {
                return (Some(offset), Some(header.lsn));
            }
            offset += BLOCK as u64;
        }
        (None, None)
    }
}
