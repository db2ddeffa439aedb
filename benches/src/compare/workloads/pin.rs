//! Server and generator on processors of their own, so that neither waits for the other's turn.

use super::tasks;
use crate::error::{Context, Result};
use crate::process::Running;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// While this lives, the calling thread and the children it starts stay on the last processor.
pub(super) struct Apart {
    before: CpuSet,
}

impl Apart {
    /// Puts the threads of the server on the first `threads` processors and the calling thread on
    /// the last. `None` where there is none to spare for the generator.
    pub(super) fn put(server: &Running, threads: u32) -> Result<Option<Apart>> {
        let before = sched_getaffinity(None).context("asking for my processors")?;
        let allowed: Vec<usize> =
            (0..CpuSet::MAX_CPU).filter(|number| before.is_set(*number)).collect();
        let (served, spare) = allowed.split_at(allowed.len().min(threads as usize));
        let Some(last) = spare.last() else { return Ok(None) };
        let set = set_of(served);
        for thread in tasks::threads(server.id()) {
            let id = i32::try_from(thread).ok().and_then(Pid::from_raw);
            // A thread that has ended needs no place.
            let _ = id.map(|id| sched_setaffinity(Some(id), &set));
        }
        sched_setaffinity(None, &set_of(&[*last])).context("moving to another processor")?;
        Ok(Some(Apart { before }))
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // It was allowed before.
        let _ = sched_setaffinity(None, &self.before);
    }
}

fn set_of(numbers: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    numbers.iter().for_each(|number| set.set(*number));
    set
}
