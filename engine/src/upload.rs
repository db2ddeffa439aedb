//! One upload: bytes into the arena, checksummed as they come, readable by followers at once.

use crate::admission::Claim;
use crate::body::Body;
use crate::door::Command;
use crate::engine::Shared;
use crate::error::PutError;
use std::collections::VecDeque;
use std::iter;
use std::sync::Arc;
use tapeloop_format::PayloadChecksums;
use tapeloop_io::{BlockWriter, Spare};
use tapeloop_log::{Append, Op, Put};
use tokio::sync::oneshot;
use twox_hash::XxHash3_128;

/// What has been looked at for one checksum is still in the nearest cache for the other.
const CHECKSUMMED_AT_ONCE: usize = 8 << 10;

/// How the end of an upload is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// When the object is on stable storage.
    #[default]
    Durable,
    /// When the object has been handed to the appender: a crash may lose it.
    Buffered,
}

/// How an object is to be stored.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// Declared length, if it is known.
    pub len: Option<u64>,
    /// Life from the commit on, in milliseconds.
    pub ttl_ms: u64,
    /// Opaque to the engine; at most 1,024 bytes.
    pub metadata: Vec<u8>,
    /// Retention group; 0 unless the namespace has a quota or guarantee of its own.
    pub group: u64,
    /// Wall clock at the upload, milliseconds since 1970.
    pub created_wall_ms: u64,
}

/// An object that has been stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// xxh3-128 of the payload.
    pub content_hash: [u8; 16],
    /// Payload length in bytes.
    pub len: u64,
    /// An older version was replaced. Not known with `Ack::Buffered`.
    pub replaced: bool,
}

/// An upload in progress. Dropping it without `commit` aborts it: no object, followers get an
/// error.
pub struct Upload {
    shared: Arc<Shared>,
    body: Arc<Body>,
    claim: Option<Claim>,
    /// Blocks with room. The first may have bytes already, and is the body's then.
    writers: VecDeque<BlockWriter>,
    checksums: Option<PayloadChecksums>,
    content: Box<XxHash3_128>,
    options: PutOptions,
    max: u64,
}

impl Upload {
    pub(crate) fn new(shared: Arc<Shared>, body: Arc<Body>, options: PutOptions) -> Upload {
        shared.live.begin_upload(&body);
        let claim = Some(shared.admission.claim());
        let checksums = Some(PayloadChecksums::new(shared.store_id.salt()));
        let max = shared.object_len_max;
        let content = Box::new(XxHash3_128::new());
        Upload { shared, body, claim, writers: VecDeque::new(), checksums, content, options, max }
    }

    /// Bytes received so far.
    pub fn received_len(&self) -> u64 {
        self.body.received()
    }

    /// Copies bytes into the arena. Waits while the arena is full of other uploads, as long as the
    /// drives answer.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), PutError> {
        self.check_len(bytes.len() as u64)?;
        while !bytes.is_empty() {
            let mut writer = self.writer().await?;
            let taken = writer.append(bytes);
            self.account(&writer, taken);
            self.keep(iter::once(writer));
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Arena memory for a receive of at most `max` bytes straight from a socket. Waits while the
    /// arena is full of other uploads; what there is of it at once may be less than `max`.
    pub async fn recv_buffer(&mut self, max: usize) -> Result<Spare, PutError> {
        assert!(max > 0);
        self.check_len(1)?;
        let left = usize::try_from(self.max - self.body.received()).unwrap_or(usize::MAX);
        let max = max.min(left);
        let first = self.writer().await?;
        let mut room = first.remaining();
        let mut writers = vec![first];
        while room < max
            && let Some(writer) = self.writer_now()
        {
            room += writer.remaining();
            writers.push(writer);
        }
        Ok(Spare::new(writers, max))
    }

    /// Takes a receive buffer back with `n` bytes in it.
    pub fn received(&mut self, spare: Spare, n: usize) {
        let mut start = spare.start();
        let writers = spare.finish(n);
        for writer in &writers {
            self.account(writer, writer.len() - start);
            start = 0;
        }
        self.keep(writers.into_iter());
    }

    /// A block has `new` more bytes. Followers see them now.
    fn account(&mut self, writer: &BlockWriter, new: usize) {
        if new == 0 {
            return;
        }
        let start = writer.len() - new;
        if start == 0 {
            self.body.push_block(writer.share());
        }
        self.checksum(&writer.published()[start..]);
        self.body.advance(new as u64);
    }

    /// Takes back those that go on, in their order.
    fn keep(&mut self, writers: impl DoubleEndedIterator<Item = BlockWriter>) {
        for writer in writers.rev().filter(|writer| writer.remaining() > 0) {
            self.writers.push_front(writer);
        }
    }

    fn checksum(&mut self, bytes: &[u8]) {
        let checksums = self.checksums.as_mut().expect("only a commit takes them");
        for part in bytes.chunks(CHECKSUMMED_AT_ONCE) {
            checksums.update(part);
            self.content.write(part);
        }
    }

    fn check_len(&self, more: u64) -> Result<(), PutError> {
        let len = self.body.received() + more;
        match self.options.len {
            _ if len > self.max => Err(PutError::TooLarge { len, max: self.max }),
            Some(declared) if len > declared => Err(PutError::Length { declared, received: len }),
            _ => Ok(()),
        }
    }

    /// The first writer with room.
    async fn writer(&mut self) -> Result<BlockWriter, PutError> {
        if let Some(writer) = self.writer_now() {
            return Ok(writer);
        }
        // Others are to be stored first, which takes a drive that answers.
        let Shared { admission, live, door, .. } = &*self.shared;
        let claim = self.claim.as_mut().expect("only a commit takes it");
        door.unless_stalled(admission.block(claim, live)).await
    }

    fn writer_now(&mut self) -> Option<BlockWriter> {
        let claim = self.claim.as_mut().expect("only a commit takes it");
        let new_block = || self.shared.admission.block_now(claim, &self.shared.live);
        self.writers.pop_front().or_else(new_block)
    }

    /// The body is complete: makes it an object. With `Ack::Durable` it is on stable storage when
    /// this returns.
    pub async fn commit(mut self, ack: Ack) -> Result<Committed, PutError> {
        let received = self.body.received();
        if let Some(declared) = self.options.len
            && declared != received
        {
            return Err(PutError::Length { declared, received });
        }
        self.writers.clear();
        let content_hash = self.content.finish_128().to_le_bytes();
        let checksums = self.checksums.take().expect("an upload is committed once");
        let put = Put {
            metadata: (*self.body.metadata).into(),
            payload_len: received,
            chunk_crcs: checksums.finish(),
            content_hash,
            ttl_ms: self.options.ttl_ms,
            group: self.options.group,
            created_wall_ms: self.body.created_wall_ms,
        };
        let append = Append {
            ticket: 0,
            hash: self.body.hash,
            key: self.body.key.as_bytes().into(),
            op: Op::Put(put),
        };
        let (reply, answer) = oneshot::channel();
        let permit = self.shared.door.reserve().await?;
        let claim = self.claim.take().expect("an upload is committed once");
        let body = Arc::clone(&self.body);
        permit.send(Command::Put { append, body, claim, reply });
        if ack == Ack::Buffered {
            return Ok(Committed { content_hash, len: received, replaced: false });
        }
        let replaced = self.shared.door.answer(answer).await?;
        Ok(Committed { content_hash, len: received, replaced })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // With the claim gone the appender owns the upload's end.
        if let Some(claim) = self.claim.take() {
            self.writers.clear();
            self.shared.live.end_upload(&self.body);
            self.shared.admission.release(claim);
        }
    }
}
