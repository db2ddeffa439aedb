//! The log: one state machine per volume. It owns no thread, clock or file: operations, times and
//! I/O results go in, wanted I/O and events come out.
//!
//! Turn of a caller: `append`, `io_done` and `tick` as things happen; then `poll_io` and
//! `poll_event` until both are empty.
//!
//! Invariants:
//! - A zone's header is durable before the first record of a lap is written, and every kill it held
//!   that may still be needed is durable elsewhere before that.
//! - An operation ends only after a flush that was asked for after its write had completed.
//! - At most one operation per key is under way: versions of a key are placed and published in the
//!   order they were appended.
//! - After a failed flush nothing is written any more and everything unfinished fails.

use crate::class::ClassLog;
use crate::directory::{Directory, Location};
use crate::prepare::{Prepare, object_len_max};
use crate::recent::Recent;
use crate::types::{Append, AppendError, Event, GroupPolicy, Io, IoFailure, IoOp, LogStats, Op};
use crate::zone::{OpenZone, Zone, ZoneState};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use tapeloop_format::{
    BLOCK, Checkpoint, ClassId, ClockMark, Geometry, KeyHash, Kill, Salt, StoreId, ZoneLap,
};

/// Bytes of records written at once. More wait, so that a flush never has to wait for long.
const IN_FLIGHT_BYTES_MAX: u64 = 64 << 20;
/// Zones a record is tried in before its PUT fails.
pub(crate) const PLACEMENTS_MAX: u32 = 3;

/// What stays the same while a log is open.
#[derive(Clone, Debug)]
pub(crate) struct LogOptions {
    /// Identity of the store.
    pub(crate) store_id: StoreId,
    /// Zones of the volume.
    pub(crate) geometry: Geometry,
    /// Raised by every open.
    pub(crate) incarnation: u64,
    /// Groups with limits of their own.
    pub(crate) groups: Vec<GroupPolicy>,
}

/// An operation that has found its victim and waits for, or has, a place.
pub(crate) struct Pending {
    pub(crate) append: Append,
    pub(crate) victim: Option<Victim>,
    pub(crate) attempts: u32,
    pub(crate) expires_ms: u64,
    pub(crate) class: ClassId,
}

/// The version an operation supersedes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Victim {
    pub(crate) location: Location,
    pub(crate) expires_ms: u64,
}

/// A record on its way to the drive.
pub(crate) struct Flying {
    pub(crate) pending: Pending,
    pub(crate) location: Location,
    pub(crate) record_len: u64,
    pub(crate) victim: Option<ZoneLap>,
}

/// What an I/O in flight was for.
pub(crate) enum Purpose {
    Record { lsn: u64 },
    VictimHeader { append: Append, location: Location, others: Vec<Location> },
    Footer { zone: u32, kills_at: crate::zone::Kills },
    Checkpoint,
    Repair,
    Prepare,
    Flush,
}

/// Something written that becomes true with the next flush.
pub(crate) enum Written {
    Record { lsn: u64 },
    Footer { zone: u32, kills_at: crate::zone::Kills },
    Prepare,
    Repair,
    Checkpoint,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Repairs of recovery are under way.
    Starting {
        writes: u32,
    },
    Running,
    /// Waiting for what is in flight; then the last checkpoint.
    Closing {
        checkpoint: bool,
    },
    Closed,
}

