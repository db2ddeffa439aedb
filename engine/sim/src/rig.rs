//! A log on simulated drives, with a clock: what the engine's appenders do, without threads.

use crate::drive::{Condition, Drive, Request, Verdict};
use crate::faults::{Fault, Faults};
use crate::ledger::Ledger;
use crate::payload::payload;
use crate::rng::{Rng, TraceHash};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tapeloop_format::{
    BLOCK, CHECKPOINT_SLOTS, CHUNK, Checkpoint, KeyHash, KeyHasher, StoreGeometry, StoreId,
    VOLUME_COUNT_MAX, chunk_crc,
};
use tapeloop_log::{
    Append, Directory, Event, GroupPolicy, Index, Io, IoFailure, IoOp, Log, MachineTime, Op, Put,
    Recovery, RecoveryReport, StoreClock, Ticket,
};

pub(crate) const STORE_ID: StoreId = StoreId(*b"a simulated one.");

/// Steps after which a log that still wants I/O is taken to spin.
const STEPS_MAX: usize = 100_000;

/// A key and its hash; keys go by their numbers.
pub(crate) struct KeyName {
    pub(crate) name: Box<[u8]>,
    pub(crate) hash: KeyHash,
}

/// An operation under way: its payload is made when the log asks for it.
struct Body {
    key: usize,
    version: u64,
    len: u64,
}

pub(crate) struct Rig {
    pub(crate) drives: Vec<Drive>,
    pub(crate) ledgers: Vec<Ledger>,
    pub(crate) geometry: StoreGeometry,
    pub(crate) machine: MachineTime,
    pub(crate) clock: StoreClock,
    pub(crate) groups: Vec<GroupPolicy>,
    pub(crate) keys: Vec<KeyName>,
    pub(crate) log: Option<Log>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) report: RecoveryReport,
    pub(crate) events: Vec<Event>,
    pub(crate) faults: Faults,
    pub(crate) hash: TraceHash,
    /// Volumes that are not there.
    pub(crate) missing: Vec<u16>,
    /// Volumes that must not be written to any more: a flush failed, or the world gave them up.
    pub(crate) shut: Vec<bool>,
    /// What happened, if anybody wants to read it.
    pub(crate) trace: Option<Vec<String>>,
    /// Every I/O too.
    pub(crate) traces_io: bool,
    numbers: HashMap<KeyHash, usize>,
    bodies: BTreeMap<Ticket, Body>,
    next_ticket: Ticket,
}

impl Rig {
    /// Volumes fresh from the formatter, not opened yet.
    pub(crate) fn new(geometry: StoreGeometry, sector: usize, with_checkpoint: bool) -> Rig {
        let machine =
            MachineTime { boot_id: [1; 16], boottime_ms: 5000, wall_ms: 1_700_000_000_000 };
        let clock = StoreClock::new(machine);
        let volumes = usize::from(geometry.volume_count());
        let len = geometry.volume().volume_len();
        let mut drives: Vec<Drive> = (0..volumes).map(|_| Drive::new(len, sector)).collect();
        if with_checkpoint {
            let first = Checkpoint {
                sequence: 1,
                incarnation: 1,
                clock: clock.mark(machine.boottime_ms, machine.wall_ms),
                durable_lsn: 0,
                next_lsn: 1,
                next_base_position: 0,
                open_zones: Vec::new(),
                given_up: [0; VOLUME_COUNT_MAX as usize],
            };
            let bytes = first.encode(&STORE_ID);
            drives.iter_mut().for_each(|drive| drive.plant(first.slot_offset(), &bytes[..]));
        }
        Rig {
            drives,
            ledgers: (0..volumes).map(|_| Ledger::default()).collect(),
            geometry,
            machine,
            clock,
            groups: Vec::new(),
            keys: Vec::new(),
            directory: Arc::new(Directory::new(geometry, Index::default())),
            log: None,
            report: RecoveryReport::default(),
            events: Vec::new(),
            faults: Faults::default(),
            hash: TraceHash::default(),
            missing: Vec::new(),
            shut: vec![false; volumes],
            trace: None,
            traces_io: false,
            numbers: HashMap::new(),
            bodies: BTreeMap::new(),
            next_ticket: 1,
        }
    }

