//! One zone: what in it is alive, from its footer if it is sealed, from the log while it is open,
//! and from the index when neither will tell.

use super::control::Halt;
use super::cycle::Cycle;
use super::drive;
use super::object::Listed;
use super::report::{ScrubFault, ScrubFinding, ScrubPart};
use super::window::Trouble;
use tapeloop_format::{BLOCK, FooterEntries, FooterTable, FooterTrailer, Key, KeyHash, ZoneHeader};
use tapeloop_io::clock;
use tapeloop_log::Location;

/// A lap of a zone under the scrub.
#[derive(Clone, Copy)]
pub(super) struct ZoneAt {
    pub(super) zone: u32,
    pub(super) lap: u64,
    /// Log position of its first byte, if header or footer told.
    pub(super) base_position: Option<u64>,
}

/// Where the keys of a footer lie, for naming.
#[derive(Clone, Copy)]
pub(super) struct KeyPlace {
    offset: u64,
    len: u16,
}

/// What was read of a footer.
#[derive(Default)]
struct Footer {
    /// The entry table, if it verifies.
    entries: Option<Vec<u8>>,
    /// What does not, and where it lies.
    faults: Vec<(u64, ScrubFault)>,
}

impl Cycle<'_> {
    pub(super) fn zone(&mut self, zone: u32) -> Result<(), Halt> {
        let Some(lap) = self.shared.directory.servable_lap(zone) else { return Ok(()) };
        self.window.forget();
        let mut at = ZoneAt { zone, lap, base_position: None };
        match self.zone_header(&at) {
            Ok(header) => at.base_position = Some(header.base_position),
            Err(Trouble::Halt(halt)) => return Err(halt),
            Err(Trouble::Fault(fault)) => {
                self.found_structure(&at, ScrubPart::ZoneHeader, 0, fault)
            }
        }
        match self.trailer(&at) {
            Ok(trailer) => self.sealed(&at, &trailer),
            Err(Trouble::Halt(halt)) => Err(halt),
            Err(Trouble::Fault(fault)) => self.without_footer(&at, fault),
        }
    }

    fn zone_header(&mut self, at: &ZoneAt) -> Result<ZoneHeader, Trouble> {
        let block = self.read(at.zone, 0, BLOCK)??;
        let header = ZoneHeader::decode(&block, &self.shared.store_id)?;
        header.expect(at.zone)?;
        match header.lap == at.lap {
            true => Ok(header),
            false => Err(ScrubFault::OtherRecord.into()),
        }
    }

    fn trailer(&mut self, at: &ZoneAt) -> Result<FooterTrailer, Trouble> {
        let zone_size = self.shared.geometry.zone_size();
        let block = self.read(at.zone, zone_size - BLOCK as u64, BLOCK)??;
        let trailer = FooterTrailer::decode(&block, &self.shared.store_id)?;
        trailer.expect(at.zone, at.lap, zone_size)?;
        Ok(trailer)
    }

    /// An open zone, unless its footer is damaged.
    fn without_footer(&mut self, at: &ZoneAt, fault: ScrubFault) -> Result<(), Halt> {
        if self.open(at)? {
            return Ok(());
        }
        // It may have been sealed since it was looked at.
        match self.trailer(at) {
            Ok(trailer) => return self.sealed(at, &trailer),
            Err(Trouble::Halt(halt)) => return Err(halt),
            Err(Trouble::Fault(_)) => {}
        }
        let places = self.shared.directory.objects_in(at.zone, at.lap);
        if places.is_empty() {
            return Ok(());
        }
        let last = self.shared.geometry.zone_size() - BLOCK as u64;
        self.found_structure(at, ScrubPart::Footer, last, fault);
        self.indexed(at, places)
    }

    /// False if the zone is not open in this lap.
    fn open(&mut self, at: &ZoneAt) -> Result<bool, Halt> {
        let Some(mut objects) = drive::open_objects(self.shared, at.zone) else { return Ok(false) };
        objects.retain(|object| object.location.lap == at.lap);
        objects.sort_unstable_by_key(|object| object.location.offset);
        for object in &objects {
            let Location { offset, len, .. } = object.location;
            let hash = Some(self.shared.hasher.hash(&object.key));
            let listed = Listed { hash, offset, len, expires_ms: object.expires_ms, lsn: None };
            self.object(at, &listed, |_| Ok(Some(object.key.clone())))?;
        }
        Ok(true)
    }

    fn sealed(&mut self, at: &ZoneAt, trailer: &FooterTrailer) -> Result<(), Halt> {
        let at = ZoneAt { base_position: Some(trailer.base_position), ..*at };
        let mut footer = self.footer(&at, trailer)?;
        if !footer.faults.is_empty() {
            // A footer on its way to the drive has its last block there before the others.
            if self.open(&at)? {
                return Ok(());
            }
            footer = self.footer(&at, trailer)?;
        }
        for (offset, fault) in footer.faults {
            self.found_structure(&at, ScrubPart::Footer, offset, fault);
        }
        let Some(entries) = footer.entries else {
            let places = self.shared.directory.objects_in(at.zone, at.lap);
            return self.indexed(&at, places);
        };
        let mut key_offset = trailer.table(FooterTable::Keys).offset;
        for entry in FooterEntries::new(&entries).into_iter().flatten() {
            // Whoever wrote a table whose checksum holds wrote valid entries.
            let Ok(entry) = entry else { continue };
            let key = KeyPlace { offset: key_offset, len: entry.key_len };
            key_offset += u64::from(entry.key_len);
            let listed = Listed {
                hash: Some(entry.key_hash),
                offset: entry.offset(),
                len: entry.payload_len,
                // Footers round up to a second; in its last one nobody needs it any more.
                expires_ms: entry.expires_ms(trailer.opened_store_ms).saturating_sub(999),
                lsn: Some(entry.lsn),
            };
            self.object(&at, &listed, |cycle| cycle.footer_key(&at, key, &entry.key_hash))?;
        }
        Ok(())
    }

    /// Reads and verifies all of a footer, and keeps what is needed of it.
    fn footer(&mut self, at: &ZoneAt, trailer: &FooterTrailer) -> Result<Footer, Halt> {
        let store_id = self.shared.store_id;
        let mut footer = Footer::default();
        for table in [FooterTable::Entries, FooterTable::Kills, FooterTable::Keys] {
            let span = trailer.table(table);
            let read = self.table(at.zone, span.offset, span.padded_len);
            let verified = read.and_then(|mut bytes| {
                let len = trailer.verify_table(&store_id, table, &bytes)?.len();
                bytes.truncate(len);
                Ok(bytes)
            });
            match verified {
                Ok(bytes) if table == FooterTable::Entries => footer.entries = Some(bytes),
                Ok(_) => {}
                Err(Trouble::Halt(halt)) => return Err(halt),
                Err(Trouble::Fault(fault)) => footer.faults.push((span.offset, fault)),
            }
        }
        Ok(footer)
    }

    /// What the index points at, when nothing on the drive lists it any more.
    fn indexed(&mut self, at: &ZoneAt, mut places: Vec<Location>) -> Result<(), Halt> {
        places.sort_unstable_by_key(|place| place.offset);
        for Location { offset, len, .. } in places {
            let listed = Listed { hash: None, offset, len, expires_ms: u64::MAX, lsn: None };
            self.object(at, &listed, |_| Ok(None))?;
        }
        Ok(())
    }

    /// The key as the footer has it, if it is still readable there.
    fn footer_key(
        &mut self,
        at: &ZoneAt,
        key: KeyPlace,
        hash: &KeyHash,
    ) -> Result<Option<Box<[u8]>>, Halt> {
        let end = key.offset + u64::from(key.len);
        if key.len == 0 || end > self.shared.geometry.zone_size() {
            return Ok(None);
        }
        match self.bytes(at.zone, key.offset, usize::from(key.len)) {
            Ok(bytes) => {
                let key = Box::from(bytes);
                Ok(Some(key).filter(|key| self.shared.hasher.hash(key) == *hash))
            }
            Err(Trouble::Fault(_)) => Ok(None),
            Err(Trouble::Halt(halt)) => Err(halt),
        }
    }

    /// Bytes of a later lap are not damage.
    fn found_structure(&mut self, at: &ZoneAt, part: ScrubPart, offset: u64, fault: ScrubFault) {
        if self.shared.directory.is_servable(at.zone, at.lap) {
            let finding = self.finding(at, part, offset, fault);
            self.found(finding);
        }
    }

    pub(super) fn finding(
        &self,
        at: &ZoneAt,
        part: ScrubPart,
        offset: u64,
        fault: ScrubFault,
    ) -> ScrubFinding {
        ScrubFinding {
            part,
            key: None,
            key_hash: None,
            volume: self.volume,
            zone: at.zone,
            lap: at.lap,
            offset,
            volume_offset: self.shared.geometry.zone_offset(at.zone) + offset,
            len: 0,
            expires_ms: u64::MAX,
            fault,
            found_wall_ms: clock::wall_ms(),
        }
    }

    pub(super) fn name(finding: &mut ScrubFinding, key: Option<Box<[u8]>>) {
        finding.key = key.and_then(|key| Key::new(key).ok());
    }
}
