//! What nobody's latency can be below: how late a thread wakes up that only sleeps.
//!
//! On a virtual machine that is the host's doing more than the kernel's. Every latency of an open
//! loop contains it at least once, for the generator's own timer.

use super::sample::{Cells, Sample};
use crate::error::{Context, Result};
use crate::figures::quantile;
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::{Duration, Instant};

const ROW: &str = "the machine: a sleeping thread's wake-up, every ms";
const NAME: &str = "no server, no load";
const TIME: Duration = Duration::from_secs(4);
const EVERY_NS: i64 = 1_000_000;

/// Adds the row.
pub(super) fn run(cells: &mut Cells) -> Result<()> {
    let mut late_ns = Vec::new();
    let begun = Instant::now();
    let mut due = clock_gettime(ClockId::Monotonic);
    while begun.elapsed() < TIME {
        due = after(due);
        clock_nanosleep_absolute(ClockId::Monotonic, &due).context("sleeping")?;
        let now = clock_gettime(ClockId::Monotonic);
        let late = (now.tv_sec - due.tv_sec) * 1_000_000_000 + now.tv_nsec - due.tv_nsec;
        late_ns.push(u64::try_from(late).expect("no sleep ends early"));
    }
    let seconds = begun.elapsed().as_secs_f64();
    late_ns.sort_unstable();
    let us = |share| quantile(&late_ns, share) as f64 / 1e3;
    cells.add(
        ROW,
        NAME,
        Sample {
            requests_per_s: late_ns.len() as f64 / seconds,
            bytes_per_s: 0.0,
            cpu_us_per_request: None,
            switches_per_request: None,
            latency_us_p50: us(0.5),
            latency_us_p99: us(0.99),
            latency_us_p999: us(0.999),
            bytes_verified: 0,
            request_count: late_ns.len() as u64,
            error_count: 0,
            unsent_count: 0,
            rss_bytes: 0,
            extra: Vec::new(),
        },
    );
    Ok(())
}

fn after(due: Timespec) -> Timespec {
    let nanos = due.tv_nsec + EVERY_NS;
    Timespec { tv_sec: due.tv_sec + nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_carries_over() {
        let due = after(Timespec { tv_sec: 1, tv_nsec: 999_500_000 });
        assert_eq!((due.tv_sec, due.tv_nsec), (2, 500_000));
    }
}
