//! A log on a simulated drive, with a clock: what the engine's appender does, without threads.

use super::drive::{Drive, Request};
use super::rng::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use tapeloop_format::{
    BLOCK, CARRY_JOURNAL_OFFSET, CHECKPOINT_SLOTS, CHUNK, Checkpoint, DATA_OFFSET, Geometry,
    KeyHash, KeyHasher, RecordHeader, RecordKind, StoreGeometry, StoreId, chunk_crc,
};
use tapeloop_log::{
    Append, Directory, Event, GroupPolicy, Index, Io, IoOp, Log, MachineTime, Op, Put, Recovery,
    RecoveryReport, StoreClock, Ticket,
};

pub(crate) const STORE_ID: StoreId = StoreId(*b"a simulated one.");

/// Which I/O may fail, in permille, and how often at all.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Faults {
    pub(crate) record: u64,
    pub(crate) header: u64,
    pub(crate) footer: u64,
    pub(crate) journal: u64,
    pub(crate) checkpoint: u64,
    pub(crate) read: u64,
    pub(crate) flush: u64,
    pub(crate) budget: u32,
}

/// What a reader finds under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    Object { version: u64, expires_ms: u64, zone: u32, lap: u64 },
}

pub(crate) struct Rig {
    pub(crate) drive: Drive,
    pub(crate) geometry: Geometry,
    pub(crate) machine: MachineTime,
    pub(crate) clock: StoreClock,
    pub(crate) groups: Vec<GroupPolicy>,
    pub(crate) log: Option<Log>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) report: RecoveryReport,
    pub(crate) events: Vec<Event>,
    pub(crate) faults: Faults,
    pub(crate) faults_done: u32,
    pub(crate) flush_failed: bool,
    payloads: BTreeMap<Ticket, Vec<u8>>,
    next_ticket: Ticket,
}

/// Bytes that no other key or version has.
pub(crate) fn payload(key: &[u8], version: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![version as u8 ^ key[0]; len as usize];
    for (index, sector) in bytes.chunks_mut(512).enumerate() {
        let stamp = [version, index as u64, key.len() as u64].map(u64::to_le_bytes).concat();
        let stamp = [&stamp[..], key].concat();
        let len = stamp.len().min(sector.len());
        sector[..len].copy_from_slice(&stamp[..len]);
    }
    bytes
}

fn store(geometry: Geometry) -> StoreGeometry {
    StoreGeometry::new(geometry, 1).expect("one volume")
}

pub(crate) fn hash(key: &[u8]) -> KeyHash {
    KeyHasher::new(&STORE_ID).hash(key)
}

impl Rig {
    /// A volume fresh from the formatter, not opened yet.
    pub(crate) fn new(geometry: Geometry, sector: usize, with_checkpoint: bool) -> Rig {
        let machine =
            MachineTime { boot_id: [1; 16], boottime_ms: 5000, wall_ms: 1_700_000_000_000 };
        let clock = StoreClock::new(machine);
        let mut drive = Drive::new(geometry.volume_len(), sector);
        if with_checkpoint {
            let first = Checkpoint {
                sequence: 1,
                incarnation: 1,
                clock: clock.mark(machine.boottime_ms, machine.wall_ms),
                durable_lsn: 0,
                next_lsn: 1,
                next_base_position: 0,
                open_zones: Vec::new(),
                given_up: [0; 16],
            };
            drive.plant(first.slot_offset(), &first.encode(&STORE_ID)[..]);
        }
        Rig {
            drive,
            geometry,
            machine,
            clock,
            groups: Vec::new(),
            directory: Arc::new(Directory::new(store(geometry), Index::default())),
            log: None,
            report: RecoveryReport::default(),
            events: Vec::new(),
            faults: Faults::default(),
            faults_done: 0,
            flush_failed: false,
            payloads: BTreeMap::new(),
            next_ticket: 1,
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.at(self.machine.boottime_ms)
    }

    pub(crate) fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("the log is open")
    }

    /// Reads everything and brings up the log. False: `crashes` said so in the middle of it.
    pub(crate) fn recover(
        &mut self,
        rng: &mut Rng,
        mut crashes: impl FnMut(&mut Rng) -> bool,
    ) -> bool {
        assert!(self.log.is_none());
        let mut recovery = Recovery::new(STORE_ID, store(self.geometry), &[]);
        let mut reads = Vec::new();
        loop {
            while let Some(read) = recovery.poll_read() {
                reads.push(read);
            }
            if reads.is_empty() {
                break;
            }
            if crashes(rng) {
                return false;
            }
            let read = reads.swap_remove(rng.below(reads.len() as u64) as usize);
            recovery.read_done(read.id, Ok(self.drive.read(read.offset, read.len)));
        }
        assert!(recovery.is_done());
        self.drive.land_late();
        let (log, clock, report) = recovery.finish(self.groups.clone(), self.machine, 1);
        self.directory = log.directory().clone();
        (self.clock, self.report, self.log) = (clock, report, Some(log));
        self.flush_failed = false;
        self.pump();
        true
    }

    /// The process is gone, one way or the other.
    pub(crate) fn abandon(&mut self) {
        self.log = None;
        self.payloads.clear();
        self.events.clear();
    }

    pub(crate) fn put(
        &mut self,
        key: &[u8],
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
        self.payloads.insert(self.next_ticket, bytes);
        self.append(key, Op::Put(put))
    }

    pub(crate) fn delete(&mut self, key: &[u8]) -> Ticket {
        self.append(key, Op::Delete)
    }

