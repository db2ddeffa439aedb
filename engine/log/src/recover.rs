//! Recovery: from the bytes on the drive to a running log, the same way after a crash as after a clean
//! stop.
//!
//! Sealed zones are taken from their footers; only zones that were open are scanned. Nothing is written
//! until everything has been read: recovery may crash at any point and be run again.
//!
//! What is invalid in an open zone is *corruption*, and reported, if it was known to be durable: it lies
//! below the checkpoint's durable length, or a record behind it is at or below the watermark.
//! Anything else is *torn*: it was never acknowledged, and is dropped. A dropped record can not come
//! back: the checkpoint that is written before service says where the zone ended, and records beyond
//! that must come from a later incarnation.

use crate::clock::{MachineTime, StoreClock};
use crate::directory::{Directory, Location, entry_of};
use crate::index::IndexBuilder;
use crate::log::{Log, LogOptions, LogState};
use crate::report::{Finding, RecoveryReport};
use crate::scan::{Hole, Scan};
use crate::types::{GroupPolicy, IoFailure};
use crate::zone::{Kills, Listed, OpenZone, Zone, ZoneState};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use tapeloop_format::{
    BLOCK, CARRY_JOURNAL_LEN, CARRY_JOURNAL_OFFSET, CHECKPOINT_SLOTS, Checkpoint, FooterEntries,
    FooterTable, FooterTrailer, FormatError, Geometry, KeyHash, Kill, KillList, RecordHeader,
    RecordKind, StoreId, ZoneHeader,
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
    Checkpoints,
    Journal,
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
}

