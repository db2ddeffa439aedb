//! Scanning one open zone after a crash, record by record.
//!
//! Below `durable_len` the headers are enough. Above it every payload is read and checked, because
//! a header may have reached the drive without it. A block that starts no valid record is part of a
//! hole and the scan goes on at the next one: a bad header never ends it.
//!
//! The zone is read from front to back, some reads ahead of where it is looked at, answered in any
//! order. Where a read fails, and where a record is refused after its first bytes have been let go,
//! what was read ahead is dropped and the scan reads again from there.

use crate::zone::Listed;
use std::collections::VecDeque;
use tapeloop_format::{
    BLOCK, CHUNK, FormatError, Kill, KillList, RecordHeader, RecordKind, Salt, ZoneHeader, round_up,
};

/// Bytes per read of a scan, at most.
const WINDOW_MAX: u64 = 512 << 10;
/// At least so many windows make a zone: small ones, as in the simulator, are read like large ones.
const WINDOWS_MIN: u64 = 4;
/// Reads that are under way, or wait for one before them.
const AHEAD: usize = 4;

/// A stretch of blocks that starts no valid record. The header of a record that was refused begins
/// one of its own: whatever is written over the stretch begins with its first block, so no refused
/// header stays, to be met again if that block is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Why its first block was refused.
    pub(crate) cause: FormatError,
}

/// What is kept of a valid record: zones are scanned that hold very many.
pub(crate) struct Found {
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) lsn: u64,
    pub(crate) kills: Box<[Kill]>,
    /// Of a put.
    pub(crate) listed: Option<Listed>,
}

/// The scan of one zone.
pub(crate) struct Scan {
    pub(crate) zone: ZoneHeader,
    /// Durable and contiguous up to here, says the checkpoint; records above must be this young.
    pub(crate) durable_len: u64,
    incarnation_min: u64,
    /// Where records end at the latest, from the start of the zone.
    limit: u64,
    /// Bytes per read.
    window: u64,
    /// The zone takes no more records and is to be sealed.
    pub(crate) closing: bool,
    salt: Salt,
    /// Where a record is looked for, or checked.
    cursor: u64,
    /// What has been asked for, by place: each window begins where the one before it ends.
    windows: VecDeque<Window>,
    /// Where the next one begins, unless the scan is beyond that.
    asked: u64,
    /// Read from where the scan is on, and too few yet.
    held: Vec<u8>,
    /// Memory of windows that were kept for a while, for the next ones.
    spare: Vec<Vec<u8>>,
    /// Windows of an earlier turn are of no use.
    turn: u32,
    /// After a read that failed they come one at a time and are of this size, to find out which
    /// block it is.
    careful: Option<u64>,
    /// Bytes of the header at the cursor, as far as known.
    header_len: u64,
    verifying: Option<Verify>,
    pub(crate) found: Vec<Found>,
    pub(crate) holes: Vec<Hole>,
    pub(crate) carried: Vec<Kill>,
    /// Largest LSN of any header met, of dropped records too: none of them is ever used again.
    pub(crate) lsn_max: u64,
    pub(crate) durable_lsn_max: u64,
    /// Of the records found.
    pub(crate) incarnation_max: u64,
    pub(crate) stored_ms_max: u64,
    pub(crate) bytes_read: u64,
}

/// Bytes that a scan wants: `turn` and `offset` name them in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScanRead {
    pub(crate) turn: u32,
    /// From the start of the zone.
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

struct Window {
    offset: u64,
    len: usize,
    answer: Answer,
}

enum Answer {
    Awaited,
    Read(Vec<u8>),
    Failed,
}

struct Verify {
    header: RecordHeader,
    next_chunk: usize,
    /// The payload of a carry record; others are not kept.
    payload: Vec<u8>,
}

