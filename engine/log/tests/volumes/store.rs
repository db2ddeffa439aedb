//! A log over several drives in memory, one step at a time and without chance: each drive can be
//! frozen, refuse writes, fail flushes or lose what it was not made to flush.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tapeloop_format::{
    BLOCK, CHECKPOINT_SLOTS, CHUNK, Checkpoint, DATA_OFFSET, FooterTrailer, Geometry, KeyHash,
    KeyHasher, RecordHeader, RecordKind, StoreGeometry, StoreId, ZoneHeader, chunk_crc,
};
use tapeloop_log::{
    Append, AppendError, Directory, Event, IoFailure, IoOp, Log, MachineTime, Op, Put, Recovery,
    RecoveryReport, StoreClock, Ticket,
};

const STORE_ID: StoreId = StoreId(*b"several volumes.");
const ZONE_SIZE: u64 = 64 << 10;
const REFUSED: IoFailure = IoFailure { errno: 5 };

/// What a reader finds under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    Version(u64),
}

/// What a power cut leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// What was flushed.
    Durable,
    /// Everything that was ever asked for, what is in flight included.
    Everything,
}

enum Request {
    Record {
        offset: u64,
        bytes: Vec<u8>,
    },
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    /// Covers so many of the writes completed before.
    Flush {
        covers: usize,
    },
    Read {
        offset: u64,
        len: usize,
    },
}

#[derive(Default)]
struct Refuses {
    all: bool,
    records: bool,
    record_once: bool,
    /// From, to.
    stretch: Option<(u64, u64)>,
    /// Carry records in their zones.
    carries: bool,
    /// Zone headers, which land all the same.
    headers: bool,
}

struct Drive {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unflushed: Vec<(usize, usize)>,
    queue: VecDeque<(u64, Request)>,
    is_frozen: bool,
    holds_flushes: bool,
    fails_flushes: bool,
    refuses: Refuses,
}

impl Drive {
    fn new(len: u64) -> Drive {
        Drive {
            seen: vec![0; len as usize],
            durable: vec![0; len as usize],
            unflushed: Vec::new(),
            queue: VecDeque::new(),
            is_frozen: false,
            holds_flushes: false,
            fails_flushes: false,
            refuses: Refuses::default(),
        }
    }