/// The log of one volume.
pub struct Log {
    pub(crate) options: LogOptions,
    pub(crate) salt: Salt,
    pub(crate) directory: Arc<Directory>,
    pub(crate) now_ms: u64,
    pub(crate) clock: ClockMark,
    pub(crate) zones: Vec<Zone>,
    pub(crate) free: VecDeque<u32>,
    pub(crate) open: BTreeMap<u32, OpenZone>,
    pub(crate) classes: Vec<ClassLog>,
    pub(crate) prepare: Option<Prepare>,
    /// Bytes of the carry journal that must not be written over yet.
    pub(crate) journal_used: u64,
    /// Kills that are nowhere but in the journal.
    pub(crate) orphans: Vec<Kill>,
    pub(crate) next_base_position: u64,
    pub(crate) checkpoint_sequence: u64,
    pub(crate) checkpoint_due_ms: u64,
    /// A checkpoint is being written and not durable yet.
    pub(crate) checkpoint_busy: bool,
    /// Refused in a row.
    pub(crate) checkpoint_failures: u32,
    /// The last one asked for.
    pub(crate) checkpoint_last: Checkpoint,
    pub(crate) stats: LogStats,
    pub(crate) phase: Phase,
    /// No more operations are accepted.
    pub(crate) close_wanted: bool,
    pub(crate) fenced: Option<IoFailure>,
    /// Operations whose key has just become free.
    pub(crate) ready: VecDeque<Append>,
    pub(crate) next_lsn: u64,
    pub(crate) unresolved: BTreeSet<u64>,
    pub(crate) flying: HashMap<u64, Flying>,
    pub(crate) busy: HashMap<KeyHash, VecDeque<Append>>,
    pub(crate) recent: Recent,
    pub(crate) next_io: u64,
    pub(crate) purposes: HashMap<u64, Purpose>,
    pub(crate) wanted: VecDeque<Io>,
    pub(crate) records_wanted: VecDeque<Io>,
    pub(crate) record_bytes_in_flight: u64,
    pub(crate) written: Vec<Written>,
    pub(crate) flushing: Option<Vec<Written>>,
    pub(crate) events: VecDeque<Event>,
}

/// Everything recovery hands to a log.
pub(crate) struct LogState {
    pub(crate) directory: Arc<Directory>,
    pub(crate) now_ms: u64,
    pub(crate) clock: ClockMark,
    pub(crate) zones: Vec<Zone>,
    pub(crate) open: BTreeMap<u32, OpenZone>,
    pub(crate) next_lsn: u64,
    pub(crate) next_base_position: u64,
    pub(crate) checkpoint_sequence: u64,
    pub(crate) repairs: Vec<(u64, Vec<u8>)>,
}

impl Log {
    pub(crate) fn start(options: LogOptions, state: LogState) -> Log {
        let salt = options.store_id.salt();
        let mut log = Log {
            salt,
            directory: state.directory,
            now_ms: state.now_ms,
            clock: state.clock,
            zones: state.zones,
            free: VecDeque::new(),
            open: state.open,
            classes: Vec::new(),
            prepare: None,
            journal_used: 0,
            orphans: Vec::new(),
            next_base_position: state.next_base_position,
            checkpoint_sequence: state.checkpoint_sequence,
            checkpoint_due_ms: 0,
            checkpoint_busy: false,
            checkpoint_failures: 0,
            checkpoint_last: Checkpoint {
                sequence: state.checkpoint_sequence,
                incarnation: options.incarnation,
                clock: state.clock,
                durable_lsn: 0,
                next_lsn: 0,
                next_base_position: 0,
                open_zones: Vec::new(),
            },
            stats: LogStats::default(),
            // What recovery read may not be durable yet: a flush comes before the checkpoint says
            // it is.
            phase: Phase::Starting { writes: 1 + state.repairs.len() as u32 },
            close_wanted: false,
            fenced: None,
            ready: VecDeque::new(),
            next_lsn: state.next_lsn,
            unresolved: BTreeSet::new(),
            flying: HashMap::new(),
            busy: HashMap::new(),
            recent: Recent::default(),
            next_io: 1,
            purposes: HashMap::new(),
            wanted: VecDeque::new(),
            records_wanted: VecDeque::new(),
            record_bytes_in_flight: 0,
            written: vec![Written::Repair],
            flushing: None,
            events: VecDeque::new(),
            options,
        };
        log.adopt_zones();
        for (offset, bytes) in state.repairs {
            log.want_write(offset, bytes, Purpose::Repair);
        }
        log
    }

