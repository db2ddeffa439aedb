//! What a scrub thread and the rest of the engine share: wishes in, progress out.
//!
//! Invariants: every wait of the thread ends at once when it is told to stop or a new cycle is
//! wanted. The lock is never held across I/O.

use super::findings::Findings;
use super::report::{ScrubActivity, ScrubCounts, ScrubCycle, ScrubFinding, ScrubPart, VolumeScrub};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::time::{Duration, Instant};
use tapeloop_io::{Waker, clock};

/// Why a cycle does not go on.
#[derive(Debug)]
pub(super) enum Halt {
    /// The store is being closed.
    Closed,
    /// Another cycle was asked for.
    Restarted,
    /// There is no way to read: not damage, and not the drive's answer either.
    Failed(io::Error),
}

/// A cycle to begin.
pub(super) struct Begin {
    pub(super) number: u64,
    /// Somebody asked for it.
    pub(super) is_wanted: bool,
}

#[derive(Default)]
pub(super) struct Control {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stop: bool,
    ended: bool,
    /// Number of the newest cycle asked for.
    wanted: u64,
    /// Number of the newest cycle begun.
    begun: u64,
    /// Ends the thread's wait for its drive.
    waker: Option<Waker>,
    activity: ScrubActivity,
    progress: f64,
    counts: ScrubCounts,
    total: ScrubCounts,
    last: Option<ScrubCycle>,
    cycles_completed: u64,
    findings: Findings,
}

impl State {
    fn halt(&self) -> Result<(), Halt> {
        match self {
            State { stop: true, .. } => Err(Halt::Closed),
            State { wanted, begun, .. } if wanted > begun => Err(Halt::Restarted),
            _ => Ok(()),
        }
    }

    fn count(&mut self, add: impl Fn(&mut ScrubCounts)) {
        add(&mut self.counts);
        add(&mut self.total);
    }
}

// For everybody else.
impl Control {
    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        state.stop = true;
        self.changed.notify_all();
        if let Some(waker) = &state.waker {
            waker.wake();
        }
    }

    /// False if the thread has not ended by then.
    pub(super) fn wait_for_end(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut state = self.state.lock();
        while !state.ended {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return state.ended;
            }
        }
        true
    }

    /// The number of the cycle that will begin.
    pub(super) fn begin_now(&self) -> u64 {
        let mut state = self.state.lock();
        state.wanted = state.begun + 1;
        self.changed.notify_all();
        state.wanted
    }

    pub(super) fn report(&self, volume: u16) -> (VolumeScrub, Vec<ScrubFinding>) {
        let state = self.state.lock();
        let report = VolumeScrub {
            volume,
            activity: state.activity.clone(),
            cycle: state.begun,
            progress: state.progress,
            counts: state.counts,
            last: state.last,
            cycles_completed: state.cycles_completed,
            total: state.total,
            omitted: state.findings.omitted(),
        };
        (report, state.findings.list())
    }
}

// For the thread.
impl Control {
    pub(super) fn set_waker(&self, waker: Option<Waker>) {
        self.state.lock().waker = waker;
    }

    /// Waits for the next cycle: one that is asked for, or at `due` one of its own.
    pub(super) fn next_cycle(&self, due: Option<Instant>) -> Result<Begin, Halt> {
        let mut state = self.state.lock();
        loop {
            if state.stop {
                return Err(Halt::Closed);
            }
            let is_wanted = state.wanted > state.begun;
            if is_wanted || due.is_some_and(|due| Instant::now() >= due) {
                state.begun += 1;
                state.activity = ScrubActivity::Running;
                state.progress = 0.0;
                state.counts = ScrubCounts::default();
                state.findings.begin_cycle();
                return Ok(Begin { number: state.begun, is_wanted });
            }
            match due {
                Some(due) => drop(self.changed.wait_until(&mut state, due)),
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// Lets time pass, unless there is a reason not to go on.
    pub(super) fn wait_until(&self, until: Instant) -> Result<(), Halt> {
        let mut state = self.state.lock();
        loop {
            state.halt()?;
            if Instant::now() >= until {
                return Ok(());
            }
            self.changed.wait_until(&mut state, until);
        }
    }

    pub(super) fn check(&self) -> Result<(), Halt> {
        self.state.lock().halt()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().stop
    }

    /// Says whether the cycle goes on, and if not, why.
    pub(super) fn set_paused(&self, cause: Option<String>) {
        self.state.lock().activity = match cause {
            Some(cause) => ScrubActivity::Paused { cause },
            None => ScrubActivity::Running,
        };
    }

    pub(super) fn count_read(&self, bytes: usize, progress: f64) {
        let mut state = self.state.lock();
        state.progress = progress;
        state.count(|counts| counts.bytes_read += bytes as u64);
    }

    pub(super) fn count_object(&self) {
        self.state.lock().count(|counts| counts.objects_read += 1);
    }

    pub(super) fn found(&self, finding: ScrubFinding) {
        let mut state = self.state.lock();
        state.count(|counts| match finding.part {
            ScrubPart::Object => counts.objects_damaged += 1,
            ScrubPart::Footer | ScrubPart::ZoneHeader => counts.structures_damaged += 1,
        });
        let cycle = state.begun;
        state.findings.add(cycle, finding);
    }

    pub(super) fn end_cycle(&self, duration: Duration) -> ScrubCycle {
        let mut state = self.state.lock();
        let number = state.begun;
        state.findings.end_cycle(number);
        state.progress = 1.0;
        state.activity = ScrubActivity::Waiting;
        state.cycles_completed += 1;
        let counts = state.counts;
        let cycle = ScrubCycle { number, ended_wall_ms: clock::wall_ms(), duration, counts };
        state.last = Some(cycle);
        cycle
    }

    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        state.waker = None;
        state.activity = ScrubActivity::Stopped;
        self.changed.notify_all();
    }
}
