//! Threads, runtimes and the generator's own CPU time.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use super::stats::Recorder;
use crate::error::ToolError;

/// The measurements of one thread, shared by its actors.
pub(crate) type Shared = Rc<RefCell<Recorder>>;

/// The span in which requests are due and measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Actors begin between `start` and `measure`, one after the other.
    pub(crate) start: Instant,
    pub(crate) measure: Instant,
    pub(crate) end: Instant,
}

impl Span {
    pub(crate) fn measures(&self, due: Instant) -> bool {
        (self.measure..self.end).contains(&due)
    }
}

/// Runs `body` once on each of `threads` runtimes and merges what they recorded.
///
/// One runtime per thread and nothing shared between them: an actor never migrates, and a busy
/// generator takes no lock.
pub(crate) fn on_threads<F, Fut>(threads: usize, body: F) -> Result<Recorder, ToolError>
where
    F: Fn(usize, Shared) -> Fut + Sync,
    Fut: Future<Output = Result<(), ToolError>>,
{
    assert!(threads > 0);
    let one = |thread: usize| -> Result<Recorder, ToolError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(ToolError::Runtime)?;
        let shared = Shared::default();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, body(thread, Rc::clone(&shared)))?;
        Ok(shared.take())
    };
    if threads == 1 {
        return one(0);
    }
    std::thread::scope(|scope| {
        let one = &one;
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
        let mut merged = Recorder::default();
        for handle in handles {
            let recorder = handle
                .join()
                .map_err(|_| ToolError::Runtime(io::Error::other("a load thread panicked")))?;
            merged.merge(recorder?);
        }
        Ok(merged)
    })
}

/// CPU time of this process so far, from /proc; 0 where that cannot be read.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in brackets may hold spaces; fields are counted after it.
    let after_name = stat.rsplit(") ").next().unwrap_or("");
    let ticks: f64 =
        after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    // USER_HZ has been 100 on Linux for as long as /proc has shown it.
    ticks / 100.0
}