    fn append(&mut self, key: &[u8], op: Op) -> Ticket {
        let (ticket, now_ms) = (self.next_ticket, self.now_ms());
        self.next_ticket += 1;
        self.log().append(now_ms, Append { ticket, hash: hash(key), key: key.into(), op });
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

    /// Ends one I/O, if any is in flight.
    pub(crate) fn complete_one(&mut self, rng: &mut Rng) -> bool {
        if self.drive.in_flight() == 0 {
            return false;
        }
        let (geometry, faults, left) =
            (self.geometry, self.faults, self.faults.budget.saturating_sub(self.faults_done));
        let mut failed = None;
        let (id, result) = self.drive.complete(rng, |rng, request| {
            let fails = left > 0 && rng.permille(faults.permille_of(request, &geometry));
            failed = fails.then_some(matches!(request, Request::Flush));
            fails
        });
        if let Some(is_flush) = failed {
            self.faults_done += 1;
            self.flush_failed |= is_flush;
        }
        let now_ms = self.now_ms();
        self.log().io_done(now_ms, id, result);
        self.pump();
        true
    }

    /// Ends everything in flight, and what follows from it.
    pub(crate) fn drain(&mut self, rng: &mut Rng) {
        for _ in 0..100_000 {
            if !self.complete_one(rng) {
                return;
            }
        }
        panic!("the log never comes to rest");
    }

    fn pump(&mut self) {
        let log = self.log.as_mut().expect("the log is open");
        while let Some(event) = log.poll_event() {
            self.events.push(event);
        }
        while let Some(io) = log.poll_io(0) {
            assert!(
                !self.flush_failed,
                "nothing is written after a failed flush, nor flushed again"
            );
            let request = request(&self.payloads, &io);
            if let Request::Write { offset, bytes, .. } = &request {
                assert!(offset % BLOCK as u64 == 0 && bytes.len() % BLOCK == 0);
                assert!(offset + bytes.len() as u64 <= self.geometry.header_b_offset());
            }
            self.drive.submit(io.id, request);
        }
        while let Some(event) = log.poll_event() {
            self.events.push(event);
        }
    }

    /// What a GET finds: place by the directory, everything verified in the read.
    pub(crate) fn look(&self, key: &[u8]) -> Result<Seen, String> {
        let mut seen = Seen::Nothing;
        for location in self.directory.lookup(&hash(key)).iter() {
            let zone_at = self.geometry.zone_offset(location.zone);
            let rest = (self.geometry.zone_size() - location.offset) as usize;
            let bytes = self.drive.read(zone_at + location.offset, rest);
            let header = RecordHeader::decode(bytes, STORE_ID.salt())
                .map_err(|error| format!("index points at {location:?}: {error}"))?;
            if *header.key != *key {
                continue;
            }
            let kind = (header.kind, header.zone, header.lap, header.payload_len);
            let wanted = (RecordKind::Put, location.zone, location.lap, u64::from(location.len));
            if kind != wanted {
                return Err(format!("index points at {location:?}, there is {header:?}"));
            }
            if header.expires_ms <= self.now_ms() {
                continue;
            }
            if seen != Seen::Nothing {
                return Err(format!("two places for one key, {location:?} is one"));
            }
            let stored = &bytes[header.shape().payload_offset..][..header.payload_len as usize];
            if stored != payload(key, header.created_wall_ms, header.payload_len) {
                return Err(format!("payload at {location:?} is not what was put"));
            }
            for (index, chunk) in stored.chunks(CHUNK).enumerate() {
                header
                    .verify_chunk(STORE_ID.salt(), index, chunk)
                    .map_err(|error| error.to_string())?;
            }
            let (version, expires_ms) = (header.created_wall_ms, header.expires_ms);
            seen = Seen::Object { version, expires_ms, zone: location.zone, lap: location.lap };
        }
        Ok(seen)
    }

    /// Store time of the newest durable checkpoint.
    pub(crate) fn marked(&self) -> Option<Checkpoint> {
        let slots = CHECKPOINT_SLOTS
            .map(|offset| Checkpoint::decode(self.drive.durable(offset, BLOCK), &STORE_ID));
        Checkpoint::newest(slots)
    }
}

fn request(payloads: &BTreeMap<Ticket, Vec<u8>>, io: &Io) -> Request {
    match &io.op {
        IoOp::Record { offset, header, shape, ticket } => {
            let mut bytes = header.clone();
            bytes.resize(shape.record_len, 0);
            if let Some(payload) = payloads.get(ticket) {
                bytes[shape.payload_offset..][..payload.len()].copy_from_slice(payload);
            }
            Request::Write { offset: *offset, bytes, is_record: true }
        }
        IoOp::Write { offset, bytes } => {
            Request::Write { offset: *offset, bytes: bytes.clone(), is_record: false }
        }
        IoOp::Flush => Request::Flush,
        IoOp::Read { offset, len } => Request::Read { offset: *offset, len: *len },
    }
}

impl Faults {
    fn permille_of(&self, request: &Request, geometry: &Geometry) -> u64 {
        let (offset, len) = match request {
            Request::Flush => return self.flush,
            Request::Read { .. } => return self.read,
            Request::Write { is_record: true, .. } => return self.record,
            Request::Write { offset, bytes, .. } => (*offset, bytes.len() as u64),
        };
        let in_zone = |at: u64| (at - DATA_OFFSET) % geometry.zone_size();
        match offset {
            _ if offset < CARRY_JOURNAL_OFFSET => self.checkpoint,
            _ if offset < DATA_OFFSET => self.journal,
            _ if in_zone(offset) == 0 => self.header,
            _ if in_zone(offset + len) == 0 => self.footer,
            // Carry records and voids.
            _ => self.header,
        }
    }
}
