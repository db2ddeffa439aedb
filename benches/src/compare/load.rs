//! `tapectl load` as a child: it generates the load and compares every byte.

use super::peer::Server;
use super::sample::{LoadReport, Sample};
use crate::error::{BenchError, Context, Result};
use crate::process::{Running, StartOptions};
use std::path::Path;
use std::time::Duration;

/// Beyond the time a load should take.
const GRACE: Duration = Duration::from_secs(60);
const FILL_BYTES_PER_S_MIN: u64 = 20_000_000;

/// Stores `count` objects that `get` can check.
pub(super) fn fill(tapectl: &Path, url: &str, bytes: u64, count: u64, logs: &Path) -> Result<()> {
    let words =
        format!("load put --url {url} --bytes {bytes} --count {count} --connections 4 --json");
    let limit = GRACE + Duration::from_secs(bytes * count / FILL_BYTES_PER_S_MIN);
    let report = run(tapectl, &words, logs, limit, &mut || {})?;
    match report.classes.iter().map(|class| class.error_count).sum() {
        0u64 => Ok(()),
        _ => Err(problem("filling", &report)),
    }
}

/// GETs over kept connections, each as fast as answered.
#[derive(Clone, Copy)]
pub(super) struct Gets<'a> {
    pub(super) url: &'a str,
    pub(super) what: What,
    pub(super) connections: u32,
    pub(super) time: Duration,
}

/// What is read.
#[derive(Clone, Copy)]
pub(super) enum What {
    /// Objects that `fill` has stored, in random order; every byte is compared with theirs.
    Stored { bytes: u64, objects: u64 },
    /// What comes, from a server that stores nothing.
    Anything,
}

/// Reads for a time.
pub(super) fn get(tapectl: &Path, server: &Server, gets: &Gets<'_>) -> Result<Sample> {
    let what = match gets.what {
        What::Stored { bytes, objects } => format!("--bytes {bytes} --objects {objects}"),
        What::Anything => String::new(),
    };
    let words = format!(
        "load get --url {} {what} --connections {} --duration {}ms --json",
        gets.url,
        gets.connections,
        gets.time.as_millis(),
    );
    let before = server.usage();
    let report = run(tapectl, &words, server.folder(), gets.time + GRACE, &mut || {})?;
    let after = server.usage();
    let class = report.classes.first().ok_or_else(|| problem("reading", &report))?;
    for example in &report.examples {
        eprintln!("  {example}");
    }
    let mut sample = class.sample(after.rss_bytes).with_cost(&before, &after);
    if matches!(gets.what, What::Anything) {
        sample.bytes_verified = 0;
    }
    Ok(sample)
}

/// Runs a load to its end, calling `meanwhile` again and again, and reads its report.
pub(super) fn run(
    tapectl: &Path,
    words: &str,
    logs: &Path,
    limit: Duration,
    meanwhile: &mut dyn FnMut(),
) -> Result<LoadReport> {
    let args: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let options =
        StartOptions { pipe_stdout: true, on_bench_death: Some("KILL"), ..StartOptions::default() };
    let mut running = Running::start(tapectl, &args, logs.join("tapectl.log"), &options)?;
    let mut stdout = running.take_stdout().expect("piped");
    let (status, text) = std::thread::scope(|scope| {
        // Meanwhile: a report may be larger than a pipe.
        let reading = scope.spawn(move || std::io::read_to_string(&mut stdout));
        let status = running.wait_end_while(limit, meanwhile);
        (status, reading.join().expect("reading does not panic"))
    });
    let (status, text) = (status?, text.context("reading the report of tapectl load")?);
    serde_json::from_str(&text).map_err(|error| BenchError::Answer {
        what: format!("tapectl {words}"),
        cause: format!("{status}, {error}; {}", running.last_words()),
    })
}

fn problem(doing: &str, report: &LoadReport) -> BenchError {
    BenchError::Answer { what: doing.to_owned(), cause: report.examples.join("; ") }
}