    fn plant(&mut self, offset: u64, bytes: &[u8]) {
        for image in [&mut self.seen, &mut self.durable] {
            image[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }
    }

    fn land(&mut self, offset: u64, bytes: &[u8]) {
        self.seen[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        self.unflushed.push((offset as usize, bytes.len()));
    }

    fn refuses(&mut self, offset: u64, is_record: bool) -> bool {
        let refuses = &mut self.refuses;
        let once = is_record && refuses.record_once;
        let there = refuses.stretch.is_some_and(|(from, to)| (from..to).contains(&offset));
        refuses.all || there || once || (is_record && refuses.records)
    }

    /// Ends the next request that it does not sit on.
    fn step(&mut self) -> Option<(u64, Result<Vec<u8>, IoFailure>)> {
        let holds = |request: &Request| {
            self.is_frozen || (self.holds_flushes && matches!(request, Request::Flush { .. }))
        };
        let at = self.queue.iter().position(|(_, request)| !holds(request))?;
        let (id, request) = self.queue.remove(at).expect("just found");
        let result = match request {
            Request::Record { offset, bytes } => {
                let refused = self.refuses(offset, true);
                let once = std::mem::take(&mut self.refuses.record_once);
                // The worst case: a refused record is there all the same.
                if !once {
                    self.land(offset, &bytes);
                }
                if refused { Err(REFUSED) } else { Ok(Vec::new()) }
            }
            Request::Write { offset, bytes } => {
                let is_header = ZoneHeader::decode(&bytes, &STORE_ID).is_ok();
                let refuses_header = self.refuses.headers && is_header;
                let is_void = is_kind(&bytes, RecordKind::Void);
                let is_carry = offset >= DATA_OFFSET && is_kind(&bytes, RecordKind::Carry);
                let refused = self.refuses(offset, is_void) || self.refuses.carries && is_carry;
                if !refused {
                    self.land(offset, &bytes);
                }
                if refused || refuses_header { Err(REFUSED) } else { Ok(Vec::new()) }
            }
            Request::Flush { .. } if self.fails_flushes => Err(REFUSED),
            Request::Flush { covers } => {
                for (at, len) in self.unflushed.drain(..covers) {
                    self.durable[at..at + len].copy_from_slice(&self.seen[at..at + len]);
                }
                Ok(Vec::new())
            }
            Request::Read { offset, len } => Ok(self.seen[offset as usize..][..len].to_vec()),
        };
        Some((id, result))
    }

    fn cut_power(&mut self, keep: Keep) {
        for (_, request) in std::mem::take(&mut self.queue) {
            if let Request::Record { offset, bytes } | Request::Write { offset, bytes } = request {
                self.land(offset, &bytes);
            }
        }
        match keep {
            Keep::Durable => self.seen.copy_from_slice(&self.durable),
            Keep::Everything => self.durable.copy_from_slice(&self.seen),
        }
        self.unflushed.clear();
        self.is_frozen = false;
        self.holds_flushes = false;
    }
}

fn is_kind(bytes: &[u8], kind: RecordKind) -> bool {
    let header = RecordHeader::decode(bytes, STORE_ID.salt());
    header.is_ok_and(|header| header.kind == kind)
}

pub(crate) struct Store {
    geometry: StoreGeometry,
    drives: Vec<Drive>,
    log: Option<Log>,
    directory: Arc<Directory>,
    machine: MachineTime,
    clock: StoreClock,
    pub(crate) report: RecoveryReport,
    /// Since the last `put` or `delete` ended.
    pub(crate) events: Vec<Event>,
    payloads: BTreeMap<Ticket, Vec<u8>>,
    next_ticket: Ticket,
    turn: usize,
}

fn hash(key: &str) -> KeyHash {
    KeyHasher::new(&STORE_ID).hash(key.as_bytes())
}

impl Store {
    /// Formatted and opened, with so many zones of 64 KiB on each volume.
    pub(crate) fn new(volume_count: u16, zone_count: u32) -> Store {
        let volume = Geometry::new(ZONE_SIZE, zone_count).expect("a small geometry");
        let geometry = StoreGeometry::new(volume, volume_count).expect("some volumes");
        let machine = MachineTime { boot_id: [1; 16], boottime_ms: 1, wall_ms: 1_700_000_000_000 };
        let clock = StoreClock::new(machine);
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
        let drives = (0..volume_count).map(|_| {
            let mut drive = Drive::new(volume.volume_len());
            drive.plant(first.slot_offset(), &first.encode(&STORE_ID)[..]);
            drive
        });
        let mut store = Store {
            geometry,
            drives: drives.collect(),
            log: None,
            directory: Arc::new(Directory::new(geometry, tapeloop_log::Index::default())),
            machine,
            clock,
            report: RecoveryReport::default(),
            events: Vec::new(),
            payloads: BTreeMap::new(),
            next_ticket: 1,
            turn: 0,
        };
        store.recover(&[]);
        store
    }

    pub(crate) fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("the log is open")
    }

    fn now_ms(&self) -> u64 {
        self.clock.at(self.machine.boottime_ms)
    }

    /// Opens the store and waits until it serves.
    pub(crate) fn recover(&mut self, missing: &[u16]) {
        self.open(missing);
        assert!(self.events.contains(&Event::Started), "{:?}", self.events);
        self.events.clear();
    }

    fn open(&mut self, missing: &[u16]) {
        let mut recovery = Recovery::new(STORE_ID, self.geometry, missing);
        while let Some(read) = recovery.poll_read() {
            assert!(!missing.contains(&read.volume), "nothing is asked of a missing volume");
            let seen = &self.drives[usize::from(read.volume)].seen;
            recovery.read_done(read.id, Ok(&seen[read.offset as usize..][..read.len]));
        }
        assert!(recovery.is_done());
        let (log, clock, report) = recovery.finish(Vec::new(), self.machine, 1);
        self.directory = Arc::clone(log.directory());
        (self.clock, self.report, self.log) = (clock, report, Some(log));
        self.run();
    }

    /// Closes the store; it is not opened again yet.
    pub(crate) fn shut(&mut self) {
        self.log().close();
        self.run();
        assert!(self.events.contains(&Event::Closed), "{:?}", self.events);
        self.end_process();
    }

    fn end_process(&mut self) {
        self.log = None;
        self.events.clear();
        self.payloads.clear();
    }

    /// The process is killed and started again.
    pub(crate) fn recover_again(&mut self) {
        self.end_process();
        self.drives.iter_mut().for_each(|drive| drive.queue.clear());
        self.recover(&[]);
    }

    /// The same, whether it serves then or not.
    pub(crate) fn reopen(&mut self) {
        self.end_process();
        self.drives.iter_mut().for_each(|drive| drive.queue.clear());
        self.open(&[]);
    }

    /// Power fails on all drives at once; they all come back.
    pub(crate) fn crash(&mut self, keep: Keep) {
        self.cut_power(keep);
        self.recover(&[]);
    }

    pub(crate) fn cut_power(&mut self, keep: Keep) {
        self.end_process();
        self.drives.iter_mut().for_each(|drive| drive.cut_power(keep));
        self.machine.boot_id[0] += 1;
    }

    pub(crate) fn begin_put(&mut self, key: &str, version: u64, len: u64, ttl_ms: u64) -> Ticket {
        let bytes = vec![version as u8 ^ key.len() as u8; len as usize];
        let put = Put {
            metadata: Box::default(),
            payload_len: len,
            chunk_crcs: bytes.chunks(CHUNK).map(|c| chunk_crc(STORE_ID.salt(), c)).collect(),
            content_hash: u128::from(version).to_le_bytes(),
            ttl_ms,
            group: 0,
            created_wall_ms: version,
        };
        self.payloads.insert(self.next_ticket, bytes);
        self.append(key, Op::Put(put))
    }

    fn append(&mut self, key: &str, op: Op) -> Ticket {
        let (ticket, now_ms) = (self.next_ticket, self.now_ms());
        self.next_ticket += 1;
        let append = Append { ticket, hash: hash(key), key: key.as_bytes().into(), op };
        self.log().append(now_ms, append);
        self.pump();
        ticket
    }

    /// Puts and waits for the end.
    pub(crate) fn put(
        &mut self,
        key: &str,
        version: u64,
        len: u64,
        ttl_ms: u64,
    ) -> Result<(), AppendError> {
        let ticket = self.begin_put(key, version, len, ttl_ms);
        self.wait_for(ticket)
    }

    pub(crate) fn delete(&mut self, key: &str) -> Result<(), AppendError> {
        let ticket = self.begin_delete(key);
        self.wait_for(ticket)
    }

    pub(crate) fn begin_delete(&mut self, key: &str) -> Ticket {
        self.append(key, Op::Delete)
    }

    fn wait_for(&mut self, wanted: Ticket) -> Result<(), AppendError> {
        self.run();
        let ended = std::mem::take(&mut self.events).into_iter().find_map(|event| match event {
            Event::Stored { ticket, .. } | Event::Deleted { ticket, .. } if ticket == wanted => {
                Some(Ok(()))
            }
            Event::Failed { ticket, error } if ticket == wanted => Some(Err(error)),
            _ => None,
        });
        ended.expect("the operation never ends")
    }

    pub(crate) fn is_stored(&self, wanted: Ticket) -> bool {
        let mut events = self.events.iter();
        events.any(|event| matches!(event, Event::Stored { ticket, .. } if *ticket == wanted))
    }

    /// Hands out what the log wants done.
    fn pump(&mut self) {
        let log = self.log.as_mut().expect("the log is open");
        for (volume, drive) in self.drives.iter_mut().enumerate() {
            while let Some(io) = log.poll_io(volume as u16) {
                let own = log.volume_stats(volume as u16);
                assert!(own.fenced.is_none() && !own.is_missing, "I/O for a volume out of use");
                let request = match io.op {
                    IoOp::Record { offset, mut header, shape, ticket } => {
                        header.resize(shape.record_len, 0);
                        if let Some(payload) = self.payloads.get(&ticket) {
                            let at = shape.payload_offset;
                            header[at..at + payload.len()].copy_from_slice(payload);
                        }
                        Request::Record { offset, bytes: header }
                    }
                    IoOp::Write { offset, bytes } => Request::Write { offset, bytes },
                    IoOp::Flush => Request::Flush { covers: drive.unflushed.len() },
                    IoOp::Read { offset, len } => Request::Read { offset, len },
                };
                drive.queue.push_back((io.id, request));
            }
        }
        while let Some(event) = log.poll_event() {
            self.events.push(event);
        }
    }

    /// Ends one I/O; the drives take turns.
    pub(crate) fn step(&mut self) -> bool {
        self.pump();
        for _ in 0..self.drives.len() {
            self.turn = (self.turn + 1) % self.drives.len();
            if let Some((id, result)) = self.drives[self.turn].step() {
                let now_ms = self.now_ms();
                self.log().io_done(now_ms, id, result);
                self.pump();
                return true;
            }
        }
        false
    }

    /// Ends everything that comes to an end.
    pub(crate) fn run(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the log never comes to rest");
    }

    /// Time passes, and everything ends that comes to an end.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.advance(ms);
        self.run();
    }

