//! The appender: one thread per volume that runs the log on the volume's own ring.
//!
//! It is the log's only caller and the drive's only writer. Everybody else sends it commands by a
//! bounded queue and is answered when the log says so.

use crate::admission::Claim;
use crate::body::{Body, Stored};
use crate::engine::Shared;
use crate::error::PutError;
use crate::list::ListEntry;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tapeloop_format::KeyHash;
use tapeloop_io::appender_ring::QUEUE_MAX;
use tapeloop_io::{AlignedBuf, VolumeFile, Waker, WriteRing, WriteSource, clock};
use tapeloop_log::{
    Append, AppendError, Event, Io, IoFailure, IoOp, Location, Log, LogStats, Op, StoreClock,
};
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for the appender; more callers wait at the door.
const COMMANDS_MAX: usize = 1024;
/// Operations the log may have under way.
const BACKLOG_MAX: u32 = 4096;
/// Operations the kernel may have at once.
const RING_DEPTH: u32 = 64;
/// Ring operations that the largest record or read may need: a 256 MiB zone in 512 KiB pieces.
const PIECES_MAX: usize = 520;
const TICK_MS: u64 = 100;
/// A drive that has not answered an operation for so long is taken for hung.
const STALL_MS: u64 = 4_000;

/// Answers an operation: whether an older version was there.
pub(crate) type Reply = oneshot::Sender<Result<bool, PutError>>;

/// What others ask of the appender.
pub(crate) enum Command {
    Put { append: Append, body: Arc<Body>, claim: Claim, reply: Reply },
    Delete { append: Append, reply: Reply },
    ObjectsOf { zone: u32, reply: oneshot::Sender<Vec<OpenObject>> },
    ListOpen { prefix: Vec<u8>, after: Option<Vec<u8>>, reply: oneshot::Sender<Vec<ListEntry>> },
    Close { reply: oneshot::Sender<()> },
}

/// An object of an open zone, which no footer lists yet.
pub(crate) struct OpenObject {
    pub(crate) key: Box<[u8]>,
    pub(crate) location: Location,
    pub(crate) expires_ms: u64,
}

/// The door to an appender.
pub(crate) struct Door {
    commands: mpsc::Sender<Command>,
    waker: Waker,
    status: Arc<Status>,
}

/// What the appender shows without being asked.
#[derive(Default)]
pub(crate) struct Status {
    stats: Mutex<LogStats>,
    fenced: Mutex<Option<IoFailure>>,
    /// Boot time since which the oldest operation waits for the drive; 0 for none.
    waiting_since_ms: AtomicU64,
    closed: AtomicBool,
    /// The drive has work of the appender's.
    busy: AtomicBool,
}

/// A place in the queue.
pub(crate) struct Permit<'a> {
    permit: mpsc::Permit<'a, Command>,
    waker: &'a Waker,
}

impl Permit<'_> {
    pub(crate) fn send(self, command: Command) {
        self.permit.send(command);
        self.waker.wake();
    }
}

impl Door {
    pub(crate) async fn reserve(&self) -> Result<Permit<'_>, PutError> {
        let permit = self.commands.reserve().await.map_err(|_| PutError::Closed)?;
        Ok(Permit { permit, waker: &self.waker })
    }

    pub(crate) fn send_blocking(&self, command: Command) -> bool {
        let sent = self.commands.blocking_send(command).is_ok();
        self.waker.wake();
        sent
    }

    /// How long the drive has not answered, if that is too long.
    pub(crate) fn stalled_ms(&self) -> Option<u64> {
        let since = self.status.waiting_since_ms.load(Ordering::Acquire);
        let waited = clock::boottime_ms().saturating_sub(since);
        (since != 0 && waited > STALL_MS).then_some(waited)
    }

    pub(crate) fn fenced(&self) -> Option<IoFailure> {
        *self.status.fenced.lock()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.status.busy.load(Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.status.closed.load(Ordering::Acquire)
    }

    pub(crate) fn stats(&self) -> LogStats {
        *self.status.stats.lock()
    }
}

struct InFlight {
    hash: KeyHash,
    body: Option<(Arc<Body>, Claim)>,
    content_hash: [u8; 16],
    reply: Reply,
}

/// The thread's state.
pub(crate) struct Appender {
    log: Log,
    clock: StoreClock,
    ring: WriteRing,
    shared: Weak<Shared>,
    commands: mpsc::Receiver<Command>,
    status: Arc<Status>,
    in_flight: HashMap<u64, InFlight>,
    /// Boot time at which each operation on the ring was begun.
    begun_ms: HashMap<u64, u64>,
    next_ticket: u64,
    next_tick_ms: u64,
    closing: Vec<oneshot::Sender<()>>,
    done: bool,
}