/// Recovery of one volume: reads in, a log out.
pub struct Recovery {
    store_id: StoreId,
    geometry: Geometry,
    next_read: u64,
    wanted: VecDeque<RecoveryRead>,
    purposes: HashMap<u64, (Wanted, RecoveryRead)>,
    checkpoint: Option<Checkpoint>,
    journal: Option<(RecordHeader, Vec<u8>)>,
    facts: Vec<ZoneFacts>,
    zones: Vec<Zone>,
    scans: BTreeMap<u32, Scan>,
    builder: IndexBuilder,
    lsn_max: u64,
    seen_ms: u64,
    report: RecoveryReport,
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
            checkpoint: None,
            journal: None,
            facts: (0..zone_count).map(|_| ZoneFacts::default()).collect(),
            zones: vec![Zone::unused(); zone_count],
            scans: BTreeMap::new(),
            builder: IndexBuilder::new(),
            lsn_max: 0,
            seen_ms: 0,
            report: RecoveryReport::default(),
        };
        let slots_len = CHECKPOINT_SLOTS.len() * BLOCK;
        recovery.want(Wanted::Checkpoints, CHECKPOINT_SLOTS[0], slots_len);
        recovery.want(Wanted::Journal, CARRY_JOURNAL_OFFSET, CARRY_JOURNAL_LEN as usize);
        recovery
    }

    /// The next read to do; any number may be in flight. `None` while answers are awaited, or at the end.
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
            Wanted::Checkpoints => self.checkpoints_read(bytes),
            Wanted::Journal => self.journal_read(bytes),
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

    fn find(&mut self, finding: Finding) {
        self.report.findings_count += 1;
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        }
    }

    fn checkpoints_read(&mut self, bytes: Option<&[u8]>) {
        if let Some(bytes) = bytes {
            let (first, second) = bytes.split_at(BLOCK);
            let slots = [first, second].map(|slot| Checkpoint::decode(slot, &self.store_id));
            self.checkpoint = Checkpoint::newest(slots);
        }
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

    /// A journal that does not verify was being written over: what it held before is durable in a zone.
    fn journal_read(&mut self, bytes: Option<&[u8]>) {
        let salt = self.store_id.salt();
        let Some(bytes) = bytes else { return };
        let Ok(header) = RecordHeader::decode(bytes, salt) else { return };
        let shape = header.shape();
        if header.kind != RecordKind::Carry || shape.record_len > bytes.len() {
            return;
        }
        let mut payload = &bytes[shape.payload_offset..][..header.payload_len as usize];
        let carried = payload;
        for index in 0..header.chunk_crcs.len() {
            let (chunk, rest) = payload.split_at(header.chunk_len(index));
            if header.verify_chunk(salt, index, chunk).is_err() {
                return;
            }
            payload = rest;
        }
        for kill in KillList::new(carried).expect("a carry header says whole kills") {
            self.builder.add_kill(kill.key_hash, kill.lsn);
        }
        self.lsn_max = self.lsn_max.max(header.lsn);
        self.journal = Some((header, bytes[..shape.record_len].to_vec()));
    }

    /// Both ends of a zone are known: sealed, open, unused or damaged?
    fn judge_zone(&mut self, zone: u32) {
        let facts = &mut self.facts[zone as usize];
        if facts.header.is_none() || facts.trailer.is_none() {
            return;
        }
        let (header, trailer) = (facts.header.take(), facts.trailer.take());
        let trailer = trailer.expect("seen above").ok();
        match (header.expect("seen above"), trailer) {
            (Ok(header), Some(trailer)) if trailer.lap == header.lap => {
                self.sealed_zone(zone, trailer)
            }
            (Ok(header), _) => self.open_zone(zone, header),
            (Err(FormatError::Blank { .. }), None) => {}
            (Err(error), Some(trailer)) => {
                self.find(Finding::ZoneHeader { zone, error });
                self.sealed_zone(zone, trailer);
            }
            (Err(error), None) => self.find(Finding::ZoneHeader { zone, error }),
        }
    }

    fn sealed_zone(&mut self, zone: u32, trailer: FooterTrailer) {
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
        };
        let start = self.geometry.zone_offset(zone);
        let entries = trailer.table(FooterTable::Entries);
        let kills = trailer.table(FooterTable::Kills);
        self.facts[zone as usize].trailer = Some(Ok(trailer));
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
            Err(error) => {
                self.find(Finding::Footer { zone, error });
                self.scan_instead(zone);
            }
        }
    }

    fn in_zone(&self, offset: u64, record_len: usize) -> bool {
        offset + record_len as u64 <= self.geometry.zone_size()
    }

    fn add(&mut self, hash: KeyHash, lsn: u64, zone: u32, lap: u64, offset: u64, len: u32) {
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
            Err(error) => {
                self.find(Finding::Footer { zone, error });
                self.scan_instead(zone);
            }
        }
    }

    /// A sealed zone whose footer cannot be used: its records say the same, one by one.
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
        let durable_len = trailer.used_len;
        self.start_scan(header, durable_len, 0);
    }

    fn open_zone(&mut self, zone: u32, header: ZoneHeader) {
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
        let mut durable_len = 0;
        let mut incarnation_min = header.incarnation;
        if let Some(checkpoint) = &self.checkpoint {
            incarnation_min = incarnation_min.max(checkpoint.incarnation);
            let mark = checkpoint.open_zones.iter().find(|mark| mark.zone_lap == header.zone_lap());
            durable_len = mark.map_or(0, |mark| mark.durable_len);
        }
        self.start_scan(header, durable_len.min(self.geometry.zone_size()), incarnation_min);
    }

    fn start_scan(&mut self, header: ZoneHeader, durable_len: u64, incarnation_min: u64) {
        let zone = header.zone;
        let salt = self.store_id.salt();
        let zone_size = self.geometry.zone_size();
        let scan = Scan::new(header, zone_size, salt, durable_len, incarnation_min);
        self.scans.insert(zone, scan);
        self.want_scan(zone);
    }

    fn want_scan(&mut self, zone: u32) {
        let scan = &self.scans[&zone];
        let over =
            self.zones[zone as usize].state == ZoneState::Sealed && scan.end() >= scan.durable_len;
        if let (false, Some((offset, len))) = (over, scan.next_read()) {
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
            let stored = scan.found.iter().map(|found| found.header.stored_ms);
            self.seen_ms = stored.fold(self.seen_ms, u64::max);
        }
        let next_lsn = self.checkpoint.as_ref().map_or(1, |mark| mark.next_lsn);
        let mut recovered = Recovered {
            next_lsn: next_lsn.max(self.lsn_max + 1).max(durable_lsn + 1),
            incarnation: self.checkpoint.as_ref().map_or(0, |mark| mark.incarnation) + 1,
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
        let damaged: Vec<u32> = self.report.findings.iter().filter_map(damaged_zone).collect();
        for zone in damaged {
            let zone = &mut self.zones[zone as usize];
            if zone.lap == 0 {
                zone.lap = lap_max + 1;
            }
        }
    }

    fn adopt_scan(&mut self, zone: u32, scan: Scan, recovered: &mut Recovered) {
        self.report.zones_scanned += 1;
        self.report.bytes_scanned += scan.bytes_read;
        let end = scan.end();
        self.judge_holes(zone, &scan, recovered);
        let mut listed = Vec::new();
        let mut kills = scan.carried.clone();
        let mut lsns = (u64::MAX, 0);
        let lap = scan.zone.lap;
        for found in scan.found {
            let header = found.header;
            lsns = (lsns.0.min(header.lsn), lsns.1.max(header.lsn));
            kills.extend(header.kill());
            if header.kind != RecordKind::Put {
                continue;
            }
            let len = header.payload_len as u32;
            self.add(header.key_hash, header.lsn, zone, lap, found.offset, len);
            let meta = &mut self.zones[zone as usize];
            meta.max_expires_ms = meta.max_expires_ms.max(header.expires_ms);
            listed.push(Listed {
                hash: header.key_hash,
                lsn: header.lsn,
                offset: found.offset,
                payload_len: len,
                expires_ms: header.expires_ms,
                metadata_len: header.metadata.len() as u16,
                key: header.key,
            });
        }
        for kill in &kills {
            self.builder.add_kill(kill.key_hash, kill.lsn);
        }
        let meta = &mut self.zones[zone as usize];
        if meta.state == ZoneState::Sealed {
            meta.kills = Kills::InMemory(kills);
            return;
        }
        let mut used = end.max(scan.durable_len);
        meta.record_count = listed.len() as u32;
        if listed.is_empty() && kills.is_empty() && used == BLOCK as u64 {
            used += self.repair_carry(zone, lap, &mut kills, &mut lsns, recovered);
        }
        self.zones[zone as usize].used_len = used;
        recovered.open.insert(zone, OpenZone::recovered(used, listed, kills, lsns));
    }

    /// A zone that was opened but has not got its carry record: the journal still has it.
    fn repair_carry(
        &mut self,
        zone: u32,
        lap: u64,
        kills: &mut Vec<Kill>,
        lsns: &mut (u64, u64),
        recovered: &mut Recovered,
    ) -> u64 {
        let Some((header, record)) = &self.journal else { return 0 };
        if (header.zone, header.lap) != (zone, lap) {
            return 0;
        }
        let shape = header.shape();
        let payload = &record[shape.payload_offset..][..header.payload_len as usize];
        kills.extend(KillList::new(payload).expect("a carry header says whole kills"));
        self.report.kills_from_journal += kills.len() as u32;
        *lsns = (header.lsn, header.lsn);
        // Its incarnation is of the past; below the durable length of the checkpoint that follows that is
        // no matter.
        let offset = self.geometry.zone_offset(zone) + BLOCK as u64;
        recovered.repairs.push((offset, record.clone()));
        record.len() as u64
    }

    fn judge_holes(&mut self, zone: u32, scan: &Scan, recovered: &mut Recovered) {
        let end = scan.end();
        for hole in &scan.holes {
            let behind = scan.found.iter().filter(|found| found.offset >= hole.to);
            let durable_behind =
                behind.map(|found| found.header.lsn).any(|lsn| lsn <= recovered.durable_lsn);
            let durable_to = match durable_behind {
                true => hole.to,
                false => hole.to.min(scan.durable_len),
            };
            if durable_to > hole.from {
                self.find(Finding::Record {
                    zone,
                    offset: hole.from,
                    len: durable_to - hole.from,
                    error: hole.cause.clone(),
                });
            }
            let torn_from = durable_to.max(hole.from);
            if torn_from < hole.to.min(end) {
                self.report.torn_dropped += 1;
                let torn = Hole { from: torn_from, ..hole.clone() };
                recovered.fill(&self.geometry, self.store_id, &scan.zone, &torn);
            } else if torn_from < hole.to && hole.from >= end && is_torn(&hole.cause) {
                self.report.torn_dropped += 1;
            }
        }
    }
}

