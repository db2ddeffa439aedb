//! A scrub thread: one cycle after the other, each over all zones of the volume.

use super::ScrubOptions;
use super::control::{Begin, Control, Halt};
use super::drive::{self, Drive};
use super::pace::{Pace, Position, Turn};
use super::report::{ScrubCycle, ScrubFault, ScrubFinding};
use super::window::Window;
use crate::engine::Shared;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tapeloop_io::{AlignedBuf, clock};

/// Cycles of a small store do not follow each other more often than this.
const INTERVAL_MIN: Duration = Duration::from_secs(3600);
/// How often a volume that must be left alone is looked at.
const OBSTACLE_LOOK: Duration = Duration::from_millis(250);
/// After a failure that is not the drive's, such as no memory for a ring.
const RETRY: Duration = Duration::from_secs(60);
/// Rest after a read error: a drive that refuses everything is not asked in a tight loop.
const ERROR_REST: Duration = Duration::from_millis(20);
/// Findings of one cycle that go to the log; the rest is counted there.
const LOGGED_MAX: u64 = 20;

/// The thread.
pub(super) fn run(shared: Arc<Shared>, control: Arc<Control>, volume: u16, options: ScrubOptions) {
    // Dropped last: whoever waits for the end finds everything else gone.
    let control = Ending(control);
    work(&shared, &control.0, volume, options);
    drop(shared);
}

struct Ending(Arc<Control>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn work(shared: &Shared, control: &Control, volume: u16, options: ScrubOptions) {
    let own = |from: Instant, wait: Duration| options.cycle.map(|_| from + wait);
    let interval = options.cycle.map_or(INTERVAL_MIN, |cycle| cycle.min(INTERVAL_MIN));
    let mut due = own(Instant::now(), options.delay);
    // A process that is restarted often does not read the same zones first each time.
    let first = clock::boottime_ms() as u32;
    loop {
        let Ok(begin) = control.next_cycle(due) else { return };
        let began = Instant::now();
        let ended = Cycle::begin(shared, control, volume, options, &begin)
            .and_then(|mut cycle| cycle.run(first));
        control.set_waker(None);
        match ended {
            Ok(cycle) => {
                tell(volume, &cycle);
                due = own(began, interval);
            }
            Err(Halt::Restarted) => {}
            Err(Halt::Closed) => return,
            Err(Halt::Failed(error)) => {
                tracing::error!(volume, %error, "scrub: cannot read; trying again in a minute");
                control.set_paused(Some(error.to_string()));
                due = own(Instant::now(), RETRY);
            }
        }
    }
}

fn tell(volume: u16, cycle: &ScrubCycle) {
    let (counts, seconds) = (cycle.counts, cycle.duration.as_secs());
    let (objects, bytes) = (counts.objects_read, counts.bytes_read);
    let damaged = counts.objects_damaged + counts.structures_damaged;
    match damaged {
        0 => tracing::info!(volume, objects, bytes, seconds, "scrub: clean"),
        _ => tracing::error!(volume, objects, bytes, seconds, damaged, "scrub: damage"),
    }
}

/// One cycle under way.
pub(super) struct Cycle<'a> {
    pub(super) shared: &'a Shared,
    pub(super) control: &'a Control,
    pub(super) volume: u16,
    pub(super) window: Window,
    drive: Drive,
    pace: Pace,
    began: Instant,
    at: Position,
    zones_done: u32,
    found_count: u64,
}

impl<'a> Cycle<'a> {
    fn begin(
        shared: &'a Shared,
        control: &'a Control,
        volume: u16,
        options: ScrubOptions,
        begin: &Begin,
    ) -> Result<Cycle<'a>, Halt> {
        let share = |permille: u16| f64::from(permille) / 1000.0;
        tracing::debug!(volume, cycle = begin.number, "scrub: begins");
        Ok(Cycle {
            shared,
            control,
            volume,
            window: Window::default(),
            drive: Drive::open(shared, volume, control).map_err(Halt::Failed)?,
            pace: Pace {
                share: share(options.share_permille),
                share_max: share(options.share_permille_max()),
                cycle: options.cycle.unwrap_or_default(),
                is_wanted: begin.is_wanted,
            },
            began: Instant::now(),
            at: Position { read_ended: Duration::ZERO, read_took: Duration::ZERO, progress: 0.0 },
            zones_done: 0,
            found_count: 0,
        })
    }

    fn run(&mut self, first: u32) -> Result<ScrubCycle, Halt> {
        let zones = drive::zones(self.shared, self.volume);
        let count = zones.len() as u32;
        for index in 0..count {
            self.zone(zones.start + (first % count + index) % count)?;
            self.zones_done += 1;
        }
        Ok(self.control.end_cycle(self.began.elapsed()))
    }

    /// Reads whole blocks of a zone when it is time to.
    pub(super) fn read(
        &mut self,
        zone: u32,
        offset: u64,
        len: usize,
    ) -> Result<Result<AlignedBuf, ScrubFault>, Halt> {
        self.wait_for_turn()?;
        let begun = Instant::now();
        let start = self.shared.geometry.zone_offset(zone) + offset;
        let read = self.drive.read(self.control, start, len)?;
        self.at.read_took = begun.elapsed();
        if read.is_err() {
            self.control.wait_until(Instant::now() + ERROR_REST)?;
        }
        self.at.read_ended = self.began.elapsed();
        let in_zone = (offset + len as u64) as f64 / self.shared.geometry.zone_size() as f64;
        let zone_count = drive::zones(self.shared, self.volume).len() as f64;
        self.at.progress = (f64::from(self.zones_done) + in_zone.min(1.0)) / zone_count;
        self.control.count_read(len, self.at.progress);
        Ok(read.map_err(|error| ScrubFault::Unreadable { offset, len, message: error.to_string() }))
    }

    fn wait_for_turn(&mut self) -> Result<(), Halt> {
        let mut is_paused = false;
        loop {
            self.control.check()?;
            if let Some(cause) = drive::obstacle(self.shared, self.volume) {
                self.control.set_paused(Some(cause));
                is_paused = true;
                self.control.wait_until(Instant::now() + OBSTACLE_LOOK)?;
                continue;
            }
            if is_paused {
                self.control.set_paused(None);
                is_paused = false;
            }
            let is_busy = drive::is_busy(self.shared, self.volume);
            match self.pace.turn(&self.at, self.began.elapsed(), is_busy) {
                Turn::Read => return Ok(()),
                Turn::WaitUntil(until) => self.control.wait_until(self.began + until)?,
            }
        }
    }

    pub(super) fn found(&mut self, finding: ScrubFinding) {
        self.found_count += 1;
        if self.found_count <= LOGGED_MAX {
            let ScrubFinding { volume, zone, offset, volume_offset, .. } = finding;
            let key = finding.key.as_ref().map_or_else(String::new, ToString::to_string);
            let (part, fault) = (finding.part, &finding.fault);
            tracing::error!(volume, zone, offset, volume_offset, key, %fault, "damaged {part}");
        }
        self.control.found(finding);
    }
}