    /// What readers share with the log.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Accepts an operation; it ends with an event that names its ticket.
    pub fn append(&mut self, now_ms: u64, append: Append) {
        self.advance(now_ms);
        if let Op::Put(put) = &append.op {
            let (len, max) = (put.payload_len, object_len_max(&self.options.geometry));
            if len > max {
                return self.fail(append.ticket, AppendError::TooLarge { len, max });
            }
        }
        if let Some(failure) = self.fenced {
            return self.fail(append.ticket, AppendError::Fenced(failure));
        }
        if self.close_wanted {
            return self.fail(append.ticket, AppendError::Closing);
        }
        self.stats.backlog += 1;
        if let Some(queue) = self.busy.get_mut(&append.hash) {
            return queue.push_back(append);
        }
        self.busy.insert(append.hash, VecDeque::new());
        self.ready.push_back(append);
        self.begin_ready();
    }

    /// Time passes: frees what has expired, keeps the checkpoint fresh.
    pub fn tick(&mut self, now_ms: u64, clock: ClockMark) {
        self.advance(now_ms);
        self.clock = clock;
        if self.fenced.is_some() || self.phase == Phase::Closed {
            return;
        }
        self.expire_zones();
        if self.phase == Phase::Running {
            self.prepare_next();
            self.begin_ready();
            self.checkpoint_if_due();
        }
    }

    /// Finishes what was accepted, then says `Closed`. Repairs under way are finished first. A
    /// fenced log has nothing to finish.
    pub fn close(&mut self) {
        self.close_wanted = true;
        if self.fenced.is_some() {
            self.close_fenced();
        } else if self.phase == Phase::Running {
            self.phase = Phase::Closing { checkpoint: false };
            self.continue_close();
        }
    }

    /// The next I/O to do, if it may start now.
    pub fn poll_io(&mut self) -> Option<Io> {
        if self.fenced.is_some() {
            return None;
        }
        if let Some(io) = self.wanted.pop_front() {
            return Some(io);
        }
        if let Some(io) = self.records_wanted.front() {
            let len = record_len(io);
            let fits = self.record_bytes_in_flight + len <= IN_FLIGHT_BYTES_MAX;
            if fits || self.record_bytes_in_flight == 0 {
                self.record_bytes_in_flight += len;
                return self.records_wanted.pop_front();
            }
        }
        if self.flushing.is_none() && !self.written.is_empty() {
            self.flushing = Some(std::mem::take(&mut self.written));
            let id = self.io_id(Purpose::Flush);
            return Some(Io { id, op: IoOp::Flush });
        }
        None
    }

