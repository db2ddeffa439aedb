//! When the next read may begin: pure arithmetic over times since the cycle's begin.
//!
//! Two needs, and the higher one wins: the share of drive time, which waits for a drive that nobody
//! else uses, and the time by which all must have been read, which in the end waits for nobody. No
//! need ever takes more than `share_max` of the drive's time.

use std::time::Duration;

/// A read that took longer says that the drive is in trouble, not how much a read costs.
const READ_TIME_MAX: Duration = Duration::from_secs(1);
/// How often a busy drive is looked at again.
pub(super) const BUSY_LOOK: Duration = Duration::from_millis(5);

/// How fast a cycle goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Share of drive time, above 0 and at most 1.
    pub(super) share: f64,
    /// At most this to keep to the cycle; at least `share`.
    pub(super) share_max: f64,
    /// All is read within this time.
    pub(super) cycle: Duration,
    /// Somebody waits for this cycle: it yields to others only for as long as it would pause
    /// anyway.
    pub(super) is_wanted: bool,
}

/// How far a cycle has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// End of the last read, since the cycle's begin.
    pub(super) read_ended: Duration,
    /// How long it took.
    pub(super) read_took: Duration,
    /// Part of the cycle that is done, 0 to 1.
    pub(super) progress: f64,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Read,
    /// Ask again then.
    WaitUntil(Duration),
}

impl Pace {
    /// `now` counts from the cycle's begin; `is_busy`: others have work for the drive.
    pub(super) fn turn(&self, at: &Position, now: Duration, is_busy: bool) -> Turn {
        let took = at.read_took.min(READ_TIME_MAX);
        let pause = |share: f64| took.mul_f64((1.0 - share) / share);
        let by_cap = at.read_ended + pause(self.share_max);
        let by_share = at.read_ended + pause(self.share);
        let at_last = match self.is_wanted {
            true => at.read_ended + 2 * pause(self.share),
            false => self.cycle.mul_f64(at.progress.clamp(0.0, 1.0)).max(by_cap),
        };
        assert!(by_cap <= by_share && by_cap <= at_last);
        if now >= at_last {
            Turn::Read
        } else if now < by_share.min(at_last) {
            Turn::WaitUntil(by_share.min(at_last))
        } else if is_busy {
            Turn::WaitUntil(at_last.min(now + BUSY_LOOK))
        } else {
            Turn::Read
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);
    const MS: Duration = Duration::from_millis(1);
    const PACE: Pace = Pace { share: 0.05, share_max: 0.25, cycle: YEARS, is_wanted: false };

    /// Part of the drive's time and of the cycle's work that `pace` takes, with reads of 1 ms of
    /// which each does `step` of the cycle, over a minute. `is_busy` tells by millisecond.
    fn run(pace: &Pace, step: f64, is_busy: impl Fn(u128) -> bool) -> f64 {
        let mut at = Position { read_ended: Duration::ZERO, read_took: MS, progress: 0.0 };
        let (mut now, mut reading) = (Duration::ZERO, Duration::ZERO);
        while now < Duration::from_secs(60) {
            match pace.turn(&at, now, is_busy(now.as_millis())) {
                Turn::Read => {
                    now += MS;
                    reading += MS;
                    at = Position { read_ended: now, read_took: MS, progress: at.progress + step };
                }
                Turn::WaitUntil(until) => {
                    assert!(until > now, "a wait ends");
                    now = until;
                }
            }
        }
        reading.as_secs_f64() / now.as_secs_f64()
    }

    #[test]
    fn on_an_idle_drive_it_takes_its_share_and_no_more() {
        let share = run(&PACE, 1e-3, |_| false);
        assert!((0.049..=0.051).contains(&share), "{share}");
        let all = Pace { share: 1.0, share_max: 1.0, ..PACE };
        assert!(run(&all, 1e-3, |_| false) > 0.999);
    }

    #[test]
    fn behind_its_cycle_it_goes_faster_up_to_the_cap_even_on_a_busy_drive() {
        let slow = Pace { cycle: Duration::from_secs(60), ..PACE };
        for busy in [false, true] {
            let share = run(&slow, 1e-9, |_| busy);
            assert!((0.24..=0.251).contains(&share), "{share}");
        }
    }

    #[test]
    fn on_a_busy_drive_it_reads_only_what_its_cycle_needs() {
        // A read does a thousandth of a cycle of 600 s: it is due every 600 ms.
        let pace = Pace { cycle: Duration::from_secs(600), ..PACE };
        let share = run(&pace, 1e-3, |_| true);
        assert!((0.0015..=0.0018).contains(&share), "{share}");
        let often = run(&pace, 1e-3, |ms| ms % 20 < 10);
        assert!(often > 0.03, "it uses the gaps: {often}");
    }

    #[test]
    fn a_wanted_cycle_yields_for_no_longer_than_it_pauses() {
        let wanted = Pace { is_wanted: true, ..PACE };
        assert!((0.025..=0.027).contains(&run(&wanted, 0.0, |_| true)));
        assert!((0.049..=0.051).contains(&run(&wanted, 0.0, |_| false)));
        let full = Pace { share: 1.0, share_max: 1.0, ..wanted };
        assert!(run(&full, 0.0, |_| true) > 0.999, "nothing to yield with");
    }

    #[test]
    fn a_read_that_hung_does_not_stop_the_scrub_for_hours() {
        let hour = Duration::from_secs(3600);
        let at = Position { read_ended: hour, read_took: hour, progress: 0.5 };
        let Turn::WaitUntil(until) = PACE.turn(&at, hour, false) else { panic!("no pause") };
        assert!(until - hour <= Duration::from_secs(19), "{until:?}");
    }
}