    pub(crate) fn advance(&mut self, ms: u64) {
        self.machine.boottime_ms += ms;
        self.machine.wall_ms += ms;
        let now_ms = self.now_ms();
        let mark = self.clock.mark(self.machine.boottime_ms, self.machine.wall_ms);
        self.log().tick(now_ms, mark);
        self.pump();
    }

    pub(crate) fn fence(&mut self, volume: u16, failure: IoFailure) {
        let now_ms = self.now_ms();
        self.log().fence_volume(now_ms, volume, failure);
        self.pump();
    }

    fn drive(&mut self, volume: u16) -> &mut Drive {
        &mut self.drives[usize::from(volume)]
    }

    /// A frozen drive answers nothing.
    pub(crate) fn freeze(&mut self, volume: u16, is_frozen: bool) {
        self.drive(volume).is_frozen = is_frozen;
    }

    pub(crate) fn hold_flushes(&mut self, volume: u16, holds: bool) {
        self.drive(volume).holds_flushes = holds;
    }

    pub(crate) fn fail_flushes(&mut self, volume: u16, fails: bool) {
        self.drive(volume).fails_flushes = fails;
    }

    pub(crate) fn refuse_volume(&mut self, volume: u16, all: bool) {
        self.drive(volume).refuses.all = all;
    }

