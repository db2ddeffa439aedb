//! The arguments of `tapectl load` and its primitives.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Command, in_range, refuse};
use crate::error::ToolError;
use crate::load::{GetPlan, MediaPlan, PaceOptions, PutPlan, Target};
use crate::units::{parse_duration, parse_size};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct RawLoad {
    #[command(subcommand)]
    primitive: Option<RawPrimitive>,
    #[command(flatten)]
    media: RawMedia,
}

#[derive(Debug, Subcommand)]
enum RawPrimitive {
    /// GETs over kept connections; every body is checked.
    Get(RawGet),
    /// PUTs over kept connections; content follows from the path, so that `load get` can check it.
    Put(RawPut),
}

#[derive(Debug, Args)]
struct RawMedia {
    /// Where to push: http://127.0.0.1:8080/NAMESPACE. Loopback only.
    #[arg(long)]
    url: Option<String>,
    /// Live streams.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    streams: u32,
    /// Renditions of each stream.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=32))]
    renditions: u32,
    /// One segment per rendition becomes due this often.
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    segment_duration: Duration,
    /// Size of every segment.
    #[arg(long, default_value = "512KiB", value_parser = parse_size)]
    segment_bytes: u64,
    /// Segments named by a playlist (60 make about 2 KiB of text).
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    playlist_segments: u64,
    /// Readers at the live edge, per stream.
    #[arg(long, default_value_t = 5)]
    live_readers: u32,
    /// How often a live reader asks for the playlist [default: the segment duration].
    #[arg(long, value_parser = parse_duration)]
    poll_interval: Option<Duration>,
    /// Readers of older segments, over all streams.
    #[arg(long, default_value_t = 5)]
    dvr_readers: u32,
    /// How often a DVR reader reads one [default: the segment duration].
    #[arg(long, value_parser = parse_duration)]
    dvr_interval: Option<Duration>,
    /// How many segments back DVR readers reach [default: to the first].
    #[arg(long, value_parser = clap::value_parser!(u64).range(3..))]
    dvr_window: Option<u64>,
    /// Segments of each rendition stored before the clock starts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    prefill: u64,
    /// Push nothing: read what an earlier run with the same shape has stored.
    #[arg(long, conflicts_with_all = ["prefill", "delete_old", "ttl"])]
    no_ingest: bool,
    /// Delete segments that leave the DVR window, as encoders with a sliding window do.
    #[arg(long, requires = "dvr_window")]
    delete_old: bool,
    /// Store with this time to live, in whole seconds.
    #[arg(long, value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Measured time.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
    /// Time over which the readers arrive; not measured.
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    ramp: Duration,
    /// Seed of the readers' choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    common: RawCommon,
}

#[derive(Debug, Args)]
struct RawGet {
    /// What to read. `{n}` in it stands for a number below --objects, chosen at random.
    #[arg(long)]
    url: String,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Measured time.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// Time under the same load before that; of it only errors count.
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    ramp: Duration,
    /// Requests per second over all connections, by the clock [default: as fast as answered].
    #[arg(long)]
    rate: Option<f64>,
    /// Between requests, spin: one processor for each thread is never idle, and no request late
    /// because it had to wake up.
    #[arg(long, requires = "rate")]
    spin: bool,
    /// Number of objects that `{n}` ranges over.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    objects: u64,
    /// The objects were made by `tapectl load put` with this size; without it every body must equal
    /// the first one.
    #[arg(long, value_parser = parse_size)]
    bytes: Option<u64>,
    /// Seed of the choice of objects.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    common: RawCommon,
}

#[derive(Debug, Args)]
struct RawPut {
    /// Where to write. `{n}` in it stands for the number of the object, from 0.
    #[arg(long)]
    url: String,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Size of every object.
    #[arg(long, value_parser = parse_size)]
    bytes: u64,
    /// Number of PUTs.
    #[arg(long)]
    count: u64,
    /// Requests per second over all connections, by the clock [default: as fast as answered].
    #[arg(long)]
    rate: Option<f64>,
    /// Store with this time to live, in whole seconds.
    #[arg(long, value_parser = parse_duration)]
    ttl: Option<Duration>,
    #[command(flatten)]
    common: RawCommon,
}

#[derive(Debug, Args)]
struct RawCommon {
    /// A request without an answer after this long has failed.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,
    /// Generator threads. One is enough for several hundred MB/s. The media workload has one more,
    /// for the players at the live edge.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl RawLoad {
    pub(super) fn validate(self) -> Result<Command, ToolError> {
        match self.primitive {
            Some(RawPrimitive::Get(get)) => get.validate().map(Command::LoadGet),
            Some(RawPrimitive::Put(put)) => put.validate().map(Command::LoadPut),
            None => self.media.validate().map(Command::LoadMedia),
        }
    }
}

