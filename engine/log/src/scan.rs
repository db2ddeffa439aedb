//! Scanning one open zone after a crash, record by record.
//!
//! Below `durable_len` the headers are enough. Above it every payload is read and checked, because
//! a header may have reached the drive without it. A block that starts no valid record is part of a
//! hole and the scan goes on at the next one: a bad header never ends it.

use tapeloop_format::{
    BLOCK, CHUNK, FormatError, Kill, KillList, RecordHeader, RecordKind, Salt, ZoneHeader, round_up,
};

/// Bytes per read of a scan.
const WINDOW: u64 = 1 << 20;

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

/// A valid record.
pub(crate) struct Found {
    pub(crate) offset: u64,
    pub(crate) header: RecordHeader,
}

/// The scan of one zone.
pub(crate) struct Scan {
    pub(crate) zone: ZoneHeader,
    /// Durable and contiguous up to here, says the checkpoint; records above must be this young.
    pub(crate) durable_len: u64,
    incarnation_min: u64,
    /// Where records end at the latest, from the start of the zone.
    limit: u64,
    /// The zone takes no more records and is to be sealed.
    pub(crate) closing: bool,
    salt: Salt,
    cursor: u64,
    /// Bytes per read: less after one that failed, to find out which block it is.
    window: u64,
    /// Bytes of the header at the cursor, as far as known.
    header_len: u64,
    verifying: Option<Verify>,
    pub(crate) found: Vec<Found>,
    pub(crate) holes: Vec<Hole>,
    pub(crate) carried: Vec<Kill>,
    /// Largest LSN of any header met, of dropped records too: none of them is ever used again.
    pub(crate) lsn_max: u64,
    pub(crate) durable_lsn_max: u64,
    pub(crate) bytes_read: u64,
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
            closing: false,
            window: WINDOW,
            header_len: BLOCK as u64,
            salt,
            cursor: BLOCK as u64,
            verifying: None,
            found: Vec::new(),
            holes: Vec::new(),
            carried: Vec::new(),
            lsn_max: 0,
            durable_lsn_max: 0,
            bytes_read: 0,
        }
    }

    /// The next bytes wanted, from the start of the zone; `None` when the scan is over.
    pub(crate) fn next_read(&self) -> Option<(u64, usize)> {
        if let Some(verify) = &self.verifying {
            let shape = verify.header.shape();
            let done = (verify.next_chunk * CHUNK) as u64;
            let rest = round_up((verify.header.payload_len - done) as usize, BLOCK) as u64;
            let offset = self.cursor + shape.payload_offset as u64 + done;
            return Some((offset, rest.min(WINDOW) as usize));
        }
        let rest = self.limit - self.cursor;
        let window = self.window.max(self.header_len);
        (rest > 0).then_some((self.cursor, rest.min(window) as usize))
    }

    /// The bytes of `next_read`, or nothing if the drive could not read them.
    pub(crate) fn feed(&mut self, bytes: Option<&[u8]>) {
        let (_, len) = self.next_read().expect("a scan that is over wants nothing");
        self.bytes_read += len as u64;
        let unreadable = FormatError::Truncated {
            what: tapeloop_format::Structure::Record,
            needed: len,
            found: 0,
        };
        match (bytes, self.verifying.take()) {
            (Some(bytes), Some(verify)) => self.verify(verify, bytes),
            (Some(bytes), None) => {
                self.hunt(bytes);
                self.window = (self.window * 2).min(WINDOW);
            }
            (None, Some(_)) => self.refuse_record(unreadable),
            // One bad sector costs the records that touch it, and no others.
            (None, None) if len as u64 > self.header_len => self.window = BLOCK as u64,
            (None, None) => self.skip_block(unreadable),
        }
    }

    /// Looks for records in a window that starts at the cursor.
    fn hunt(&mut self, window: &[u8]) {
        let start = self.cursor;
        while self.verifying.is_none() {
            let at = (self.cursor - start) as usize;
            if at >= window.len() {
                break;
            }
            match self.decode(&window[at..]) {
                Ok(header) => self.meet(header, &window[at..]),
                Err(FormatError::NeedMore { needed }) if self.fits(needed) => {
                    self.header_len = needed as u64;
                    break;
                }
                // A header in its place, of an earlier incarnation.
                Err(cause @ FormatError::Misplaced { field: "incarnation", .. }) => {
                    self.refuse_record(cause);
                }
                Err(cause) => self.skip_block(cause),
            }
        }
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
            return self.verify(verify, &bytes[shape.payload_offset..]);
        }
        self.verifying = Some(verify);
    }

    /// Checks as many payload chunks as `bytes` holds; they start at the next one.
    fn verify(&mut self, mut verify: Verify, mut bytes: &[u8]) {
        while verify.next_chunk < verify.header.chunk_crcs.len() {
            let len = verify.header.chunk_len(verify.next_chunk);
            if bytes.len() < len {
                self.verifying = Some(verify);
                return;
            }
            let chunk = &bytes[..len];
            if let Err(cause) = verify.header.verify_chunk(self.salt, verify.next_chunk, chunk)
                && !planted!(Bug::SkipPayloadCheck)
            {
                return self.refuse_record(cause);
            }
            if verify.header.kind == RecordKind::Carry {
                verify.payload.extend_from_slice(chunk);
            }
            bytes = &bytes[len..];
            verify.next_chunk += 1;
        }
        self.accept(verify.header, &verify.payload);
    }

    fn accept(&mut self, header: RecordHeader, carry: &[u8]) {
        if header.kind == RecordKind::Carry {
            let kills = KillList::new(carry).expect("the header says a whole number of kills");
            self.carried.extend(kills);
        }
        let offset = self.cursor;
        self.cursor += header.shape().record_len as u64;
        self.header_len = BLOCK as u64;
        self.found.push(Found { offset, header });
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
        last.map_or(BLOCK as u64, |last| last.offset + last.header.shape().record_len as u64)
    }
}
