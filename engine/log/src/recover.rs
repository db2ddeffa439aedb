//! Recovery: from the bytes on the drives to a running log, the same way after a crash as after a
//! clean stop.
//!
//! The checkpoints of all volumes are read first: the newest speaks for the whole store. A volume
//! that is missing is given up for good: the checkpoints written before service say so, and when it
//! comes back nothing of what it held counts, old checkpoint and journal included.
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
use crate::build::IndexBuilder;
use crate::clock::{MachineTime, StoreClock};
use crate::directory::Directory;
use crate::index::Index;
use crate::judge::ZoneFacts;
use crate::log::{Log, LogOptions, LogState};
use crate::report::{Finding, RecoveryReport};
use crate::scan::{Scan, ScanRead};
use crate::tables::{TableFault, TableWork};
use crate::types::{GroupPolicy, IoFailure};
use crate::volume::VolumeLog;
use crate::zone::{Zone, ZoneState};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use tapeloop_format::{
    BLOCK, CARRY_JOURNAL_LEN, CARRY_JOURNAL_OFFSET, CHECKPOINT_SLOTS, Checkpoint, FooterTable,
    FooterTrailer, FormatError, GIVEN_UP_WHOLLY, KillList, RecordHeader, RecordKind, StoreGeometry,
    StoreId, VOLUME_COUNT_MAX, ZoneHeader,
};

/// Findings kept in a report; the rest is only counted.
const FINDINGS_MAX: usize = 1000;

/// Whoever goes on without a volume must be newer than anything that volume can have seen, however
/// often the store was opened with it, starts that came to nothing included: so many incarnations
/// are left out.
const INCARNATIONS_LEFT_OUT: u64 = 1 << 32;

/// Something recovery wants read from a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryRead {
    /// Names the read in `Recovery::read_done`.
    pub id: u64,
    /// Which volume.
    pub volume: u16,
    /// Offset in the volume, in bytes.
    pub offset: u64,
    /// Length in bytes, a multiple of 4 KiB.
    pub len: usize,
}

pub(crate) enum Wanted {
    Checkpoint(u16, usize),
    Journal(u16),
    /// The first record of a zone that both its ends say nothing about.
    FirstRecord(u32),
    ZoneHeader(u32),
    ZoneTrailer(u32),
    Table(u32, FooterTable),
    Scan(u32, ScanRead),
}

/// Both checkpoint slots of a volume, as they are read.
type Slots = [Option<Result<Checkpoint, FormatError>>; 2];

/// Recovery of a store: reads in, a log out.
pub struct Recovery {
    pub(crate) store_id: StoreId,
    pub(crate) geometry: StoreGeometry,
    is_missing: Vec<bool>,
    next_read: u64,
    /// By volume.
    wanted: Vec<VecDeque<RecoveryRead>>,
    purposes: HashMap<u64, (Wanted, RecoveryRead)>,
    slots: Vec<Slots>,
    /// Number of the last checkpoint on each volume.
    sequences: Vec<u64>,
    /// The newest of the store.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Carry records: the newest last, unless a longer series was written here before.
    pub(crate) journal: Vec<(RecordHeader, Vec<u8>)>,
    /// The largest that any volume knows of.
    pub(crate) incarnation_max: u64,
    next_base_min: u64,
    pub(crate) lsn_max: u64,
    pub(crate) unknown_laps: Vec<u32>,
    pub(crate) facts: Vec<ZoneFacts>,
    pub(crate) zones: Vec<Zone>,
    pub(crate) scans: BTreeMap<u32, Scan>,
    /// Zones still to be scanned, by volume; the first is under way. One at a time reads ahead far
    /// enough to keep a drive busy, and what is read ahead takes memory.
    scanning: Vec<VecDeque<u32>>,
    /// Until all is found.
    builder: Option<Arc<IndexBuilder>>,
    pub(crate) seen_ms: u64,
    pub(crate) report: RecoveryReport,
}

