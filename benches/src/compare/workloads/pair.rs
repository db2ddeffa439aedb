//! The good client: hot reads of two sizes at once, in open loop. Its latencies before something
//! happens and while it does.
//!
//! Every server gets the same rates: about 30 % of what the first of a run, nginx, and its
//! generator do together. A window is measured in short slices; those in which the kernel looked
//! through memory are left out, of every server, and several of the others make a sample.

use super::super::Bench;
use super::super::peer::Server;
use super::super::quiet::Measured;
use super::super::sample::{Cells, Extra, LoadClass, Sample};
use super::reading::{LARGE, Reading, SMALL};
use crate::error::{BenchError, Result};
use crate::figures::Spread;
use crate::proc_fs::ProcessorTimes;
use crate::tapeloop::FirstBytes;
use std::time::{Duration, Instant};

/// Each size's share of what it reaches alone.
const SHARE: f64 = 0.15;
const SLICE: Duration = Duration::from_millis(200);
/// The generators connect, and begin at about the same time.
const RAMP: Duration = Duration::from_millis(100);
/// That a p99.9 of 512 KiB is one of a thousand.
const SLICES_PER_SAMPLE: usize = 6;
/// Until one counts.
const SCANNED_MAX: usize = 100;

/// The two readings, with their rates.
pub(super) struct Pair {
    readings: [Reading; 2],
    time: Duration,
}

/// What they came to in one window.
pub(super) struct PairSeen {
    /// Of each slice that counts, both sizes.
    slices: Vec<[LoadClass; 2]>,
    /// In which the kernel looked through memory.
    scanned_count: usize,
    /// Of requests in those.
    scanned_error_count: u64,
    pub(super) cpu_s: f64,
    pub(super) rss_bytes: u64,
    /// When it began and when it ended.
    own_clock: [Option<FirstBytes>; 2],
    /// Of the processors, while it was measured.
    pub(super) stolen_share: f64,
    time: Duration,
}

/// Windows before something and during it.
pub(super) struct Windows {
    pub(super) before: PairSeen,
    pub(super) during: PairSeen,
}

impl Measured for Windows {
    fn error_count(&self) -> u64 {
        self.before.error_count() + self.during.error_count()
    }
}

impl Windows {
    /// Of that window of both in which more was.
    pub(super) fn stolen_share(&self) -> f64 {
        self.before.stolen_share.max(self.during.stolen_share)
    }
}

impl PairSeen {
    /// The samples of one size.
    fn of_size(&self, at: usize) -> Vec<LoadClass> {
        let groups = self.slices.chunks(SLICES_PER_SAMPLE);
        // A last one of few would have no p99.9.
        let whole = groups.filter(|group| {
            group.len() == SLICES_PER_SAMPLE || self.slices.len() < SLICES_PER_SAMPLE
        });
        let class = |group: &[[LoadClass; 2]]| {
            LoadClass::of_slices(group.iter().map(|slice| &slice[at])).expect("never empty")
        };
        whole.map(class).collect()
    }

    pub(super) fn error_count(&self) -> u64 {
        let counted = self.slices.iter().flatten().map(|class| class.error_count).sum::<u64>();
        counted + self.scanned_error_count
    }
}

impl Pair {
    /// Stores what is read, and finds the rates if nobody has; windows will be of `time`.
    pub(super) fn prepare(bench: &Bench<'_>, server: &Server, time: Duration) -> Result<Pair> {
        let mut readings = [SMALL, LARGE];
        for reading in &readings {
            reading.warm(bench, server)?;
        }
        let rates = match bench.good_rates.get() {
            Some(rates) => *rates,
            None => {
                let found = find_rates(bench, server, readings)?;
                *bench.good_rates.get_or_init(|| found)
            }
        };
        for (reading, rate) in readings.iter_mut().zip(rates) {
            (reading.rate, reading.ramp, reading.time) = (Some(rate), RAMP, SLICE);
        }
        let warm = Pair { readings, time: bench.plan.probe_time };
        warm.run(bench, server)?;
        Ok(Pair { readings, time })
    }