impl Scan {
    pub(crate) fn new(
        zone: ZoneHeader,
        limit: u64,
        salt: Salt,
        durable_len: u64,
        incarnation_min: u64,
    ) -> Scan {
        assert!(durable_len <= limit);
        Scan {
            zone,
            durable_len,
            incarnation_min,
            limit,
            window: (limit / WINDOWS_MIN).next_multiple_of(BLOCK as u64).min(WINDOW_MAX),
            closing: false,
            header_len: BLOCK as u64,
            salt,
            cursor: BLOCK as u64,
            windows: VecDeque::new(),
            asked: 0,
            held: Vec::new(),
            spare: Vec::new(),
            turn: 0,
            careful: None,
            verifying: None,
            found: Vec::new(),
            holes: Vec::new(),
            carried: Vec::new(),
            lsn_max: 0,
            durable_lsn_max: 0,
            incarnation_max: 0,
            stored_ms_max: 0,
            bytes_read: 0,
        }
    }

    /// From where on bytes are needed.
    fn at(&self) -> u64 {
        let Some(verify) = &self.verifying else { return self.cursor };
        let done = (verify.next_chunk * CHUNK) as u64;
        self.cursor + verify.header.shape().payload_offset as u64 + done
    }

    /// The next bytes wanted; `None` while answers are awaited, or at the end.
    pub(crate) fn next_read(&mut self) -> Option<ScanRead> {
        let (from, len) = match self.careful {
            None => {
                let from = self.asked.max(self.at() + self.held.len() as u64);
                (from, self.window.min(self.limit.saturating_sub(from)))
            }
            Some(window) => (self.at(), self.careful_len(window)),
        };
        let windows_max = if self.careful.is_some() { 1 } else { AHEAD };
        if len == 0 || self.windows.len() >= windows_max {
            return None;
        }
        self.asked = from + len;
        let (turn, offset, len) = (self.turn, from, len as usize);
        self.windows.push_back(Window { offset, len, answer: Answer::Awaited });
        Some(ScanRead { turn, offset, len })
    }

    /// No more than the record at hand, so that a block behind it does not cost it.
    fn careful_len(&self, window: u64) -> u64 {
        if let Some(verify) = &self.verifying {
            let done = (verify.next_chunk * CHUNK) as u64;
            let rest = round_up((verify.header.payload_len - done) as usize, BLOCK) as u64;
            return rest.min(WINDOW_MAX);
        }
        window.max(self.header_len).min(self.limit - self.cursor)
    }

    /// Lets go of the memory that only a scan under way needs.
    pub(crate) fn end_reading(&mut self) {
        assert!(self.is_over());
        (self.spare, self.held) = (Vec::new(), Vec::new());
    }

    /// Nothing is awaited, and nothing more is wanted.
    pub(crate) fn is_over(&self) -> bool {
        self.windows.is_empty() && self.cursor >= self.limit
    }

    /// The bytes of a read, or nothing if the drive could not read them.
    pub(crate) fn feed(&mut self, read: ScanRead, bytes: Option<&[u8]>) {
        self.bytes_read += read.len as u64;
        if read.turn != self.turn {
            return;
        }
        let at = self.windows.iter().position(|window| window.offset == read.offset);
        let at = at.expect("a window of this turn is awaited");
        if at > 0 {
            self.windows[at].answer = match bytes {
                None => Answer::Failed,
                Some(bytes) => {
                    let mut kept = self.spare.pop().unwrap_or_default();
                    kept.extend_from_slice(bytes);
                    Answer::Read(kept)
                }
            };
            return;
        }
        self.windows.pop_front();
        self.take(read.offset, read.len, bytes);
        while let Some(Window { offset, len, answer }) = self.windows.pop_front() {
            match answer {
                Answer::Read(mut bytes) => {
                    self.take(offset, len, Some(&bytes));
                    bytes.clear();
                    self.spare.push(bytes);
                }
                Answer::Failed => self.take(offset, len, None),
                Answer::Awaited => {
                    let answer = Answer::Awaited;
                    return self.windows.push_front(Window { offset, len, answer });
                }
            }
        }
    }