impl Recovery {
    /// Starts the recovery of a store whose volume headers have been read. What a missing volume
    /// held will never count again.
    pub fn new(store_id: StoreId, geometry: StoreGeometry, missing: &[u16]) -> Recovery {
        let zone_count = geometry.zone_count() as usize;
        let volumes = 0..geometry.volume_count();
        let is_missing: Vec<bool> = volumes.clone().map(|own| missing.contains(&own)).collect();
        assert!(is_missing.contains(&false), "a store without any of its volumes");
        let mut recovery = Recovery {
            store_id,
            geometry,
            is_missing,
            next_read: 1,
            wanted: volumes.clone().map(|_| VecDeque::new()).collect(),
            purposes: HashMap::new(),
            slots: volumes.clone().map(|_| [None, None]).collect(),
            sequences: vec![0; usize::from(geometry.volume_count())],
            checkpoint: None,
            journal: Vec::new(),
            incarnation_max: 0,
            next_base_min: 0,
            lsn_max: 0,
            unknown_laps: Vec::new(),
            facts: (0..zone_count).map(|_| ZoneFacts::default()).collect(),
            zones: vec![Zone::unused(); zone_count],
            scans: BTreeMap::new(),
            scanning: volumes.map(|_| VecDeque::new()).collect(),
            builder: Some(Arc::new(IndexBuilder::new())),
            seen_ms: 0,
            report: RecoveryReport::default(),
        };
        for volume in missing {
            for zone in geometry.zones_of(*volume) {
                recovery.zones[zone as usize] = Zone::unknown();
            }
        }
        for volume in recovery.present() {
            for (slot, offset) in CHECKPOINT_SLOTS.into_iter().enumerate() {
                recovery.want(Wanted::Checkpoint(volume, slot), volume, offset, BLOCK);
            }
        }
        recovery
    }

    fn present(&self) -> Vec<u16> {
        let volumes = 0..self.geometry.volume_count();
        volumes.filter(|volume| !self.is_missing[usize::from(*volume)]).collect()
    }

    /// The next read to do; any number may be in flight. `None` while answers are awaited, or at
    /// the end.
    pub fn poll_read(&mut self) -> Option<RecoveryRead> {
        self.wanted.iter_mut().find_map(VecDeque::pop_front)
    }

    /// As `poll_read`, of one volume.
    pub fn poll_read_of(&mut self, volume: u16) -> Option<RecoveryRead> {
        self.wanted[usize::from(volume)].pop_front()
    }

