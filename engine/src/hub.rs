//! The log of the store, shared by the appenders of its volumes.
//!
//! Invariants:
//! - The log is held for changes of state only, never across a system call, so an appender whose
//!   drive holds it up holds up nobody else.
//! - Any appender takes commands, any keeps time, any judges all drives.
//! - Versions of a key enter the live edge in the order in which the log published them.
//! - A drive that hangs is fenced only while another one answers: the last one may come back.

use crate::body::{Body, Stored};
use crate::door::Command;
use crate::drive::Drive;
use crate::ending::{Ending, InFlight};
use crate::engine::Shared;
use crate::list::ListEntry;
use crate::watch::{LOOK_MS, Pulse, Watch};
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use tapeloop_io::clock;
use tapeloop_log::{
    Append, AppendError, Event, Io, IoFailure, IoOp, Location, Log, LogStats, Op, StoreClock,
    VolumeStats,
};
use tokio::sync::mpsc;

/// Operations the log may have under way.
const BACKLOG_MAX: u32 = 4096;
/// What the log is told of a drive that hangs: ETIMEDOUT.
const HANGS: IoFailure = IoFailure { errno: 110 };

/// What an appender brings to a turn, and takes from it.
#[derive(Default)]
pub(crate) struct Turn {
    /// In: what the drive answered.
    pub(crate) answers: Vec<(u64, Result<Vec<u8>, IoFailure>)>,
    /// Out: what the drive is to do.
    pub(crate) work: Vec<Work>,
    endings: Vec<Ending>,
}

/// One I/O, with the payload that it writes.
pub(crate) struct Work {
    pub(crate) id: u64,
    pub(crate) op: IoOp,
    pub(crate) body: Option<Arc<Body>>,
}

/// What an appender's ring can still take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Kernel operations.
    pub(crate) operations: usize,
    /// Kernel operations that the largest I/O may need.
    pub(crate) operations_kept: usize,
    /// Bytes of memory.
    pub(crate) bytes: u64,
}

/// An object of an open zone, which no footer lists yet.
pub(crate) struct OpenObject {
    pub(crate) key: Box<[u8]>,
    pub(crate) location: Location,
    pub(crate) expires_ms: u64,
}

/// The log, and what all threads may know of it.
pub(crate) struct Hub {
    /// The volumes, by index.
    pub(crate) drives: Box<[Drive]>,
    state: Mutex<State>,
    clock: StoreClock,
    shared: OnceLock<Weak<Shared>>,
    /// Whose appender is woken for commands.
    preferred: AtomicUsize,
    stats: Mutex<(LogStats, Vec<VolumeStats>)>,
    read_only: OnceLock<IoFailure>,
    close_wanted: AtomicBool,
    is_closed: AtomicBool,
    threads: Mutex<usize>,
    thread_ended: Condvar,
}

struct State {
    log: Log,
    commands: mpsc::Receiver<Command>,
    in_flight: HashMap<u64, InFlight>,
    next_ticket: u64,
    next_look_ms: u64,
    watches: Vec<Watch>,
}

impl Hub {
    pub(crate) fn new(
        log: Log,
        clock: StoreClock,
        drives: Vec<Drive>,
        commands: mpsc::Receiver<Command>,
    ) -> Hub {
        let stats = (log.stats(), volume_stats(&log, drives.len()));
        let preferred = drives.iter().position(|drive| !drive.is_missing()).unwrap_or(0);
        let state = State {
            log,
            commands,
            in_flight: HashMap::new(),
            next_ticket: 1,
            next_look_ms: 0,
            watches: drives.iter().map(|_| Watch::default()).collect(),
        };
        Hub {
            drives: drives.into(),
            state: Mutex::new(state),
            clock,
            shared: OnceLock::new(),
            preferred: AtomicUsize::new(preferred),
            stats: Mutex::new(stats),
            read_only: OnceLock::new(),
            close_wanted: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            threads: Mutex::new(0),
            thread_ended: Condvar::new(),
        }
    }