/// Starts the appender's thread. The engine's shared state is made by `share`, which gets the door.
pub(crate) fn spawn(
    log: Log,
    clock: StoreClock,
    volume: Arc<VolumeFile>,
    share: impl FnOnce(Door) -> Arc<Shared>,
) -> io::Result<(Arc<Shared>, std::thread::JoinHandle<()>)> {
    let (sender, commands) = mpsc::channel(COMMANDS_MAX);
    let status = Arc::new(Status::default());
    let (ready, made) = std::sync::mpsc::channel();
    let thread_status = Arc::clone(&status);
    let (give, take) = std::sync::mpsc::channel::<Weak<Shared>>();
    let thread = std::thread::Builder::new().name("tape-appender".into()).spawn(move || {
        // The ring belongs to the thread that makes it.
        let ring = match WriteRing::new(volume, RING_DEPTH) {
            Ok(ring) => ring,
            Err(error) => return drop(ready.send(Err(error))),
        };
        if ready.send(Ok(ring.waker())).is_err() {
            return;
        }
        let Ok(shared) = take.recv() else { return };
        let status = thread_status;
        Appender {
            log,
            clock,
            ring,
            shared,
            commands,
            status,
            in_flight: HashMap::new(),
            begun_ms: HashMap::new(),
            next_ticket: 1,
            next_tick_ms: 0,
            closing: Vec::new(),
            done: false,
        }
        .run();
    })?;
    let waker = made.recv().map_err(|_| io::Error::other("the appender's thread ended"))??;
    let shared = share(Door { commands: sender, waker, status });
    let _ = give.send(Arc::downgrade(&shared));
    Ok((shared, thread))
}

impl Appender {
    fn run(mut self) {
        while !self.done {
            self.take_commands();
            self.tick();
            self.pump();
            self.status.busy.store(self.ring.queued() > 0, Ordering::Relaxed);
            if let Err(error) = self.ring.submit_and_wait(Duration::from_millis(TICK_MS)) {
                tracing::error!(%error, "the appender's ring failed; the store is read-only");
                break;
            }
            while let Some(done) = self.ring.pop() {
                self.begun_ms.remove(&done.token);
                let errno = |error: io::Error| error.raw_os_error().unwrap_or(5);
                let result = done.result.map_err(|error| IoFailure { errno: errno(error) });
                let bytes = done.buf.map(|buf| buf.to_vec()).unwrap_or_default();
                self.log.io_done(self.now_ms(), done.token, result.map(|_| bytes));
            }
        }
        self.status.closed.store(true, Ordering::Release);
        self.fail_the_rest();
    }

    fn now_ms(&self) -> u64 {
        self.clock.at(clock::boottime_ms())
    }

