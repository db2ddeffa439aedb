//! Write amplification: what the drive writes for every byte ingested, in a ring that laps.
//!
//! Two encoders' worth of streams, with lifetimes of T and 3T, push at a rate at which what is
//! still alive fills the wanted share of the volume. Segments are deleted by nobody; playlists are
//! overwritten with each segment. After one lap, bytes are counted for about another: by the
//! server, by the kernel for its process, and by the kernel for the whole drive, where file system
//! and other programs write too.

use super::super::load;
use super::super::peer::Peer;
use super::super::sample::{Cells, LoadReport, Sample};
use super::super::{Bench, MIB};
use crate::error::{BenchError, Context, Result};
use crate::proc_fs;
use crate::results::Memory;
use crate::scratch::Scratch;
use crate::tapeloop::{Launch, Tapeloop};
use std::path::Path;
use std::time::{Duration, Instant};

const SEGMENT_BYTES: u64 = MIB / 2;
const PLAYLIST_SEGMENTS: u64 = 60;
const ARENA_BYTES: u64 = 128 * MIB;
const LIMIT: Duration = Duration::from_secs(120);
/// As many zones as a store of this size can have. Large stores have more.
const ZONES: u64 = 31;
const SHARES_PERCENT: [u64; 3] = [50, 80, 95];

/// A volume and the shorter of the two lifetimes.
pub(in super::super) struct Ring {
    pub(in super::super) capacity_bytes: u64,
    pub(in super::super) ttl_s: u64,
    /// Counted after the first lap.
    pub(in super::super) time: Duration,
}

/// What has been written so far.
#[derive(Clone, Copy)]
struct Written {
    at: Instant,
    payload: f64,
    by_server: f64,
    by_process: f64,
    by_drive: f64,
    zones_evicted: f64,
    cpu_s: f64,
}

impl Ring {
    pub(in super::super) fn full() -> Ring {
        let time = Duration::from_secs(8);
        Ring { capacity_bytes: ZONES * 32 * MIB, ttl_s: 3, time }
    }

    pub(in super::super) fn quick() -> Ring {
        let time = Duration::from_secs(2);
        Ring { capacity_bytes: ZONES * 8 * MIB, ttl_s: 1, time }
    }

    /// Until what was pushed first with the longer life has expired.
    fn warm(&self) -> Duration {
        Duration::from_secs(3 * self.ttl_s + 1)
    }

    /// Renditions of each of the two loads. Half of the bytes live for T, half for 3T: on the
    /// average 2T.
    fn renditions(&self, percent: u64) -> u64 {
        let rate = self.capacity_bytes * percent / 100 / (2 * self.ttl_s);
        (rate / 2 / SEGMENT_BYTES).max(1)
    }
}

pub(super) fn run(bench: &Bench<'_>, peer: Peer, cells: &mut Cells) -> Result<()> {
    assert_eq!(peer, Peer::Tapeloop, "the others keep no ring");
    for percent in SHARES_PERCENT {
        let row = format!("write amplification, {percent} % full");
        let (sample, memory) = measure(bench, percent, &row)?;
        cells.add(&row, peer.name(), sample);
        cells.add_memory(memory);
    }
    Ok(())
}

fn measure(bench: &Bench<'_>, percent: u64, row: &str) -> Result<(Sample, Memory)> {
    let ring = &bench.plan.ring;
    let scratch = Scratch::create(&bench.dir, "tapeloop-compare", false)?;
    let mut server = Tapeloop::start(
        &bench.binaries,
        &Launch {
            data: &scratch.path().join("data"),
            capacity_bytes: ring.capacity_bytes,
            ram_bytes: ARENA_BYTES,
            threads: bench.plan.threads,
            cgroup: None,
            log: scratch.path().join("tapeloop.log"),
        },
    )?;
    server.wait_listening(LIMIT)?;
    let (reports, begun, ended) = std::thread::scope(|scope| {
        let push = |factor: u64| {
            let words = words(ring, &server, percent, factor);
            let logs = scratch.path().join(format!("load-{factor}"));
            scope.spawn(move || {
                super::create_folder(&logs)?;
                let limit = ring.warm() + ring.time + LIMIT;
                load::run(&bench.binaries.tapectl, &words, &logs, limit, &mut || {})
            })
        };
        let threads = [1, 3].map(push);
        std::thread::sleep(ring.warm());
        let begun = Written::now(&server, scratch.path());
        std::thread::sleep(ring.time);
        let ended = Written::now(&server, scratch.path());
        let joined = threads.map(|thread| thread.join().expect("a load does not panic"));
        (joined, begun, ended)
    });
    let reports: Result<Vec<LoadReport>> = reports.into_iter().collect();
    let usage = server.running.usage();
    let sample = sample_of(ring, &reports?, begun?, ended?, usage.rss_bytes)?;
    let memory = Memory {
        workload: row.to_owned(),
        rss_bytes_max: usage.rss_bytes_max,
        printed_bytes: server.admin.memory_printed_bytes()?,
    };
    server.running.stop(LIMIT)?;
    Ok((sample, memory))
}

