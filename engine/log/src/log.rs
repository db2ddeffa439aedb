//! The log: one state machine per store, over all its volumes. It owns no thread, clock or file:
//! operations, times and I/O results go in, wanted I/O and events come out.
//!
//! Turn of a caller: `append`, `io_done`, `fence_volume` and `tick` as things happen; then
//! `poll_io` of every volume and `poll_event` until all are empty.
//!
//! Invariants:
//! - A zone's header is durable before the first record of a lap is written, and every kill it held
//!   that may still be needed is durable elsewhere before that.
//! - An operation ends only after a flush of its volume that was asked for after its write had
//!   completed.
//! - At most one operation per key is under way: versions of a key are placed and published in the
//!   order they were appended, on whatever volumes they lie.
//! - After a failed flush nothing is written to that volume any more, and what was not durable
//!   there is placed again on another one, or fails.
//! - An LSN is done when its record is durable, or when nothing can find the record any more: what
//!   a failed write may have left keeps the watermark down until a void lies over it.

use crate::class::ClassLog;
use crate::directory::{Directory, Location};
use crate::ghost::Ghosts;
use crate::prepare::{Orphans, object_len_max};
use crate::recent::Recent;
use crate::types::{Append, AppendError, Event, GroupPolicy, IoFailure, LogStats, Op};
use crate::volume::VolumeLog;
use crate::zone::{OpenZone, Zone};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tapeloop_format::{
    ClassId, ClockMark, KeyHash, Salt, StoreGeometry, StoreId, VOLUME_COUNT_MAX, ZoneLap,
};

/// Zones a record is tried in before its PUT fails.
pub(crate) const PLACEMENTS_MAX: u32 = 3;

/// What stays the same while a log is open.
#[derive(Clone, Debug)]
pub(crate) struct LogOptions {
    /// Identity of the store.
    pub(crate) store_id: StoreId,
    /// Zones of the store.
    pub(crate) geometry: StoreGeometry,
    /// Raised by every open.
    pub(crate) incarnation: u64,
    /// What does not count on each volume.
    pub(crate) given_up: [u64; VOLUME_COUNT_MAX as usize],
    /// Groups with limits of their own.
    pub(crate) groups: Vec<GroupPolicy>,
}

/// An operation that has found its victim and waits for, or has, a place.
pub(crate) struct Pending {
    pub(crate) append: Append,
    pub(crate) victim: Option<Victim>,
    /// Writes of it that the drive refused.
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
    /// Every place that its header names.
    pub(crate) victims: Vec<ZoneLap>,
}

/// An I/O under way.
pub(crate) struct InFlight {
    pub(crate) volume: u16,
    pub(crate) purpose: Purpose,
}

/// What an I/O in flight is for.
pub(crate) enum Purpose {
    Record { lsn: u64 },
    VictimHeader { append: Append, location: Location, others: Vec<Location> },
    Void { zone: u32, lsns: [u64; 2] },
    Footer { zone: u32, kills_at: crate::zone::Kills },
    Checkpoint,
    Repair,
    Prepare,
    Flush,
}

/// Something written that becomes true with the next flush of its volume.
pub(crate) enum Written {
    Record {
        lsn: u64,
    },
    Void {
        zone: u32,
        lsns: [u64; 2],
    },
    Footer {
        zone: u32,
        kills_at: crate::zone::Kills,
    },
    Prepare,
    /// What recovery read.
    Found,
    Repair,
    Checkpoint,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Repairs of recovery are under way, then the first checkpoints.
    Starting {
        checkpoint: bool,
    },
    Running,
    /// Waiting for what is in flight; then the last checkpoints.
    Closing {
        checkpoint: bool,
    },
    Closed,
}

/// The log of one store.
pub struct Log {
    pub(crate) options: LogOptions,
    pub(crate) salt: Salt,
    pub(crate) directory: Arc<Directory>,
    pub(crate) now_ms: u64,
    pub(crate) clock: ClockMark,
    pub(crate) zones: Vec<Zone>,
    pub(crate) open: BTreeMap<u32, OpenZone>,
    pub(crate) classes: Vec<ClassLog>,
    pub(crate) volumes: Vec<VolumeLog>,
    /// The volume that the next zone is taken from, if it can give one.
    pub(crate) turn: u16,
    /// Kills that are nowhere but in a journal, by number.
    pub(crate) orphans: BTreeMap<u64, Orphans>,
    pub(crate) next_orphans: u64,
    pub(crate) ghosts: Ghosts,
    /// Laps of which nobody knows whether their header is on the drive.
    pub(crate) unsure_laps: Vec<ZoneLap>,
    pub(crate) next_base_position: u64,
    pub(crate) stats: LogStats,
    pub(crate) phase: Phase,
    /// No more operations are accepted.
    pub(crate) close_wanted: bool,
    /// Operations whose key has just become free.
    pub(crate) ready: VecDeque<Append>,
    pub(crate) next_lsn: u64,
    pub(crate) unresolved: BTreeSet<u64>,
    pub(crate) flying: HashMap<u64, Flying>,
    pub(crate) busy: HashMap<KeyHash, VecDeque<Append>>,
    pub(crate) recent: Recent,
    pub(crate) next_io: u64,
    pub(crate) in_flight: HashMap<u64, InFlight>,
    /// I/O of fenced volumes that has not come to its end, and perhaps never will.
    pub(crate) abandoned: HashSet<u64>,
    pub(crate) events: VecDeque<Event>,
}

