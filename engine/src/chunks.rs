//! Verified bytes of one object, in order, from wherever they are: the arena while it holds them,
//! the drive after that, an upload as it grows.
//!
//! Invariants: no byte leaves before its chunk's checksum held. At most two reads of 256 KiB are in
//! flight for one reader, the one that found the object included, so a Range costs bounded memory.
//! What was read is given out without waiting for what is being read. A zone that is reused under a
//! slow reader is noticed: its bytes no longer verify.

use crate::ahead::ReadAhead;
use crate::body::{Body, Follower};
use crate::engine::Shared;
use crate::error::ReadError;
use crate::read::{self, PendingRead};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use tapeloop_format::RecordHeader;
use tapeloop_io::{Chunk, ReadBuf};
use tapeloop_log::Location;
use tapeloop_log::read::{First, PayloadRead, PayloadReads};

/// Reads in flight for one reader, while it sends what came before.
const PIPELINE: usize = 2;

/// A record whose header has been verified, and where it lies.
pub(crate) struct OnDrive {
    pub(crate) header: Rc<RecordHeader>,
    pub(crate) location: Location,
    /// The first bytes of the record, if they came with the header.
    pub(crate) first: Option<ReadBuf>,
    /// What comes next, if it was begun with the header.
    pub(crate) ahead: Option<ReadAhead>,
}

impl OnDrive {
    /// `buf` is what was read to find the header.
    pub(crate) fn new(
        header: RecordHeader,
        location: Location,
        first: First,
        buf: &ReadBuf,
    ) -> OnDrive {
        let shape = header.shape();
        let has_payload = first != First::Header || shape.is_inline();
        let first = has_payload.then(|| buf.slice(0..shape.record_len.min(buf.len())));
        OnDrive { header: Rc::new(header), location, first, ahead: None }
    }

    /// The record with all that was read of it. What stays holds no buffer.
    pub(crate) fn take(&mut self) -> OnDrive {
        let (first, ahead) = (self.first.take(), self.ahead.take());
        OnDrive { header: Rc::clone(&self.header), location: self.location, first, ahead }
    }
}

/// The bytes of an object, or of a range of it.
pub struct Chunks {
    shared: Arc<Shared>,
    source: Source,
    position: u64,
    end: u64,
    is_popular: bool,
}

enum Source {
    Arena(Arc<Body>),
    Drive(Drive),
    Follow(Follower, Arc<Body>),
}

struct Drive {
    header: Rc<RecordHeader>,
    location: Location,
    first: Option<ReadBuf>,
    ahead: Option<ReadAhead>,
    reads: PayloadReads,
    under_way: VecDeque<(PayloadRead, PendingRead)>,
}

impl Chunks {
    pub(crate) fn arena(shared: Arc<Shared>, body: Arc<Body>, range: Range<u64>) -> Chunks {
        let is_popular = body.count_reader();
        let source = Source::Arena(body);
        Chunks { shared, source, position: range.start, end: range.end, is_popular }
    }

    pub(crate) fn drive(shared: Arc<Shared>, record: OnDrive, range: Range<u64>) -> Chunks {
        let source = Source::Drive(Drive::new(record, range.clone()));
        Chunks { shared, source, position: range.start, end: range.end, is_popular: false }
    }

    pub(crate) fn follow(shared: Arc<Shared>, body: Arc<Body>) -> Chunks {
        let source = Source::Follow(Follower::new(Arc::clone(&body)), body);
        Chunks { shared, source, position: 0, end: u64::MAX, is_popular: false }
    }

    /// Whether so many have read it from memory that its bytes had better leave by reference.
    pub fn is_popular(&self) -> bool {
        self.is_popular
    }

