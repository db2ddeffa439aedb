//! The reads of a recovery, many at a time on each volume, and the work that they bring.
//!
//! One thread per volume reads. Footer tables, most of the work, are taken apart by as many threads
//! as there are cores, each into an index builder of its own. A table waits only while few do: when
//! nobody is free for it, who has read it takes it apart.

use crate::error::OpenError;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};
use tapeloop_io::{AlignedBuf, Completion, VolumeFile, Waker, WriteRing};
use tapeloop_log::{IndexBuilder, IoFailure, Recovery, RecoveryRead, TableWork};

/// Reads in flight on one volume.
const DEPTH: usize = 32;
const WAIT: Duration = Duration::from_secs(1);
/// A drive that answers nothing for so long hangs, and the store is not opened.
const HANG: Duration = Duration::from_secs(30);
/// Tables that may wait, for each thread that takes them apart.
const TABLES_WAITING: usize = 2;

/// What the threads share.
struct Readers {
    state: Mutex<State>,
    tables: Mutex<Tables>,
    table_came: Condvar,
    /// By volume.
    wakers: Mutex<Vec<Option<Waker>>>,
    /// One of them has failed.
    is_over: AtomicBool,
}

struct State {
    recovery: Recovery,
    /// Asked for and not begun, by volume.
    wanted: Vec<VecDeque<RecoveryRead>>,
}

struct Tables {
    waiting: VecDeque<Table>,
    waiting_max: usize,
    /// Nobody reads any more.
    is_closed: bool,
}

/// A footer table that has been read.
struct Table {
    id: u64,
    work: TableWork,
    bytes: AlignedBuf,
}

/// Reads everything that the recovery asks of `volumes`, by index, with `threads` for its tables.
pub(crate) fn read_all(
    recovery: Recovery,
    volumes: &[Option<Arc<VolumeFile>>],
    threads: usize,
) -> Result<Recovery, OpenError> {
    let wanted = volumes.iter().map(|_| VecDeque::new()).collect();
    let tables = Tables {
        waiting: VecDeque::new(),
        waiting_max: TABLES_WAITING * threads,
        is_closed: false,
    };
    let readers = Readers {
        state: Mutex::new(State { recovery, wanted }),
        tables: Mutex::new(tables),
        table_came: Condvar::new(),
        wakers: Mutex::new(volumes.iter().map(|_| None).collect()),
        is_over: AtomicBool::new(false),
    };
    let there = || volumes.iter().enumerate().filter_map(|(at, file)| Some((at, file.as_ref()?)));
    let mut parts = Vec::new();
    let results: Vec<(&Arc<VolumeFile>, io::Result<()>)> = std::thread::scope(|scope| {
        let readers = &readers;
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| readers.work())).collect();
        let read = |(at, file)| (file, scope.spawn(move || readers.read(at, file)));
        let reading: Vec<_> = there().map(read).collect();
        let join = |thread: ScopedJoinHandle<'_, io::Result<IndexBuilder>>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("panicked")))
        };
        let mut results = Vec::new();
        for (file, thread) in reading {
            results.push((file, join(thread).map(|part| parts.push(part))));
        }
        readers.tables.lock().is_closed = true;
        readers.table_came.notify_all();
        for worker in workers {
            // One that panicked has said so by `is_over`, and a table is missing.
            parts.extend(worker.join());
        }
        results
    });
    for (file, result) in results {
        result.map_err(|source| OpenError::Io {
            path: file.path().to_path_buf(),
            context: "reading the volume for recovery",
            source,
        })?;
    }
    let mut recovery = readers.state.into_inner().recovery;
    parts.into_iter().for_each(|part| recovery.add(part));
    Ok(recovery)
}

/// Whoever ends by a panic ends it for all.
struct PanicEnds<'r>(&'r Readers);

impl Drop for PanicEnds<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.is_over.store(true, Ordering::Release);
            self.0.wake_readers();
        }
    }
}

impl Readers {
    /// Takes tables apart until no more can come.
    fn work(&self) -> IndexBuilder {
        let _panic = PanicEnds(self);
        let mut part = IndexBuilder::new();
        loop {
            let mut tables = self.tables.lock();
            let Some(table) = tables.waiting.pop_front() else {
                if tables.is_closed {
                    return part;
                }
                self.table_came.wait(&mut tables);
                continue;
            };
            drop(tables);
            self.take_apart(&table, &mut part);
        }
    }

