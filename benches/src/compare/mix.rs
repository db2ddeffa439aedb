//! The live mix with data larger than a memory cap: encoders push, players follow the live edge,
//! DVR viewers read anywhere back to the first segment.
//!
//! The server alone runs in the capped group, page cache included. nginx's PUTs are not durable
//! here, tapeloop's are.

use super::load;
use super::peer::{self, Launch, Peer, Server};
use super::sample::{Cells, LoadReport, Sample};
use crate::binaries::Binaries;
use crate::cgroup::MemoryCap;
use crate::error::Result;
use crate::proc_fs::Usage;
use std::path::Path;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const SEGMENT_BYTES: u64 = 512 * 1024;
const SEGMENT_S: u64 = 2;
const RENDITIONS: u64 = 4;
/// Data below the cap's multiple would be read from memory.
const DATA_PER_CAP: u64 = 8;
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
struct Measured {
    report: LoadReport,
    cpu_s: f64,
    rss_bytes: u64,
}

/// Runs the mix against one peer and adds a row per class of request.
pub(super) fn run(
    peer: Peer,
    binaries: &Binaries,
    folder: &Path,
    threads: u32,
    shape: &Shape,
    cells: &mut Cells,
) -> Result<()> {
    let cap = MemoryCap::create("server", shape.cap_bytes)?;
    let launch = Launch {
        folder,
        threads,
        capacity_bytes: shape.capacity_bytes(),
        // The rest is for read buffers, connections and the index.
        ram_bytes: shape.cap_bytes * 3 / 4,
        cgroup: Some(cap.path()),
        connections_max: peer::CONNECTIONS_MAX,
    };
    let server = Server::start(peer, binaries, &launch)?;
    let mixed = measure(shape, binaries, &server, folder, Ingest::On)?;
    let memory_bytes = cap.usage_bytes_max().max(mixed.rss_bytes);
    // How much of a tail is the encoders' doing is asked of our own only.
    let reading = (peer == Peer::Tapeloop)
        .then(|| measure(shape, binaries, &server, folder, Ingest::Off))
        .transpose()?;
    for class in &mixed.report.classes {
        let mut sample = class.sample(None, mixed.rss_bytes);
        let alone = reading.iter().flat_map(|reading| &reading.report.classes);
        if let Some(alone) = alone.into_iter().find(|alone| alone.class == class.class) {
            let ratio = class.latency_us_p999 / alone.latency_us_p999;
            sample.extra.push(("p99.9 with/without ingest", ratio));
        }
        cells.add(&row(&class.class), peer.name(), sample);
    }
    for class in reading.iter().flat_map(|reading| &reading.report.classes) {
        let row = format!("mix without ingest: {}", class.class);
        cells.add(&row, peer.name(), class.sample(None, mixed.rss_bytes));
    }
    if let Some(sum) = mixed.sum(memory_bytes) {
        cells.add("mix under the cap: all (worst latency; memory of the group)", peer.name(), sum);
    }
    server.stop()
}

/// The name of the row of a class.
pub(super) fn row(class: &str) -> String {
    format!("mix under the cap: {class}")
}

fn measure(
    shape: &Shape,
    binaries: &Binaries,
    server: &Server,
    folder: &Path,
    ingest: Ingest,
) -> Result<Measured> {
    let mut seen: Vec<(Instant, Usage)> = Vec::new();
    let mut look = || {
        if seen.last().is_none_or(|(at, _)| at.elapsed() > Duration::from_millis(50)) {
            seen.push((Instant::now(), server.running.usage()));
        }
    };
    let limit = PREFILL_LIMIT + shape.ramp + shape.time;
    let words = shape.words(server, ingest);
    let report = load::run(&binaries.tapectl, &words, folder, limit, &mut look)?;
    let ended = Instant::now();
    let now = server.running.usage();
    for example in &report.examples {
        eprintln!("  {example}");
    }
    // The measured time is the last of the run; before it lie prefill and ramp.
    let begun = ended - shape.time;
    let before = seen.iter().rev().find(|(at, _)| *at <= begun);
    let cpu_s = now.cpu_s - before.map_or(0.0, |(_, usage)| usage.cpu_s);
    Ok(Measured { report, cpu_s, rss_bytes: now.rss_bytes })
}

impl Measured {
    /// All classes together, with the latencies of the worst.
    fn sum(&self, memory_bytes: u64) -> Option<Sample> {
        let requests: u64 = self.report.classes.iter().map(|class| class.ok_count).sum();
        let mut all = self.report.classes.iter().map(|class| class.sample(None, memory_bytes));
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
        sum.cpu_us_per_request = Some(self.cpu_s * 1e6 / requests.max(1) as f64);
        Some(sum)
    }
}
