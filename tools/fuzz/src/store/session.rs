//! A log over volumes in memory that answer at once: what the engine's appenders do, without
//! threads and without waiting.

use std::collections::BTreeMap;
use std::sync::Arc;

use tapeloop_format::{
    CARRY_JOURNAL_OFFSET, CHECKPOINT_SLOTS, CHUNK, DATA_OFFSET, Geometry, KeyHasher, RecordHeader,
    RecordKind, StoreGeometry, chunk_crc,
};
use tapeloop_log::{
    Append, AppendError, Directory, Event, Io, IoOp, Location, Log, MachineTime, Op, Put, Recovery,
    RecoveryRead, RecoveryReport, StoreClock, Ticket,
};

use super::STORE;
use super::disk::Disk;

/// I/O that one request may cost at most in a store of a few zones. More is a hang.
const IO_MAX: usize = 20_000;
/// Reads that a recovery of a few zones may take at most.
const READS_MAX: usize = 20_000;

/// In which order recovery's reads are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// As asked.
    FirstFirst,
    /// The last one asked is answered first.
    LastFirst,
}

/// An open log.
pub struct Session<'d> {
    disks: &'d mut [Disk],
    geometry: StoreGeometry,
    missing: Vec<u16>,
    log: Log,
    clock: StoreClock,
    machine: MachineTime,
    /// What recovery said.
    pub report: RecoveryReport,
    directory: Arc<Directory>,
    payloads: BTreeMap<Ticket, Vec<u8>>,
    next_ticket: Ticket,
    ended: BTreeMap<Ticket, Result<(), AppendError>>,
    started: bool,
    closed: bool,
}