    pub(crate) fn refuse_records_and_voids(&mut self, records: bool) {
        self.drives.iter_mut().for_each(|drive| drive.refuses.records = records);
    }

    /// The next record is refused, and nothing of it is there.
    pub(crate) fn refuse_records_once(&mut self) {
        self.drives.iter_mut().for_each(|drive| drive.refuses.record_once = true);
    }

    pub(crate) fn refuse_carries(&mut self, carries: bool) {
        self.drives.iter_mut().for_each(|drive| drive.refuses.carries = carries);
    }

    /// Zone headers are refused and land all the same.
    pub(crate) fn refuse_headers(&mut self, headers: bool) {
        self.drives.iter_mut().for_each(|drive| drive.refuses.headers = headers);
    }

    pub(crate) fn refuse_zone(&mut self, zone: u32) {
        let from = self.geometry.zone_offset(zone);
        let volume = self.geometry.volume_of(zone);
        self.drive(volume).refuses.stretch = Some((from, from + ZONE_SIZE));
    }

    pub(crate) fn refuse_nothing(&mut self) {
        self.drives.iter_mut().for_each(|drive| drive.refuses = Refuses::default());
    }

    /// Of all that a drive has not flushed only the last write lasts.
    pub(crate) fn tear_all_but_last(&mut self, volume: u16) {
        let drive = self.drive(volume);
        let (at, len) = *drive.unflushed.last().expect("something is not flushed");
        drive.durable[at..at + len].copy_from_slice(&drive.seen[at..at + len]);
    }

    /// Both checkpoints of a volume are gone.
    pub(crate) fn spoil_checkpoints(&mut self, volume: u16) {
        for offset in CHECKPOINT_SLOTS {
            self.drive(volume).plant(offset, &[0xaa; BLOCK]);
        }
    }

    /// The first block of a zone, as the drive has it.
    pub(crate) fn header_of(&self, zone: u32) -> Vec<u8> {
        self.zone_bytes(zone)[..BLOCK].to_vec()
    }