    /// One window.
    pub(super) fn run(&self, bench: &Bench<'_>, server: &Server) -> Result<PairSeen> {
        let times_before = ProcessorTimes::now()?;
        let before = server.usage();
        let clock_before = server.first_bytes()?;
        let begun = Instant::now();
        let (mut slices, mut scanned_count, mut scanned_error_count) = (Vec::new(), 0, 0);
        // One that counts there must be; how many do not is bounded by how often the kernel looks.
        while begun.elapsed() < self.time || slices.is_empty() && scanned_count < SCANNED_MAX {
            let (slice, was_scanned) = self.slice(bench, server)?;
            match was_scanned {
                false => slices.push(slice),
                true => {
                    scanned_count += 1;
                    scanned_error_count += slice.iter().map(|class| class.error_count).sum::<u64>();
                }
            }
        }
        let time = begun.elapsed();
        let after = server.usage();
        if slices.is_empty() {
            return Err(BenchError::Answer {
                what: "reads of two sizes at once".to_owned(),
                cause: format!("the kernel looked through memory in all {scanned_count} slices"),
            });
        }
        Ok(PairSeen {
            slices,
            scanned_count,
            scanned_error_count,
            cpu_s: after.cpu_s - before.cpu_s,
            rss_bytes: after.rss_bytes,
            own_clock: [clock_before, server.first_bytes()?],
            stolen_share: times_before.stolen_share_until(ProcessorTimes::now()?),
            time,
        })
    }

    /// Both readings at once, and whether the kernel looked through memory meanwhile.
    fn slice(&self, bench: &Bench<'_>, server: &Server) -> Result<([LoadClass; 2], bool)> {
        let (tapectl, address) = (bench.binaries.tapectl.as_path(), server.address.to_string());
        let place = (address.as_str(), server.folder());
        let scanners = &bench.scanners;
        let [small, large] = self.readings;
        std::thread::scope(|scope| {
            let read = |reading: Reading| move || reading.beside(tapectl, place, scanners);
            let thread = scope.spawn(read(small));
            let large = read(large)();
            let (small, small_was) = thread.join().expect("a reading does not panic")?;
            let (large, large_was) = large?;
            Ok(([small, large], small_was || large_was))
        })
    }
}

/// What each reading reaches alone, and its share of it.
fn find_rates(bench: &Bench<'_>, server: &Server, readings: [Reading; 2]) -> Result<[f64; 2]> {
    let mut rates = [0.0; 2];
    for (reading, rate) in readings.into_iter().zip(&mut rates) {
        let alone = Reading { time: bench.plan.probe_time, ..reading }.run(bench, server)?;
        *rate = (alone.class.requests_per_s * SHARE).max(1.0);
    }
    Ok(rates)
}

/// Adds a row for each size: what each slice was during, beside what it had been before.
pub(super) fn add_rows(
    cells: &mut Cells,
    title: &str,
    peer: &str,
    windows: &Windows,
    more: &[Extra],
) {
    let Windows { before, during } = windows;
    let sizes = ["2 KiB", "512 KiB"];
    for (at, size) in sizes.into_iter().enumerate() {
        let row = format!("{title}: {size} GET beside it");
        let (before_samples, during_samples) = (before.of_size(at), during.of_size(at));
        // Medians: what one sample caught of the machine's own hiccups stays in it.
        let median_us = |of: fn(&LoadClass) -> f64| {
            Spread::of(before_samples.iter().map(of)).expect("at least one sample").median
        };
        let typical_us =
            [median_us(|class| class.latency_us_p99), median_us(|class| class.latency_us_p999)];
        for (before_sample, sample) in before_samples.iter().zip(&during_samples) {
            let mut sample = compared(before_sample, typical_us, sample, during.rss_bytes);
            let busy = |seen: &PairSeen| seen.cpu_s / seen.time.as_secs_f64() * 100.0;
            sample.extra.extend([
                ("server CPU before, %", busy(before)),
                ("server CPU during, %", busy(during)),
                ("RSS before, MB", before.rss_bytes as f64 / 1e6),
                ("slices left out", (before.scanned_count + during.scanned_count) as f64),
            ]);
            sample.extra.extend_from_slice(more);
            cells.add(&row, peer, sample.with_own_clock(during.own_clock));
        }
    }
}

/// A sample of what was during, with what had been before, and the ratios to the p99 and the p99.9
/// that were typical before.
pub(super) fn compared(
    before: &LoadClass,
    typical_us: [f64; 2],
    during: &LoadClass,
    rss_bytes: u64,
) -> Sample {
    let mut sample = during.sample(rss_bytes);
    sample.error_count += before.error_count;
    sample.bytes_verified += before.bytes;
    sample.extra = vec![
        ("p50 before, ms", before.latency_us_p50 / 1e3),
        ("p99 before, ms", before.latency_us_p99 / 1e3),
        ("p99.9 before, ms", before.latency_us_p999 / 1e3),
        ("p99 during/before", during.latency_us_p99 / typical_us[0]),
        ("p99.9 during/before", during.latency_us_p999 / typical_us[1]),
    ];
    sample
}
