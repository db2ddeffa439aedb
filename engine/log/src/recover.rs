//! Recovery: from the bytes on the drive to a running log, the same way after a crash as after a
//! clean stop.
//!
//! Sealed zones are taken from their footers; only zones that were open are scanned. Nothing is
//! written until everything has been read: recovery may crash at any point and be run again.
//!
//! What is invalid in an open zone is *corruption*, and reported, if it was known to be durable: it
//! lies below the checkpoint's durable length, or a record behind it is at or below the watermark.
//! Anything else is *torn*: it was never acknowledged, and is dropped. A dropped record can not
//! come back: the checkpoint that is written before service says where the zone ended, and records
//! beyond that must come from a later incarnation.

use crate::adopt::Recovered;
use crate::clock::{MachineTime, StoreClock};
use crate::directory::{Directory, Location, entry_of};
use crate::index::IndexBuilder;
use crate::log::{Log, LogOptions, LogState};
use crate::report::{Finding, RecoveryReport};
use crate::scan::Scan;
use crate::types::{GroupPolicy, IoFailure};
use crate::zone::{Kills, Zone, ZoneState};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use tapeloop_format::{
    BLOCK, CARRY_JOURNAL_LEN, CARRY_JOURNAL_OFFSET, CHECKPOINT_SLOTS, Checkpoint, ClassId,
    FooterEntries, FooterTable, FooterTrailer, FormatError, Geometry, KeyHash, KillList,
    RecordHeader, RecordKind, StoreId, Structure, ZoneHeader, ZoneLap,
};

/// Findings kept in a report; the rest is only counted.
const FINDINGS_MAX: usize = 1000;

/// Something recovery wants read from the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryRead {
    /// Names the read in `Recovery::read_done`.
    pub id: u64,
    /// Offset in the volume, in bytes.
    pub offset: u64,
    /// Length in bytes, a multiple of 4 KiB.
    pub len: usize,
}

enum Wanted {
    Checkpoint(usize),
    Journal,
    /// The first record of a zone that both its ends say nothing about.
    FirstRecord(u32),
    ZoneHeader(u32),
    ZoneTrailer(u32),
    Entries(u32),
    Kills(u32),
    Scan(u32),
}

#[derive(Default)]
struct ZoneFacts {
    header: Option<Result<ZoneHeader, FormatError>>,
    trailer: Option<Result<FooterTrailer, FormatError>>,
    /// What is wrong with the header, while the first record is asked.
    error: Option<FormatError>,
}

/// Recovery of one volume: reads in, a log out.
pub struct Recovery {
    pub(crate) store_id: StoreId,
    pub(crate) geometry: Geometry,
    next_read: u64,
    wanted: VecDeque<RecoveryRead>,
    purposes: HashMap<u64, (Wanted, RecoveryRead)>,
    checkpoint_slots: [Option<Result<Checkpoint, FormatError>>; 2],
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Carry records: the newest last, unless a longer series was written here before.
    pub(crate) journal: Vec<(RecordHeader, Vec<u8>)>,
    incarnation_max: u64,
    unknown_laps: Vec<u32>,
    facts: Vec<ZoneFacts>,
    pub(crate) zones: Vec<Zone>,
    scans: BTreeMap<u32, Scan>,
    pub(crate) builder: IndexBuilder,
    lsn_max: u64,
    seen_ms: u64,
    pub(crate) report: RecoveryReport,
}

impl Recovery {
    /// Starts the recovery of a volume whose header has been read.
    pub fn new(store_id: StoreId, geometry: Geometry) -> Recovery {
        let zone_count = geometry.zone_count() as usize;
        let mut recovery = Recovery {
            store_id,
            geometry,
            next_read: 1,
            wanted: VecDeque::new(),
            purposes: HashMap::new(),
            checkpoint_slots: [None, None],
            checkpoint: None,
            journal: Vec::new(),
            incarnation_max: 0,
            unknown_laps: Vec::new(),
            facts: (0..zone_count).map(|_| ZoneFacts::default()).collect(),
            zones: vec![Zone::unused(); zone_count],
            scans: BTreeMap::new(),
            builder: IndexBuilder::new(),
            lsn_max: 0,
            seen_ms: 0,
            report: RecoveryReport::default(),
        };
        for (slot, offset) in CHECKPOINT_SLOTS.into_iter().enumerate() {
            recovery.want(Wanted::Checkpoint(slot), offset, BLOCK);
        }
        recovery.want(Wanted::Journal, CARRY_JOURNAL_OFFSET, CARRY_JOURNAL_LEN as usize);
        recovery
    }

    /// The next read to do; any number may be in flight. `None` while answers are awaited, or at
    /// the end.
    pub fn poll_read(&mut self) -> Option<RecoveryRead> {
        self.wanted.pop_front()
    }

