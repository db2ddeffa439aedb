//! The live mix with data larger than a memory cap: encoders push, players follow the live edge,
//! DVR viewers read anywhere back to the first segment.
//!
//! The server alone runs in the capped group, page cache included. nginx's PUTs are not durable
//! here, tapeloop's are.

use super::peer::{self, Launch, Peer, Server};
use super::quiet::Measured;
use super::sample::{Cells, LoadReport, Sample};
use super::{Bench, load, quiet};
use crate::cgroup::MemoryCap;
use crate::error::{BenchError, Result};
use crate::proc_fs::{ProcessorTimes, Usage};
use crate::scratch::Scratch;
use crate::tapeloop::FirstBytes;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const SEGMENT_BYTES: u64 = 512 * 1024;
const SEGMENT_S: u64 = 2;
const RENDITIONS: u64 = 4;
/// Data below the cap's multiple would be read from memory.
const DATA_PER_CAP: u64 = 8;
const LOOK_EVERY: Duration = Duration::from_millis(50);
const PREFILL_LIMIT: Duration = Duration::from_secs(600);

/// The sizes of the mix.
pub(super) struct Shape {
    cap_bytes: u64,
    streams: u64,
    live_readers_per_stream: u64,
    dvr_readers: u64,
    time: Duration,
    ramp: Duration,
}

impl Shape {
    /// About 42 MB/s in, 94 MB/s live, 199 MB/s DVR, 500 playlists a second.
    pub(super) fn full() -> Shape {
        Shape {
            cap_bytes: 1024 * MIB,
            streams: 40,
            live_readers_per_stream: 9,
            dvr_readers: 380,
            time: Duration::from_secs(20),
            ramp: Duration::from_secs(5),
        }
    }

    /// An eighth of it, under an eighth of the memory.
    pub(super) fn quick() -> Shape {
        Shape {
            cap_bytes: 128 * MIB,
            streams: 5,
            live_readers_per_stream: 9,
            dvr_readers: 48,
            time: Duration::from_secs(8),
            ramp: Duration::from_secs(2),
        }
    }

    fn renditions(&self) -> u64 {
        self.streams * RENDITIONS
    }

    fn prefill(&self) -> u64 {
        (DATA_PER_CAP * self.cap_bytes).div_ceil(self.renditions() * SEGMENT_BYTES)
    }

    /// What a store needs to keep everything the run pushes.
    pub(super) fn capacity_bytes(&self) -> u64 {
        let pushed = (self.time + self.ramp).as_secs() / SEGMENT_S + 2;
        (self.prefill() + pushed) * self.renditions() * SEGMENT_BYTES * 5 / 4 + 512 * MIB
    }

    pub(super) fn text(&self) -> String {
        let rate = |per_s: f64| per_s * SEGMENT_BYTES as f64 / 1e6;
        let live = self.streams * self.live_readers_per_stream;
        format!(
            "{} MiB cap, {} segments of 512 KiB ({:.1} GB) stored before; open loop for {:?}: \
             {:.0} MB/s in, {:.0} MB/s live, {:.0} MB/s DVR, {:.0} playlists/s",
            self.cap_bytes / MIB,
            self.prefill() * self.renditions(),
            (self.prefill() * self.renditions() * SEGMENT_BYTES) as f64 / 1e9,
            self.time,
            rate(self.renditions() as f64 / SEGMENT_S as f64),
            rate(live as f64 / SEGMENT_S as f64),
            rate(self.dvr_readers as f64),
            live as f64 / 0.72,
        )
    }

    fn words(&self, server: &Server, ingest: Ingest) -> String {
        let stored = match ingest {
            Ingest::On => format!("--prefill {}", self.prefill()),
            Ingest::Off => "--no-ingest".to_owned(),
        };
        format!(
            "load --url http://{}/mix --streams {} --renditions {RENDITIONS} \
             --segment-duration {SEGMENT_S}s --segment-bytes {SEGMENT_BYTES} \
             --live-readers {} --poll-interval 720ms --dvr-readers {} --dvr-interval 1s \
             {stored} --ramp {}ms --duration {}ms --timeout 30s --json",
            server.address,
            self.streams,
            self.live_readers_per_stream,
            self.dvr_readers,
            self.ramp.as_millis(),
            self.time.as_millis(),
        )
    }
}

/// Whether encoders push while others read.
#[derive(Clone, Copy)]
enum Ingest {
    On,
    /// The same reads of what a load with ingest has left, its newest segments in memory as then.
    Off,
}

/// What one load came to.
struct Loaded {
    report: LoadReport,
    /// When the measured time began, and when it ended.
    usage: [Usage; 2],
    /// Before its ramp, and when it ended.
    own_clock: [Option<FirstBytes>; 2],
    /// Of the processors, in the measured time.
    stolen_share: f64,
}

/// One server from its start to its end.
struct Mixed {
    with_ingest: Loaded,
    /// How much of a tail is the encoders' doing is asked of our own only.
    without_ingest: Option<Loaded>,
    memory_bytes: u64,
}