    /// What the ends of operations change. It holds the hub, so not the other way round.
    pub(crate) fn set_shared(&self, shared: &Arc<Shared>) {
        let first = self.shared.set(Arc::downgrade(shared)).is_ok();
        assert!(first, "an engine has one hub");
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.get().and_then(Weak::upgrade)
    }

    /// One turn of the appender of `volume`: gives the log what the drive answered, takes what
    /// others want of the log, and brings back what the drive is to do, as far as there is room.
    pub(crate) fn turn(&self, volume: u16, boottime_ms: u64, room: &mut Room, turn: &mut Turn) {
        let shared = self.shared();
        let mut wakes = 0u32;
        {
            let mut state = self.state.lock();
            if self.is_closed() {
                return;
            }
            let state = &mut *state;
            let now_ms = self.clock.at(boottime_ms);
            for (id, result) in turn.answers.drain(..) {
                state.log.io_done(now_ms, id, result);
            }
            state.take_commands(now_ms, self.close_wanted.load(Ordering::Acquire));
            if boottime_ms >= state.next_look_ms {
                self.look(state, boottime_ms);
            }
            self.take_events(state, now_ms, shared.as_deref(), &mut turn.endings);
            while room.is_left()
                && let Some(io) = state.log.poll_io(volume)
            {
                room.take(&io);
                turn.work.push(state.work(io));
            }
            for other in (0..self.drives.len() as u16).filter(|other| *other != volume) {
                wakes |= u32::from(state.log.wants_io(other)) << other;
            }
        }
        for (index, drive) in self.drives.iter().enumerate() {
            if wakes >> index & 1 == 1 {
                drive.wake();
            }
        }
        for ending in turn.endings.drain(..) {
            ending.tell(shared.as_deref());
        }
    }

    /// Time passes: for the log, and for drives that do not answer.
    fn look(&self, state: &mut State, boottime_ms: u64) {
        state.next_look_ms = boottime_ms + LOOK_MS;
        let now_ms = self.clock.at(boottime_ms);
        state.log.tick(now_ms, self.clock.mark(boottime_ms, clock::wall_ms()));
        self.judge_drives(state, boottime_ms);
        *self.stats.lock() = (state.log.stats(), volume_stats(&state.log, self.drives.len()));
    }

    fn judge_drives(&self, state: &mut State, boottime_ms: u64) {
        if self.drives.len() == 1 {
            return;
        }
        let look = |(drive, watch): (&Drive, &mut Watch)| {
            watch.look(boottime_ms, drive.waiting_since_ms())
        };
        let pulses: Vec<Pulse> = self.drives.iter().zip(&mut state.watches).map(look).collect();
        if pulses.iter().any(|pulse| *pulse > Pulse::Quick) {
            // One that is idle is no better until it has answered.
            self.drives.iter().filter(|drive| drive.is_writable()).for_each(Drive::ask);
        }
        for (index, pulse) in pulses.iter().enumerate() {
            let drive = &self.drives[index];
            if !drive.is_writable() {
                continue;
            }
            state.log.avoid_volume(index as u16, *pulse >= Pulse::Slow);
            let another_answers = self.drives.iter().zip(&pulses).enumerate().any(|(at, other)| {
                at != index && other.0.is_writable() && *other.1 < Pulse::VerySlow
            });
            if *pulse == Pulse::Hangs && another_answers {
                let waited_ms = boottime_ms - drive.waiting_since_ms();
                drive.set_fence(format!("the drive has not answered for {waited_ms} ms"));
                state.log.fence_volume(self.clock.at(boottime_ms), index as u16, HANGS);
                self.count_stuck_memory();
            }
        }
        let quickest = (0..self.drives.len())
            .filter(|index| !self.drives[*index].is_missing())
            .min_by_key(|index| (!self.drives[*index].is_writable(), pulses[*index]));
        self.preferred.store(quickest.unwrap_or(0), Ordering::Relaxed);
    }