/// Bytes that recovery wants written before service.
pub(crate) struct Repair {
    pub(crate) zone: u32,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Everything recovery hands to a log.
pub(crate) struct LogState {
    pub(crate) directory: Arc<Directory>,
    pub(crate) now_ms: u64,
    pub(crate) clock: ClockMark,
    pub(crate) zones: Vec<Zone>,
    pub(crate) open: BTreeMap<u32, OpenZone>,
    pub(crate) volumes: Vec<VolumeLog>,
    pub(crate) next_lsn: u64,
    pub(crate) next_base_position: u64,
    pub(crate) repairs: Vec<Repair>,
}

impl Log {
    pub(crate) fn start(options: LogOptions, state: LogState) -> Log {
        assert_eq!(state.volumes.len(), usize::from(options.geometry.volume_count()));
        let salt = options.store_id.salt();
        let mut log = Log {
            salt,
            directory: state.directory,
            now_ms: state.now_ms,
            clock: state.clock,
            zones: state.zones,
            open: state.open,
            classes: Vec::new(),
            volumes: state.volumes,
            turn: 0,
            orphans: BTreeMap::new(),
            next_orphans: 0,
            ghosts: Ghosts::default(),
            unsure_laps: Vec::new(),
            next_base_position: state.next_base_position,
            stats: LogStats::default(),
            phase: Phase::Starting { checkpoint: false },
            close_wanted: false,
            ready: VecDeque::new(),
            next_lsn: state.next_lsn,
            unresolved: BTreeSet::new(),
            flying: HashMap::new(),
            busy: HashMap::new(),
            recent: Recent::default(),
            next_io: 1,
            in_flight: HashMap::new(),
            abandoned: HashSet::new(),
            events: VecDeque::new(),
            options,
        };
        log.adopt_zones();
        for repair in state.repairs {
            let own = log.volume_of(repair.zone);
            log.volume_mut(own).repairs.push(repair);
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
            let (len, max) = (put.payload_len, object_len_max(self.options.geometry.volume()));
            if len > max {
                return self.fail(append.ticket, AppendError::TooLarge { len, max });
            }
        }
        if let Some(failure) = self.read_only() {
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

    /// Time passes: frees what has expired, keeps the checkpoints fresh.
    pub fn tick(&mut self, now_ms: u64, clock: ClockMark) {
        self.advance(now_ms);
        self.clock = clock;
        if self.is_read_only() || self.phase == Phase::Closed {
            return;
        }
        self.expire_zones();
        if self.phase == Phase::Running {
            self.prepare_next();
            self.begin_ready();
            self.checkpoints_if_due();
        }
    }

    /// Finishes what was accepted, then says `Closed`. Repairs under way are finished first. A
    /// log that is fenced altogether has nothing to finish.
    pub fn close(&mut self) {
        self.close_wanted = true;
        if self.is_read_only() {
            self.close_fenced();
        } else if self.phase == Phase::Running {
            self.phase = Phase::Closing { checkpoint: false };
            self.continue_close();
        }
    }

    /// The next thing that ended.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Objects of open zones, which no footer lists yet: key, place, expiry in store time.
    pub fn open_objects(&self) -> impl Iterator<Item = (&[u8], Location, u64)> + '_ {
        self.open.keys().filter_map(|zone| self.open_objects_of(*zone)).flatten()
    }

    /// Those of one zone; `None` if it is not open. A zone is open until its footer is durable.
    pub fn open_objects_of(
        &self,
        zone: u32,
    ) -> Option<impl Iterator<Item = (&[u8], Location, u64)> + '_> {
        let lap = self.zones[zone as usize].lap;
        let listed = self.open.get(&zone)?.listed.iter();
        Some(listed.map(move |listed| {
            let (offset, len) = (listed.offset, listed.payload_len);
            (&*listed.key, Location { zone, lap, offset, len }, listed.expires_ms)
        }))
    }

    /// Is anything still on its way to a drive?
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.volumes.iter().all(|own| own.written.is_empty())
    }

    /// Operations accepted and not ended.
    pub fn backlog(&self) -> u32 {
        self.stats.backlog
    }

