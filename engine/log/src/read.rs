//! Reading an object as a pure state machine: which bytes to read, and what the bytes that came
//! back are worth. Engine and simulator do the I/O around it, so both serve by the same code.
//!
//! Invariants:
//! - A record counts only if it verifies, lies where it says it lies, and has the whole key.
//! - No payload byte is given out before the checksum of its chunk held.
//! - What does not verify is damage only while its zone is still in the lap that the index named;
//!   otherwise the zone was reused meanwhile, and the index knows better by now.

use crate::directory::{Candidates, Directory, Location};
use std::ops::Range;
use std::rc::Rc;
use tapeloop_format::{
    BLOCK, CHUNK, FormatError, KeyHash, METADATA_LEN_MAX, RecordHeader, RecordShape, Salt,
    Structure, round_up,
};

/// Payload bytes of one read.
pub const READ_LEN: u64 = 4 * CHUNK as u64;
/// Looks into the index for one object, when zones are reused under it. A key that has moved on
/// every time is being overwritten faster than a drive can be read.
const LOOKS_MAX: u32 = 3;

/// How much of a record to read at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The header only.
    Header,
    /// The header and the first [`READ_LEN`] of payload in one read.
    Payload,
    /// The same, and the next [`READ_LEN`] at the same time: see [`second_read`].
    Whole,
}

/// Bytes of one zone to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneRead {
    /// Zone number.
    pub zone: u32,
    /// From the start of the zone, a multiple of the block size.
    pub offset: u64,
    /// A multiple of the block size.
    pub len: usize,
}

/// What lies where the index pointed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The key's record.
    Record(RecordHeader),
    /// Another key's record: the index knows only 60 bits of a hash.
    OtherKey,
    /// Bytes of a later lap: the zone was reused since the index was asked.
    Moved,
    /// The zone is in the lap that the index named, and the bytes do not verify.
    Damaged(FormatError),
}

/// Why bytes are not given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The zone was reused meanwhile.
    Moved,
    /// They do not verify.
    Damaged(FormatError),
}

/// The first read of the record that may be the key's at `location`.
pub fn first_read(
    directory: &Directory,
    key_len: usize,
    location: &Location,
    first: First,
) -> ZoneRead {
    // The metadata is not known yet: the longest decides how far the header may reach.
    let longest = RecordShape::of(key_len, METADATA_LEN_MAX, u64::from(location.len));
    let wanted = match first {
        First::Header => longest.header_blocks_len(),
        First::Payload | First::Whole => {
            longest.record_len.min(longest.payload_offset + READ_LEN as usize)
        }
    };
    let room = directory.geometry().zone_size() - location.offset;
    let len = round_up(wanted, BLOCK).min(room as usize);
    ZoneRead { zone: location.zone, offset: location.offset, len }
}

/// The read that follows [`first_read`], for who wants the whole payload and does not wait for its
/// header: exactly what [`PayloadReads::next_read`] asks for once the first read has been fed.
/// `None` when there is nothing left to read, and when nobody can say yet where it lies.
pub fn second_read(
    directory: &Directory,
    key_len: usize,
    location: &Location,
    first: First,
) -> Option<PayloadRead> {
    let payload_len = u64::from(location.len);
    if first != First::Whole || payload_len <= READ_LEN {
        return None;
    }
    // Headers are rounded up to blocks. Where the longest metadata needs no block more than none at
    // all, the payload begins at the same place behind any.
    let [shortest, longest] =
        [0, METADATA_LEN_MAX].map(|metadata| RecordShape::of(key_len, metadata, payload_len));
    if shortest.payload_offset != longest.payload_offset {
        return None;
    }
    let read = payload_read(location, &longest, payload_len, READ_LEN);
    // The record there may be another key's, and end where this one would not.
    let zone_size = directory.geometry().zone_size();
    (read.at.offset + read.at.len as u64 <= zone_size).then_some(read)
}

/// The read of at most [`READ_LEN`] from payload offset `start` on.
fn payload_read(
    location: &Location,
    shape: &RecordShape,
    payload_len: u64,
    start: u64,
) -> PayloadRead {
    assert!(start < payload_len && start.is_multiple_of(CHUNK as u64));
    let len = (payload_len - start).min(READ_LEN);
    let skip = if shape.is_inline() { shape.payload_offset } else { 0 };
    let offset = location.offset + (shape.payload_offset - skip) as u64 + start;
    let len = round_up(skip + len as usize, BLOCK);
    let at = ZoneRead { zone: location.zone, offset, len };
    PayloadRead { start, skip, at }
}