    /// The appender of a volume has lost its ring.
    pub(crate) fn lose_ring(&self, volume: u16, failure: IoFailure) {
        let now_ms = self.clock.at(clock::boottime_ms());
        let mut state = self.state.lock();
        self.drives[usize::from(volume)].set_fence(format!("its ring failed: {failure}"));
        state.log.fence_volume(now_ms, volume, failure);
    }

    /// Arena memory that fenced volumes keep in operations is nobody's until they answer.
    pub(crate) fn count_stuck_memory(&self) {
        let fenced = self.drives.iter().filter(|drive| drive.fence().is_some());
        let bytes = fenced.map(Drive::bytes_held).sum();
        if let Some(shared) = self.shared() {
            shared.admission.set_stuck(bytes);
        }
    }

    fn take_events(
        &self,
        state: &mut State,
        now_ms: u64,
        shared: Option<&Shared>,
        endings: &mut Vec<Ending>,
    ) {
        while let Some(event) = state.log.poll_event() {
            match event {
                Event::Started => {}
                Event::Stored { ticket, location, expires_ms, replaced, .. } => {
                    let operation = state.take_operation(ticket);
                    let content_hash = operation.content_hash;
                    let stored = Stored { location, expires_ms, content_hash, stored_ms: now_ms };
                    endings.push(operation.stored(shared, stored, replaced));
                }
                Event::Deleted { ticket, existed } => {
                    endings.push(state.take_operation(ticket).deleted(shared, existed));
                }
                Event::Failed { ticket, error } => {
                    endings.push(state.take_operation(ticket).failed(error.into()));
                }
                Event::Fenced { volume, failure } => {
                    let drive = &self.drives[usize::from(volume)];
                    drive.set_fence(failure.to_string());
                    let cause = drive.fence().unwrap_or_default();
                    let path = drive.path().unwrap_or(std::path::Path::new(""));
                    let path = path.display();
                    tracing::error!(volume, %path, "fenced, read-only until restart: {cause}");
                    if state.log.is_read_only() {
                        let _ = self.read_only.set(failure);
                    }
                }
                Event::Closed => self.end(state, endings),
            }
        }
    }