    fn take_commands(&mut self) {
        while self.log.backlog() < BACKLOG_MAX {
            match self.commands.try_recv() {
                Ok(command) => self.obey(command),
                Err(mpsc::error::TryRecvError::Empty) => return,
                Err(mpsc::error::TryRecvError::Disconnected) => return self.log.close(),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Put { append, body, claim, reply } => {
                self.append(append, Some((body, claim)), reply)
            }
            Command::Delete { append, reply } => self.append(append, None, reply),
            Command::ObjectsOf { zone, reply } => {
                let objects = self.log.open_objects_of(zone);
                let copied = objects.map(|(key, location, expires_ms)| OpenObject {
                    key: key.into(),
                    location,
                    expires_ms,
                });
                let _ = reply.send(copied.collect());
            }
            Command::ListOpen { prefix, after, reply } => {
                let _ = reply.send(self.list_open(&prefix, after.as_deref()));
            }
            Command::Close { reply } => {
                self.closing.push(reply);
                self.log.close();
            }
        }
    }

    fn append(&mut self, mut append: Append, body: Option<(Arc<Body>, Claim)>, reply: Reply) {
        let content_hash = match &append.op {
            Op::Put(put) => put.content_hash,
            Op::Delete => [0; 16],
        };
        append.ticket = self.next_ticket;
        self.next_ticket += 1;
        let hash = append.hash;
        self.in_flight.insert(append.ticket, InFlight { hash, body, content_hash, reply });
        self.log.append(self.now_ms(), append);
    }

    fn tick(&mut self) {
        let boottime_ms = clock::boottime_ms();
        if boottime_ms < self.next_tick_ms {
            return;
        }
        self.next_tick_ms = boottime_ms + TICK_MS;
        let now_ms = self.clock.at(boottime_ms);
        self.log.tick(now_ms, self.clock.mark(boottime_ms, clock::wall_ms()));
        *self.status.stats.lock() = self.log.stats();
        let oldest = self.begun_ms.values().copied().min().unwrap_or(0);
        self.status.waiting_since_ms.store(oldest, Ordering::Release);
    }

    /// Moves I/O and events until the log wants nothing more.
    fn pump(&mut self) {
        loop {
            while let Some(event) = self.log.poll_event() {
                self.end(event);
            }
            if self.ring.queued() + PIECES_MAX > QUEUE_MAX {
                return;
            }
            let Some(io) = self.log.poll_io() else { return };
            self.begin(io);
        }
    }

    fn begin(&mut self, io: Io) {
        self.begun_ms.insert(io.id, clock::boottime_ms().max(1));
        let full = "the queue was checked for room";
        match io.op {
            IoOp::Record { offset, header, shape, ticket } => {
                let body = self.in_flight[&ticket].body.as_ref().map(|(body, _)| body);
                let source = record_source(header, &shape, body);
                self.ring.push_write(io.id, source, offset).expect(full);
            }
            IoOp::Write { offset, bytes } => {
                let source = WriteSource::Aligned(AlignedBuf::padded_from(&bytes));
                self.ring.push_write(io.id, source, offset).expect(full);
            }
            IoOp::Flush => self.ring.push_flush(io.id).expect(full),
            IoOp::Read { offset, len } => {
                self.ring.push_read(io.id, AlignedBuf::zeroed(len), offset).expect(full);
            }
        }
    }

    fn end(&mut self, event: Event) {
        match event {
            Event::Started => {}
            Event::Stored { ticket, location, expires_ms, replaced, .. } => {
                let stored = Stored {
                    location,
                    expires_ms,
                    content_hash: self.in_flight[&ticket].content_hash,
                    stored_ms: self.now_ms(),
                };
                self.finish(ticket, Ok(replaced), Some(stored));
            }
            Event::Deleted { ticket, existed } => {
                if let Some(shared) = self.shared.upgrade() {
                    shared.live.remove_stored(&self.in_flight[&ticket].hash);
                }
                self.finish(ticket, Ok(existed), None);
            }
            Event::Failed { ticket, error } => self.finish(ticket, Err(error), None),
            Event::Fenced(failure) => {
                tracing::error!(%failure, "a flush failed: the volume is read-only until restart");
                *self.status.fenced.lock() = Some(failure);
            }
            Event::Closed => {
                self.done = true;
                self.answer_closing();
            }
        }
    }

    fn answer_closing(&mut self) {
        for reply in self.closing.drain(..) {
            // Whoever closes may have stopped waiting.
            let _ = reply.send(());
        }
    }

    fn finish(&mut self, ticket: u64, result: Result<bool, AppendError>, stored: Option<Stored>) {
        let InFlight { body, reply, .. } =
            self.in_flight.remove(&ticket).expect("an operation ends once");
        let shared = self.shared.upgrade();
        match (body, stored) {
            (Some((body, claim)), Some(stored)) => {
                body.set_stored(stored);
                match &shared {
                    Some(shared) => {
                        shared.live.store(&body);
                        shared.admission.release(claim);
                    }
                    None => body.end_stored(),
                }
            }
            (Some((body, claim)), None) => match &shared {
                Some(shared) => {
                    shared.live.end_upload(&body);
                    shared.admission.release(claim);
                }
                None => body.end_failed(),
            },
            (None, _) => {}
        }
        // Whoever asked may be gone; the operation is done all the same.
        let _ = reply.send(result.map_err(PutError::from));
    }

    fn list_open(&self, prefix: &[u8], after: Option<&[u8]>) -> Vec<ListEntry> {
        let wanted = |key: &[u8]| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        let objects = self.log.open_objects().filter(|(key, ..)| wanted(key));
        objects
            .map(|(key, location, expires_ms)| ListEntry::new(key, location, expires_ms))
            .collect()
    }

    fn fail_the_rest(&mut self) {
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Put { append, body, claim, reply } => {
                    let body = Some((body, claim));
                    let (hash, content_hash) = (append.hash, [0; 16]);
                    let in_flight = InFlight { hash, body, content_hash, reply };
                    self.in_flight.insert(self.next_ticket, in_flight);
                    self.next_ticket += 1;
                }
                Command::Delete { reply, .. } => drop(reply),
                Command::ListOpen { reply, .. } => drop(reply),
                Command::ObjectsOf { reply, .. } => drop(reply),
                Command::Close { reply } => self.closing.push(reply),
            }
        }
        let mut tickets: Vec<u64> = self.in_flight.keys().copied().collect();
        tickets.sort_unstable();
        for ticket in tickets {
            self.finish(ticket, Err(AppendError::Closing), None);
        }
        self.answer_closing();
    }
}

/// Header and payload as one run of bytes. Nothing is copied, but for a payload that shares its
/// header's only block.
fn record_source(
    mut header: Vec<u8>,
    shape: &tapeloop_format::RecordShape,
    body: Option<&Arc<Body>>,
) -> WriteSource {
    let blocks = body.map(|body| body.blocks()).unwrap_or_default();
    if shape.is_inline() {
        let mut at = shape.payload_offset;
        for block in &blocks {
            let bytes = block.as_slice();
            header[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        }
        return WriteSource::Aligned(AlignedBuf::padded_from(&header));
    }
    assert_eq!(header.len(), shape.payload_offset);
    let mut parts = vec![WriteSource::Aligned(AlignedBuf::padded_from(&header))];
    for block in blocks {
        let len = tapeloop_io::round_up_to_block(block.len());
        parts.push(WriteSource::Block(block, 0..len));
    }
    WriteSource::Gather(parts)
}