    /// Has everything been read?
    pub fn is_done(&self) -> bool {
        self.purposes.is_empty()
    }

    /// Answers a read.
    pub fn read_done(&mut self, id: u64, result: Result<&[u8], IoFailure>) {
        let (wanted, read) = self.purposes.remove(&id).expect("an answer belongs to a read");
        if let (Ok(bytes), RecoveryRead { len, .. }) = (&result, read) {
            assert_eq!(bytes.len(), len, "reads are answered whole");
        }
        if let Err(failure) = result {
            let (offset, len) = (read.offset, read.len);
            self.find(Finding::Unreadable { offset, len, failure });
        }
        let bytes = result.ok();
        match wanted {
            Wanted::Checkpoint(slot) => self.checkpoint_read(slot, bytes),
            Wanted::Journal => self.journal_read(bytes),
            Wanted::FirstRecord(zone) => self.first_record_read(zone, bytes),
            Wanted::ZoneHeader(zone) => {
                let header = decode(bytes, |bytes| {
                    let header = ZoneHeader::decode(bytes, &self.store_id)?;
                    header.expect(zone).map(|()| header)
                });
                self.facts[zone as usize].header = Some(header);
                self.judge_zone(zone);
            }
            Wanted::ZoneTrailer(zone) => {
                let trailer = decode(bytes, |bytes| {
                    let trailer = FooterTrailer::decode(bytes, &self.store_id)?;
                    trailer.expect(zone, trailer.lap, self.geometry.zone_size())?;
                    Ok(trailer)
                });
                self.facts[zone as usize].trailer = Some(trailer);
                self.judge_zone(zone);
            }
            Wanted::Entries(zone) => self.entries_read(zone, bytes),
            Wanted::Kills(zone) => self.kills_read(zone, bytes),
            Wanted::Scan(zone) => {
                let scan = self.scans.get_mut(&zone).expect("a scan under way");
                scan.feed(bytes);
                self.want_scan(zone);
            }
        }
    }

    fn want(&mut self, wanted: Wanted, offset: u64, len: usize) {
        let read = RecoveryRead { id: self.next_read, offset, len };
        self.next_read += 1;
        self.purposes.insert(read.id, (wanted, read));
        self.wanted.push_back(read);
    }