    /// The first of the windows.
    fn take(&mut self, offset: u64, len: usize, bytes: Option<&[u8]>) {
        let end = offset + len as u64;
        if self.at() >= end {
            return; // A record whose payload need not be read reaches beyond it.
        }
        let Some(bytes) = bytes else { return self.failed(len) };
        assert_eq!(offset.max(self.at()), self.at() + self.held.len() as u64);
        if self.held.is_empty() {
            self.look(&bytes[(self.at() - offset) as usize..]);
        } else {
            let mut all = std::mem::take(&mut self.held);
            all.extend_from_slice(bytes);
            self.look(&all);
            all.clear();
            self.spare.push(all);
        }
        if let Some(window) = self.careful {
            self.held.clear();
            let window = window * 2;
            let is_well = window >= self.window && self.verifying.is_none();
            self.careful = (!is_well).then_some(window.min(self.window));
            self.start_over();
        }
    }

    /// Reads again from here.
    fn start_over(&mut self) {
        self.turn += 1;
        self.windows.clear();
        self.held.clear();
        self.asked = self.at();
    }

    fn failed(&mut self, len: usize) {
        let what = tapeloop_format::Structure::Record;
        let unreadable = FormatError::Truncated { what, needed: len, found: 0 };
        match (self.careful, self.verifying.take()) {
            // The block may lie behind the record.
            (None, verifying) => {
                self.verifying = verifying;
                self.careful = Some(BLOCK as u64);
            }
            (Some(_), Some(_)) => self.refuse_record(unreadable),
            // One bad sector costs the records that touch it, and no others.
            (Some(_), None) if len as u64 > self.header_len => self.careful = Some(BLOCK as u64),
            (Some(_), None) => self.skip_block(unreadable),
        }
        self.start_over();
    }

    /// Looks for records, and into them, in bytes that start where the scan is.
    fn look(&mut self, bytes: &[u8]) {
        let start = self.at();
        loop {
            if self.at() < start {
                return self.start_over();
            }
            let done = (self.at() - start) as usize;
            if done >= bytes.len() {
                return;
            }
            let is_enough = match self.verifying.take() {
                Some(verify) => self.verify(verify, &bytes[done..]),
                None => self.hunt(&bytes[done..]),
            };
            if !is_enough {
                let done = (self.at() - start) as usize;
                self.held = self.spare.pop().unwrap_or_default();
                self.held.extend_from_slice(&bytes[done..]);
                return;
            }
        }
    }

    /// Looks for a record at the cursor. False: that takes more bytes.
    fn hunt(&mut self, bytes: &[u8]) -> bool {
        match self.decode(bytes) {
            Ok(header) => self.meet(header, bytes),
            Err(FormatError::NeedMore { needed }) if self.fits(needed) => {
                self.header_len = needed as u64;
                return false;
            }
            // A header in its place, of an earlier incarnation.
            Err(cause @ FormatError::Misplaced { field: "incarnation", .. }) => {
                self.refuse_record(cause);
            }
            Err(cause) => self.skip_block(cause),
        }
        true
    }

    fn fits(&self, len: usize) -> bool {
        self.cursor + len as u64 <= self.limit
    }

    fn decode(&mut self, bytes: &[u8]) -> Result<RecordHeader, FormatError> {
        let header = RecordHeader::decode(bytes, self.salt)?;
        let (mut lap, mut position) = (self.zone.lap, self.zone.base_position + self.cursor);
        if planted!(Bug::TrustLastLap) {
            (lap, position) = (header.lap, header.position);
        }
        if !planted!(Bug::TrustAnyPlace) {
            header.expect(self.zone.zone, lap, position)?;
        }
        let record_len = header.shape().record_len;
        if !self.fits(record_len) {
            let found = (self.limit - self.cursor) as usize;
            let what = tapeloop_format::Structure::Record;
            return Err(FormatError::Truncated { what, needed: record_len, found });
        }
        self.lsn_max = self.lsn_max.max(header.lsn);
        let is_young =
            header.incarnation >= self.incarnation_min || planted!(Bug::NoIncarnationCheck);
        if self.cursor >= self.durable_len && !is_young {
            return Err(FormatError::Misplaced {
                what: tapeloop_format::Structure::Record,
                field: "incarnation",
                expected: self.incarnation_min,
                found: header.incarnation,
            });
        }
        self.durable_lsn_max = self.durable_lsn_max.max(header.durable_lsn);
        Ok(header)
    }

