//! Online scrub: one quiet thread per volume reads every object that the directory still points at,
//! verifies all of it, padding and content hash included, and names what is damaged.
//!
//! Invariants:
//! - It only reads. Zones may be reused under it at any time: bytes count as damaged only while the
//!   directory still points at them after they were read.
//! - One read at a time, when `pace` says so; no lock is held across it.
//! - Closing never waits for a drive: a read that does not come back is left to its thread.

mod control;
mod cycle;
mod drive;
mod findings;
mod object;
mod pace;
mod report;
mod window;
mod zone;

pub use report::{
    ScrubActivity, ScrubCounts, ScrubCycle, ScrubFault, ScrubFinding, ScrubPart, ScrubReport,
    VolumeScrub,
};

use crate::engine::{Engine, Shared};
use control::Control;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest time that closing waits for a scrub thread: only a drive that hangs takes so long.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// How a store is scrubbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubOptions {
    /// Share of the drive's time it may take while nobody else needs the drive, in thousandths, 1
    /// to 1000.
    pub share_permille: u16,
    /// All live data is read within this time, at up to [`ScrubOptions::share_permille_max`] and
    /// beside other work if need be. `None`: only when asked.
    pub cycle: Option<Duration>,
    /// The first cycle begins so long after the opening.
    pub delay: Duration,
}

impl Default for ScrubOptions {
    fn default() -> ScrubOptions {
        ScrubOptions {
            share_permille: 50,
            cycle: Some(Duration::from_secs(7 * 86_400)),
            delay: Duration::from_secs(60),
        }
    }
}

impl ScrubOptions {
    /// What it takes at most, in thousandths, to keep to its cycle.
    pub fn share_permille_max(&self) -> u16 {
        self.share_permille.max(250)
    }
}

/// The scrub of an open store. Dropping it tells its threads to end.
pub(crate) struct Scrub {
    options: ScrubOptions,
    volumes: Vec<Lane>,
}

struct Lane {
    volume: u16,
    control: Arc<Control>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Scrub {
    pub(crate) fn start(shared: &Arc<Shared>, options: ScrubOptions) -> io::Result<Scrub> {
        assert!((1..=1000).contains(&options.share_permille));
        let mut scrub = Scrub { options, volumes: Vec::new() };
        for volume in drive::volumes(shared) {
            let control = Arc::new(Control::default());
            let (theirs, shared) = (Arc::clone(&control), Arc::clone(shared));
            let thread = std::thread::Builder::new()
                .name(format!("tape-scrub-{volume}"))
                .spawn(move || cycle::run(shared, theirs, volume, options))?;
            scrub.volumes.push(Lane { volume, control, thread: Mutex::new(Some(thread)) });
        }
        Ok(scrub)
    }

    /// Ends the threads.
    pub(crate) fn close(&self) {
        self.stop();
        for lane in &self.volumes {
            let Some(thread) = lane.thread.lock().take() else { continue };
            if lane.control.wait_for_end(CLOSE_WAIT) {
                // A panic has been printed; there is nothing to add.
                let _ = thread.join();
            } else {
                tracing::warn!(volume = lane.volume, "the drive hangs: its scrub is left behind");
            }
        }
    }

    fn stop(&self) {
        for lane in &self.volumes {
            lane.control.stop();
        }
    }

    fn report(&self, shared: &Shared) -> ScrubReport {
        let mut report = ScrubReport { options: self.options, ..ScrubReport::default() };
        for lane in &self.volumes {
            let (volume, findings) = lane.control.report(lane.volume);
            let current =
                findings.into_iter().filter(|finding| findings::is_current(shared, finding));
            report.findings.extend(current);
            report.volumes.push(volume);
        }
        report
    }
}

impl Drop for Scrub {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Engine {
    /// What the scrub has done, and the damage it knows of: what has been overwritten, deleted or
    /// expired since is not among it.
    pub fn scrub_report(&self) -> ScrubReport {
        self.scrub.report(&self.shared)
    }

    /// Begins a cycle at once on every volume, in the place of one under way. Gives the number of
    /// each volume's new cycle, in the order of [`ScrubReport::volumes`].
    pub fn scrub_now(&self) -> Vec<u64> {
        self.scrub.volumes.iter().map(|lane| lane.control.begin_now()).collect()
    }
}