    pub(crate) fn find(&mut self, finding: Finding) {
        self.report.findings_count += 1;
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        }
    }

    fn checkpoint_read(&mut self, slot: usize, bytes: Option<&[u8]>) {
        let found = decode(bytes, |bytes| Checkpoint::decode(bytes, &self.store_id));
        self.checkpoint_slots[slot] = Some(found);
        if self.checkpoint_slots.iter().any(Option::is_none) {
            return;
        }
        let slots = self.checkpoint_slots.each_mut().map(|slot| slot.take().expect("seen above"));
        self.checkpoint = Checkpoint::newest(slots);
        if self.checkpoint.is_none() {
            self.find(Finding::Checkpoint);
        }
        for zone in 0..self.geometry.zone_count() {
            let start = self.geometry.zone_offset(zone);
            let last = start + self.geometry.zone_size() - BLOCK as u64;
            self.want(Wanted::ZoneHeader(zone), start, BLOCK);
            self.want(Wanted::ZoneTrailer(zone), last, BLOCK);
        }
    }

    /// A record that does not verify was being written over: what it held before is durable in a
    /// zone.
    fn journal_read(&mut self, bytes: Option<&[u8]>) {
        let mut rest = bytes.unwrap_or_default();
        while let Some((header, record)) = carry_record(rest, self.store_id) {
            rest = &rest[record.len()..];
            // True for ever, also if the record is an old one.
            for kill in carried(&header, record) {
                self.builder.add_kill(kill.key_hash, kill.lsn);
            }
            self.lsn_max = self.lsn_max.max(header.lsn);
            self.journal.push((header, record.to_vec()));
        }
    }

    /// Both ends of a zone are known: sealed, open, unused or damaged?
    fn judge_zone(&mut self, zone: u32) {
        let facts = &mut self.facts[zone as usize];
        let (Some(header), Some(trailer)) = (&facts.header, &facts.trailer) else { return };
        let (header, trailer) = (header.clone(), trailer.clone());
        if let Ok(header) = &header {
            self.incarnation_max = self.incarnation_max.max(header.incarnation);
        }
        match (header, trailer) {
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
            // Torn when the zone was about to be reused; if not, nothing is lost with it either.
            (Err(FormatError::Checksum { .. }), Ok(trailer)) => {
                self.report.torn_dropped += 1;
                self.sealed_zone(zone, trailer);
            }
            (Err(error), Ok(trailer)) => {
                self.find(Finding::ZoneHeader { zone, error });
                self.sealed_zone(zone, trailer);
            }
            (Err(FormatError::Blank { .. }), Err(FormatError::Blank { .. })) => {}
            (Err(error), Err(_)) => {
                self.facts[zone as usize].error = Some(error);
                let offset = self.geometry.zone_offset(zone) + BLOCK as u64;
                self.want(Wanted::FirstRecord(zone), offset, BLOCK);
            }
        }
    }

    /// A header that was being written for the first time has no record behind it. A damaged one
    /// has, and the record knows most of what the header said.
    fn first_record_read(&mut self, zone: u32, bytes: Option<&[u8]>) {
        let error = self.facts[zone as usize].error.take().expect("why the record is asked");
        let record = decode(bytes, |bytes| RecordHeader::decode(bytes, self.store_id.salt()));
        let Some(record) = record.ok().filter(|record| record.zone == zone) else {
            self.unknown_laps.push(zone);
            self.report.torn_dropped += 1;
            return;
        };
        self.find(Finding::ZoneHeader { zone, error: error.clone() });
        let life_ms = record.expires_ms.saturating_sub(record.stored_ms);
        let header = ZoneHeader {
            zone,
            lap: record.lap,
            base_position: record.position.saturating_sub(BLOCK as u64),
            class: ClassId { bucket: ClassId::ttl_bucket(life_ms), group: 0 },
            opened_store_ms: record.stored_ms,
            incarnation: record.incarnation,
        };
        self.open_zone(header, error);
        self.scans.get_mut(&zone).expect("just started").closing = true;
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
        let start = self.geometry.zone_offset(zone);
        let entries = trailer.table(FooterTable::Entries);
        let kills = trailer.table(FooterTable::Kills);
        if entries.padded_len > 0 {
            self.want(Wanted::Entries(zone), start + entries.offset, entries.padded_len);
        }
        if kills.padded_len > 0 {
            self.want(Wanted::Kills(zone), start + kills.offset, kills.padded_len);
        }
    }

    fn trailer(&self, zone: u32) -> &FooterTrailer {
        let trailer = self.facts[zone as usize].trailer.as_ref();
        trailer.and_then(|trailer| trailer.as_ref().ok()).expect("kept while its tables are read")
    }

    fn entries_read(&mut self, zone: u32, bytes: Option<&[u8]>) {
        let trailer = *self.trailer(zone);
        let Some(bytes) = bytes else { return self.scan_instead(zone) };
        match trailer.verify_table(&self.store_id, FooterTable::Entries, bytes) {
            Ok(table) => {
                for entry in FooterEntries::new(table).expect("the trailer counts whole entries") {
                    match entry {
                        Ok(entry) if self.in_zone(entry.offset(), entry.shape().record_len) => {
                            let (lap, offset, len) =
                                (trailer.lap, entry.offset(), entry.payload_len);
                            self.add(entry.key_hash, entry.lsn, zone, lap, offset, len);
                        }
                        Ok(_) | Err(_) => return self.scan_instead(zone),
                    }
                }
            }
            Err(error) => self.footer_invalid(zone, error),
        }
    }

    fn in_zone(&self, offset: u64, record_len: usize) -> bool {
        offset + record_len as u64 <= self.geometry.zone_size()
    }

    pub(crate) fn add(
        &mut self,
        hash: KeyHash,
        lsn: u64,
        zone: u32,
        lap: u64,
        offset: u64,
        len: u32,
    ) {
        let entry = entry_of(&self.geometry, &Location { zone, lap, offset, len });
        self.builder.add_version(hash, lsn, entry);
    }

    fn kills_read(&mut self, zone: u32, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else { return self.scan_instead(zone) };
        match self.trailer(zone).verify_table(&self.store_id, FooterTable::Kills, bytes) {
            Ok(table) => {
                for kill in KillList::new(table).expect("the trailer counts whole kills") {
                    self.builder.add_kill(kill.key_hash, kill.lsn);
                }
            }
            Err(error) => self.footer_invalid(zone, error),
        }
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

    fn start_scan(&mut self, zone: u32, scan: Scan) {
        self.scans.insert(zone, scan);
        self.want_scan(zone);
    }

    fn want_scan(&mut self, zone: u32) {
        if let Some((offset, len)) = self.scans[&zone].next_read() {
            let offset = self.geometry.zone_offset(zone) + offset;
            self.want(Wanted::Scan(zone), offset, len);
        }
    }

    /// Everything has been read: the log, ready to write its repairs and then to serve.
    pub fn finish(
        mut self,
        groups: Vec<GroupPolicy>,
        machine: MachineTime,
        threads: usize,
    ) -> (Log, StoreClock, RecoveryReport) {
        assert!(self.is_done());
        let mut durable_lsn = self.checkpoint.as_ref().map_or(0, |mark| mark.durable_lsn);
        for scan in self.scans.values() {
            durable_lsn = durable_lsn.max(scan.durable_lsn_max);
            self.lsn_max = self.lsn_max.max(scan.lsn_max);
            let incarnations = scan.found.iter().map(|found| found.header.incarnation);
            self.incarnation_max = incarnations.fold(self.incarnation_max, u64::max);
            let stored = scan.found.iter().map(|found| found.header.stored_ms);
            self.seen_ms = stored.fold(self.seen_ms, u64::max);
        }
        let next_lsn = self.checkpoint.as_ref().map_or(1, |mark| mark.next_lsn);
        let incarnation = self.checkpoint.as_ref().map_or(0, |mark| mark.incarnation);
        let mut recovered = Recovered {
            next_lsn: next_lsn.max(self.lsn_max + 1).max(durable_lsn + 1),
            // Without checkpoint too it is newer than anything on the drive.
            incarnation: incarnation.max(self.incarnation_max) + 1,
            durable_lsn,
            open: BTreeMap::new(),
            repairs: Vec::new(),
        };
        for (zone, scan) in std::mem::take(&mut self.scans) {
            self.adopt_scan(zone, scan, &mut recovered);
        }
        self.name_unknown_laps();
        let (clock, mark) = self.clock(machine);
        let base_positions = self.zones.iter().filter(|zone| zone.lap > 0);
        let zone_size = self.geometry.zone_size();
        let next_base_position = base_positions
            .map(|zone| zone.base_position + zone_size)
            .chain(self.checkpoint.as_ref().map(|mark| mark.next_base_position))
            .max();
        let directory = Directory::new(self.geometry, self.builder.build(threads));
        for (zone, meta) in self.zones.iter().enumerate() {
            let servable = matches!(meta.state, ZoneState::Sealed | ZoneState::Open);
            directory.set_lap(zone as u32, meta.lap, servable);
        }
        self.report.objects = directory.index_size().0 as u64;
        self.report.clock_held_ms = clock.held_ms();
        let state = LogState {
            directory: Arc::new(directory),
            now_ms: mark.store_ms,
            clock: mark,
            zones: self.zones,
            open: recovered.open,
            next_lsn: recovered.next_lsn,
            next_base_position: next_base_position.unwrap_or(0),
            checkpoint_sequence: self.checkpoint.as_ref().map_or(0, |mark| mark.sequence),
            repairs: recovered.repairs,
        };
        let options = LogOptions {
            store_id: self.store_id,
            geometry: self.geometry,
            incarnation: recovered.incarnation,
            groups,
        };
        let log = Log::start(options, state);
        self.report.zones_free = log.stats().zones_free;
        (log, clock, self.report)
    }

    fn clock(&self, machine: MachineTime) -> (StoreClock, tapeloop_format::ClockMark) {
        let clock = match &self.checkpoint {
            Some(checkpoint) => StoreClock::resume(&checkpoint.clock, self.seen_ms, machine),
            None => StoreClock::new(machine).not_before(self.seen_ms),
        };
        (clock, clock.mark(machine.boottime_ms, machine.wall_ms))
    }

    /// A zone with a damaged header may have seen any number of laps: its next one must be newer.
    fn name_unknown_laps(&mut self) {
        let lap_max = self.zones.iter().map(|zone| zone.lap).max().unwrap_or(0);
        for zone in std::mem::take(&mut self.unknown_laps) {
            let zone = &mut self.zones[zone as usize];
            if zone.lap == 0 {
                zone.lap = lap_max + 1;
            }
        }
    }
}

