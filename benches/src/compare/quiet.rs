//! What the host has spoilt is measured again.
//!
//! The processors of a virtual machine may be given to others for seconds, and what is measured
//! then is the host. The kernel counts that time as stolen. A measurement during which more than a
//! stated share was stolen is taken again, a stated number of times; the one with the least stolen
//! counts, whatever it shows, and the others are listed.

use super::sample::Sample;
use crate::error::Result;
use crate::proc_fs::ProcessorTimes;
use serde::Serialize;
use std::sync::Mutex;

/// Of all processors together.
const STOLEN_SHARE_MAX: f64 = 0.03;
pub(super) const ATTEMPTS_MAX: u32 = 2;

/// What was measured while processors were stolen.
#[derive(Default)]
pub(super) struct Quiet {
    stolen: Mutex<Vec<Stolen>>,
}

/// A measurement that was taken more than once, or had no better one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Stolen {
    what: String,
    /// Of the attempt that counts.
    counted_percent: f64,
    left_out_percent: Vec<f64>,
    /// Errors of attempts left out. They count.
    left_out_error_count: u64,
}

/// What can be taken again without hiding what failed.
pub(super) trait Measured {
    fn error_count(&self) -> u64;
}

impl Measured for Sample {
    fn error_count(&self) -> u64 {
        self.error_count
    }
}

impl Quiet {
    /// Measures up to `attempts_max` times, until the host leaves the machine alone.
    pub(super) fn measured<T: Measured>(
        &self,
        what: &str,
        attempts_max: u32,
        mut measure: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        self.measured_by_share(what, attempts_max, || {
            let before = ProcessorTimes::now()?;
            let measured = measure()?;
            Ok((measured, before.stolen_share_until(ProcessorTimes::now()?)))
        })
    }

    /// The same for what knows better when its measured time was: it tells the share stolen then.
    pub(super) fn measured_by_share<T: Measured>(
        &self,
        what: &str,
        attempts_max: u32,
        mut measure: impl FnMut() -> Result<(T, f64)>,
    ) -> Result<T> {
        assert!(attempts_max > 0);
        let (mut best, mut share) = measure()?;
        let mut left_out: Vec<(f64, u64)> = Vec::new();
        while share > STOLEN_SHARE_MAX && left_out.len() + 1 < attempts_max as usize {
            eprintln!("  {:.0} % of the processors stolen: {what} again", share * 100.0);
            let (next, next_share) = measure()?;
            if next_share < share {
                left_out.push((share, best.error_count()));
                (best, share) = (next, next_share);
            } else {
                left_out.push((next_share, next.error_count()));
            }
        }
        if share > STOLEN_SHARE_MAX || !left_out.is_empty() {
            self.stolen.lock().expect("no panic while held").push(Stolen {
                what: what.to_owned(),
                counted_percent: share * 100.0,
                left_out_percent: left_out.iter().map(|(share, _)| share * 100.0).collect(),
                left_out_error_count: left_out.iter().map(|(_, errors)| errors).sum(),
            });
        }
        Ok(best)
    }

    /// All that was, in the order of the run.
    pub(super) fn stolen(&self) -> Vec<Stolen> {
        self.stolen.lock().expect("no panic while held").clone()
    }
}

impl Stolen {
    pub(super) fn left_out_error_count(&self) -> u64 {
        self.left_out_error_count
    }

    pub(super) fn text(&self) -> String {
        let left_out: Vec<String> =
            self.left_out_percent.iter().map(|percent| format!("{percent:.0}")).collect();
        let left_out = if left_out.is_empty() { "none".to_owned() } else { left_out.join(", ") };
        format!("{}: {:.0} % counts; left out: {left_out}", self.what, self.counted_percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name, and its errors.
    struct Attempt(u32, u64);

    impl Measured for Attempt {
        fn error_count(&self) -> u64 {
            self.1
        }
    }

    fn counted(attempts_max: u32, shares: &[f64]) -> (u32, u32, Vec<Stolen>) {
        let quiet = Quiet::default();
        let mut taken = 0;
        let best = quiet.measured_by_share("row", attempts_max, || {
            taken += 1;
            Ok((Attempt(taken, 1), shares[taken as usize - 1]))
        });
        (best.expect("no attempt failed").0, taken, quiet.stolen())
    }

    #[test]
    fn what_nobody_disturbed_is_measured_once() {
        assert_eq!(counted(4, &[0.03]), (1, 1, Vec::new()));
    }

    #[test]
    fn the_attempt_with_the_least_stolen_counts_and_errors_of_the_others_are_not_lost() {
        let (best, taken, stolen) = counted(3, &[0.2, 0.05, 0.1]);
        assert_eq!((best, taken), (2, 3));
        assert_eq!(stolen[0].text(), "row: 5 % counts; left out: 20, 10");
        assert_eq!(stolen[0].left_out_error_count(), 2);
        let (best, taken, _) = counted(4, &[0.2, 0.01, 0.0]);
        assert_eq!((best, taken), (2, 2), "quiet enough");
    }

    #[test]
    fn what_could_not_be_taken_again_is_told() {
        assert_eq!(counted(1, &[0.5]).2[0].text(), "row: 50 % counts; left out: none");
    }
}
