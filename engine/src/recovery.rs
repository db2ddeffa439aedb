//! The reads of a recovery: many at a time on each volume, from one thread per volume.

use crate::error::OpenError;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tapeloop_io::{AlignedBuf, Completion, VolumeFile, Waker, WriteRing};
use tapeloop_log::{IoFailure, Recovery, RecoveryRead};

/// Reads in flight on one volume.
const DEPTH: usize = 32;
const WAIT: Duration = Duration::from_secs(1);
/// A drive that answers nothing for so long hangs, and the store is not opened.
const HANG: Duration = Duration::from_secs(30);

/// What the threads share.
struct Readers {
    state: Mutex<State>,
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

impl State {
    fn take(&mut self, done: Completion) {
        match (done.result, &done.buf) {
            (Ok(_), Some(buf)) => self.recovery.read_done(done.token, Ok(buf)),
            (Ok(_), None) => unreachable!("a read gives its buffer back"),
            (Err(error), _) => {
                let errno = error.raw_os_error().unwrap_or(5);
                self.recovery.read_done(done.token, Err(IoFailure { errno }));
            }
        }
    }
}

/// Reads everything that the recovery asks of `volumes`, by index.
pub(crate) fn read_all(
    recovery: Recovery,
    volumes: &[Option<Arc<VolumeFile>>],
) -> Result<Recovery, OpenError> {
    let wanted = volumes.iter().map(|_| VecDeque::new()).collect();
    let readers = Readers {
        state: Mutex::new(State { recovery, wanted }),
        wakers: Mutex::new(volumes.iter().map(|_| None).collect()),
        is_over: AtomicBool::new(false),
    };
    let there = || volumes.iter().enumerate().filter_map(|(at, file)| Some((at, file.as_ref()?)));
    let results: Vec<(&Arc<VolumeFile>, io::Result<()>)> = std::thread::scope(|scope| {
        let readers = &readers;
        let read = |(at, file)| (file, scope.spawn(move || readers.read(at, file)));
        let threads: Vec<_> = there().map(read).collect();
        let join = |(file, thread): (_, std::thread::ScopedJoinHandle<'_, io::Result<()>>)| {
            (file, thread.join().unwrap_or_else(|_| Err(io::Error::other("panicked"))))
        };
        threads.into_iter().map(join).collect()
    });
    for (file, result) in results {
        result.map_err(|source| OpenError::Io {
            path: file.path().to_path_buf(),
            context: "reading the volume for recovery",
            source,
        })?;
    }
    Ok(readers.state.into_inner().recovery)
}

impl Readers {
    /// One volume's thread: until nobody wants anything any more.
    fn read(&self, volume: usize, file: &Arc<VolumeFile>) -> io::Result<()> {
        let result = self.read_volume(volume, file);
        if result.is_err() {
            self.is_over.store(true, Ordering::Release);
        }
        self.wakers.lock().iter().flatten().for_each(Waker::wake);
        result
    }

    fn read_volume(&self, volume: usize, file: &Arc<VolumeFile>) -> io::Result<()> {
        let mut ring = WriteRing::new(Arc::clone(file), DEPTH as u32)?;
        self.wakers.lock()[volume] = Some(ring.waker());
        let mut in_flight = 0;
        let mut answered = Instant::now();
        loop {
            let mut begin = Vec::new();
            let is_done = {
                let mut state = self.state.lock();
                while let Some(done) = ring.pop() {
                    in_flight -= 1;
                    answered = Instant::now();
                    state.take(done);
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
            for read in begin {
                let pushed = ring.push_read(read.id, AlignedBuf::zeroed(read.len), read.offset);
                pushed.map_err(|full| io::Error::other(full.to_string()))?;
                in_flight += 1;
            }
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