fn decode<T>(
    bytes: Option<&[u8]>,
    decode: impl FnOnce(&[u8]) -> Result<T, FormatError>,
) -> Result<T, FormatError> {
    match bytes {
        Some(bytes) => decode(bytes),
        None => Err(FormatError::NeedMore { needed: BLOCK }),
    }
}

/// The carry record at the start of `bytes`, if one lies there whole.
fn carry_record(bytes: &[u8], store_id: StoreId) -> Option<(RecordHeader, &[u8])> {
    let salt = store_id.salt();
    let header = RecordHeader::decode(bytes, salt).ok()?;
    let shape = header.shape();
    if header.kind != RecordKind::Carry || shape.record_len > bytes.len() {
        return None;
    }
    let mut payload = &bytes[shape.payload_offset..][..header.payload_len as usize];
    for index in 0..header.chunk_crcs.len() {
        let (chunk, rest) = payload.split_at(header.chunk_len(index));
        header.verify_chunk(salt, index, chunk).ok()?;
        payload = rest;
    }
    Some((header, &bytes[..shape.record_len]))
}

/// The kills in a whole carry record.
pub(crate) fn carried<'a>(header: &RecordHeader, record: &'a [u8]) -> KillList<'a> {
    let payload = &record[header.shape().payload_offset..][..header.payload_len as usize];
    KillList::new(payload).expect("a carry header says whole kills")
}