/// What the bytes of [`first_read`] say.
pub fn judge(
    directory: &Directory,
    salt: Salt,
    key: &[u8],
    location: &Location,
    bytes: &[u8],
) -> Verdict {
    match decode(directory, salt, location, bytes) {
        Ok(header) if *header.key == *key => Verdict::Record(header),
        Ok(_) => Verdict::OtherKey,
        Err(error) => match refuse(directory, location, error) {
            Refusal::Moved => Verdict::Moved,
            Refusal::Damaged(error) => Verdict::Damaged(error),
        },
    }
}

/// The header of the record that the index says is at `location`.
pub(crate) fn decode(
    directory: &Directory,
    salt: Salt,
    location: &Location,
    bytes: &[u8],
) -> Result<RecordHeader, FormatError> {
    let header = RecordHeader::decode(bytes, salt)?;
    // Base positions are multiples of the zone size, so the offset is bound with zone and lap.
    let zone_size = directory.geometry().zone_size();
    let base = header.position - header.position % zone_size;
    if !planted!(Bug::ReadAnyPlace) {
        header.expect(location.zone, location.lap, base + location.offset)?;
    }
    // A write that was lost on its way leaves what a crash had torn off here earlier in this lap.
    let (expected, found) = (u64::from(location.len), header.payload_len);
    if found != expected {
        let what = Structure::Record;
        return Err(FormatError::Misplaced { what, field: "payload_len", expected, found });
    }
    Ok(header)
}

fn refuse(directory: &Directory, location: &Location, error: FormatError) -> Refusal {
    match directory.is_servable(location.zone, location.lap) {
        true => Refusal::Damaged(error),
        false => Refusal::Moved,
    }
}

/// What to do next to find an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindStep {
    /// Read this, then [`Find::feed`] it.
    Read(Location, ZoneRead),
    /// There is no such object.
    Absent,
    /// The key moved on under every look.
    Recycled,
}

/// The search for one object on the drives.
#[derive(Debug)]
pub struct Find<'k> {
    key: &'k [u8],
    hash: KeyHash,
    first: First,
    candidates: Candidates,
    next: usize,
    looks: u32,
    moved: bool,
}

impl<'k> Find<'k> {
    /// Looks the key up.
    pub fn new(directory: &Directory, hash: KeyHash, key: &'k [u8], first: First) -> Find<'k> {
        let candidates = directory.lookup(&hash);
        Find { key, hash, first, candidates, next: 0, looks: 1, moved: false }
    }

    /// What to do next.
    pub fn step(&mut self, directory: &Directory) -> FindStep {
        loop {
            if let Some(location) = self.candidates.iter().nth(self.next) {
                self.next += 1;
                let read = first_read(directory, self.key.len(), &location, self.first);
                return FindStep::Read(location, read);
            }
            if !self.moved {
                return FindStep::Absent;
            }
            if self.looks == LOOKS_MAX {
                return FindStep::Recycled;
            }
            self.looks += 1;
            self.moved = false;
            self.next = 0;
            self.candidates = directory.lookup(&self.hash);
        }
    }

    /// Takes the bytes of the last step. `None`: not here, go on with [`Find::step`].
    pub fn feed(
        &mut self,
        directory: &Directory,
        salt: Salt,
        now_ms: u64,
        location: &Location,
        bytes: &[u8],
    ) -> Result<Option<RecordHeader>, FormatError> {
        match judge(directory, salt, self.key, location, bytes) {
            Verdict::Record(header) => Ok((header.expires_ms > now_ms).then_some(header)),
            Verdict::OtherKey => Ok(None),
            Verdict::Moved => {
                self.moved = true;
                Ok(None)
            }
            Verdict::Damaged(error) => Err(error),
        }
    }
}

/// One read of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadRead {
    /// Payload offset of its first payload byte, a multiple of the chunk size.
    pub start: u64,
    /// Bytes before that: the header of a record that shares its only block with its payload.
    pub skip: usize,
    /// Where it lies.
    pub at: ZoneRead,
}

