//! What a GET finds: the engine's own read path over simulated drives, everything that it gives
//! out compared with what was put. Also readers so slow that the zone may be reused under them.

use crate::drive::Condition;
use crate::payload::is_payload;
use crate::rig::{Rig, STORE_ID};
use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;
use tapeloop_format::{RecordHeader, RecordKind};
use tapeloop_log::read::{
    self as log_read, Find, FindStep, First, PayloadRead, PayloadReads, Refusal, ZoneRead,
};
use tapeloop_log::{IoFailure, Location};

const UNREADABLE: &str = "unreadable";

/// What a reader finds under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    Object {
        version: u64,
        expires_ms: u64,
        zone: u32,
        lap: u64,
    },
    /// Told as damaged, here.
    Damaged {
        zone: u32,
        offset: u64,
        why: String,
    },
    /// Its drive does not answer.
    Unavailable {
        volume: u16,
    },
}

/// Reads one object piece by piece, over a long time.
pub(crate) struct SlowReader {
    key: usize,
    location: Location,
    reads: PayloadReads,
    /// What came with the header, if its payload was asked for.
    first: Option<Vec<u8>>,
    ahead: Option<Ahead<'static>>,
    given: u64,
}

/// The second read of an object, begun with the first.
struct Ahead<'a> {
    read: PayloadRead,
    bytes: Result<Cow<'a, [u8]>, IoFailure>,
}

/// Bytes that were read, and which of them are given out.
type Part<'a> = (Range<usize>, Cow<'a, [u8]>);

fn damaged(location: &Location, why: impl ToString) -> Seen {
    Seen::Damaged { zone: location.zone, offset: location.offset, why: why.to_string() }
}

impl Rig {
    /// What a GET of the key finds now. An error is a broken promise.
    pub(crate) fn look(&self, key: usize) -> Result<Seen, String> {
        let first = self.first();
        // The first read may reach beyond the record: then an error may be the neighbour's.
        match self.find(key, first)? {
            Seen::Damaged { why, .. } if why == UNREADABLE => self.find(key, First::Header),
            seen => Ok(seen),
        }
    }

    /// Half of the readers ask for the header alone at first; of the others, half for all at once.
    fn first(&self) -> First {
        match self.now_ms() % 4 {
            1 => First::Payload,
            3 => First::Whole,
            _ => First::Header,
        }
    }

    fn find(&self, key: usize, first: First) -> Result<Seen, String> {
        let name = &self.keys[key];
        let mut find = Find::new(&self.directory, name.hash, &name.name, first);
        let mut seen = Seen::Nothing;
        loop {
            let (location, read) = match find.step(&self.directory) {
                FindStep::Read(location, read) => (location, read),
                FindStep::Absent => return Ok(seen),
                FindStep::Recycled => return Err(format!("key {key}: recycled under one look")),
            };
            let volume = self.geometry.volume_of(location.zone);
            if !self.answers(volume) {
                return Ok(Seen::Unavailable { volume });
            }
            let ahead = self.read_ahead(key, &location, first);
            let Ok(bytes) = self.read(&read) else { return Ok(damaged(&location, UNREADABLE)) };
            let (salt, now_ms) = (STORE_ID.salt(), self.now_ms());
            let header = match find.feed(&self.directory, salt, now_ms, &location, &bytes) {
                Ok(Some(header)) => header,
                Ok(None) => continue,
                Err(error) => return Ok(damaged(&location, error)),
            };
            let found = self.read_all(key, location, header, (first, &bytes), ahead)?;
            if seen != Seen::Nothing {
                return Err(format!("two places for key {key}: {seen:?} and {found:?}"));
            }
            seen = found;
        }
    }

    pub(crate) fn answers(&self, volume: u16) -> bool {
        matches!(self.drives[usize::from(volume)].condition, Condition::Fine)
    }