/// A load whose objects live `factor` times the shorter life.
fn words(ring: &Ring, server: &Tapeloop, percent: u64, factor: u64) -> String {
    format!(
        "load --url http://{}/life-{factor} --streams {} --renditions 1 --segment-duration 1s \
         --segment-bytes {SEGMENT_BYTES} --playlist-segments {PLAYLIST_SEGMENTS} \
         --live-readers 0 --dvr-readers 0 --ttl {}s --ramp 0ms --duration {}ms --json",
        server.address,
        ring.renditions(percent),
        factor * ring.ttl_s,
        (ring.warm() + ring.time + Duration::from_secs(1)).as_millis(),
    )
}

fn sample_of(
    ring: &Ring,
    reports: &[LoadReport],
    begun: Written,
    ended: Written,
    rss_bytes: u64,
) -> Result<Sample> {
    let example = || reports.iter().flat_map(|report| &report.examples).next().cloned();
    let classes = reports.iter().flat_map(|report| &report.classes);
    let slowest = classes
        .filter(|class| class.class == "segment_put")
        .max_by(|one, other| one.latency_us_p99.total_cmp(&other.latency_us_p99));
    let slowest = slowest.ok_or_else(|| BenchError::Answer {
        what: "pushing round the ring".to_owned(),
        cause: example().unwrap_or_else(|| "no segment was pushed".to_owned()),
    })?;
    let errors = reports.iter().flat_map(|report| &report.classes).map(|class| class.error_count);
    let seconds = (ended.at - begun.at).as_secs_f64();
    let payload = ended.payload - begun.payload;
    let live = payload / seconds * (2 * ring.ttl_s) as f64;
    let mut sample = slowest.sample(rss_bytes);
    sample.error_count = errors.sum();
    sample.bytes_per_s = payload / seconds;
    sample.requests_per_s = payload / seconds / SEGMENT_BYTES as f64;
    sample.cpu_us_per_request =
        Some((ended.cpu_s - begun.cpu_s) * 1e6 * SEGMENT_BYTES as f64 / payload);
    sample.extra = vec![
        ("drive bytes per byte", (ended.by_drive - begun.by_drive) / payload),
        ("process bytes per byte", (ended.by_process - begun.by_process) / payload),
        ("server bytes per byte", (ended.by_server - begun.by_server) / payload),
        ("alive by rate and life, %", live / ring.capacity_bytes as f64 * 100.0),
        ("laps", (ended.by_server - begun.by_server) / ring.capacity_bytes as f64),
        ("zones evicted", ended.zones_evicted - begun.zones_evicted),
    ];
    Ok(sample)
}

impl Written {
    fn now(server: &Tapeloop, folder: &Path) -> Result<Written> {
        Ok(Written {
            at: Instant::now(),
            payload: server.admin.metric("tapeloop_payload_bytes_stored_total")?,
            by_server: server.admin.metric("tapeloop_bytes_written_total")?,
            by_process: bytes_written_by_process(server.running.id())?,
            by_drive: proc_fs::bytes_written_by_drive(folder)?,
            zones_evicted: server.admin.metric("tapeloop_zones_evicted_total")?,
            cpu_s: server.running.usage().cpu_s,
        })
    }
}

/// What the kernel has sent towards drives for a process.
fn bytes_written_by_process(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/io");
    let text = std::fs::read_to_string(&path).context(format!("reading {path}"))?;
    let bytes = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    bytes.and_then(|bytes| bytes.parse().ok()).ok_or_else(|| BenchError::Answer {
        what: path,
        cause: "no count of bytes written".to_owned(),
    })
}