/// A range of one record's payload, read by read, in order.
#[derive(Debug)]
pub struct PayloadReads {
    header: Rc<RecordHeader>,
    location: Location,
    /// Payload offset of the next byte to give out.
    position: u64,
    end: u64,
    /// Payload offset of the next read; a multiple of the chunk size.
    next_read: u64,
}

impl PayloadReads {
    /// The bytes of `range` of the record that was verified at `location`.
    pub fn new(header: Rc<RecordHeader>, location: Location, range: Range<u64>) -> PayloadReads {
        assert!(range.start <= range.end && range.end <= header.payload_len);
        let next_read = match range.is_empty() {
            true => range.end,
            false => range.start - range.start % CHUNK as u64,
        };
        PayloadReads { header, location, position: range.start, end: range.end, next_read }
    }

    /// The record's header.
    pub fn header(&self) -> &RecordHeader {
        &self.header
    }

    /// True when every byte of the range has been given out.
    pub fn is_done(&self) -> bool {
        self.position == self.end
    }

    /// Takes the record's first bytes, which came with its header. The part of them that is
    /// payload from the current position on, verified; `None` if they do not reach so far.
    pub fn feed_first(
        &mut self,
        directory: &Directory,
        salt: Salt,
        bytes: &[u8],
    ) -> Option<Result<Range<usize>, Refusal>> {
        let payload_offset = self.header.shape().payload_offset;
        let held = bytes.len().saturating_sub(payload_offset) as u64;
        // Only whole chunks can be verified.
        let whole = match held >= self.header.payload_len {
            true => self.header.payload_len,
            false => held - held % CHUNK as u64,
        };
        if self.is_done() || self.position >= whole {
            return None;
        }
        let start = self.position - self.position % CHUNK as u64;
        let chunks = &bytes[payload_offset + start as usize..payload_offset + whole as usize];
        if let Err(error) = self.verify(salt, start, chunks) {
            return Some(Err(refuse(directory, &self.location, error)));
        }
        self.next_read = whole;
        let given = payload_offset + self.position as usize;
        self.position = whole.min(self.end);
        Some(Ok(given..payload_offset + self.position as usize))
    }

    /// The next read, of at most [`READ_LEN`]; any number may be under way.
    pub fn next_read(&mut self) -> Option<PayloadRead> {
        if self.next_read >= self.end {
            return None;
        }
        let start = self.next_read;
        self.next_read += READ_LEN;
        let (header, location) = (&self.header, &self.location);
        Some(payload_read(location, &header.shape(), header.payload_len, start))
    }

    /// Takes the bytes of a read, in the order of the reads: the verified part that belongs to the
    /// range.
    pub fn feed(
        &mut self,
        directory: &Directory,
        salt: Salt,
        read: &PayloadRead,
        bytes: &[u8],
    ) -> Result<Range<usize>, Refusal> {
        assert_eq!(bytes.len(), read.at.len, "reads are answered whole");
        let read_end = self.header.payload_len.min(read.start + READ_LEN);
        assert!((read.start..read_end).contains(&self.position), "reads are taken in order");
        let refused = |error| refuse(directory, &self.location, error);
        self.verify(salt, read.start, &bytes[read.skip..]).map_err(refused)?;
        let from = read.skip + (self.position - read.start) as usize;
        self.position = read_end.min(self.end);
        Ok(from..read.skip + (self.position - read.start) as usize)
    }

    /// Checks every chunk in `bytes`, which begin at payload offset `start`. Padding may follow.
    fn verify(&self, salt: Salt, start: u64, bytes: &[u8]) -> Result<(), FormatError> {
        let header = &self.header;
        let first = (start / CHUNK as u64) as usize;
        let mut index = first;
        let mut rest = bytes;
        while index < header.chunk_crcs.len() && rest.len() >= header.chunk_len(index) {
            let (chunk, behind) = rest.split_at(header.chunk_len(index));
            header
                .verify_chunk(salt, index, chunk)
                .or_else(|error| if planted!(Bug::ReadUnverified) { Ok(()) } else { Err(error) })?;
            rest = behind;
            index += 1;
        }
        assert!(index > first, "at least one chunk was there");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
