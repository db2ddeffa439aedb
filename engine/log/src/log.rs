//! The log: one state machine per volume. It owns no thread, clock or file: operations, times and I/O
//! results go in, wanted I/O and events come out.
//!
//! Turn of a caller: `append`, `io_done` and `tick` as things happen; then `poll_io` and `poll_event`
//! until both are empty.
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
use crate::prepare::Prepare;
use crate::recent::Recent;
use crate::types::{Append, AppendError, Event, GroupPolicy, Io, IoFailure, IoOp, LogStats, Op};
use crate::zone::{Listed, OpenZone, Zone, ZoneState};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use tapeloop_format::{
    BLOCK, ClassId, ClockMark, Geometry, KeyHash, Kill, METADATA_LEN_MAX, RecordHeader, RecordKind,
    RecordShape, Salt, StoreId, ZoneLap,
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
struct Flying {
    pending: Pending,
    location: Location,
    record_len: u64,
    victim: Option<ZoneLap>,
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
enum Phase {
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
    pub(crate) next_base_position: u64,
    pub(crate) checkpoint_sequence: u64,
    pub(crate) checkpoint_due_ms: u64,
    pub(crate) stats: LogStats,
    phase: Phase,
    fenced: Option<IoFailure>,
    next_lsn: u64,
    unresolved: BTreeSet<u64>,
    flying: HashMap<u64, Flying>,
    busy: HashMap<KeyHash, VecDeque<Append>>,
    recent: Recent,
    next_io: u64,
    purposes: HashMap<u64, Purpose>,
    wanted: VecDeque<Io>,
    records_wanted: VecDeque<Io>,
    record_bytes_in_flight: u64,
    written: Vec<Written>,
    flushing: Option<Vec<Written>>,
    events: VecDeque<Event>,
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
            next_base_position: state.next_base_position,
            checkpoint_sequence: state.checkpoint_sequence,
            checkpoint_due_ms: 0,
            stats: LogStats::default(),
            phase: Phase::Starting { writes: state.repairs.len() as u32 },
            fenced: None,
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
            written: Vec::new(),
            flushing: None,
            events: VecDeque::new(),
            options,
        };
        log.adopt_zones();
        for (offset, bytes) in state.repairs {
            log.want_write(offset, bytes, Purpose::Repair);
        }
        log.continue_start();
        log
    }

    /// What readers share with the log.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Largest object this log takes.
    pub fn payload_len_max(&self) -> u64 {
        self.options.geometry.record_payload_max()
    }

    /// Accepts an operation; it ends with an event that names its ticket.
    pub fn append(&mut self, now_ms: u64, append: Append) {
        self.advance(now_ms);
        if let Op::Put(put) = &append.op {
            let (len, max) = (put.payload_len, self.payload_len_max());
            if len > max {
                return self.fail(append.ticket, AppendError::TooLarge { len, max });
            }
        }
        if let Some(failure) = self.fenced {
            return self.fail(append.ticket, AppendError::Fenced(failure));
        }
        if matches!(self.phase, Phase::Closing { .. } | Phase::Closed) {
            return self.fail(append.ticket, AppendError::Closing);
        }
        self.stats.backlog += 1;
        if let Some(queue) = self.busy.get_mut(&append.hash) {
            return queue.push_back(append);
        }
        self.busy.insert(append.hash, VecDeque::new());
        self.find_victim(append);
    }

    /// Time passes: frees what has expired, keeps the checkpoint fresh.
    pub fn tick(&mut self, now_ms: u64, clock: ClockMark) {
        self.advance(now_ms);
        self.clock = clock;
        if self.fenced.is_some() || self.phase == Phase::Closed {
            return;
        }
        self.expire_zones();
        if self.phase == Phase::Running && self.now_ms >= self.checkpoint_due_ms {
            self.want_checkpoint();
        }
    }

    /// Finishes what was accepted, then says `Closed`.
    pub fn close(&mut self) {
        if matches!(self.phase, Phase::Running | Phase::Starting { .. }) {
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
        self.open.iter().flat_map(|(zone, open)| {
            let (zone, lap) = (*zone, self.zones[*zone as usize].lap);
            open.listed.iter().map(move |listed| {
                let (offset, len) = (listed.offset, listed.payload_len);
                (&*listed.key, Location { zone, lap, offset, len }, listed.expires_ms)
            })
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
                // The older slot is still good; the next one is due in a second.
                Err(_) => self.continue_close(),
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
        if self.fenced.is_none() {
            self.continue_close();
        }
    }

    /// Looks for the version that an operation supersedes.
    fn find_victim(&mut self, append: Append) {
        if let Some((location, expires_ms)) = self.recent.get(&append.hash)
            && self.directory.is_present(&location)
        {
            return self.begin(append, Some(Victim { location, expires_ms }));
        }
        let candidates = self.directory.lookup_present(&append.hash);
        self.verify_next_victim(append, candidates);
    }

    fn verify_next_victim(&mut self, append: Append, mut candidates: Vec<Location>) {
        let Some(location) = candidates.pop() else { return self.begin(append, None) };
        let offset = self.options.geometry.zone_offset(location.zone) + location.offset;
        // As far as the header may reach: its metadata is not known here.
        let shape = RecordShape::of(append.key.len(), METADATA_LEN_MAX, u64::from(location.len));
        let zone_end =
            self.options.geometry.zone_offset(location.zone) + self.options.geometry.zone_size();
        let len = shape.header_blocks_len().min((zone_end - offset) as usize);
        let id = self.io_id(Purpose::VictimHeader { append, location, others: candidates });
        self.wanted.push_back(Io { id, op: IoOp::Read { offset, len } });
    }

    fn victim_read(
        &mut self,
        append: Append,
        location: Location,
        others: Vec<Location>,
        result: Result<Vec<u8>, IoFailure>,
    ) {
        // An unreadable header is taken for the victim: superseding a damaged record loses nothing, while
        // leaving its entry beside the new one could bring the old version back.
        let header = result.ok().and_then(|bytes| RecordHeader::decode(&bytes, self.salt).ok());
        match header {
            Some(header) if header.key != append.key => self.verify_next_victim(append, others),
            Some(header) => {
                let expires_ms = header.expires_ms;
                self.begin(append, Some(Victim { location, expires_ms }))
            }
            None => self.begin(append, Some(Victim { location, expires_ms: u64::MAX })),
        }
    }

    /// The operation knows what it supersedes: give it a class and a place.
    fn begin(&mut self, append: Append, victim: Option<Victim>) {
        let victim = victim.filter(|victim| self.directory.is_present(&victim.location));
        let (class, expires_ms) = match &append.op {
            Op::Put(put) => {
                let bucket = ClassId::ttl_bucket(put.ttl_ms);
                (ClassId { bucket, group: put.group }, self.now_ms.saturating_add(put.ttl_ms))
            }
            Op::Delete => match &victim {
                Some(victim) => (self.zones[victim.location.zone as usize].class, 0),
                None => {
                    let ticket = append.ticket;
                    let event = Event::Deleted { ticket, existed: false };
                    return self.finish(&append.hash, event);
                }
            },
        };
        self.place(Pending { append, victim, attempts: 0, expires_ms, class });
    }

    /// Writes the operation's record into an open zone of its class, or lets it wait for one.
    pub(crate) fn place(&mut self, pending: Pending) {
        let shape = shape_of(&pending.append);
        let class = self.class_for(pending.class);
        let key_len = pending.append.key.len();
        let Some(zone) = self.zone_with_room(class, &shape, key_len) else {
            self.classes[class].waiting.push_back(pending);
            return self.prepare_next();
        };
        self.write_record(zone, &shape, pending);
        self.prepare_ahead(class, zone);
    }

    fn write_record(&mut self, zone: u32, shape: &RecordShape, mut pending: Pending) {
        let is_put = matches!(pending.append.op, Op::Put(_));
        let put_key_len = is_put.then_some(pending.append.key.len());
        let lsn = self.take_lsn();
        let open = self.open.get_mut(&zone).expect("a zone with room is open");
        let offset = open.place(lsn, shape.record_len as u64, put_key_len);
        pending.attempts += 1;
        let victim = pending.victim.and_then(|victim| self.victim_on_drive(&victim.location));
        let header = self.record_header(zone, offset, lsn, victim, &pending);
        let bytes = header.encode(self.salt);
        let len = match &pending.append.op {
            Op::Put(put) => put.payload_len as u32,
            Op::Delete => 0,
        };
        let location = Location { zone, lap: header.lap, offset, len };
        let meta = &mut self.zones[zone as usize];
        meta.max_expires_ms = meta.max_expires_ms.max(pending.expires_ms);
        let ticket = pending.append.ticket;
        let record_len = shape.record_len as u64;
        self.flying.insert(lsn, Flying { pending, location, record_len, victim });
        let id = self.io_id(Purpose::Record { lsn });
        let offset = self.options.geometry.zone_offset(zone) + offset;
        let op = IoOp::Record { offset, header: bytes, shape: *shape, ticket };
        self.records_wanted.push_back(Io { id, op });
    }

    fn record_header(
        &self,
        zone: u32,
        offset: u64,
        lsn: u64,
        victim: Option<ZoneLap>,
        pending: &Pending,
    ) -> RecordHeader {
        let meta = &self.zones[zone as usize];
        let append = &pending.append;
        let mut header = RecordHeader {
            kind: RecordKind::Tombstone,
            zone,
            lap: meta.lap,
            position: meta.base_position + offset,
            lsn,
            incarnation: self.options.incarnation,
            durable_lsn: self.durable_lsn(),
            stored_ms: self.now_ms,
            expires_ms: pending.expires_ms,
            created_wall_ms: 0,
            payload_len: 0,
            hole_len: 0,
            content_hash: [0; 16],
            key_hash: append.hash,
            victim,
            key: append.key.clone(),
            metadata: Box::default(),
            chunk_crcs: Box::default(),
        };
        if let Op::Put(put) = &append.op {
            header.kind = RecordKind::Put;
            header.created_wall_ms = put.created_wall_ms;
            header.payload_len = put.payload_len;
            header.content_hash = put.content_hash;
            header.metadata = put.metadata.clone();
            header.chunk_crcs = put.chunk_crcs.clone();
        }
        header
    }

    /// The victim's zone and lap, as long as the drive still holds them.
    fn victim_on_drive(&self, victim: &Location) -> Option<ZoneLap> {
        let zone = &self.zones[victim.zone as usize];
        (zone.lap == victim.lap).then_some(ZoneLap { zone: victim.zone, lap: victim.lap })
    }

    fn record_written(&mut self, lsn: u64, failure: Option<IoFailure>) {
        let flying = &self.flying[&lsn];
        self.record_bytes_in_flight -= flying.record_len;
        self.stats.bytes_written += flying.record_len;
        match failure {
            None => self.written.push(Written::Record { lsn }),
            Some(failure) => self.record_failed(lsn, failure),
        }
    }

    /// A zone that refused a write takes no more; the record is tried elsewhere within its PUT.
    fn record_failed(&mut self, lsn: u64, failure: IoFailure) {
        let flying = self.flying.remove(&lsn).expect("a record in flight");
        self.unresolved.remove(&lsn);
        let Location { zone, offset, .. } = flying.location;
        self.open.get_mut(&zone).expect("records fly in open zones").resolve(offset, false);
        self.zones[zone as usize].bad = true;
        self.close_zone(zone);
        let pending = flying.pending;
        if pending.attempts < PLACEMENTS_MAX {
            self.stats.records_replaced += 1;
            return self.place(pending);
        }
        let (hash, ticket, attempts) =
            (pending.append.hash, pending.append.ticket, pending.attempts);
        let error = AppendError::WriteFailed { attempts, failure };
        self.finish(&hash, Event::Failed { ticket, error });
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

    fn record_durable(&mut self, lsn: u64) {
        let flying = self.flying.remove(&lsn).expect("a written record");
        self.unresolved.remove(&lsn);
        let Flying { pending, location, victim, .. } = flying;
        let Pending { append, victim: old, expires_ms, .. } = pending;
        let open = self.open.get_mut(&location.zone).expect("records fly in open zones");
        open.resolve(location.offset, true);
        if let Some(victim) = victim {
            open.kills.push(Kill::new(append.hash, lsn, victim));
        }
        let replaced = old.is_some_and(|old| old.expires_ms > self.now_ms);
        let old = old.map(|old| old.location);
        let ticket = append.ticket;
        let event = match append.op {
            Op::Put(put) => {
                open.listed.push(Listed {
                    hash: append.hash,
                    lsn,
                    offset: location.offset,
                    payload_len: location.len,
                    expires_ms,
                    metadata_len: put.metadata.len() as u16,
                    key: append.key,
                });
                self.stats.records_stored += 1;
                self.stats.payload_bytes_stored += put.payload_len;
                self.directory.publish(&append.hash, old.as_ref(), &location);
                self.recent.insert(append.hash, location, expires_ms);
                Event::Stored { ticket, lsn, location, expires_ms, replaced }
            }
            Op::Delete => {
                self.stats.tombstones += 1;
                if let Some(old) = old {
                    self.directory.retract(&append.hash, &old);
                }
                self.recent.remove(&append.hash);
                Event::Deleted { ticket, existed: replaced }
            }
        };
        self.zones[location.zone as usize].record_count += 1;
        self.zones[location.zone as usize].used_len = self.open[&location.zone].used;
        self.finish(&append.hash, event);
        self.seal_if_quiet(location.zone);
    }

    /// Ends an operation and starts the next one on the same key.
    pub(crate) fn finish(&mut self, hash: &KeyHash, event: Event) {
        self.events.push_back(event);
        self.stats.backlog -= 1;
        let queue = self.busy.get_mut(hash).expect("an operation under way keeps its key busy");
        match queue.pop_front() {
            Some(next) => self.find_victim(next),
            None => drop(self.busy.remove(hash)),
        }
    }

    fn fail(&mut self, ticket: u64, error: AppendError) {
        self.events.push_back(Event::Failed { ticket, error });
    }

    /// A failed flush is never asked for again: what it covered may be lost, and a second flush would
    /// say yes all the same.
    fn fence(&mut self, failure: IoFailure) {
        self.fenced = Some(failure);
        self.events.push_back(Event::Fenced(failure));
        let error = AppendError::Fenced(failure);
        let mut tickets: Vec<u64> = Vec::new();
        tickets.extend(self.flying.drain().map(|(_, flying)| flying.pending.append.ticket));
        for class in &mut self.classes {
            tickets.extend(class.waiting.drain(..).map(|pending| pending.append.ticket));
        }
        for purpose in self.purposes.values() {
            if let Purpose::VictimHeader { append, .. } = purpose {
                tickets.push(append.ticket);
            }
        }
        for (_, queue) in self.busy.drain() {
            tickets.extend(queue.into_iter().map(|append| append.ticket));
        }
        tickets.sort_unstable();
        assert_eq!(tickets.len(), self.stats.backlog as usize, "every operation ends once");
        self.stats.backlog = 0;
        for ticket in tickets {
            self.events.push_back(Event::Failed { ticket, error });
        }
        // The I/O not yet handed out never starts.
        for io in self.wanted.drain(..).chain(self.records_wanted.drain(..)) {
            self.purposes.remove(&io.id);
        }
        self.written.clear();
        self.flushing = None;
        self.unresolved.clear();
    }

    fn repair_durable(&mut self) {
        if let Phase::Starting { writes } = &mut self.phase {
            *writes -= 1;
        }
        self.continue_start();
    }

    /// Repairs first, then the checkpoint that forbids ghosts, then service.
    fn continue_start(&mut self) {
        if self.phase == (Phase::Starting { writes: 0 }) {
            self.want_checkpoint();
        }
    }

    fn checkpoint_durable(&mut self) {
        match self.phase {
            Phase::Starting { writes: 0 } => {
                self.phase = Phase::Running;
                self.events.push_back(Event::Started);
                self.prepare_next();
            }
            Phase::Closing { checkpoint: true } => {
                self.phase = Phase::Closed;
                self.events.push_back(Event::Closed);
            }
            _ => {}
        }
    }

    fn continue_close(&mut self) {
        if self.phase == (Phase::Closing { checkpoint: false })
            && self.stats.backlog == 0
            && self.is_idle()
        {
            self.phase = Phase::Closing { checkpoint: true };
            self.want_checkpoint();
        } else if self.phase == (Phase::Closing { checkpoint: true }) && self.is_idle() {
            // The checkpoint could not be written: what it would have said is found by scanning.
            self.phase = Phase::Closed;
            self.events.push_back(Event::Closed);
        }
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

    fn io_id(&mut self, purpose: Purpose) -> u64 {
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

fn shape_of(append: &Append) -> RecordShape {
    match &append.op {
        Op::Put(put) => RecordShape::of(append.key.len(), put.metadata.len(), put.payload_len),
        Op::Delete => RecordShape::of(append.key.len(), 0, 0),
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