    fn read_all<'a>(
        &'a self,
        key: usize,
        location: Location,
        header: RecordHeader,
        (first, bytes): (First, &[u8]),
        mut ahead: Option<Ahead<'a>>,
    ) -> Result<Seen, String> {
        let base = header.position - header.position % self.geometry.zone_size();
        let is_there = (header.zone, header.lap) == (location.zone, location.lap)
            && header.position == base + location.offset;
        let is_it = header.kind == RecordKind::Put && header.payload_len == u64::from(location.len);
        if !is_there || !is_it {
            return Err(format!("index points at {location:?}, there is {header:?}"));
        }
        let (version, expires_ms) = (header.created_wall_ms, header.expires_ms);
        let header = Rc::new(header);
        let end = header.payload_len;
        let mut reads = PayloadReads::new(Rc::clone(&header), location, 0..end);
        let mut given = 0;
        if first != First::Header || header.shape().is_inline() {
            match reads.feed_first(&self.directory, STORE_ID.salt(), bytes) {
                Some(Ok(part)) => self.give(key, version, &mut given, &bytes[part])?,
                Some(Err(refusal)) => return self.refused(&location, refusal),
                None => {}
            }
        }
        while !reads.is_done() {
            match self.next_part(&mut reads, ahead.take()) {
                Ok((part, bytes)) => self.give(key, version, &mut given, &bytes[part])?,
                Err(Some(refusal)) => return self.refused(&location, refusal),
                Err(None) => return Ok(damaged(&location, UNREADABLE)),
            }
        }
        match given == end {
            true => {
                Ok(Seen::Object { version, expires_ms, zone: location.zone, lap: location.lap })
            }
            false => Err(format!("{given} of {end} bytes of key {key} at {location:?}")),
        }
    }

    /// Reads ahead what a reader of all would, before anything is known of the record.
    fn read_ahead(&self, key: usize, location: &Location, first: First) -> Option<Ahead<'_>> {
        let key_len = self.keys[key].name.len();
        let read = log_read::second_read(&self.directory, key_len, location, first)?;
        Some(Ahead { read, bytes: self.read(&read.at) })
    }

    /// The next verified bytes; the inner error is none if the drive could not read.
    fn next_part<'a>(
        &'a self,
        reads: &mut PayloadReads,
        ahead: Option<Ahead<'a>>,
    ) -> Result<Part<'a>, Option<Refusal>> {
        let read = reads.next_read().expect("bytes are left");
        let bytes = match ahead {
            Some(ahead) => {
                assert_eq!(ahead.read, read, "what was read ahead is what comes next");
                ahead.bytes
            }
            None => self.read(&read.at),
        };
        let bytes = bytes.map_err(|_| None)?;
        let part = reads.feed(&self.directory, STORE_ID.salt(), &read, &bytes).map_err(Some)?;
        Ok((part, bytes))
    }

    fn refused(&self, location: &Location, refusal: Refusal) -> Result<Seen, String> {
        match refusal {
            Refusal::Damaged(error) => Ok(damaged(location, error)),
            Refusal::Moved => Err(format!("{location:?} is said to have moved, under one look")),
        }
    }

    /// Verified bytes that a client gets.
    fn give(&self, key: usize, version: u64, given: &mut u64, bytes: &[u8]) -> Result<(), String> {
        if !is_payload(bytes, *given, key, version) {
            return Err(format!("wrong bytes of key {key} version {version} pass every check"));
        }
        *given += bytes.len() as u64;
        Ok(())
    }

    fn read(&self, read: &ZoneRead) -> Result<Cow<'_, [u8]>, IoFailure> {
        let volume = usize::from(self.geometry.volume_of(read.zone));
        let offset = self.geometry.zone_offset(read.zone) + read.offset;
        self.drives[volume].read(offset, read.len)
    }

    /// Begins to read an object; `None` if there is nothing to read.
    pub(crate) fn begin_slow(&self, key: usize) -> Option<SlowReader> {
        let (name, first) = (&self.keys[key], self.first());
        let mut find = Find::new(&self.directory, name.hash, &name.name, first);
        let FindStep::Read(location, read) = find.step(&self.directory) else { return None };
        if !self.answers(self.geometry.volume_of(location.zone)) {
            return None;
        }
        let ahead = self.read_ahead(key, &location, first).map(Ahead::into_owned);
        let bytes = self.read(&read).ok()?.into_owned();
        let (salt, now_ms) = (STORE_ID.salt(), self.now_ms());
        let header = find.feed(&self.directory, salt, now_ms, &location, &bytes).ok()??;
        let end = header.payload_len;
        let reads = PayloadReads::new(Rc::new(header), location, 0..end);
        let first = (first != First::Header).then_some(bytes);
        Some(SlowReader { key, location, reads, first, ahead, given: 0 })
    }
}

impl Ahead<'_> {
    fn into_owned(self) -> Ahead<'static> {
        let bytes = self.bytes.map(|bytes| Cow::Owned(bytes.into_owned()));
        Ahead { read: self.read, bytes }
    }
}

impl SlowReader {
    /// Has it got every byte?
    #[cfg(test)]
    pub(crate) fn is_done(&self) -> bool {
        self.reads.is_done()
    }

    /// Reads on. False: the end, or an error that the zone's reuse or damage explains.
    pub(crate) fn read_on(&mut self, rig: &Rig) -> Result<bool, String> {
        let location = self.location;
        if self.reads.is_done() || !rig.answers(rig.geometry.volume_of(location.zone)) {
            return Ok(false);
        }
        let version = self.reads.header().created_wall_ms;
        let why = match self.next_part(rig) {
            Ok((part, bytes)) => {
                rig.give(self.key, version, &mut self.given, &bytes[part])?;
                return Ok(true);
            }
            Err(Some(Refusal::Moved)) => return Ok(false),
            Err(Some(Refusal::Damaged(error))) => error.to_string(),
            Err(None) => UNREADABLE.to_owned(),
        };
        let reused = !rig.directory.is_servable(location.zone, location.lap);
        match reused || rig.may_be_damaged_at(location.zone, location.offset) {
            true => Ok(false),
            false => Err(format!("key {} at {location:?} under a reader: {why}", self.key)),
        }
    }

    fn next_part<'a>(&mut self, rig: &'a Rig) -> Result<Part<'a>, Option<Refusal>> {
        if let Some(bytes) = self.first.take() {
            let fed = self.reads.feed_first(&rig.directory, STORE_ID.salt(), &bytes);
            if let Some(part) = fed {
                return Ok((part.map_err(Some)?, Cow::Owned(bytes)));
            }
        }
        rig.next_part(&mut self.reads, self.ahead.take())
    }
}