    /// Counters and gauges of the whole store. Free zones are those that can be taken.
    pub fn stats(&self) -> LogStats {
        let mut stats = self.stats;
        for volume in 0..self.options.geometry.volume_count() {
            let own = self.volume_stats(volume);
            stats.zones_free += if own.fenced.is_none() { own.zones_free } else { 0 };
            stats.zones_open += own.zones_open;
            stats.zones_sealed += own.zones_sealed;
            stats.zones_bad += own.zones_bad;
        }
        stats
    }

    /// An I/O came to its end. Reads bring their bytes.
    pub fn io_done(&mut self, now_ms: u64, id: u64, result: Result<Vec<u8>, IoFailure>) {
        self.advance(now_ms);
        if self.abandoned.remove(&id) {
            return;
        }
        let done = self.in_flight.remove(&id).expect("a completion belongs to an I/O in flight");
        let volume = done.volume;
        assert!(self.volume(volume).is_usable(), "what is fenced has nothing in flight");
        let refusal = result.as_ref().err().copied();
        self.count_refusal(volume, &done.purpose, refusal.is_some());
        match done.purpose {
            Purpose::Record { lsn } => self.record_written(lsn, result.err()),
            Purpose::VictimHeader { append, location, others } => {
                self.victim_read(append, location, others, result)
            }
            Purpose::Void { zone, lsns } => match result {
                Ok(_) => self.written(volume, Written::Void { zone, lsns }),
                Err(_) => self.footer_failed(zone),
            },
            Purpose::Footer { zone, kills_at } => match result {
                Ok(_) if planted!(Bug::FooterNotFlushed) => self.zone_sealed(zone, kills_at),
                Ok(_) => self.written(volume, Written::Footer { zone, kills_at }),
                Err(_) => self.footer_failed(zone),
            },
            Purpose::Checkpoint => match result {
                Ok(_) => self.written(volume, Written::Checkpoint),
                Err(failure) => self.checkpoint_failed(volume, failure),
            },
            Purpose::Repair => match result {
                Ok(_) => self.written(volume, Written::Repair),
                Err(failure) => self.fence(volume, failure),
            },
            Purpose::Prepare => self.prepare_step_done(volume, result),
            Purpose::Flush => match result {
                Ok(_) => self.flushed(volume),
                Err(_) if planted!(Bug::RetryFailedFlush) => {
                    let own = self.volume_mut(volume);
                    own.written.extend(own.flushing.take().expect("under way"));
                }
                Err(failure) => self.fence(volume, failure),
            },
        }
        if let Some(failure) = refusal
            && self.is_dead(volume)
        {
            self.fence(volume, failure);
        }
        self.begin_ready();
        self.continue_close();
    }

    /// In a loop, not by recursion: the end of an operation can be the end of all that wait behind
    /// it. Nothing begins before the start is durable: what recovery found, a tombstone for one,
    /// may still be in the drive's cache only, and must not be answered from.
    pub(crate) fn begin_ready(&mut self) {
        while self.is_running()
            && let Some(append) = self.ready.pop_front()
        {
            self.find_victim(append);
        }
    }

    pub(crate) fn flushed(&mut self, volume: u16) {
        self.stats.flushes += 1;
        if planted!(Bug::FlushCoversLater) {
            let mut later = std::mem::take(&mut self.volume_mut(volume).written);
            self.volume_mut(volume).flushing.as_mut().expect("under way").append(&mut later);
        }
        for written in self.volume_mut(volume).flushing.take().expect("a flush was under way") {
            match written {
                Written::Record { lsn } => self.record_durable(lsn),
                Written::Void { zone, lsns } => self.void_durable(zone, lsns),
                Written::Footer { zone, kills_at } => self.zone_sealed(zone, kills_at),
                Written::Prepare => self.prepare_step_durable(volume),
                Written::Found => self.found_durable(volume),
                Written::Repair => self.repair_durable(volume),
                Written::Checkpoint => self.checkpoint_durable(volume),
            }
        }
    }

    pub(crate) fn written(&mut self, volume: u16, written: Written) {
        let astray = planted!(Bug::FlushOfOtherVolume) && matches!(written, Written::Record { .. });
        let volume = (volume + u16::from(astray)) % self.options.geometry.volume_count();
        self.volume_mut(volume).written.push(written);
    }

    pub(crate) fn fail(&mut self, ticket: u64, error: AppendError) {
        self.events.push_back(Event::Failed { ticket, error });
    }

    pub(crate) fn is_running(&self) -> bool {
        let serves = matches!(self.phase, Phase::Running | Phase::Closing { checkpoint: false });
        serves && !self.is_read_only()
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

    /// Every record up to here is durable, or can not be found any more.
    pub(crate) fn durable_lsn(&self) -> u64 {
        let first = usize::from(planted!(Bug::WatermarkTooHigh));
        self.unresolved.iter().nth(first).copied().unwrap_or(self.next_lsn) - 1
    }

    pub(crate) fn next_lsn(&self) -> u64 {
        self.next_lsn
    }

    pub(crate) fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }
}