    /// The next thing that ended.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Objects of open zones, which no footer lists yet: key, place, expiry in store time.
    pub fn open_objects(&self) -> impl Iterator<Item = (&[u8], Location, u64)> + '_ {
        self.open.keys().flat_map(|zone| self.open_objects_of(*zone))
    }

    /// Those of one zone; none if it is not open.
    pub fn open_objects_of(&self, zone: u32) -> impl Iterator<Item = (&[u8], Location, u64)> + '_ {
        let lap = self.zones[zone as usize].lap;
        self.open.get(&zone).into_iter().flat_map(|open| &open.listed).map(move |listed| {
            let (offset, len) = (listed.offset, listed.payload_len);
            (&*listed.key, Location { zone, lap, offset, len }, listed.expires_ms)
        })
    }

    /// Is anything still on its way to the drive?
    pub fn is_idle(&self) -> bool {
        self.purposes.is_empty() && self.written.is_empty()
    }

    /// Why the volume is read-only, if it is.
    pub fn fenced(&self) -> Option<IoFailure> {
        self.fenced
    }

    /// Operations accepted and not ended.
    pub fn backlog(&self) -> u32 {
        self.stats.backlog
    }

    /// Counters and gauges.
    pub fn stats(&self) -> LogStats {
        let mut stats = self.stats;
        for zone in &self.zones {
            match zone.state {
                _ if zone.bad => stats.zones_bad += 1,
                ZoneState::Free => stats.zones_free += 1,
                ZoneState::Preparing | ZoneState::Open => stats.zones_open += 1,
                ZoneState::Sealed => stats.zones_sealed += 1,
            }
        }
        stats
    }

    /// An I/O came to its end. Reads bring their bytes.
    pub fn io_done(&mut self, now_ms: u64, id: u64, result: Result<Vec<u8>, IoFailure>) {
        self.advance(now_ms);
        let purpose = self.purposes.remove(&id).expect("a completion belongs to an I/O in flight");
        if self.fenced.is_some() {
            return;
        }
        match purpose {
            Purpose::Record { lsn } => self.record_written(lsn, result.err()),
            Purpose::VictimHeader { append, location, others } => {
                self.victim_read(append, location, others, result)
            }
            Purpose::Footer { zone, kills_at } => match result {
                Ok(_) => self.written.push(Written::Footer { zone, kills_at }),
                Err(_) => self.footer_failed(zone),
            },
            Purpose::Checkpoint => match result {
                Ok(_) => self.written.push(Written::Checkpoint),
                Err(failure) => self.checkpoint_failed(failure),
            },
            Purpose::Repair => match result {
                Ok(_) => self.written.push(Written::Repair),
                Err(failure) => self.fence(failure),
            },
            Purpose::Prepare => self.prepare_step_done(result),
            Purpose::Flush => match result {
                Ok(_) => self.flushed(),
                Err(failure) => self.fence(failure),
            },
        }
        self.begin_ready();
        if self.fenced.is_none() {
            self.continue_close();
        }
    }

    /// In a loop, not by recursion: the end of an operation can be the end of all that wait behind
    /// it. Nothing begins before the start is durable: what recovery found, a tombstone for one,
    /// may still be in the drive's cache only, and must not be answered from.
    fn begin_ready(&mut self) {
        while self.is_running()
            && let Some(append) = self.ready.pop_front()
        {
            self.find_victim(append);
        }
    }

    fn flushed(&mut self) {
        self.stats.flushes += 1;
        for written in self.flushing.take().expect("a flush was under way") {
            match written {
                Written::Record { lsn } => self.record_durable(lsn),
                Written::Footer { zone, kills_at } => self.zone_sealed(zone, kills_at),
                Written::Prepare => self.prepare_step_durable(),
                Written::Repair => self.repair_durable(),
                Written::Checkpoint => self.checkpoint_durable(),
            }
        }
    }

    pub(crate) fn fail(&mut self, ticket: u64, error: AppendError) {
        self.events.push_back(Event::Failed { ticket, error });
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Closing { checkpoint: false })
    }

    pub(crate) fn want_write(&mut self, offset: u64, bytes: Vec<u8>, purpose: Purpose) {
        assert_eq!(bytes.len() % BLOCK, 0);
        self.stats.bytes_written += bytes.len() as u64;
        let id = self.io_id(purpose);
        self.wanted.push_back(Io { id, op: IoOp::Write { offset, bytes } });
    }

    pub(crate) fn want_read(&mut self, offset: u64, len: usize, purpose: Purpose) {
        let id = self.io_id(purpose);
        self.wanted.push_back(Io { id, op: IoOp::Read { offset, len } });
    }

    pub(crate) fn written_unflushed(&mut self, written: Written) {
        self.written.push(written);
    }

    pub(crate) fn io_id(&mut self, purpose: Purpose) -> u64 {
        let id = self.next_io;
        self.next_io += 1;
        self.purposes.insert(id, purpose);
        id
    }

    pub(crate) fn take_lsn(&mut self) -> u64 {
        let lsn = self.next_lsn;
        self.next_lsn += 1;
        self.unresolved.insert(lsn);
        lsn
    }

    pub(crate) fn resolve_lsn(&mut self, lsn: u64) {
        self.unresolved.remove(&lsn);
    }

    /// Everything up to here is durable or given up.
    pub(crate) fn durable_lsn(&self) -> u64 {
        self.unresolved.first().copied().unwrap_or(self.next_lsn) - 1
    }

    pub(crate) fn next_lsn(&self) -> u64 {
        self.next_lsn
    }

    fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }
}

fn record_len(io: &Io) -> u64 {
    match &io.op {
        IoOp::Record { shape, .. } => shape.record_len as u64,
        _ => unreachable!("only records wait here"),
    }
}

/// The volume offset of a zone's byte.
pub(crate) fn volume_offset(geometry: &Geometry, zone: u32, offset: u64) -> u64 {
    geometry.zone_offset(zone) + offset
}