    fn take_apart(&self, table: &Table, part: &mut IndexBuilder) {
        let ended = table.work.run(&table.bytes, part);
        let is_calm = {
            let recovery = &mut self.state.lock().recovery;
            recovery.table_done(table.id, ended.clone());
            !recovery.is_done()
        };
        // A fault makes the recovery want more; at the end its readers must learn of it.
        if !is_calm || ended.is_err() {
            self.wake_readers();
        }
    }

    fn wake_readers(&self) {
        self.wakers.lock().iter().flatten().for_each(Waker::wake);
    }

    /// Gives a table away; takes it apart here when nobody is free for it.
    fn give(&self, table: Table, part: &mut IndexBuilder) {
        let mut tables = self.tables.lock();
        if tables.waiting.len() < tables.waiting_max {
            tables.waiting.push_back(table);
            drop(tables);
            self.table_came.notify_one();
        } else {
            drop(tables);
            self.take_apart(&table, part);
        }
    }

    /// One volume's thread: until nobody wants anything any more. What it made of tables itself.
    fn read(&self, volume: usize, file: &Arc<VolumeFile>) -> io::Result<IndexBuilder> {
        let _panic = PanicEnds(self);
        let result = self.read_volume(volume, file);
        if result.is_err() {
            self.is_over.store(true, Ordering::Release);
        }
        self.wake_readers();
        result
    }

    fn read_volume(&self, volume: usize, file: &Arc<VolumeFile>) -> io::Result<IndexBuilder> {
        let mut ring = WriteRing::new(Arc::clone(file), DEPTH as u32)?;
        self.wakers.lock()[volume] = Some(ring.waker());
        let mut part = IndexBuilder::new();
        let mut in_flight = 0;
        let mut answered = Instant::now();
        loop {
            let mut begin = Vec::new();
            let mut tables = Vec::new();
            let is_done = {
                let mut state = self.state.lock();
                while let Some(done) = ring.pop() {
                    in_flight -= 1;
                    answered = Instant::now();
                    tables.extend(state.take(done));
                }
                while let Some(read) = state.recovery.poll_read() {
                    state.wanted[usize::from(read.volume)].push_back(read);
                }
                let room = DEPTH - in_flight;
                let taken = state.wanted[volume].len().min(room);
                begin.extend(state.wanted[volume].drain(..taken));
                self.wake_wanted(&state, volume);
                state.recovery.is_done()
            };
            if is_done || self.is_over.load(Ordering::Acquire) {
                return Ok(part);
            }
            if in_flight == 0 {
                answered = Instant::now();
            }
            if answered.elapsed() > HANG {
                ring.abandon();
                let text = format!("the drive has not answered for {} s", HANG.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            for read in begin {
                let pushed = ring.push_read(read.id, AlignedBuf::zeroed(read.len), read.offset);
                pushed.map_err(|full| io::Error::other(full.to_string()))?;
                in_flight += 1;
            }
            ring.submit_and_wait(Duration::ZERO)?;
            tables.into_iter().for_each(|table| self.give(table, &mut part));
            ring.submit_and_wait(WAIT)?;
        }
    }

    /// Wakes the threads of other volumes of which something is wanted.
    fn wake_wanted(&self, state: &State, volume: usize) {
        let wakers = self.wakers.lock();
        let others = wakers.iter().zip(&state.wanted).enumerate().filter(|(at, _)| *at != volume);
        for (_, (waker, wanted)) in others {
            if let Some(waker) = waker.as_ref().filter(|_| !wanted.is_empty()) {
                waker.wake();
            }
        }
    }
}

impl State {
    /// Takes an answer; a table comes back, for later.
    fn take(&mut self, done: Completion) -> Option<Table> {
        let id = done.token;
        match (done.result, done.buf) {
            (Ok(_), Some(bytes)) => {
                if let Some(work) = self.recovery.table_work(id) {
                    return Some(Table { id, work, bytes });
                }
                self.recovery.read_done(id, Ok(&bytes));
            }
            (Ok(_), None) => unreachable!("a read gives its buffer back"),
            (Err(error), _) => {
                let errno = error.raw_os_error().unwrap_or(5);
                self.recovery.read_done(id, Err(IoFailure { errno }));
            }
        }
        None
    }
}
