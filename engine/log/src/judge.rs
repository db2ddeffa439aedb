//! What recovery makes of one zone: sealed, open, unused, damaged or given up, from both its ends;
//! then its footer, or a scan.
//!
//! Invariant: what lies below the base position that the newest checkpoint gives up for a volume is
//! never read for objects or kills: the store went on without it. Only its laps are taken note of,
//! so that the zone's next lap is a new one.

use crate::directory::{Location, entry_of};
use crate::index::IndexEntry;
use crate::recover::{Recovery, Wanted, decode};
use crate::report::Finding;
use crate::scan::Scan;
use crate::tables::{TableFault, TableWork};
use crate::zone::{Kills, Zone, ZoneState};
use std::sync::Arc;
use tapeloop_format::{
    BLOCK, ClassId, FooterTable, FooterTrailer, FormatError, KeyHash, RecordHeader, Structure,
    ZoneHeader, ZoneLap,
};

#[derive(Default)]
pub(crate) struct ZoneFacts {
    pub(crate) header: Option<Result<ZoneHeader, FormatError>>,
    pub(crate) trailer: Option<Result<FooterTrailer, FormatError>>,
    /// What is wrong with the header, while the first record is asked.
    error: Option<FormatError>,
}

impl Recovery {
    /// Does what lies there count?
    pub(crate) fn counts(&self, volume: u16, base_position: u64) -> bool {
        let given_up = self.checkpoint.as_ref().map(|mark| mark.given_up[usize::from(volume)]);
        base_position >= given_up.unwrap_or(0) || planted!(Bug::ReturnGivenUp)
    }

    /// The volume was away, and the store went on without it: the zone is free, whatever it holds.
    fn give_up_zone(&mut self, zone: u32, lap: u64, base_position: u64) {
        self.report.zones_given_up += 1;
        self.zones[zone as usize] = Zone { lap, base_position, ..Zone::unused() };
    }

    /// Both ends of a zone are known: sealed, open, unused or damaged?
    pub(crate) fn judge_zone(&mut self, zone: u32) {
        let facts = &mut self.facts[zone as usize];
        let (Some(header), Some(trailer)) = (&facts.header, &facts.trailer) else { return };
        let (header, trailer) = (header.clone(), trailer.clone());
        if let Ok(header) = &header {
            self.incarnation_max = self.incarnation_max.max(header.incarnation);
        }
        let volume = self.geometry.volume_of(zone);
        match (header, trailer) {
            (Ok(header), trailer) if !self.counts(volume, header.base_position) => {
                // A header that was lost on its way left an older one: its lap is used up too.
                let lap = trailer.map_or(header.lap, |trailer| trailer.lap.max(header.lap));
                self.give_up_zone(zone, lap, header.base_position);
            }
            (Ok(header), Ok(trailer)) if trailer.lap == header.lap => {
                self.sealed_zone(zone, trailer);
            }
            (Ok(header), Ok(trailer)) if trailer.lap < header.lap => {
                let error = trailer.expect(zone, header.lap, trailer.zone_size);
                self.open_zone(header, error.expect_err("another lap"));
            }
            (Ok(header), Err(error)) => self.open_zone(header, error),
            (Ok(header), Ok(trailer)) => {
                let (expected, found) = (trailer.lap, header.lap);
                let what = Structure::ZoneHeader;
                let error = FormatError::Misplaced { what, field: "lap", expected, found };
                self.find(Finding::ZoneHeader { zone, error });
                self.sealed_zone(zone, trailer);
            }
            // The trailer may be of an earlier lap: the first record tells.
            (Err(error), _) => {
                self.facts[zone as usize].error = Some(error);
                self.want_zone(Wanted::FirstRecord(zone), zone, BLOCK as u64, BLOCK);
            }
        }
    }

