//! The reads of a recovery, many at a time on each volume, and the work that they bring.
//!
//! One thread per volume reads. Footer tables, most of the work, are taken apart by as many threads
//! as there are cores. A table waits only while few do: when nobody is free for it, who has read it
//! takes it apart.

mod buffers;

use crate::error::OpenError;
use buffers::Buffers;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tapeloop_io::{AlignedBuf, Completion, VolumeFile, Waker, WriteRing};
use tapeloop_log::{IoFailure, Recovery, RecoveryRead, TableWork};

/// Reads in flight on one volume.
const DEPTH: usize = 32;
const WAIT: Duration = Duration::from_secs(1);
/// A drive that answers nothing for so long hangs, and the store is not opened.
const HANG: Duration = Duration::from_secs(30);
/// Tables that may wait, for each thread that takes them apart.
const TABLES_WAITING: usize = 2;

/// What the threads share.
struct Readers {
    recovery: Mutex<Recovery>,
    tables: Mutex<Tables>,
    table_came: Condvar,
    /// By volume.
    wakers: Mutex<Vec<Option<Waker>>>,
    buffers: Buffers,
    /// One of them has failed.
    is_over: AtomicBool,
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
    let tables = Tables {
        waiting: VecDeque::new(),
        waiting_max: TABLES_WAITING * threads,
        is_closed: false,
    };
    let readers = Readers {
        recovery: Mutex::new(recovery),
        tables: Mutex::new(tables),
        table_came: Condvar::new(),
        wakers: Mutex::new(volumes.iter().map(|_| None).collect()),
        buffers: Buffers::default(),
        is_over: AtomicBool::new(false),
    };
    let there = || volumes.iter().enumerate().filter_map(|(at, file)| Some((at, file.as_ref()?)));
    let results: Vec<(&Arc<VolumeFile>, io::Result<()>)> = std::thread::scope(|scope| {
        let readers = &readers;
        for _ in 0..threads {
            // One that panics says so by `is_over`.
            scope.spawn(|| readers.work());
        }
        let read = |(at, file)| (file, scope.spawn(move || readers.read(at, file)));
        let reading: Vec<_> = there().map(read).collect();
        let mut results = Vec::new();
        for (file, thread) in reading {
            let result = thread.join();
            results.push((file, result.unwrap_or_else(|_| Err(io::Error::other("panicked")))));
        }
        readers.tables.lock().is_closed = true;
        readers.table_came.notify_all();
        results
    });
    for (file, result) in results {
        result.map_err(|source| OpenError::Io {
            path: file.path().to_path_buf(),
            context: "reading the volume for recovery",
            source,
        })?;
    }
    Ok(readers.recovery.into_inner())
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
    fn work(&self) {
        let _panic = PanicEnds(self);
        loop {
            let mut tables = self.tables.lock();
            let Some(table) = tables.waiting.pop_front() else {
                if tables.is_closed {
                    return;
                }
                self.table_came.wait(&mut tables);
                continue;
            };
            drop(tables);
            self.take_apart(table);
        }
    }

    fn take_apart(&self, Table { id, work, bytes }: Table) {
        let ended = work.run(&bytes);
        self.buffers.give(bytes);
        let is_fault = ended.is_err();
        let is_done = {
            let mut recovery = self.recovery.lock();
            recovery.table_done(id, ended);
            recovery.is_done()
        };
        // A fault makes the recovery want more; at the end its readers must learn of it.
        if is_done || is_fault {
            self.wake_readers();
        }
    }

    fn wake_readers(&self) {
        self.wakers.lock().iter().flatten().for_each(Waker::wake);
    }

    /// Gives a table away; takes it apart here when nobody is free for it.
    fn give(&self, table: Table) {
        let mut tables = self.tables.lock();
        if tables.waiting.len() < tables.waiting_max {
            tables.waiting.push_back(table);
            drop(tables);
            self.table_came.notify_one();
        } else {
            drop(tables);
            self.take_apart(table);
        }
    }

    /// One volume's thread: until nobody wants anything any more.
    fn read(&self, volume: usize, file: &Arc<VolumeFile>) -> io::Result<()> {
        let _panic = PanicEnds(self);
        let result = self.read_volume(volume, file);
        if result.is_err() {
            self.is_over.store(true, Ordering::Release);
        }
        self.wake_readers();
        result
    }

    fn read_volume(&self, volume: usize, file: &Arc<VolumeFile>) -> io::Result<()> {
        let mut ring = WriteRing::new(Arc::clone(file), DEPTH as u32)?;
        self.wakers.lock()[volume] = Some(ring.waker());
        let mut in_flight = 0;
        let mut answered = Instant::now();
        loop {
            let mut tables = Vec::new();
            let (begin, is_done) = {
                let mut recovery = self.recovery.lock();
                while let Some(done) = ring.pop() {
                    in_flight -= 1;
                    answered = Instant::now();
                    tables.extend(self.take(&mut recovery, done));
                }
                let begin = self.begin(&mut recovery, volume, in_flight);
                self.wake_wanted(&recovery, volume);
                (begin, recovery.is_done())
            };
            if is_done || self.is_over.load(Ordering::Acquire) {
                return Ok(());
            }
            if in_flight == 0 {
                answered = Instant::now();
            }
            if answered.elapsed() > HANG {
                ring.abandon();
                let text = format!("the drive has not answered for {} s", HANG.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            for (read, buf) in begin {
                let pushed = ring.push_read(read.id, buf, read.offset);
                pushed.map_err(|full| io::Error::other(full.to_string()))?;
                in_flight += 1;
            }
            ring.submit_and_wait(Duration::ZERO)?;
            tables.into_iter().for_each(|table| self.give(table));
            ring.submit_and_wait(WAIT)?;
        }
    }

    /// Reads that may begin: as many as the ring and the memory take, and always one. Who has none
    /// in flight need not be told when there is room again.
    fn begin(
        &self,
        recovery: &mut Recovery,
        volume: usize,
        mut in_flight: usize,
    ) -> Vec<(RecoveryRead, AlignedBuf)> {
        let mut begin = Vec::new();
        while let Some(len) = recovery.wanted_len(volume as u16)
            && in_flight < DEPTH
            && let Some(buf) = self.buffers.take(len, in_flight == 0)
        {
            let read = recovery.poll_read_of(volume as u16).expect("there is one");
            begin.push((read, buf));
            in_flight += 1;
        }
        begin
    }

    /// Wakes the threads of other volumes of which something is wanted.
    fn wake_wanted(&self, recovery: &Recovery, volume: usize) {
        let wakers = self.wakers.lock();
        for (other, waker) in wakers.iter().enumerate().filter(|(other, _)| *other != volume) {
            if let (Some(waker), Some(_)) = (waker, recovery.wanted_len(other as u16)) {
                waker.wake();
            }
        }
    }

    /// Takes an answer; a table comes back, for later.
    fn take(&self, recovery: &mut Recovery, done: Completion) -> Option<Table> {
        let id = done.token;
        let bytes = done.buf.expect("a read gives its buffer back");
        match done.result {
            Ok(_) => {
                if let Some(work) = recovery.table_work(id) {
                    return Some(Table { id, work, bytes });
                }
                recovery.read_done(id, Ok(&bytes));
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(5);
                recovery.read_done(id, Err(IoFailure { errno }));
            }
        }
        self.buffers.give(bytes);
        None
    }
}