/// Runs the mix against one peer and adds a row per class of request.
pub(super) fn run(bench: &Bench<'_>, peer: Peer, cells: &mut Cells) -> Result<()> {
    let what = format!("mix under the cap: {}", peer.name());
    let mixed = bench.quiet.measured_by_share(&what, quiet::ATTEMPTS_MAX, || {
        let mixed = mix(bench, peer, cells)?;
        let share = mixed.with_ingest.stolen_share;
        Ok((mixed, share))
    })?;
    let Mixed { with_ingest, without_ingest, memory_bytes } = &mixed;
    let rss_bytes = with_ingest.usage[1].rss_bytes;
    for class in &with_ingest.report.classes {
        let mut sample = class.sample(rss_bytes);
        let alone = without_ingest.iter().flat_map(|loaded| &loaded.report.classes);
        if let Some(alone) = alone.into_iter().find(|alone| alone.class == class.class) {
            let ratio = class.latency_us_p999 / alone.latency_us_p999;
            sample.extra.push(("p99.9 with/without ingest", ratio));
        }
        cells.add(&row(&class.class), peer.name(), sample);
    }
    if let Some(loaded) = without_ingest {
        for class in &loaded.report.classes {
            let row = format!("mix without ingest: {}", class.class);
            cells.add(&row, peer.name(), class.sample(loaded.usage[1].rss_bytes));
        }
    }
    if let Some(sum) = with_ingest.sum(*memory_bytes) {
        cells.add("mix under the cap: all (worst latency; memory of the group)", peer.name(), sum);
    }
    Ok(())
}

/// Starts a server, has everybody push and read, and for our own everybody read.
fn mix(bench: &Bench<'_>, peer: Peer, cells: &mut Cells) -> Result<Mixed> {
    let shape = &bench.plan.mix;
    let scratch = Scratch::create(&bench.dir, "tapeloop-compare", false)?;
    let cap = MemoryCap::create("server", shape.cap_bytes)?;
    let launch = Launch {
        folder: scratch.path(),
        threads: bench.plan.threads,
        capacity_bytes: shape.capacity_bytes(),
        // The rest is for read buffers, connections and the index.
        ram_bytes: shape.cap_bytes * 3 / 4,
        cgroup: Some(cap.path()),
        connections_max: peer::CONNECTIONS_MAX,
    };
    let server = Server::start(peer, &bench.binaries, &launch)?;
    let with_ingest = measure(bench, &server, Ingest::On)?;
    let memory_bytes = cap.usage_bytes_max().max(with_ingest.usage[1].rss_bytes);
    let without = "mix without ingest: tapeloop";
    let without_ingest = (peer == Peer::Tapeloop).then(|| {
        bench.quiet.measured_by_share(without, quiet::ATTEMPTS_MAX, || {
            let loaded = measure(bench, &server, Ingest::Off)?;
            let share = loaded.stolen_share;
            Ok((loaded, share))
        })
    });
    server.stop("mix under the cap", cells)?;
    Ok(Mixed { with_ingest, without_ingest: without_ingest.transpose()?, memory_bytes })
}

/// The name of the row of a class.
pub(super) fn row(class: &str) -> String {
    format!("mix under the cap: {class}")
}

fn measure(bench: &Bench<'_>, server: &Server, ingest: Ingest) -> Result<Loaded> {
    let (shape, tapectl) = (&bench.plan.mix, &bench.binaries.tapectl);
    let clock_before = server.first_bytes()?;
    let mut seen: Vec<(Instant, Usage, Result<ProcessorTimes>)> = Vec::new();
    let mut look = || {
        if seen.last().is_none_or(|(at, ..)| at.elapsed() > LOOK_EVERY) {
            seen.push((Instant::now(), server.usage(), ProcessorTimes::now()));
        }
    };
    let limit = PREFILL_LIMIT + shape.ramp + shape.time;
    let words = shape.words(server, ingest);
    let report = load::run(tapectl, &words, server.folder(), limit, &mut look)?;
    let (ended, times) = (Instant::now(), ProcessorTimes::now()?);
    let usage = server.usage();
    for example in &report.examples {
        eprintln!("  {example}");
    }
    // The measured time is the last of the run; before it lie prefill and ramp.
    let begun = ended - shape.time;
    let before = seen.into_iter().rev().find(|(at, ..)| *at <= begun);
    let (_, usage_before, times_before) = before.ok_or_else(|| BenchError::Answer {
        what: "the mix".to_owned(),
        cause: format!("ended before its {:?}", shape.time),
    })?;
    let stolen_share = times_before?.stolen_share_until(times);
    let own_clock = [clock_before, server.first_bytes()?];
    Ok(Loaded { report, usage: [usage_before, usage], own_clock, stolen_share })
}

impl Measured for Loaded {
    fn error_count(&self) -> u64 {
        self.report.classes.iter().map(|class| class.error_count).sum()
    }
}

impl Measured for Mixed {
    fn error_count(&self) -> u64 {
        self.with_ingest.error_count()
            + self.without_ingest.as_ref().map_or(0, Measured::error_count)
    }
}

impl Loaded {
    /// All classes together, with the latencies of the worst.
    fn sum(&self, memory_bytes: u64) -> Option<Sample> {
        let mut all = self.report.classes.iter().map(|class| class.sample(memory_bytes));
        let mut sum = all.next()?;
        for one in all {
            sum.requests_per_s += one.requests_per_s;
            sum.bytes_per_s += one.bytes_per_s;
            sum.bytes_verified += one.bytes_verified;
            sum.request_count += one.request_count;
            sum.latency_us_p50 = sum.latency_us_p50.max(one.latency_us_p50);
            sum.latency_us_p99 = sum.latency_us_p99.max(one.latency_us_p99);
            sum.latency_us_p999 = sum.latency_us_p999.max(one.latency_us_p999);
        }
        // Errors have been counted class by class.
        sum.error_count = 0;
        sum.unsent_count = 0;
        let sum = sum.with_cost(&self.usage[0], &self.usage[1]);
        Some(sum.with_own_clock(self.own_clock))
    }
}
