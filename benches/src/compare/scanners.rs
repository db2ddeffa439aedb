//! Kernel threads that look through memory of their own accord.
//!
//! A kernel that does not preempt them (PREEMPT_NONE) has everybody wait who wants the processor
//! they are on, for a millisecond or several. A short window with such a turn in it says nothing
//! about a server.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const NAMES: [&str; 3] = ["kdamond.", "ksmd", "khugepaged"];

/// Those of this machine.
pub(super) struct Scanners {
    stats: Vec<PathBuf>,
}

impl Scanners {
    pub(super) fn find() -> Scanners {
        let tasks = fs::read_dir("/proc").into_iter().flatten().flatten();
        let is_scanner = |path: &PathBuf| {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            NAMES.iter().any(|start| name.starts_with(start))
        };
        let found = tasks.map(|entry| entry.path()).filter(is_scanner);
        Scanners { stats: found.map(|path| path.join("schedstat")).collect() }
    }

    /// How long they have had a processor so far; one that is gone has had none.
    fn run_ns(&self) -> u64 {
        let texts = self.stats.iter().filter_map(|path| fs::read_to_string(path).ok());
        texts.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum()
    }
}

/// Looks at them again and again.
pub(super) struct Watch<'a> {
    scanners: &'a Scanners,
    seen: Vec<(Instant, u64)>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(scanners: &'a Scanners) -> Watch<'a> {
        Watch { scanners, seen: Vec::new() }
    }

    pub(super) fn look(&mut self) {
        self.seen.push((Instant::now(), self.scanners.run_ns()));
    }

    /// Whether one of them had a turn in the last `time`, or may have had.
    pub(super) fn has_seen_any(&mut self, time: Duration) -> bool {
        self.look();
        any_within(&self.seen, time)
    }
}

/// Whether what was seen has grown in the `time` before the last look.
fn any_within(seen: &[(Instant, u64)], time: Duration) -> bool {
    let Some((ended, last)) = seen.last() else { return false };
    let is_before = |(at, _): &&(Instant, u64)| *at + time <= *ended;
    // Nobody has looked early enough: from nothing on, everything has grown.
    let before = seen.iter().rfind(is_before).map_or(0, |(_, run_ns)| *run_ns);
    *last > before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_within_the_window_is_seen_and_one_before_it_is_not() {
        let begun = Instant::now();
        let seen = |looks: &[(u64, u64)]| -> Vec<(Instant, u64)> {
            looks.iter().map(|(ms, ns)| (begun + Duration::from_millis(*ms), *ns)).collect()
        };
        let window = Duration::from_millis(200);
        assert!(!any_within(&seen(&[(0, 5), (90, 7), (300, 7)]), window), "before it");
        assert!(any_within(&seen(&[(0, 5), (90, 7), (300, 8)]), window));
        assert!(any_within(&seen(&[(90, 7), (110, 8), (300, 8)]), window), "from 100 on");
        assert!(any_within(&seen(&[(200, 7), (300, 7)]), window), "nobody knows");
        assert!(!any_within(&seen(&[(200, 0), (300, 0)]), window), "a machine without any");
        assert!(!any_within(&[], window));
    }
}
