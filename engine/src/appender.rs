//! The appender: one thread per volume that does the log's I/O on the volume's own ring.
//!
//! It is the drive's only writer. What is to be written the log says, which all appenders share;
//! a drive that hangs holds up its own appender at most. One whose drive hangs or is lost goes on
//! without: it keeps time and takes commands like the others.

use crate::body::Body;
use crate::drive::Drive;
use crate::hub::{Hub, Room, Turn, Work};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use tapeloop_format::{BLOCK, RecordShape};
use tapeloop_io::appender_ring::QUEUE_MAX;
use tapeloop_io::{AlignedBuf, Completion, VolumeFile, WriteRing, WriteSource, clock};
use tapeloop_log::{IoFailure, IoOp};

/// Operations the kernel may have at once.
const RING_DEPTH: u32 = 8;
/// Ring operations that the largest record or read may need: a 256 MiB zone in 512 KiB pieces.
const OPERATIONS_KEPT: usize = 520;
/// The longest wait.
const TICK: Duration = Duration::from_millis(100);
/// The token of a read that only asks whether the drive answers. The log counts from 1.
const PROBE: u64 = u64::MAX;
/// What became of operations that a fenced drive was never asked for: ECANCELED.
const CANCELLED: IoFailure = IoFailure { errno: 125 };

/// Starts the appender of a volume. Its ring is ready when this returns. The thread is never
/// joined: the hub knows when it has ended, and what the kernel makes of it while its drive hangs
/// is no concern of ours.
pub(crate) fn spawn(
    hub: &Arc<Hub>,
    volume: u16,
    file: Arc<VolumeFile>,
    bytes_max: u64,
) -> io::Result<()> {
    let (ready, made) = mpsc::sync_channel(1);
    let hub = Arc::clone(hub);
    let name = format!("tape-append-{volume}");
    std::thread::Builder::new().name(name).spawn(move || {
        // The ring belongs to this thread, so it is made here.
        let ring = match WriteRing::new(file, RING_DEPTH) {
            Ok(ring) => ring,
            Err(error) => return drop(ready.send(Err(error))),
        };
        hub.drives[usize::from(volume)].set_waker(ring.waker());
        hub.begin_thread();
        let _ = ready.send(Ok(()));
        Appender {
            hub: Arc::clone(&hub),
            volume,
            ring: Some(ring),
            bytes_max,
            begun: Begun::default(),
            turn: Turn::default(),
            is_discarded: false,
            is_probing: false,
        }
        .run();
        hub.end_thread();
    })?;
    made.recv().map_err(|_| io::Error::other("the appender's thread ended"))?
}

/// The thread's state.
struct Appender {
    hub: Arc<Hub>,
    volume: u16,
    /// `None` once it has failed.
    ring: Option<WriteRing>,
    /// Memory that operations of this volume may hold, as far as it is for this side to say.
    bytes_max: u64,
    begun: Begun,
    turn: Turn,
    is_discarded: bool,
    is_probing: bool,
}

/// Operations on the ring, and since when.
#[derive(Default)]
struct Begun {
    since_ms: HashMap<u64, u64>,
    /// Oldest first; those that have ended are passed over.
    order: VecDeque<u64>,
}

impl Begun {
    fn begin(&mut self, token: u64, now_ms: u64) {
        self.since_ms.insert(token, now_ms.max(1));
        self.order.push_back(token);
    }

    fn end(&mut self, token: u64) {
        self.since_ms.remove(&token);
    }

    /// Since when the oldest waits; 0 if none does.
    fn oldest_ms(&mut self) -> u64 {
        while let Some(token) = self.order.front() {
            match self.since_ms.get(token) {
                Some(since_ms) => return *since_ms,
                None => self.order.pop_front(),
            };
        }
        0
    }
}

impl Appender {
    fn run(mut self) {
        loop {
            let mut room = self.room();
            let now_ms = clock::boottime_ms();
            self.hub.turn(self.volume, now_ms, &mut room, &mut self.turn);
            if self.hub.is_closed() {
                break;
            }
            self.begin_work(now_ms);
            self.look_after_drive(now_ms);
            self.wait();
        }
        let hangs = self.drive().hung_ms().is_some();
        if let Some(ring) = self.ring.as_mut().filter(|_| hangs) {
            ring.abandon();
        }
    }

    fn drive(&self) -> &Drive {
        &self.hub.drives[usize::from(self.volume)]
    }

