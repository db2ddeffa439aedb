//! Verified bytes of one object, in order, from wherever they are: the arena while it holds them,
//! the drive after that, an upload as it grows.
//!
//! Invariants: no byte leaves before its chunk's checksum held. At most two reads of 256 KiB are in
//! flight for one reader, so a Range costs bounded memory. A zone that is reused under a slow
//! reader is noticed: its bytes no longer verify.

use crate::body::{Body, Follower};
use crate::engine::Shared;
use crate::error::ReadError;
use crate::read;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use tapeloop_format::{BLOCK, CHUNK, RecordHeader, round_up};
use tapeloop_io::{Chunk, ReadBuf};
use tapeloop_log::Location;

/// Payload bytes per read of the drive.
pub(crate) const READ_LEN: u64 = 4 * CHUNK as u64;
/// Reads in flight for one reader: one being sent from, the next under way.
const PIPELINE: usize = 2;

type PendingRead = Pin<Box<dyn Future<Output = Result<ReadBuf, ReadError>>>>;

/// A record whose header has been verified, and where it lies.
#[derive(Clone)]
pub(crate) struct OnDrive {
    pub(crate) header: Rc<RecordHeader>,
    pub(crate) location: Location,
    /// The first bytes of the record, if they came with the header.
    pub(crate) first: Option<ReadBuf>,
}

/// The bytes of an object, or of a range of it.
pub struct Chunks {
    shared: Arc<Shared>,
    source: Source,
    position: u64,
    end: u64,
}

enum Source {
    Arena(Arc<Body>),
    Drive(Drive),
    Follow(Follower, Arc<Body>),
}

struct Drive {
    record: OnDrive,
    /// Offset in the payload where the next read starts; a multiple of CHUNK.
    next_read: u64,
    reads: VecDeque<(u64, PendingRead)>,
}

impl Chunks {
    pub(crate) fn arena(
        shared: Arc<Shared>,
        body: Arc<Body>,
        range: std::ops::Range<u64>,
    ) -> Chunks {
        Chunks { shared, source: Source::Arena(body), position: range.start, end: range.end }
    }

    pub(crate) fn drive(
        shared: Arc<Shared>,
        record: OnDrive,
        range: std::ops::Range<u64>,
    ) -> Chunks {
        let source = Source::Drive(Drive::new(record, range.start));
        Chunks { shared, source, position: range.start, end: range.end }
    }

    pub(crate) fn follow(shared: Arc<Shared>, body: Arc<Body>) -> Chunks {
        let source = Source::Follow(Follower::new(Arc::clone(&body)), body);
        Chunks { shared, source, position: 0, end: u64::MAX }
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
            Source::Drive(drive) => drive.next(&self.shared, self.position, self.end).await,
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

    /// The arena has let go of the object: the rest comes from its record.
    async fn go_on_from_drive(&mut self) -> Option<Result<Chunk, ReadError>> {
        let (Source::Arena(body) | Source::Follow(_, body)) = &self.source else {
            unreachable!("only bodies leave the arena")
        };
        let stored = body.stored().expect("only stored bodies leave the arena");
        let key = body.key.as_bytes();
        match read::record(&self.shared, stored.location, key, read::First::Header).await {
            Ok(read::At::Record(record)) => {
                let mut drive = Drive::new(record, self.position);
                let next = drive.next(&self.shared, self.position, self.end).await;
                self.source = Source::Drive(drive);
                next
            }
            Ok(_) => Some(Err(ReadError::Recycled)),
            Err(error) => Some(Err(error)),
        }
    }
}

impl Drive {
    fn new(record: OnDrive, position: u64) -> Drive {
        let next_read = position - position % CHUNK as u64;
        Drive { record, next_read, reads: VecDeque::new() }
    }

    async fn next(
        &mut self,
        shared: &Arc<Shared>,
        position: u64,
        end: u64,
    ) -> Option<Result<Chunk, ReadError>> {
        if let Some(chunk) = self.take_first_read(shared, position, end) {
            self.fill_pipeline(shared, end).await;
            return Some(chunk);
        }
        self.fill_pipeline(shared, end).await;
        let (start, read) = self.reads.pop_front().expect("bytes are left, so a read is under way");
        let buf = match read.await {
            Ok(buf) => buf,
            Err(error) => return Some(Err(error)),
        };
        if let Err(error) = self.verify(shared, start, &buf) {
            return Some(Err(error));
        }
        self.fill_pipeline(shared, end).await;
        let payload_end = self.record.header.payload_len.min(start + READ_LEN);
        let (from, to) = (position - start, payload_end.min(end) - start);
        Some(Ok(Chunk::from(buf).slice(from as usize..to as usize)))
    }

    /// The bytes that were read with the header.
    fn take_first_read(
        &mut self,
        shared: &Arc<Shared>,
        position: u64,
        end: u64,
    ) -> Option<Result<Chunk, ReadError>> {
        let first = self.record.first.take()?;
        let header = &self.record.header;
        let payload_offset = header.shape().payload_offset;
        let held = (first.len() - payload_offset) as u64;
        // Only whole chunks can be verified.
        let whole = if held >= header.payload_len {
            header.payload_len
        } else {
            held - held % CHUNK as u64
        };
        if position >= whole {
            return None;
        }
        let start = position - position % CHUNK as u64;
        let bytes = &first[payload_offset + start as usize..payload_offset + whole as usize];
        if let Err(error) = self.verify(shared, start, bytes) {
            return Some(Err(error));
        }
        self.next_read = whole;
        let (from, to) = (position as usize, whole.min(end) as usize);
        Some(Ok(Chunk::from(first).slice(payload_offset + from..payload_offset + to)))
    }

    /// Checks every chunk in `bytes`, which start at payload offset `start`.
    fn verify(&self, shared: &Shared, start: u64, bytes: &[u8]) -> Result<(), ReadError> {
        let header = &self.record.header;
        let mut index = (start / CHUNK as u64) as usize;
        let mut rest = bytes;
        while index < header.chunk_crcs.len() && rest.len() >= header.chunk_len(index) {
            let (chunk, behind) = rest.split_at(header.chunk_len(index));
            if let Err(error) = header.verify_chunk(shared.store_id.salt(), index, chunk) {
                return Err(read::unverified(shared, &self.record.location, error));
            }
            rest = behind;
            index += 1;
        }
        assert!(index as u64 * CHUNK as u64 >= start, "at least one chunk was there");
        Ok(())
    }

    /// Keeps reads ahead of the sender, started before they are waited for.
    async fn fill_pipeline(&mut self, shared: &Arc<Shared>, end: u64) {
        let payload_len = self.record.header.payload_len;
        while self.reads.len() < PIPELINE && self.next_read < payload_len.min(end) {
            let len = (payload_len - self.next_read).min(READ_LEN);
            let location = self.record.location;
            let payload = self.record.header.shape().payload_offset as u64;
            let offset = location.offset + payload + self.next_read;
            let len = round_up(len as usize, BLOCK);
            let mut read: PendingRead =
                Box::pin(read::zone(Arc::clone(shared), location, offset, len));
            let started = std::future::poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await;
            if let Poll::Ready(done) = started {
                read = Box::pin(std::future::ready(done));
            }
            self.reads.push_back((self.next_read, read));
            self.next_read += READ_LEN;
        }
    }
}