/// Did a record of this lap begin here, or is it just free space?
fn is_torn(cause: &FormatError) -> bool {
    matches!(cause, FormatError::ChunkChecksum { .. } | FormatError::Checksum { .. })
}

fn damaged_zone(finding: &Finding) -> Option<u32> {
    match finding {
        Finding::ZoneHeader { zone, .. } => Some(*zone),
        _ => None,
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

/// What comes out of the scans.
struct Recovered {
    next_lsn: u64,
    incarnation: u64,
    durable_lsn: u64,
    open: BTreeMap<u32, OpenZone>,
    repairs: Vec<(u64, Vec<u8>)>,
}

impl Recovered {
    /// A torn hole between valid records becomes a void record: the zone is contiguous again.
    fn fill(&mut self, geometry: &Geometry, store_id: StoreId, zone: &ZoneHeader, hole: &Hole) {
        let header = RecordHeader {
            kind: RecordKind::Void,
            zone: zone.zone,
            lap: zone.lap,
            position: zone.base_position + hole.from,
            lsn: self.next_lsn,
            incarnation: self.incarnation,
            durable_lsn: self.durable_lsn,
            stored_ms: 0,
            expires_ms: 0,
            created_wall_ms: 0,
            payload_len: 0,
            hole_len: (hole.to - hole.from) as u32,
            content_hash: [0; 16],
            key_hash: KeyHash([0; 16]),
            victim: None,
            key: Box::default(),
            metadata: Box::default(),
            chunk_crcs: Box::default(),
        };
        self.next_lsn += 1;
        let offset = geometry.zone_offset(zone.zone) + hole.from;
        self.repairs.push((offset, header.encode(store_id.salt())));
    }
}
