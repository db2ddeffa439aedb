//! The good client: hot reads of two sizes at once, in open loop, at about 30 % of what server and
//! generator do together. Its latencies before something happens and while it does.

use super::super::Bench;
use super::super::peer::Server;
use super::super::quiet::Measured;
use super::super::sample::{Cells, Extra, LoadClass, Sample};
use super::reading::{LARGE, Reading, SMALL};
use crate::error::Result;
use crate::proc_fs::ProcessorTimes;
use crate::tapeloop::FirstBytes;
use std::path::Path;
use std::time::Duration;

/// Each size's share of what it reaches alone.
const SHARE: f64 = 0.15;

/// The two readings, with their rates.
pub(super) struct Pair {
    readings: [Reading; 2],
    /// A window is measured in so many slices, one after the other, each a sample.
    slices: u32,
}

/// What they came to in one window.
pub(super) struct PairSeen {
    /// Of each slice, both sizes.
    slices: Vec<Vec<LoadClass>>,
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
    fn of_size(&self, at: usize) -> impl Iterator<Item = &LoadClass> + Clone {
        self.slices.iter().map(move |slice| &slice[at])
    }

    pub(super) fn error_count(&self) -> u64 {
        self.slices.iter().flatten().map(|class| class.error_count).sum()
    }
}

impl Pair {
    /// Stores what is read and finds the rates; windows will be of `time`.
    pub(super) fn prepare(
        bench: &Bench<'_>,
        server: &Server,
        time: Duration,
        slices: u32,
    ) -> Result<Pair> {
        let mut readings = [SMALL, LARGE];
        for reading in &mut readings {
            reading.warm(bench, server)?;
            let alone = Reading { time: bench.plan.probe_time, ..*reading }.run(bench, server)?;
            reading.rate = Some((alone.class.requests_per_s * SHARE).max(1.0));
            reading.time = time / slices;
        }
        let pair = Pair { readings, slices };
        pair.of_time(bench.plan.probe_time).run(bench, server)?;
        Ok(pair)
    }

    fn of_time(&self, time: Duration) -> Pair {
        Pair { readings: self.readings.map(|reading| Reading { time, ..reading }), slices: 1 }
    }

    /// One window.
    pub(super) fn run(&self, bench: &Bench<'_>, server: &Server) -> Result<PairSeen> {
        let (tapectl, address) = (&bench.binaries.tapectl, server.address.to_string());
        let place = (address.as_str(), server.folder());
        let times_before = ProcessorTimes::now()?;
        let before = server.usage();
        let clock_before = server.first_bytes()?;
        let slices: Result<Vec<Vec<LoadClass>>> =
            (0..self.slices).map(|_| self.slice(tapectl, place)).collect();
        let after = server.usage();
        Ok(PairSeen {
            slices: slices?,
            cpu_s: after.cpu_s - before.cpu_s,
            rss_bytes: after.rss_bytes,
            own_clock: [clock_before, server.first_bytes()?],
            stolen_share: times_before.stolen_share_until(ProcessorTimes::now()?),
            time: self.readings[0].time * self.slices,
        })
    }

    /// Both readings at once, for a slice of the window.
    fn slice(&self, tapectl: &Path, place: (&str, &Path)) -> Result<Vec<LoadClass>> {
        std::thread::scope(|scope| {
            let read = |reading: Reading| scope.spawn(move || reading.beside(tapectl, place));
            let threads: Vec<_> = self.readings.into_iter().map(read).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|class| class.expect("a reading does not panic")).collect()
        })
    }
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
        let typical = LoadClass::of_slices(before.of_size(at)).expect("at least one slice");
        for (before_slice, slice) in before.of_size(at).zip(during.of_size(at)) {
            let mut sample = compared(before_slice, &typical, slice, during.rss_bytes);
            let busy = |seen: &PairSeen| seen.cpu_s / seen.time.as_secs_f64() * 100.0;
            sample.extra.extend([
                ("server CPU before, %", busy(before)),
                ("server CPU during, %", busy(during)),
                ("RSS before, MB", before.rss_bytes as f64 / 1e6),
            ]);
            sample.extra.extend_from_slice(more);
            cells.add(&row, peer, sample.with_own_clock(during.own_clock));
        }
    }
}

/// A sample of what was during, with what had been before, and the ratios to what was typical
/// before.
pub(super) fn compared(
    before: &LoadClass,
    typical: &LoadClass,
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
        ("p99 during/before", during.latency_us_p99 / typical.latency_us_p99),
        ("p99.9 during/before", during.latency_us_p999 / typical.latency_us_p999),
    ];
    sample
}