    /// Zone and offset of a key's record, and its first block.
    pub(crate) fn record_of(&self, key: &str) -> ((u32, u64), Vec<u8>) {
        let place = self.directory.lookup(&hash(key)).iter().next().expect("the key is there");
        let block = &self.zone_bytes(place.zone)[place.offset as usize..][..BLOCK];
        ((place.zone, place.offset), block.to_vec())
    }

    /// A write goes astray, or is undone: what lies at a zone's offset is something else.
    pub(crate) fn plant_record(&mut self, (zone, offset): (u32, u64), block: &[u8]) {
        let start = self.geometry.zone_offset(zone);
        self.drive(self.geometry.volume_of(zone)).plant(start + offset, block);
    }

    pub(crate) fn check_no_writes_to(&mut self, volume: u16) {
        assert!(self.log().poll_io(volume).is_none());
        assert!(self.drive(volume).queue.is_empty());
    }

    /// Does the log read the kills of a zone, to make it ready?
    pub(crate) fn is_preparing(&self, zone: u32) -> bool {
        let from = self.geometry.zone_offset(zone);
        let mut queue = self.drives[usize::from(self.geometry.volume_of(zone))].queue.iter();
        queue.any(|(_, request)| {
            let Request::Read { offset, .. } = request else { return false };
            (from..from + ZONE_SIZE).contains(offset)
        })
    }

    fn zone_bytes(&self, zone: u32) -> &[u8] {
        let drive = &self.drives[usize::from(self.geometry.volume_of(zone))];
        &drive.seen[self.geometry.zone_offset(zone) as usize..][..ZONE_SIZE as usize]
    }

    /// Zone and lap of the key's newest version.
    pub(crate) fn place_of(&self, key: &str) -> (u32, u64) {
        let mut found = self.directory.lookup(&hash(key)).iter().collect::<Vec<_>>();
        assert_eq!(found.len(), 1, "{key}");
        let place = found.remove(0);
        (place.zone, place.lap)
    }

    pub(crate) fn volume_of(&self, key: &str) -> u16 {
        self.geometry.volume_of(self.place_of(key).0)
    }

    pub(crate) fn lap_of(&self, zone: u32) -> u64 {
        let header = ZoneHeader::decode(&self.zone_bytes(zone)[..BLOCK], &STORE_ID);
        header.expect("a zone in use").lap
    }

    /// What a GET finds: place by the directory, everything verified in the read.
    pub(crate) fn look(&self, key: &str) -> Seen {
        let mut seen = Seen::Nothing;
        for place in self.directory.lookup(&hash(key)).iter() {
            let bytes = &self.zone_bytes(place.zone)[place.offset as usize..];
            let header = RecordHeader::decode(bytes, STORE_ID.salt()).expect("an intact record");
            assert_eq!((header.zone, header.lap), (place.zone, place.lap));
            assert_eq!(*header.key, *key.as_bytes());
            if header.expires_ms > self.now_ms() {
                assert_eq!(seen, Seen::Nothing, "two places for one key");
                seen = Seen::Version(header.created_wall_ms);
            }
            let payload = &bytes[header.shape().payload_offset..][..header.payload_len as usize];
            for (index, chunk) in payload.chunks(CHUNK).enumerate() {
                header.verify_chunk(STORE_ID.salt(), index, chunk).expect("an intact payload");
            }
        }
        seen
    }

    /// Offsets in a sealed zone where a record should start and none does.
    pub(crate) fn holes_in(&self, zone: u32) -> Vec<u64> {
        let bytes = self.zone_bytes(zone);
        let trailer = FooterTrailer::decode(&bytes[bytes.len() - BLOCK..], &STORE_ID);
        let used_len = trailer.expect("the zone is sealed").used_len;
        let (mut offset, mut holes) = (BLOCK as u64, Vec::new());
        while offset < used_len {
            match RecordHeader::decode(&bytes[offset as usize..], STORE_ID.salt()) {
                Ok(header) => offset += header.shape().record_len as u64,
                Err(_) => {
                    holes.push(offset);
                    offset += BLOCK as u64;
                }
            }
        }
        holes
    }
}