    /// Nothing more will be done.
    fn end(&self, state: &mut State, endings: &mut Vec<Ending>) {
        state.commands.close();
        state.take_all_commands();
        let mut tickets: Vec<u64> = state.in_flight.keys().copied().collect();
        tickets.sort_unstable();
        for ticket in tickets {
            let operation = state.take_operation(ticket);
            endings.push(operation.failed(AppendError::Closing.into()));
        }
        self.is_closed.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Ends everything although drives hang: whether what is under way gets stored is not known.
    pub(crate) fn abandon(&self) {
        let mut endings = Vec::new();
        {
            let mut state = self.state.lock();
            if !self.is_closed() {
                self.end(&mut state, &mut endings);
            }
        }
        let shared = self.shared();
        for ending in endings {
            ending.tell(shared.as_deref());
        }
    }

    /// No more operations are accepted; those that were are finished.
    pub(crate) fn close(&self) {
        self.close_wanted.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Everything has ended, or been abandoned.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// No volume is left that can be written to.
    pub(crate) fn read_only(&self) -> Option<IoFailure> {
        self.read_only.get().copied()
    }

    /// As of the last look, at most a tenth of a second ago.
    pub(crate) fn stats(&self) -> (LogStats, Vec<VolumeStats>) {
        self.stats.lock().clone()
    }

    pub(crate) fn wake_for_commands(&self) {
        self.drives[self.preferred.load(Ordering::Relaxed)].wake();
    }

    pub(crate) fn wake_all(&self) {
        self.drives.iter().for_each(Drive::wake);
    }

    /// An appender has begun.
    pub(crate) fn begin_thread(&self) {
        *self.threads.lock() += 1;
    }

    /// An appender has let go of its drive.
    pub(crate) fn end_thread(&self) {
        *self.threads.lock() -= 1;
        self.thread_ended.notify_all();
    }

    /// Waits until no appender is left, at most so long. True if none is.
    pub(crate) fn wait_for_threads(&self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        let mut threads = self.threads.lock();
        while *threads > 0 {
            if self.thread_ended.wait_until(&mut threads, deadline).timed_out() {
                return *threads == 0;
            }
        }
        true
    }

    /// Objects of open zones that `wanted` wants.
    pub(crate) fn list_open(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<ListEntry> {
        let state = self.state.lock();
        let objects = state.log.open_objects().filter(|(key, ..)| wanted(key));
        objects
            .map(|(key, location, expires_ms)| ListEntry::new(key, location, expires_ms))
            .collect()
    }

    /// Objects of one zone, `None` if it is not open.
    pub(crate) fn objects_of(&self, zone: u32) -> Option<Vec<OpenObject>> {
        let state = self.state.lock();
        let objects = state.log.open_objects_of(zone)?.map(|(key, location, expires_ms)| {
            OpenObject { key: key.into(), location, expires_ms }
        });
        Some(objects.collect())
    }
}

impl State {
    fn take_commands(&mut self, now_ms: u64, close_wanted: bool) {
        while self.log.backlog() < BACKLOG_MAX {
            match self.commands.try_recv() {
                Ok(command) => {
                    let append = self.accept(command);
                    self.log.append(now_ms, append);
                }
                Err(mpsc::error::TryRecvError::Empty) if close_wanted => return self.log.close(),
                Err(mpsc::error::TryRecvError::Empty) => return,
                // Every engine is gone.
                Err(mpsc::error::TryRecvError::Disconnected) => return self.log.close(),
            }
        }
    }

    /// Takes what was sent and never reached the log.
    fn take_all_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.accept(command);
        }
    }

    fn accept(&mut self, command: Command) -> Append {
        let (mut append, body, reply) = match command {
            Command::Put { append, body, claim, reply } => (append, Some((body, claim)), reply),
            Command::Delete { append, reply } => (append, None, reply),
        };
        let content_hash = match &append.op {
            Op::Put(put) => put.content_hash,
            Op::Delete => [0; 16],
        };
        append.ticket = self.next_ticket;
        self.next_ticket += 1;
        let hash = append.hash;
        self.in_flight.insert(append.ticket, InFlight { hash, body, content_hash, reply });
        append
    }

    fn take_operation(&mut self, ticket: u64) -> InFlight {
        self.in_flight.remove(&ticket).expect("an operation ends once")
    }

    fn work(&self, io: Io) -> Work {
        let Io { id, op } = io;
        let body = match &op {
            IoOp::Record { ticket, .. } => {
                let operation = &self.in_flight[ticket];
                operation.body.as_ref().map(|(body, _)| Arc::clone(body))
            }
            IoOp::Write { .. } | IoOp::Flush | IoOp::Read { .. } => None,
        };
        Work { id, op, body }
    }
}

impl Room {
    fn is_left(&self) -> bool {
        self.operations >= self.operations_kept && self.bytes > 0
    }

    fn take(&mut self, io: &Io) {
        let len = match &io.op {
            IoOp::Record { shape, .. } => shape.record_len,
            IoOp::Write { bytes, .. } => bytes.len(),
            IoOp::Read { len, .. } => *len,
            IoOp::Flush => 0,
        };
        let operations = len.div_ceil(tapeloop_io::appender_ring::OPERATION_MAX).max(1);
        assert!(operations <= self.operations_kept, "an I/O of {len} bytes");
        self.operations -= operations;
        self.bytes = self.bytes.saturating_sub(len as u64);
    }
}

fn volume_stats(log: &Log, count: usize) -> Vec<VolumeStats> {
    (0..count as u16).map(|volume| log.volume_stats(volume)).collect()
}

#[cfg(test)]
mod tests;