    /// A header that was being written for the first time has no record behind it, and a zone that
    /// was never opened has none. A header that was damaged or lost has, and the record knows most
    /// of what it said. With a trailer of that lap, or of a later one, the zone is sealed.
    pub(crate) fn first_record_read(&mut self, zone: u32, bytes: Option<&[u8]>) {
        let facts = &mut self.facts[zone as usize];
        let error = facts.error.take().expect("why the record is asked");
        let trailer = facts.trailer.clone().and_then(Result::ok);
        let record = decode(bytes, |bytes| RecordHeader::decode(bytes, self.store_id.salt()));
        let first = BLOCK as u64;
        let is_first = |record: &RecordHeader| {
            record.zone == zone && record.position % self.geometry.zone_size() == first
        };
        // What belongs elsewhere says nothing of where this zone began.
        let record = record.ok().filter(is_first);
        if let Some(trailer) = trailer
            && record.as_ref().is_none_or(|record| record.lap <= trailer.lap)
        {
            return self.headless_sealed_zone(zone, trailer, error);
        }
        if bytes.is_none() {
            // The drive says nothing about the zone: it is left alone.
            self.zones[zone as usize] = Zone::unknown();
            return;
        }
        let Some(record) = record else {
            if matches!(error, FormatError::Blank { .. }) {
                return; // Never opened.
            }
            self.unknown_laps.push(zone);
            self.report.torn_dropped += 1;
            return;
        };
        let base_position = record.position.saturating_sub(BLOCK as u64);
        if !self.counts(self.geometry.volume_of(zone), base_position) {
            return self.give_up_zone(zone, record.lap, base_position);
        }
        self.find(Finding::ZoneHeader { zone, error: error.clone() });
        let life_ms = record.expires_ms.saturating_sub(record.stored_ms);
        let header = ZoneHeader {
            zone,
            lap: record.lap,
            base_position,
            class: ClassId { bucket: ClassId::ttl_bucket(life_ms), group: 0 },
            opened_store_ms: record.stored_ms,
            incarnation: record.incarnation,
        };
        self.open_zone(header, error);
        self.scans.get_mut(&zone).expect("just started").closing = true;
    }

    fn headless_sealed_zone(&mut self, zone: u32, trailer: FooterTrailer, error: FormatError) {
        if !self.counts(self.geometry.volume_of(zone), trailer.base_position) {
            return self.give_up_zone(zone, trailer.lap, trailer.base_position);
        }
        // Torn when the zone was about to be reused; if not, nothing is lost with it either.
        match error {
            FormatError::Checksum { .. } => self.report.torn_dropped += 1,
            error => self.find(Finding::ZoneHeader { zone, error }),
        }
        self.sealed_zone(zone, trailer);
    }

    fn sealed_zone(&mut self, zone: u32, trailer: FooterTrailer) {
        self.report.zones_sealed += 1;
        self.seen_ms = self.seen_ms.max(trailer.sealed_store_ms);
        self.lsn_max = self.lsn_max.max(trailer.lsn_last);
        self.zones[zone as usize] = Zone {
            state: ZoneState::Sealed,
            lap: trailer.lap,
            class: trailer.class,
            base_position: trailer.base_position,
            opened_ms: trailer.opened_store_ms,
            max_expires_ms: trailer.expires_ms_max,
            used_len: trailer.used_len,
            record_count: trailer.entry_count,
            kills: Kills::of_footer(&trailer),
            bad: false,
            put_back_at: None,
        };
        self.builder().announce(u64::from(trailer.entry_count) + u64::from(trailer.kill_count));
        for table in [FooterTable::Entries, FooterTable::Kills] {
            let place = trailer.table(table);
            if place.padded_len > 0 {
                let wanted = Wanted::Table(zone, table);
                self.want_zone(wanted, zone, place.offset, place.padded_len);
            }
        }
    }

    fn trailer(&self, zone: u32) -> &FooterTrailer {
        let trailer = self.facts[zone as usize].trailer.as_ref();
        trailer.and_then(|trailer| trailer.as_ref().ok()).expect("kept while its tables are read")
    }