    fn room(&self) -> Room {
        let (operations, held) = self
            .ring
            .as_ref()
            .map_or((0, 0), |ring| (QUEUE_MAX - ring.queued(), ring.bytes_held()));
        let bytes = self.bytes_max.saturating_sub(held);
        Room { operations, operations_kept: OPERATIONS_KEPT, bytes }
    }

    fn begin_work(&mut self, now_ms: u64) {
        let Some(ring) = &mut self.ring else { return };
        let full = "there was room";
        for Work { id, op, body } in self.turn.work.drain(..) {
            self.begun.begin(id, now_ms);
            match op {
                IoOp::Record { offset, header, shape, .. } => {
                    let source = record_source(header, &shape, body.as_ref());
                    ring.push_write(id, source, offset).expect(full);
                }
                IoOp::Write { offset, bytes } => {
                    let source = WriteSource::Aligned(AlignedBuf::padded_from(&bytes));
                    ring.push_write(id, source, offset).expect(full);
                }
                IoOp::Flush => ring.push_flush(id).expect(full),
                IoOp::Read { offset, len } => {
                    ring.push_read(id, AlignedBuf::zeroed(len), offset).expect(full);
                }
            }
        }
    }

    /// Says how the drive does, gives back what it will never be asked for, and asks it whether it
    /// is there when somebody wants to know.
    fn look_after_drive(&mut self, now_ms: u64) {
        let drive = &self.hub.drives[usize::from(self.volume)];
        let Some(ring) = &mut self.ring else { return };
        let is_fenced = drive.fence().is_some();
        if is_fenced && !self.is_discarded {
            self.is_discarded = true;
            for token in ring.discard_queued() {
                self.begun.end(token);
                match token {
                    PROBE => self.is_probing = false,
                    _ => self.turn.answers.push((token, Err(CANCELLED))),
                }
            }
        }
        if !self.is_probing && ring.queued() < QUEUE_MAX && drive.wants_answer() {
            self.is_probing = true;
            self.begun.begin(PROBE, now_ms);
            ring.push_read(PROBE, AlignedBuf::zeroed(BLOCK), 0).expect("there was room");
        }
        drive.set_bytes_held(ring.bytes_held());
        drive.set_waiting(self.begun.oldest_ms());
        if is_fenced {
            self.hub.count_stuck_memory();
        }
    }

    /// Waits for the drive, for a wake-up, or for the next tick.
    fn wait(&mut self) {
        let Some(ring) = &mut self.ring else { return std::thread::park_timeout(TICK) };
        if let Err(error) = ring.submit_and_wait(TICK) {
            return self.lose_ring(&error);
        }
        while let Some(done) = ring.pop() {
            self.begun.end(done.token);
            if done.token == PROBE {
                // Also an error is an answer.
                self.is_probing = false;
                self.hub.drives[usize::from(self.volume)].answers();
            } else {
                self.turn.answers.push(answer(done));
            }
        }
        // Before the turn: what has been answered is not waited for.
        let oldest_ms = self.begun.oldest_ms();
        self.drive().set_waiting(oldest_ms);
    }

    fn lose_ring(&mut self, error: &io::Error) {
        let failure = IoFailure { errno: errno(error) };
        if let Some(mut ring) = self.ring.take() {
            ring.abandon();
        }
        self.begun = Begun::default();
        self.drive().set_waiting(0);
        self.hub.lose_ring(self.volume, failure);
    }
}

fn answer(done: Completion) -> (u64, Result<Vec<u8>, IoFailure>) {
    let result = done.result.map_err(|error| IoFailure { errno: errno(&error) });
    let bytes = done.buf.map(|buf| buf.to_vec()).unwrap_or_default();
    (done.token, result.map(|_| bytes))
}

/// EIO where the system has no number for it, as for a transfer that stopped short.
fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(5)
}

/// Header and payload as one run of bytes. Nothing is copied, but for a payload that shares its
/// header's only block.
fn record_source(
    mut header: Vec<u8>,
    shape: &RecordShape,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_operation_that_still_waits_is_found_whatever_ended_before() {
        let mut begun = Begun::default();
        assert_eq!(begun.oldest_ms(), 0);
        for token in 1..=5 {
            begun.begin(token, token * 10);
        }
        begun.end(3);
        assert_eq!(begun.oldest_ms(), 10);
        begun.end(1);
        begun.end(2);
        assert_eq!(begun.oldest_ms(), 40);
        begun.begin(6, 60);
        begun.end(4);
        begun.end(5);
        assert_eq!(begun.oldest_ms(), 60);
        begun.end(6);
        assert_eq!(begun.oldest_ms(), 0);
    }
}