impl RawMedia {
    fn validate(self) -> Result<MediaPlan, ToolError> {
        let longest = Duration::from_secs(7 * 86_400);
        in_range("--segment-duration", self.segment_duration, Duration::from_millis(50), longest)?;
        in_range("--duration", self.duration, Duration::from_millis(100), longest)?;
        in_range("--ramp", self.ramp, Duration::ZERO, longest)?;
        let poll_interval = self.poll_interval.unwrap_or(self.segment_duration);
        in_range("--poll-interval", poll_interval, Duration::from_millis(1), longest)?;
        let dvr_interval = self.dvr_interval.unwrap_or(self.segment_duration);
        in_range("--dvr-interval", dvr_interval, Duration::from_millis(1), longest)?;
        positive("--segment-bytes", self.segment_bytes)?;
        let url =
            self.url.ok_or_else(|| refuse("--url", "", "needed, as in http://127.0.0.1:8080/x"))?;
        Ok(MediaPlan {
            target: Target::parse(&url)?,
            stream_count: self.streams as usize,
            rendition_count: self.renditions as usize,
            segment_duration: self.segment_duration,
            segment_bytes: self.segment_bytes,
            playlist_segments: self.playlist_segments,
            live_readers_per_stream: self.live_readers as usize,
            poll_interval,
            dvr_reader_count: self.dvr_readers as usize,
            dvr_interval,
            dvr_window: self.dvr_window.unwrap_or(u64::MAX),
            prefill: self.prefill,
            ingest: !self.no_ingest,
            delete_old: self.delete_old,
            ttl_seconds: whole_seconds(self.ttl)?,
            duration: self.duration,
            ramp: self.ramp,
            timeout: self.common.timeout()?,
            // A thread without a stream would have nothing to read either.
            threads: (self.common.threads as usize).min(self.streams as usize),
            seed: self.seed,
            json: self.common.json,
        })
    }
}

impl RawGet {
    fn validate(self) -> Result<GetPlan, ToolError> {
        let longest = Duration::from_secs(7 * 86_400);
        in_range("--duration", self.duration, Duration::from_millis(100), longest)?;
        in_range("--ramp", self.ramp, Duration::ZERO, longest)?;
        if self.objects > 1 && self.bytes.is_none() {
            return Err(refuse(
                "--objects",
                self.objects,
                "needs --bytes, the size the objects were made with, to check them",
            ));
        }
        Ok(GetPlan {
            target: Target::parse(&self.url)?,
            connections: self.connections as usize,
            duration: self.duration,
            ramp: self.ramp,
            pace: PaceOptions { rate: checked_rate(self.rate)?, spin: self.spin },
            object_count: self.objects,
            bytes: self.bytes,
            timeout: self.common.timeout()?,
            threads: self.common.threads.min(self.connections) as usize,
            seed: self.seed,
            json: self.common.json,
        })
    }
}

impl RawPut {
    fn validate(self) -> Result<PutPlan, ToolError> {
        positive("--bytes", self.bytes)?;
        positive("--count", self.count)?;
        Ok(PutPlan {
            target: Target::parse(&self.url)?,
            connections: self.connections as usize,
            bytes: self.bytes,
            count: self.count,
            pace: PaceOptions { rate: checked_rate(self.rate)?, spin: false },
            ttl_seconds: whole_seconds(self.ttl)?,
            timeout: self.common.timeout()?,
            threads: self.common.threads.min(self.connections) as usize,
            json: self.common.json,
        })
    }
}

impl RawCommon {
    fn timeout(&self) -> Result<Duration, ToolError> {
        let (shortest, longest) = (Duration::from_millis(10), Duration::from_secs(600));
        in_range("--timeout", self.timeout, shortest, longest)?;
        Ok(self.timeout)
    }
}

fn positive(flag: &'static str, value: u64) -> Result<(), ToolError> {
    if value > 0 { Ok(()) } else { Err(refuse(flag, value, "must be at least 1")) }
}

fn checked_rate(rate: Option<f64>) -> Result<Option<f64>, ToolError> {
    match rate {
        Some(rate) if !(0.001..=10_000_000.0).contains(&rate) => {
            Err(refuse("--rate", rate, "must lie between 0.001 and 10000000 requests per second"))
        }
        other => Ok(other),
    }
}

fn whole_seconds(ttl: Option<Duration>) -> Result<Option<u64>, ToolError> {
    match ttl {
        Some(ttl) if ttl.subsec_nanos() != 0 || ttl.is_zero() => {
            Err(refuse("--ttl", format!("{ttl:?}"), "must be one or more whole seconds"))
        }
        other => Ok(other.map(|ttl| ttl.as_secs())),
    }
}
