//! One volume as the engine sees it: its file, and how its drive answers.
//!
//! All of it is read without a lock: by every PUT, by every read of the volume, by health.

use crate::watch::{HANG_MS, SLOW_MS};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tapeloop_io::{VolumeFile, Waker, clock};

/// One volume of an open store.
pub(crate) struct Drive {
    path: Option<PathBuf>,
    file: Option<Arc<VolumeFile>>,
    /// Its number among the volumes that are there.
    reader: u16,
    /// Boot time since which the oldest operation of its appender waits; 0 for none.
    waiting_since_ms: AtomicU64,
    /// Boot time at which a read was given up, until the drive answers a read again; 0 for none.
    read_lost_ms: AtomicU64,
    /// Somebody wants to know whether the drive answers.
    is_asked: AtomicBool,
    /// Reads that readers of objects asked it for.
    reads: AtomicU64,
    shed: AtomicU64,
    /// Memory in operations of its appender.
    bytes_held: AtomicU64,
    fence: OnceLock<String>,
    waker: OnceLock<Waker>,
}

impl Drive {
    pub(crate) fn new(file: Arc<VolumeFile>, reader: u16) -> Drive {
        let path = file.path().to_path_buf();
        Drive { path: Some(path), file: Some(file), reader, ..Drive::missing() }
    }

    /// A volume that the store was opened without.
    pub(crate) fn missing() -> Drive {
        Drive {
            path: None,
            file: None,
            reader: u16::MAX,
            waiting_since_ms: AtomicU64::new(0),
            read_lost_ms: AtomicU64::new(0),
            is_asked: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            bytes_held: AtomicU64::new(0),
            fence: OnceLock::new(),
            waker: OnceLock::new(),
        }
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(crate) fn file(&self) -> Option<&Arc<VolumeFile>> {
        self.file.as_ref()
    }

    /// Its number among a reader's volumes, while there is something to read.
    pub(crate) fn reader(&self) -> Option<u16> {
        self.file.as_ref().map(|_| self.reader)
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.file.is_none()
    }

    /// Why nothing is written to it any more.
    pub(crate) fn fence(&self) -> Option<&str> {
        self.fence.get().map(String::as_str)
    }

    /// Says why, unless somebody has.
    pub(crate) fn set_fence(&self, cause: String) {
        let _ = self.fence.set(cause);
    }

    /// Can it be written to, as far as is known?
    pub(crate) fn is_writable(&self) -> bool {
        self.file.is_some() && self.fence.get().is_none()
    }

    pub(crate) fn waiting_since_ms(&self) -> u64 {
        self.waiting_since_ms.load(Ordering::Acquire)
    }

    pub(crate) fn set_waiting(&self, since_ms: u64) {
        self.waiting_since_ms.store(since_ms, Ordering::Release);
    }

    /// Does its appender want anything of it right now?
    pub(crate) fn is_busy(&self) -> bool {
        self.waiting_since_ms() != 0
    }

    fn waited_ms(&self) -> u64 {
        match self.waiting_since_ms() {
            0 => 0,
            since_ms => clock::boottime_ms().saturating_sub(since_ms),
        }
    }

    /// How long its appender has been waiting, if that is too long.
    pub(crate) fn stalled_ms(&self) -> Option<u64> {
        Some(self.waited_ms()).filter(|waited_ms| *waited_ms > HANG_MS)
    }

    /// How long its appender has been waiting, if that is long.
    pub(crate) fn slow_ms(&self) -> Option<u64> {
        Some(self.waited_ms()).filter(|waited_ms| *waited_ms > SLOW_MS)
    }

    /// How long it has not answered, if a read would wait in vain.
    pub(crate) fn hung_ms(&self) -> Option<u64> {
        let lost_ms = self.read_lost_ms.load(Ordering::Acquire);
        if lost_ms != 0 {
            return Some(clock::boottime_ms().saturating_sub(lost_ms));
        }
        self.stalled_ms()
    }

    /// A read was given up after `waited_ms`. Its appender asks the drive until it answers.
    pub(crate) fn lose_read(&self, waited_ms: u64) {
        let since_ms = clock::boottime_ms().saturating_sub(waited_ms).max(1);
        let unset =
            self.read_lost_ms.compare_exchange(0, since_ms, Ordering::AcqRel, Ordering::Acquire);
        if unset.is_ok() {
            self.wake();
        }
    }

    /// Has its appender ask the drive whether it answers, if nothing else does.
    pub(crate) fn ask(&self) {
        if !self.is_busy() && !self.is_asked.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Is its appender to ask the drive?
    pub(crate) fn wants_answer(&self) -> bool {
        self.is_asked.swap(false, Ordering::AcqRel)
            || self.read_lost_ms.load(Ordering::Acquire) != 0
    }

    /// The drive has answered a read.
    pub(crate) fn answers(&self) {
        self.read_lost_ms.store(0, Ordering::Release);
    }

    pub(crate) fn count_shed(&self) {
        self.shed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    pub(crate) fn count_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes_held(&self) -> u64 {
        self.bytes_held.load(Ordering::Relaxed)
    }

    pub(crate) fn set_bytes_held(&self, bytes: u64) {
        self.bytes_held.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_waker(&self, waker: Waker) {
        let _ = self.waker.set(waker);
    }

    /// Wakes its appender.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }
}

/// How long no drive that can be written to has answered; `None` while one answers, and when none
/// can be written to at all.
pub(crate) fn all_stalled_ms(drives: &[Drive]) -> Option<u64> {
    let mut least_ms = None;
    for drive in drives.iter().filter(|drive| drive.is_writable()) {
        let waited_ms = drive.stalled_ms()?;
        least_ms = Some(least_ms.map_or(waited_ms, |least_ms: u64| least_ms.min(waited_ms)));
    }
    least_ms
}