    pub(crate) fn table(&self, zone: u32, table: FooterTable) -> TableWork {
        let (store_id, geometry, trailer) = (self.store_id, self.geometry, *self.trailer(zone));
        TableWork { store_id, geometry, zone, trailer, table, builder: Arc::clone(self.builder()) }
    }

    pub(crate) fn table_read(&mut self, zone: u32, table: FooterTable, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else { return self.scan_instead(zone) };
        let ended = self.table(zone, table).run(bytes);
        self.table_ended(zone, ended);
    }

    pub(crate) fn table_ended(&mut self, zone: u32, ended: Result<(), TableFault>) {
        match ended {
            Ok(()) => {}
            Err(TableFault::Damaged(error)) => self.footer_invalid(zone, error),
            Err(TableFault::Impossible) => self.scan_instead(zone),
        }
    }

    pub(crate) fn add_version(&self, hash: &KeyHash, lsn: u64, location: &Location) {
        let IndexEntry { block, len, .. } = entry_of(&self.geometry, location);
        self.builder().add_version(hash, lsn, block, len);
    }

    fn footer_invalid(&mut self, zone: u32, error: FormatError) {
        let trailer = self.trailer(zone);
        let zone_lap = ZoneLap { zone, lap: trailer.lap };
        if !self.may_have_been_open(zone_lap, trailer.base_position) {
            self.find(Finding::Footer { zone, error });
        }
        self.scan_instead(zone);
    }

    /// A zone whose footer cannot be used: its records say the same, one by one. It gets a new
    /// footer.
    fn scan_instead(&mut self, zone: u32) {
        if self.scans.contains_key(&zone) {
            return;
        }
        let trailer = self.trailer(zone);
        let header = ZoneHeader {
            zone,
            lap: trailer.lap,
            base_position: trailer.base_position,
            class: trailer.class,
            opened_store_ms: trailer.opened_store_ms,
            incarnation: 0,
        };
        let used_len = trailer.used_len;
        self.zones[zone as usize].state = ZoneState::Open;
        // A write that the drive refused may lie anywhere in between: no payload is trusted unread.
        let mut scan = Scan::new(header, used_len, self.store_id.salt(), 0, 0);
        scan.closing = true;
        self.start_scan(zone, scan);
    }

    /// Was the zone open at the last checkpoint, or opened since? Any other lap has had its footer.
    fn may_have_been_open(&self, zone_lap: ZoneLap, base_position: u64) -> bool {
        let Some(checkpoint) = &self.checkpoint else { return true };
        base_position >= checkpoint.next_base_position
            || checkpoint.open_zones.iter().any(|mark| mark.zone_lap == zone_lap)
    }

    /// A zone without footer; `error` is what was found in its place.
    fn open_zone(&mut self, header: ZoneHeader, error: FormatError) {
        let zone = header.zone;
        self.seen_ms = self.seen_ms.max(header.opened_store_ms);
        self.zones[zone as usize] = Zone {
            state: ZoneState::Open,
            lap: header.lap,
            class: header.class,
            base_position: header.base_position,
            opened_ms: header.opened_store_ms,
            used_len: BLOCK as u64,
            ..Zone::unused()
        };
        let (mut durable_len, mut incarnation_min) = (0, 0);
        let was_open = self.may_have_been_open(header.zone_lap(), header.base_position);
        if let (true, Some(checkpoint)) = (was_open, &self.checkpoint) {
            incarnation_min = checkpoint.incarnation;
            let mark = checkpoint.open_zones.iter().find(|mark| mark.zone_lap == header.zone_lap());
            durable_len = mark.map_or(0, |mark| mark.durable_len);
        }
        let zone_size = self.geometry.zone_size();
        let durable_len = durable_len.min(zone_size);
        let salt = self.store_id.salt();
        let mut scan = Scan::new(header, zone_size, salt, durable_len, incarnation_min);
        if !was_open {
            self.find(Finding::Footer { zone, error });
            scan.closing = true;
        }
        self.start_scan(zone, scan);
    }
}