    /// The next bytes, or the end. After an error nothing more comes.
    pub async fn next(&mut self) -> Option<Result<Chunk, ReadError>> {
        if self.position >= self.end {
            return None;
        }
        let next = match &mut self.source {
            Source::Arena(body) => match body.chunk(self.position, self.end) {
                Some(chunk) => Some(Ok(chunk)),
                None => self.go_on_from_drive().await,
            },
            Source::Follow(follower, body) => match follower.next().await {
                // A follower so slow that the arena took the blocks back goes on from the drive.
                Some(Err(ReadError::Recycled)) if body.stored().is_some() => {
                    self.end = body.received();
                    self.go_on_from_drive().await
                }
                next => next,
            },
            Source::Drive(drive) => drive.next(&self.shared).await,
        };
        match &next {
            Some(Ok(chunk)) => {
                assert!(!chunk.is_empty());
                self.position += chunk.len() as u64;
            }
            Some(Err(_)) | None => self.position = self.end,
        }
        next
    }

    /// Goes on with `range` of the same version instead. What was read ahead is given up, and
    /// nothing is held until bytes are asked for again. Panics for an upload that is followed.
    pub fn seek(&mut self, range: Range<u64>) {
        match &mut self.source {
            Source::Arena(_) => {}
            Source::Drive(drive) => {
                let (header, location) = (Rc::clone(&drive.header), drive.location);
                let record = OnDrive { header, location, first: None, ahead: None };
                *drive = Drive::new(record, range.clone());
            }
            Source::Follow(..) => panic!("an upload is followed from its first byte"),
        }
        (self.position, self.end) = (range.start, range.end);
    }

    /// The arena has let go of the object: the rest comes from its record.
    async fn go_on_from_drive(&mut self) -> Option<Result<Chunk, ReadError>> {
        let (Source::Arena(body) | Source::Follow(_, body)) = &self.source else {
            unreachable!("only bodies leave the arena")
        };
        let stored = body.stored().expect("only stored bodies leave the arena");
        let key = body.key.as_bytes();
        let record = match read::record(&self.shared, stored.location, key).await {
            Ok(record) => record,
            Err(error) => return Some(Err(error)),
        };
        let mut drive = Drive::new(record, self.position..self.end);
        let next = drive.next(&self.shared).await;
        self.source = Source::Drive(drive);
        next
    }
}

impl Drive {
    fn new(record: OnDrive, range: Range<u64>) -> Drive {
        let OnDrive { header, location, first, ahead } = record;
        let reads = PayloadReads::new(Rc::clone(&header), location, range);
        Drive { header, location, first, ahead, reads, under_way: VecDeque::new() }
    }

    async fn next(&mut self, shared: &Arc<Shared>) -> Option<Result<Chunk, ReadError>> {
        if let Some(chunk) = self.take_first_read(shared) {
            self.fill_pipeline(shared).await;
            return Some(chunk);
        }
        self.fill_pipeline(shared).await;
        let (read, pending) = self.under_way.pop_front().expect("bytes are left, so one is read");
        let buf = match pending.await {
            Ok(buf) => buf,
            Err(error) => return Some(Err(error)),
        };
        let fed = self.reads.feed(&shared.directory, shared.store_id.salt(), &read, &buf);
        let part = match fed {
            Ok(part) => part,
            Err(refusal) => return Some(Err(read::refused(shared, &self.location, refusal))),
        };
        self.fill_pipeline(shared).await;
        Some(Ok(Chunk::from(buf).slice(part)))
    }

    /// The bytes that were read with the header.
    fn take_first_read(&mut self, shared: &Shared) -> Option<Result<Chunk, ReadError>> {
        let first = self.first.take()?;
        let fed = self.reads.feed_first(&shared.directory, shared.store_id.salt(), &first)?;
        let part = fed.map_err(|refusal| read::refused(shared, &self.location, refusal));
        Some(part.map(|part| Chunk::from(first).slice(part)))
    }

    /// Keeps reads ahead of the sender, started before they are waited for.
    async fn fill_pipeline(&mut self, shared: &Arc<Shared>) {
        // Whoever reads another range than the whole may want something else next, or nothing.
        let mut ahead = self.ahead.take();
        while self.under_way.len() < PIPELINE {
            let Some(read) = self.reads.next_read() else { return };
            let pending = match ahead.take().and_then(|ahead| ahead.claim(&read)) {
                Some(pending) => pending,
                None => read::begin(shared, self.location.lap, read.at).await,
            };
            self.under_way.push_back((read, pending));
        }
    }
}
