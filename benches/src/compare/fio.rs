//! What the drive does without any server: fio with the block size and the depth of a row, in the
//! same folder. It is in no memory cgroup; its reads and writes pass the page cache by.

use super::cold::{self, Size};
use super::put;
use super::sample::{Cells, Sample};
use super::{Bench, Row};
use crate::error::{BenchError, Context, Result};
use crate::process::{Running, StartOptions};
use crate::scratch::Scratch;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Its name in the table.
pub(super) const NAME: &str = "fio (the drive)";
/// What a reader of the table must know of it.
pub(super) const NOTE: &str = "no server: direct reads at the same depth, or direct writes over \
    written files, each done when the drive has flushed it (O_DSYNC)";
const PROGRAM: &str = "fio";
/// Files are written out before anything is measured.
const LIMIT: Duration = Duration::from_secs(300);

/// The rows that have the drive as a peer.
pub(super) fn is_wanted(bench: &Bench<'_>) -> bool {
    bench.wants(Row::ColdGet) || bench.wants(Row::Put)
}

/// Its version, and proof that it is installed.
pub(super) fn version() -> Result<String> {
    let output = Command::new(PROGRAM).arg("--version").output();
    let output = output.context("starting fio (Debian: apt install fio)")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The drive in the row of a cold size.
pub(super) fn run_cold(bench: &Bench<'_>, round: u32, size: Size, cells: &mut Cells) -> Result<()> {
    let row = size.row();
    eprintln!("round {round}: {row}: {NAME}");
    bench.add_windows(&row, NAME, cells, || random_reads(bench, size))
}

/// The drive in the rows of PUTs.
pub(super) fn run_put(bench: &Bench<'_>, round: u32, cells: &mut Cells) -> Result<()> {
    for encoders in put::ENCODERS {
        let row = put::row(encoders);
        eprintln!("round {round}: {row}: {NAME}");
        bench.add_windows(&row, NAME, cells, || durable_writes(bench, encoders))?;
    }
    Ok(())
}

/// As many at once as there are connections.
fn random_reads(bench: &Bench<'_>, size: Size) -> Result<Sample> {
    let words = format!(
        "--rw=randread --ioengine=io_uring --iodepth={} --bs={} --size={} --randrepeat=0 \
         --time_based --runtime={}ms",
        cold::CONNECTIONS,
        size.bytes,
        bench.plan.cold.data_bytes(),
        bench.plan.get_time.as_millis(),
    );
    measure(bench, &words, |job| &job.read)
}

/// The same bytes as the encoders put. With a write and an fdatasync apart, fio would tell the
/// latency of each and not of both together.
fn durable_writes(bench: &Bench<'_>, encoders: u64) -> Result<Sample> {
    let words = format!(
        "--rw=write --ioengine=psync --sync=dsync --overwrite=1 --numjobs={encoders} --bs={} \
         --size={}",
        put::BODY_LEN,
        bench.plan.put_count / encoders * put::BODY_LEN as u64,
    );
    measure(bench, &words, |job| &job.write)
}

fn measure(bench: &Bench<'_>, words: &str, of: fn(&Job) -> &Direction) -> Result<Sample> {
    let scratch = Scratch::create(&bench.dir, "tapeloop-compare", false)?;
    let folder = scratch.path();
    let output = folder.join("fio.json");
    let mut args: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let common = "--name=drive --direct=1 --thread --group_reporting --lat_percentiles=1 \
        --percentile_list=50:99:99.9 --output-format=json";
    args.extend(common.split_whitespace().map(str::to_owned));
    args.push(format!("--directory={}", folder.display()));
    args.push(format!("--output={}", output.display()));
    let options = StartOptions { on_bench_death: Some("KILL"), ..StartOptions::default() };
    let log = folder.join("fio.log");
    let mut running = Running::start(Path::new(PROGRAM), &args, log, &options)?;
    let status = running.wait_end(LIMIT)?;
    let text = std::fs::read_to_string(&output).unwrap_or_default();
    sample_of(&text, of).map_err(|cause| BenchError::Answer {
        what: format!("fio {words}"),
        cause: format!("{status}, {cause}; {}", running.last_words()),
    })
}

/// What fio prints, as far as it is used.
#[derive(Debug, Deserialize)]
struct Output {
    jobs: Vec<Job>,
}

/// All jobs of a group. Their CPU is in percent of the sum of their times.
#[derive(Debug, Deserialize)]
struct Job {
    error: i64,
    usr_cpu: f64,
    sys_cpu: f64,
    job_runtime: f64,
    read: Direction,
    write: Direction,
}

#[derive(Debug, Deserialize)]
struct Direction {
    bw_bytes: f64,
    iops: f64,
    total_ios: u64,
    lat_ns: Latency,
}

#[derive(Debug, Deserialize)]
struct Latency {
    /// None of what was not done.
    #[serde(default)]
    percentile: BTreeMap<String, f64>,
}

/// Reads the report of one group.
fn sample_of(text: &str, of: fn(&Job) -> &Direction) -> std::result::Result<Sample, String> {
    // Warnings come before the report.
    let start = text.find('{').ok_or("no report")?;
    let output: Output = serde_json::from_str(&text[start..]).map_err(|error| error.to_string())?;
    let [job] = output.jobs.as_slice() else {
        return Err(format!("{} groups in place of one", output.jobs.len()));
    };
    if job.error != 0 {
        return Err(format!("error {}", job.error));
    }
    let done = of(job);
    let us = |name: &str| {
        let value = done.lat_ns.percentile.get(name).map(|ns| ns / 1e3);
        value.ok_or_else(|| format!("no percentile {name}"))
    };
    let cpu_s = (job.usr_cpu + job.sys_cpu) / 100.0 * job.job_runtime / 1e3;
    Ok(Sample {
        requests_per_s: done.iops,
        bytes_per_s: done.bw_bytes,
        cpu_us_per_request: Some(cpu_s * 1e6 / done.total_ios.max(1) as f64),
        switches_per_request: None,
        latency_us_p50: us("50.000000")?,
        latency_us_p99: us("99.000000")?,
        latency_us_p999: us("99.900000")?,
        bytes_verified: 0,
        request_count: done.total_ios,
        error_count: 0,
        unsent_count: 0,
        rss_bytes: 0,
        extra: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(error: i64, percentiles: &str) -> String {
        format!(
            r#"fio: a warning
            {{ "fio version": "fio-3.33", "jobs": [{{
              "jobname": "drive", "error": {error}, "job_runtime": 2000, "usr_cpu": 4.0,
              "sys_cpu": 6.0, "ctx": 9,
              "read": {{ "bw_bytes": 0, "iops": 0.0, "total_ios": 0,
                "lat_ns": {{ "min": 0, "max": 0, "mean": 0.0, "N": 0 }} }},
              "write": {{ "bw_bytes": 2097152000, "iops": 1000.0, "total_ios": 400,
                "lat_ns": {{ "min": 1, "N": 400, "percentile": {{ {percentiles} }} }} }} }}] }}"#
        )
    }

    const PERCENTILES: &str = r#""50.000000": 1500000, "99.000000": 4000000, "99.900000": 9000000"#;

    #[test]
    fn a_report_becomes_a_sample() {
        let sample = sample_of(&report(0, PERCENTILES), |job| &job.write).expect("a report");
        assert_eq!((sample.requests_per_s, sample.bytes_per_s), (1000.0, 2_097_152_000.0));
        let latency = (sample.latency_us_p50, sample.latency_us_p99, sample.latency_us_p999);
        assert_eq!(latency, (1500.0, 4000.0, 9000.0));
        // A tenth of two seconds for 400 writes.
        assert_eq!(sample.cpu_us_per_request, Some(500.0));
        assert_eq!(sample.request_count, 400);
    }

    #[test]
    fn what_failed_or_was_not_measured_is_no_sample() {
        let failed = sample_of(&report(5, PERCENTILES), |job| &job.write);
        assert_eq!(failed.unwrap_err(), "error 5");
        let not_read = sample_of(&report(0, PERCENTILES), |job| &job.read);
        assert_eq!(not_read.unwrap_err(), "no percentile 50.000000");
        assert_eq!(sample_of("killed", |job| &job.write).unwrap_err(), "no report");
    }
}