    /// The number of a key; new names get the next one.
    pub(crate) fn key(&mut self, name: &[u8]) -> usize {
        let hash = KeyHasher::new(&STORE_ID).hash(name);
        let next = self.keys.len();
        let number = *self.numbers.entry(hash).or_insert(next);
        if number == next {
            self.keys.push(KeyName { name: name.into(), hash });
        }
        number
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.at(self.machine.boottime_ms)
    }

    pub(crate) fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("the log is open")
    }

    pub(crate) fn is_missing(&self, volume: usize) -> bool {
        self.missing.contains(&(volume as u16))
    }

    /// Reads everything and brings up the log. False: `crashes` said so in the middle of it.
    pub(crate) fn recover(
        &mut self,
        rng: &mut Rng,
        mut crashes: impl FnMut(&mut Rng) -> bool,
    ) -> bool {
        assert!(self.log.is_none());
        let mut recovery = Recovery::new(STORE_ID, self.geometry, &self.missing);
        let mut reads = Vec::new();
        loop {
            while let Some(read) = recovery.poll_read() {
                assert!(!self.is_missing(usize::from(read.volume)), "a volume that is not there");
                reads.push(read);
            }
            if reads.is_empty() {
                break;
            }
            if crashes(rng) {
                return false;
            }
            let read = reads.swap_remove(rng.index(reads.len()));
            let bytes = self.drives[usize::from(read.volume)].read(read.offset, read.len);
            recovery.read_done(read.id, bytes.as_deref().map_err(|failure| *failure));
        }
        assert!(recovery.is_done());
        let late = self.drives.iter_mut().filter_map(|drive| drive.land_late().then_some(()));
        (0..late.count()).for_each(|_| self.faults.count(Fault::LateWrite));
        let (log, clock, report) = recovery.finish(self.groups.clone(), self.machine, 1);
        self.directory = log.directory().clone();
        (self.clock, self.report, self.log) = (clock, report, Some(log));
        self.shut.fill(false);
        self.hash.add(self.now_ms());
        self.pump();
        true
    }

    /// The process is gone, one way or the other.
    pub(crate) fn abandon(&mut self) {
        self.log = None;
        self.bodies.clear();
        self.events.clear();
    }

    pub(crate) fn put(
        &mut self,
        key: usize,
        version: u64,
        len: u64,
        ttl_ms: u64,
        group: u64,
    ) -> Ticket {
        let bytes = payload(key, version, len);
        let salt = STORE_ID.salt();
        let put = Put {
            metadata: vec![7; (version % 60) as usize].into(),
            payload_len: len,
            chunk_crcs: bytes.chunks(CHUNK).map(|chunk| chunk_crc(salt, chunk)).collect(),
            content_hash: u128::from(version).to_le_bytes(),
            ttl_ms,
            group,
            created_wall_ms: version,
        };
        self.bodies.insert(self.next_ticket, Body { key, version, len });
        self.append(key, Op::Put(put))
    }

    pub(crate) fn delete(&mut self, key: usize) -> Ticket {
        self.bodies.insert(self.next_ticket, Body { key, version: 0, len: 0 });
        self.append(key, Op::Delete)
    }

    fn append(&mut self, key: usize, op: Op) -> Ticket {
        let (ticket, now_ms) = (self.next_ticket, self.now_ms());
        self.next_ticket += 1;
        let KeyName { name, hash } = &self.keys[key];
        let append = Append { ticket, hash: *hash, key: name.clone(), op };
        self.log().append(now_ms, append);
        self.pump();
        ticket
    }

    /// The clocks go on, and the log hears of it.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.machine.boottime_ms += ms;
        self.machine.wall_ms += ms;
        self.tick();
    }

    pub(crate) fn tick(&mut self) {
        let now_ms = self.now_ms();
        let mark = self.clock.mark(self.machine.boottime_ms, self.machine.wall_ms);
        self.log().tick(now_ms, mark);
        self.pump();
    }

    pub(crate) fn close(&mut self) {
        self.log().close();
        self.pump();
    }

    /// Volumes that answer and are not given up.
    pub(crate) fn is_healthy(&self, volume: usize) -> bool {
        !self.shut[volume]
            && !self.is_missing(volume)
            && matches!(self.drives[volume].condition, Condition::Fine | Condition::Gone)
    }

    /// The world gives a volume up, as the engine does with a drive that hangs.
    pub(crate) fn fence(&mut self, volume: usize, failure: IoFailure) {
        let now_ms = self.now_ms();
        self.shut[volume] = true;
        self.log().fence_volume(now_ms, volume as u16, failure);
        self.pump();
    }

    pub(crate) fn avoid(&mut self, volume: usize, avoid: bool) {
        self.log().avoid_volume(volume as u16, avoid);
        self.pump();
    }

    /// Ends one I/O, if any is in flight on a drive that answers.
    pub(crate) fn complete_one(&mut self, rng: &mut Rng) -> bool {
        let now_ms = self.machine.boottime_ms;
        let answers = |drive: &Drive| match drive.condition {
            Condition::Fine | Condition::Gone => true,
            Condition::Slow { until_ms } => until_ms <= now_ms,
            Condition::Hung { .. } => false,
        };
        let counts = self.drives.iter().map(|d| if answers(d) { d.in_flight() } else { 0 });
        let counts: Vec<usize> = counts.collect();
        let total: usize = counts.iter().sum();
        if total == 0 {
            return false;
        }
        let mut nth = rng.index(total);
        let holds = |count: &usize| {
            let found = nth < *count;
            nth -= if found { 0 } else { *count };
            found
        };
        let volume = counts.iter().position(holds).expect("below the total");
        self.complete(rng, volume, nth);
        true
    }

    /// Ends the I/O in flight at `at` on a volume.
    pub(crate) fn complete(&mut self, rng: &mut Rng, volume: usize, at: usize) {
        let drive = &mut self.drives[volume];
        let request = drive.request(at);
        let is_flush = matches!(request, Request::Flush);
        let gone = drive.condition == Condition::Gone;
        let mut verdict = match gone {
            true => Verdict::Eio,
            false => self.faults.judge(rng, volume, request, self.geometry.volume()),
        };
        if let (Verdict::Misdirected(to), Request::Write { bytes, .. }) = (verdict, request) {
            let end = self.geometry.volume().header_b_offset();
            verdict = Verdict::Misdirected(to.min(end - bytes.len() as u64));
        }
        let (id, result) = drive.complete(rng, at, verdict);
        if self.traces_io || (self.trace.is_some() && verdict != Verdict::Done) {
            let end = result.as_ref().map(Vec::len);
            self.note(&format!("  io {id} of volume {volume} ends: {verdict:?}, {end:?}"));
        }
        if is_flush && result.is_err() {
            self.shut[volume] = true;
        }
        self.hash.add(id << 1 | u64::from(result.is_ok()));
        let now_ms = self.now_ms();
        self.log().io_done(now_ms, id, result);
        self.pump();
    }

    /// Ends everything in flight, and what follows from it.
    #[cfg(test)]
    pub(crate) fn drain(&mut self, rng: &mut Rng) {
        for _ in 0..STEPS_MAX {
            if !self.complete_one(rng) {
                return;
            }
        }
        panic!("the log never comes to rest");
    }

    pub(crate) const fn steps_max() -> usize {
        STEPS_MAX
    }

    pub(crate) fn pump(&mut self) {
        self.take_events();
        for volume in 0..self.drives.len() {
            while let Some(io) = self.log().poll_io(volume as u16) {
                self.begin(volume, &io);
            }
        }
        self.take_events();
    }

    fn take_events(&mut self) {
        while let Some(event) = self.log().poll_event() {
            self.hash_event(&event);
            if let Event::Stored { ticket, .. }
            | Event::Deleted { ticket, .. }
            | Event::Failed { ticket, .. } = &event
            {
                self.bodies.remove(ticket);
            }
            self.events.push(event);
        }
    }

    fn hash_event(&mut self, event: &Event) {
        let (kind, what) = match event {
            Event::Started => (1, 0),
            Event::Stored { ticket, lsn, .. } => (2, ticket ^ lsn.rotate_left(32)),
            Event::Deleted { ticket, existed } => (3, ticket << 1 | u64::from(*existed)),
            Event::Failed { ticket, .. } => (4, *ticket),
            Event::Fenced { volume, .. } => (5, u64::from(*volume)),
            Event::Closed => (6, 0),
        };
        self.hash.add(kind);
        self.hash.add(what);
    }

    fn begin(&mut self, volume: usize, io: &Io) {
        let (request, record_key) = self.request(io);
        assert!(!self.is_missing(volume), "nothing is asked of a volume that is not there");
        assert!(
            !self.shut[volume] || matches!(request, Request::Read { .. }),
            "nothing is written after a failed flush, nor flushed again"
        );
        if self.traces_io {
            self.note(&format!("  io {} of volume {volume}: {}", io.id, request.describe()));
        }
        self.hash.add(io.id);
        match &request {
            Request::Flush => self.hash.add(volume as u64),
            Request::Read { offset, len } => self.hash.add(offset ^ (*len as u64) << 40),
            Request::Write { offset, bytes, .. } => {
                assert!(offset % BLOCK as u64 == 0 && bytes.len() % BLOCK == 0);
                let volume_geometry = self.geometry.volume();
                assert!(offset + bytes.len() as u64 <= volume_geometry.header_b_offset());
                self.hash.add(offset ^ (bytes.len() as u64) << 40);
                self.hash.add(u64::from(STORE_ID.salt().crc(&bytes[..BLOCK])));
                let numbers = &self.numbers;
                let what = self.ledgers[volume].wrote(
                    volume_geometry,
                    *offset,
                    bytes,
                    record_key,
                    &STORE_ID,
                    |hash| numbers.get(hash).copied(),
                );
                if self.traces_io {
                    self.note(&format!("    {what:?}"));
                }
            }
        }
        self.drives[volume].submit(io.id, request);
    }

    fn request(&self, io: &Io) -> (Request, Option<usize>) {
        match &io.op {
            IoOp::Record { offset, header, shape, ticket } => {
                let mut bytes = header.clone();
                bytes.resize(shape.record_len, 0);
                let body = &self.bodies[ticket];
                if body.len > 0 {
                    let payload = payload(body.key, body.version, body.len);
                    bytes[shape.payload_offset..][..payload.len()].copy_from_slice(&payload);
                }
                (Request::Write { offset: *offset, bytes, is_record: true }, Some(body.key))
            }
            IoOp::Write { offset, bytes } => {
                let bytes = bytes.clone();
                (Request::Write { offset: *offset, bytes, is_record: false }, None)
            }
            IoOp::Flush => (Request::Flush, None),
            IoOp::Read { offset, len } => (Request::Read { offset: *offset, len: *len }, None),
        }
    }

    /// The newest durable checkpoint of the volumes that are there.
    pub(crate) fn marked(&self) -> Option<Checkpoint> {
        let there = (0..self.drives.len()).filter(|volume| !self.is_missing(*volume));
        let newest = there.filter_map(|volume| self.marked_on(volume));
        newest.max_by_key(|checkpoint| (checkpoint.incarnation, checkpoint.clock.store_ms))
    }

    pub(crate) fn marked_on(&self, volume: usize) -> Option<Checkpoint> {
        let drive = &self.drives[volume];
        let slots = CHECKPOINT_SLOTS
            .map(|offset| Checkpoint::decode(drive.durable(offset, BLOCK), &STORE_ID));
        Checkpoint::newest(slots)
    }

    /// Is there damage in the record at this place, or in what its whole zone hangs on?
    pub(crate) fn may_be_damaged_at(&self, zone: u32, offset: u64) -> bool {
        let volume = self.geometry.volume_of(zone);
        let drive = &self.drives[usize::from(volume)];
        if drive.overlays.is_empty() {
            return false;
        }
        let start = self.geometry.zone_offset(zone);
        let header_is_damaged = drive.overlays.touches(start, BLOCK);
        let len =
            self.ledgers[usize::from(volume)].region_len(start + offset).unwrap_or(BLOCK as u64);
        header_is_damaged || drive.overlays.touches(start + offset, len as usize)
    }

    pub(crate) fn note(&mut self, what: &str) {
        let now_ms = self.now_ms();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now_ms} {what}"));
        }
    }

    pub(crate) fn count(&mut self, fault: Fault) {
        self.faults.count(fault);
    }
}