impl<'d> Session<'d> {
    /// Recovers what the disks hold and brings the log up to where it serves. Volumes that are
    /// `missing` are neither read nor written.
    pub fn open(
        disks: &'d mut [Disk],
        geometry: StoreGeometry,
        machine: MachineTime,
        answers: Answers,
        missing: &[u16],
    ) -> Session<'d> {
        let mut recovery = Recovery::new(STORE, geometry, missing);
        let mut reads: Vec<RecoveryRead> = Vec::new();
        let mut count = 0;
        loop {
            while let Some(read) = recovery.poll_read() {
                reads.push(read);
            }
            let read = match answers {
                _ if reads.is_empty() => break,
                Answers::FirstFirst => reads.remove(0),
                Answers::LastFirst => reads.pop().expect("not empty"),
            };
            count += 1;
            assert!(count <= READS_MAX, "recovery never stops reading");
            assert!(!missing.contains(&read.volume), "a read of a missing volume");
            let disk = &disks[usize::from(read.volume)];
            recovery.read_done(read.id, Ok(disk.read(read.offset, read.len)));
        }
        assert!(recovery.is_done());
        let (log, clock, report) = recovery.finish(Vec::new(), machine, 1);
        let directory = Arc::clone(log.directory());
        let mut session = Session {
            disks,
            geometry,
            missing: missing.to_vec(),
            log,
            clock,
            machine,
            report,
            directory,
            payloads: BTreeMap::new(),
            next_ticket: 1,
            ended: BTreeMap::new(),
            started: false,
            closed: false,
        };
        session.pump();
        assert!(session.started, "the log never starts on a drive that refuses nothing");
        session
    }

    /// Stores an object; the end of the operation.
    pub fn put(&mut self, key: &[u8], bytes: Vec<u8>, ttl_ms: u64) -> Result<(), AppendError> {
        let put = Put {
            metadata: Box::default(),
            payload_len: bytes.len() as u64,
            chunk_crcs: bytes.chunks(CHUNK).map(|chunk| chunk_crc(STORE.salt(), chunk)).collect(),
            content_hash: [7; 16],
            ttl_ms,
            group: 0,
            created_wall_ms: self.machine.wall_ms,
        };
        self.payloads.insert(self.next_ticket, bytes);
        self.append(key, Op::Put(put))
    }

    /// Deletes a key; the end of the operation.
    pub fn delete(&mut self, key: &[u8]) -> Result<(), AppendError> {
        self.append(key, Op::Delete)
    }

    fn append(&mut self, key: &[u8], op: Op) -> Result<(), AppendError> {
        let (ticket, now_ms) = (self.next_ticket, self.now_ms());
        self.next_ticket += 1;
        let hash = KeyHasher::new(&STORE).hash(key);
        self.log.append(now_ms, Append { ticket, hash, key: key.into(), op });
        self.pump();
        self.payloads.remove(&ticket);
        self.ended.remove(&ticket).expect("every operation ends")
    }

    /// Time passes.
    pub fn pass(&mut self, ms: u64) {
        self.machine.boottime_ms += ms;
        self.machine.wall_ms += ms;
        let mark = self.clock.mark(self.machine.boottime_ms, self.machine.wall_ms);
        self.log.tick(self.clock.at(self.machine.boottime_ms), mark);
        self.pump();
    }

    /// Store time.
    pub fn now_ms(&self) -> u64 {
        self.clock.at(self.machine.boottime_ms)
    }

    /// Ends the log in order; gives the machine's clocks.
    pub fn close(mut self) -> MachineTime {
        self.log.close();
        self.pump();
        assert!(self.closed, "the log never closes");
        self.machine
    }

    /// Ends the process and nothing else; gives the machine's clocks.
    pub fn kill(self) -> MachineTime {
        self.machine
    }

    /// Objects that no footer lists yet.
    pub fn open_object_count(&self) -> usize {
        self.log.open_objects().count()
    }

    /// What a GET brings: the payload, verified on its way, or nothing.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let hash = KeyHasher::new(&STORE).hash(key);
        let candidates = self.directory.lookup(&hash);
        candidates.iter().find_map(|location| self.read(key, &location))
    }

    fn read(&self, key: &[u8], location: &Location) -> Option<Vec<u8>> {
        let zone_size = self.geometry.zone_size();
        assert!(location.offset < zone_size, "an index entry outside of its zone");
        let rest = zone_size - location.offset;
        let offset = self.geometry.zone_offset(location.zone) + location.offset;
        let disk = &self.disks[usize::from(self.geometry.volume_of(location.zone))];
        let bytes = disk.read(offset, usize::try_from(rest).expect("a small zone"));
        let header = RecordHeader::decode(bytes, STORE.salt()).ok()?;
        let is_it = header.kind == RecordKind::Put
            && (header.zone, header.lap) == (location.zone, location.lap)
            && header.payload_len == u64::from(location.len)
            && *header.key == *key
            && header.expires_ms > self.now_ms();
        let shape = header.shape();
        if !is_it || shape.record_len > bytes.len() {
            return None;
        }
        let payload = &bytes[shape.payload_offset..][..location.len as usize];
        for (index, chunk) in payload.chunks(CHUNK).enumerate() {
            header.verify_chunk(STORE.salt(), index, chunk).ok()?;
        }
        Some(payload.to_vec())
    }

    fn pump(&mut self) {
        for _ in 0..IO_MAX {
            while let Some(event) = self.log.poll_event() {
                self.note(event);
            }
            let volumes = 0..self.geometry.volume_count();
            let wanted = volumes.map(|volume| (volume, self.log.poll_io(volume)));
            let found = wanted.into_iter().find_map(|(volume, io)| Some((volume, io?)));
            let Some((volume, io)) = found else { return };
            self.perform(volume, io);
        }
        panic!("the log never comes to rest");
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Started => self.started = true,
            Event::Closed => self.closed = true,
            Event::Stored { ticket, .. } | Event::Deleted { ticket, .. } => {
                assert!(self.ended.insert(ticket, Ok(())).is_none(), "ended twice");
            }
            Event::Failed { ticket, error } => {
                assert!(self.ended.insert(ticket, Err(error)).is_none(), "ended twice");
            }
            Event::Fenced { volume, failure } => {
                panic!("volume {volume} fenced, and its drive refuses nothing: {failure}")
            }
        }
    }

    fn perform(&mut self, volume: u16, io: Io) {
        assert!(!self.missing.contains(&volume), "I/O on a missing volume");
        let disk = &mut self.disks[usize::from(volume)];
        let mut read = Vec::new();
        match io.op {
            IoOp::Record { offset, mut header, shape, ticket } => {
                assert!(offset >= DATA_OFFSET, "a record outside of the zones");
                header.resize(shape.record_len, 0);
                if let Some(payload) = self.payloads.get(&ticket) {
                    header[shape.payload_offset..][..payload.len()].copy_from_slice(payload);
                }
                write(disk, self.geometry.volume(), offset, &header);
            }
            IoOp::Write { offset, bytes } => {
                let is_slot = CHECKPOINT_SLOTS.contains(&offset);
                assert!(is_slot || offset >= CARRY_JOURNAL_OFFSET, "a write to {offset}");
                write(disk, self.geometry.volume(), offset, &bytes);
            }
            IoOp::Flush => {}
            IoOp::Read { offset, len } => read = disk.read(offset, len).to_vec(),
        }
        let now_ms = self.clock.at(self.machine.boottime_ms);
        self.log.io_done(now_ms, io.id, Ok(read));
    }
}

fn write(disk: &mut Disk, geometry: &Geometry, offset: u64, bytes: &[u8]) {
    let end = offset + bytes.len() as u64;
    assert!(end <= geometry.header_b_offset(), "a write over the second header");
    assert!(end <= DATA_OFFSET || offset >= DATA_OFFSET, "a write over the edge of a region");
    disk.write(offset, bytes);
}