    /// A valid header at the cursor.
    fn meet(&mut self, header: RecordHeader, bytes: &[u8]) {
        let is_carry = header.kind == RecordKind::Carry;
        let trusted = self.cursor < self.durable_len && !is_carry;
        if trusted || header.payload_len == 0 {
            return self.accept(header, &[]);
        }
        let verify = Verify { header, next_chunk: 0, payload: Vec::new() };
        let shape = verify.header.shape();
        if shape.is_inline() {
            let is_enough = self.verify(verify, &bytes[shape.payload_offset..]);
            assert!(is_enough, "header and payload share a block");
            return;
        }
        self.verifying = Some(verify);
    }

    /// Checks as many payload chunks as `bytes` holds; they start at the next one. False: there are
    /// more of them.
    fn verify(&mut self, mut verify: Verify, mut bytes: &[u8]) -> bool {
        while verify.next_chunk < verify.header.chunk_crcs.len() {
            let len = verify.header.chunk_len(verify.next_chunk);
            if bytes.len() < len {
                self.verifying = Some(verify);
                return false;
            }
            let chunk = &bytes[..len];
            if let Err(cause) = verify.header.verify_chunk(self.salt, verify.next_chunk, chunk)
                && !planted!(Bug::SkipPayloadCheck)
            {
                self.refuse_record(cause);
                return true;
            }
            if verify.header.kind == RecordKind::Carry {
                verify.payload.extend_from_slice(chunk);
            }
            bytes = &bytes[len..];
            verify.next_chunk += 1;
        }
        self.accept(verify.header, &verify.payload);
        true
    }

    fn accept(&mut self, header: RecordHeader, carry: &[u8]) {
        if header.kind == RecordKind::Carry {
            let kills = KillList::new(carry).expect("the header says a whole number of kills");
            self.carried.extend(kills);
        }
        let offset = self.cursor;
        let len = header.shape().record_len;
        self.cursor += len as u64;
        self.header_len = BLOCK as u64;
        self.incarnation_max = self.incarnation_max.max(header.incarnation);
        self.stored_ms_max = self.stored_ms_max.max(header.stored_ms);
        let (lsn, kills) = (header.lsn, header.kills().collect());
        let listed = (header.kind == RecordKind::Put).then_some(Listed {
            hash: header.key_hash,
            lsn,
            offset,
            payload_len: header.payload_len as u32,
            expires_ms: header.expires_ms,
            metadata_len: header.metadata.len() as u16,
            key: header.key,
        });
        self.found.push(Found { offset, len: len as u32, lsn, kills, listed });
    }

    /// No record starts at the cursor.
    fn skip_block(&mut self, cause: FormatError) {
        match self.holes.last_mut() {
            Some(hole) if hole.to == self.cursor => {
                self.cursor += BLOCK as u64;
                self.header_len = BLOCK as u64;
                hole.to = self.cursor;
            }
            _ => self.refuse_record(cause),
        }
    }

    /// A header lies at the cursor, and its record does not count.
    fn refuse_record(&mut self, cause: FormatError) {
        let from = self.cursor;
        self.cursor += BLOCK as u64;
        self.header_len = BLOCK as u64;
        self.holes.push(Hole { from, to: self.cursor, cause });
    }

    /// The record that belongs to the zone's start lies there now: there is no hole any more.
    pub(crate) fn mend_start(&mut self, len: u64) {
        let to = BLOCK as u64 + len;
        self.holes.iter_mut().for_each(|hole| hole.from = hole.from.max(to));
        self.holes.retain(|hole| hole.from < hole.to);
    }

    /// End of the last valid record.
    pub(crate) fn end(&self) -> u64 {
        let last = self.found.last();
        last.map_or(BLOCK as u64, |last| last.offset + u64::from(last.len))
    }
}