    /// Length of what `poll_read_of` would give out.
    pub fn wanted_len(&self, volume: u16) -> Option<usize> {
        self.wanted[usize::from(volume)].front().map(|read| read.len)
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
            let RecoveryRead { volume, offset, len, .. } = read;
            self.find(Finding::Unreadable { volume, offset, len, failure });
        }
        let bytes = result.ok();
        match wanted {
            Wanted::Checkpoint(volume, slot) => self.checkpoint_read(volume, slot, bytes),
            Wanted::Journal(volume) => self.journal_read(volume, bytes),
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
            Wanted::Table(zone, table) => self.table_read(zone, table, bytes),
            Wanted::Scan(zone, read) => {
                self.scans.get_mut(&zone).expect("a scan under way").feed(read, bytes);
                self.go_on_scanning(self.geometry.volume_of(zone));
            }
        }
    }

    /// What to do with the bytes of a read that is awaited, if they are a footer table: work for
    /// any thread. How it ended goes to `table_done` then, and nothing to `read_done`.
    pub fn table_work(&self, id: u64) -> Option<TableWork> {
        match self.purposes.get(&id) {
            Some((Wanted::Table(zone, table), _)) => Some(self.table(*zone, *table)),
            _ => None,
        }
    }

    /// Answers a read with what became of its table.
    pub fn table_done(&mut self, id: u64, ended: Result<(), TableFault>) {
        let (wanted, _) = self.purposes.remove(&id).expect("an answer belongs to a read");
        let Wanted::Table(zone, _) = wanted else { panic!("read {id} is no table's") };
        self.table_ended(zone, ended);
    }

    fn want(&mut self, wanted: Wanted, volume: u16, offset: u64, len: usize) {
        let read = RecoveryRead { id: self.next_read, volume, offset, len };
        self.next_read += 1;
        let queue = &mut self.wanted[usize::from(volume)];
        match wanted {
            // Each waits for the one before it, and tables for nothing.
            Wanted::Scan(..) => queue.push_front(read),
            _ => queue.push_back(read),
        }
        self.purposes.insert(read.id, (wanted, read));
    }

    pub(crate) fn want_zone(&mut self, wanted: Wanted, zone: u32, offset: u64, len: usize) {
        let offset = self.geometry.zone_offset(zone) + offset;
        self.want(wanted, self.geometry.volume_of(zone), offset, len);
    }

    pub(crate) fn find(&mut self, finding: Finding) {
        self.report.findings_count += 1;
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        }
    }

    fn checkpoint_read(&mut self, volume: u16, slot: usize, bytes: Option<&[u8]>) {
        let found = decode(bytes, |bytes| Checkpoint::decode(bytes, &self.store_id));
        self.slots[usize::from(volume)][slot] = Some(found);
        let is_read = |volume: &u16| self.slots[usize::from(*volume)].iter().all(Option::is_some);
        let present = self.present();
        if !present.iter().all(is_read) {
            return;
        }
        for volume in &present {
            self.take_checkpoint(*volume);
        }
        for volume in present {
            let len = CARRY_JOURNAL_LEN as usize;
            self.want(Wanted::Journal(volume), volume, CARRY_JOURNAL_OFFSET, len);
            for zone in self.geometry.zones_of(volume) {
                let last = self.geometry.zone_size() - BLOCK as u64;
                self.want_zone(Wanted::ZoneHeader(zone), zone, 0, BLOCK);
                self.want_zone(Wanted::ZoneTrailer(zone), zone, last, BLOCK);
            }
        }
    }

    /// The newest checkpoint of the store: any other of that incarnation would do as well, it is
    /// what a crash leaves that comes before the newest has been written.
    fn take_checkpoint(&mut self, volume: u16) {
        let slots = &mut self.slots[usize::from(volume)];
        let slots = slots.each_mut().map(|slot| slot.take().expect("all are read"));
        let Some(found) = Checkpoint::newest(slots) else {
            return self.find(Finding::Checkpoint { volume });
        };
        self.sequences[usize::from(volume)] = found.sequence;
        // Numbers are not given twice, whoever gave them.
        self.incarnation_max = self.incarnation_max.max(found.incarnation);
        self.lsn_max = self.lsn_max.max(found.next_lsn - 1);
        self.next_base_min = self.next_base_min.max(found.next_base_position);
        // Store time tells between volumes that went on without each other, and agrees with the
        // incarnation wherever else.
        let age = |mark: &Checkpoint| {
            let epoch = mark.incarnation / INCARNATIONS_LEFT_OUT;
            (epoch, mark.clock.store_ms, mark.incarnation, mark.next_lsn)
        };
        if self.checkpoint.as_ref().is_none_or(|newest| age(newest) < age(&found)) {
            self.checkpoint = Some(found);
        }
    }

    /// A record that does not verify was being written over: what it held before is durable in a
    /// zone.
    fn journal_read(&mut self, volume: u16, bytes: Option<&[u8]>) {
        let mut rest = bytes.unwrap_or_default();
        while let Some((header, record)) = carry_record(rest, self.store_id) {
            rest = &rest[record.len()..];
            if header.position % self.geometry.zone_size() != BLOCK as u64 {
                continue; // It was to be the first record of a zone, and it is not.
            }
            // The base of a zone that was never opened is used up all the same: what comes from
            // now on must be told from this carry.
            let base_position = header.position.saturating_sub(BLOCK as u64);
            let next = base_position.saturating_add(self.geometry.zone_size());
            self.next_base_min = self.next_base_min.max(next);
            if !self.counts(volume, header.position) || planted!(Bug::IgnoreJournal) {
                continue;
            }
            // True for ever, also if the record is an old one.
            for kill in carried(&header, record) {
                self.builder().add_kill(&kill.key_hash, kill.lsn);
            }
            self.lsn_max = self.lsn_max.max(header.lsn);
            self.journal.push((header, record.to_vec()));
        }
    }

    pub(crate) fn start_scan(&mut self, zone: u32, scan: Scan) {
        self.scans.insert(zone, scan);
        let volume = self.geometry.volume_of(zone);
        let queue = &mut self.scanning[usize::from(volume)];
        queue.push_back(zone);
        if queue.len() == 1 {
            self.go_on_scanning(volume);
        }
    }

    fn go_on_scanning(&mut self, volume: u16) {
        while let Some(zone) = self.scanning[usize::from(volume)].front().copied() {
            let scan = self.scans.get_mut(&zone).expect("it is to be scanned");
            let reads: Vec<ScanRead> = std::iter::from_fn(|| scan.next_read()).collect();
            let is_over = scan.is_over();
            // The first at the very front.
            for read in reads.into_iter().rev() {
                self.want_zone(Wanted::Scan(zone, read), zone, read.offset, read.len);
            }
            if !is_over {
                return;
            }
            self.scans.get_mut(&zone).expect("it was scanned").end_reading();
            self.scanning[usize::from(volume)].pop_front();
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
            self.incarnation_max = self.incarnation_max.max(scan.incarnation_max);
            self.seen_ms = self.seen_ms.max(scan.stored_ms_max);
        }
        let left_out = if self.is_missing.contains(&true) { INCARNATIONS_LEFT_OUT } else { 1 };
        let mut recovered = Recovered {
            next_lsn: match planted!(Bug::LsnReused) {
                true => durable_lsn + 1,
                false => (self.lsn_max + 1).max(durable_lsn + 1),
            },
            // Without checkpoint too it is newer than anything on the drives.
            incarnation: match planted!(Bug::SameIncarnation) {
                true => self.incarnation_max.max(1),
                false => self.incarnation_max + left_out,
            },
            durable_lsn,
            open: BTreeMap::new(),
            repairs: Vec::new(),
        };
        for (zone, scan) in std::mem::take(&mut self.scans) {
            self.adopt_scan(zone, scan, &mut recovered);
        }
        self.name_unknown_laps();
        let (clock, mark) = self.clock(machine);
        let used = self.zones.iter().filter(|zone| zone.lap > 0);
        let next_base_position = used
            .map(|zone| zone.base_position + self.geometry.zone_size())
            .fold(self.next_base_min, u64::max);
        let options = LogOptions {
            store_id: self.store_id,
            geometry: self.geometry,
            incarnation: recovered.incarnation,
            given_up: self.given_up(next_base_position),
            groups,
        };
        let mut index = self.build_index(threads);
        self.report.objects = index.entry_count_alone() as u64;
        let directory = Directory::new(self.geometry, index);
        for (zone, meta) in self.zones.iter().enumerate() {
            let servable = matches!(meta.state, ZoneState::Sealed | ZoneState::Open);
            directory.set_lap(zone as u32, meta.lap, servable);
        }
        self.report.clock_held_ms = clock.held_ms();
        let volumes = self.sequences.iter().zip(&self.is_missing);
        let state = LogState {
            directory: Arc::new(directory),
            now_ms: mark.store_ms,
            clock: mark,
            zones: self.zones,
            open: recovered.open,
            volumes: volumes.map(|(sequence, gone)| VolumeLog::new(*sequence, *gone)).collect(),
            next_lsn: recovered.next_lsn,
            next_base_position,
            repairs: recovered.repairs,
        };
        let log = Log::start(options, state);
        self.report.zones_free = log.stats().zones_free;
        (log, clock, self.report)
    }

    pub(crate) fn builder(&self) -> &Arc<IndexBuilder> {
        self.builder.as_ref().expect("there until all is found")
    }

    fn build_index(&mut self, threads: usize) -> Index {
        let builder = self.builder.take().and_then(Arc::into_inner);
        let builder = builder.expect("nobody takes a table apart any more");
        let blocks_per_zone = self.geometry.zone_size() / BLOCK as u64;
        // Whatever was found in a zone belongs to the lap that the zone is in.
        let zones = &self.zones;
        builder.build(threads, |block| zones[(block / blocks_per_zone) as usize].lap as u16)
    }

    /// What does not count from now on: all of a missing volume; of one that has come back what was
    /// written before now.
    fn given_up(&self, next_base_position: u64) -> [u64; VOLUME_COUNT_MAX as usize] {
        let mut given_up = self.checkpoint.as_ref().map_or([0; 16], |mark| mark.given_up);
        for (base, is_missing) in given_up.iter_mut().zip(&self.is_missing) {
            match (is_missing, *base) {
                (true, _) => *base = GIVEN_UP_WHOLLY,
                (false, GIVEN_UP_WHOLLY) => *base = next_base_position,
                (false, _) => {}
            }
        }
        given_up
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

pub(crate) fn decode<T>(
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
