//! The child that fills a store through the engine and writes on until it is killed, and its
//! parent's end of the line.
//!
//! Lines of the child: `opened {json}`, `filled SECONDS`, then `acked KEY` for each extra object.

use super::objects;
use crate::error::{BenchError, Context, Result};
use crate::process::{Running, StartOptions};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::ChildStdout;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tapeloop_engine::{Ack, Engine, Key, Options, PutError, PutOptions, block_on, spawn};

/// Uploads under way at once: enough for group commits of hundreds.
const UPLOADS: u64 = 1024;
/// The same while waiting to be killed.
const EXTRA_UPLOADS: u64 = 8;
const TTL_MS: u64 = 30 * 86_400_000;
const ARENA_BYTES: u64 = 256 << 20;

#[derive(Debug, Args)]
pub(crate) struct FillArgs {
    #[arg(long)]
    volume: PathBuf,
    #[arg(long)]
    capacity: u64,
    #[arg(long)]
    objects: u64,
    /// The objects are there already.
    #[arg(long)]
    filled: bool,
}

/// What opening the store said.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) open_ms: f64,
    pub(super) report: String,
}

/// The child's main.
pub(crate) fn run(args: &FillArgs) -> Result<()> {
    let failed = |error: String| BenchError::Engine(error);
    if !args.volume.exists() {
        tapeloop_engine::format(std::slice::from_ref(&args.volume), args.capacity, &mut |_, _| {})
            .map_err(|error| failed(error.to_string()))?;
    }
    let options = Options { arena_bytes: ARENA_BYTES, ..Options::new(&args.volume) };
    let (engine, recovery) = Engine::open(options).map_err(|error| failed(error.to_string()))?;
    let stats = engine.stats();
    let opened = Opened {
        open_ms: recovery.duration.as_secs_f64() * 1e3,
        report: format!(
            "{:?}; index {} entries, {} bytes",
            recovery.report, stats.index_entries, stats.index_bytes
        ),
    };
    say(&format!("opened {}", serde_json::to_string(&opened).context("writing JSON")?))?;
    let work = async {
        if !args.filled {
            let begun = Instant::now();
            put_all(&engine, UPLOADS, 0..args.objects, "").await?;
            say(&format!("filled {:.1}", begun.elapsed().as_secs_f64()))?;
        }
        put_all(&engine, EXTRA_UPLOADS, 0..u64::MAX, "extra-").await
    };
    block_on(256, work).context("starting a runtime")?
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("telling the parent")
}

/// PUTs the numbers, durably, `uploads` at a time. Extras are told to the parent once acknowledged.
async fn put_all(
    engine: &Engine,
    uploads: u64,
    numbers: std::ops::Range<u64>,
    prefix: &'static str,
) -> Result<()> {
    let next = Arc::new(AtomicU64::new(numbers.start));
    let put_some = |_| {
        let (engine, next) = (engine.clone(), Arc::clone(&next));
        spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= numbers.end {
                    return Ok(());
                }
                let name = match prefix {
                    "" => objects::key(number),
                    prefix => format!("restart/{prefix}{number}.m4s"),
                };
                put(&engine, &name).await.map_err(|error| BenchError::Engine(error.to_string()))?;
                if !prefix.is_empty() {
                    say(&format!("acked {name}"))?;
                }
            }
        })
    };
    let tasks: Vec<_> = (0..uploads).map(put_some).collect();
    for task in tasks {
        task.await?;
    }
    Ok(())
}

async fn put(engine: &Engine, name: &str) -> std::result::Result<(), PutError> {
    let key = Key::new(name.as_bytes()).expect("short and not empty");
    let options = PutOptions { ttl_ms: TTL_MS, ..PutOptions::default() };
    let mut upload = engine.put(&key, options).await?;
    upload.write(&objects::payload(name)).await?;
    upload.commit(Ack::Durable).await.map(drop)
}

/// The parent's end.
pub(super) struct Filler {
    pub(super) running: Running,
    lines: Lines<BufReader<ChildStdout>>,
    objects: u64,
}

/// How the fill went.
pub(super) struct Filled {
    pub(super) seconds: f64,
    pub(super) rate: f64,
}

impl Filler {
    pub(super) fn start(
        volume: &Path,
        capacity: u64,
        objects: u64,
        filled: bool,
    ) -> Result<Filler> {
        let me = std::env::current_exe().context("finding my own path")?;
        let mut args = vec![
            "restart-fill".to_owned(),
            "--volume".to_owned(),
            volume.display().to_string(),
            "--capacity".to_owned(),
            capacity.to_string(),
            "--objects".to_owned(),
            objects.to_string(),
        ];
        args.extend(filled.then(|| "--filled".to_owned()));
        let options = StartOptions {
            pipe_stdout: true,
            on_bench_death: Some("KILL"),
            ..StartOptions::default()
        };
        let log = volume.with_file_name("fill.log");
        let mut running = Running::start(&me, &args, log, &options)?;
        let stdout = running.take_stdout().expect("piped");
        Ok(Filler { running, lines: BufReader::new(stdout).lines(), objects })
    }

    fn line(&mut self, word: &str) -> Result<String> {
        let line = self.lines.next().and_then(|line| line.ok()).unwrap_or_default();
        match line.strip_prefix(word) {
            Some(rest) => Ok(rest.trim().to_owned()),
            None => Err(BenchError::Answer {
                what: format!("{word:?} from the filling child"),
                cause: format!("{line:?}; {}", self.running.last_words()),
            }),
        }
    }

    pub(super) fn wait_opened(&mut self) -> Result<Opened> {
        serde_json::from_str(&self.line("opened ")?).context("reading the child's JSON")
    }

    pub(super) fn wait_filled(&mut self) -> Result<Filled> {
        self.wait_opened()?;
        let seconds: f64 = self.line("filled ")?.parse().unwrap_or(f64::NAN);
        Ok(Filled { seconds, rate: self.objects as f64 / seconds })
    }

    /// Kills the child after `time` of writing; the keys it had been told were stored.
    pub(super) fn kill_while_writing(mut self, time: Duration) -> Result<Vec<String>> {
        let begun = Instant::now();
        let mut acked = Vec::new();
        while begun.elapsed() < time {
            acked.push(self.line("acked ")?);
        }
        self.running.kill();
        // What it had said before it died was acknowledged too; its very last line may be cut
        // short.
        let rest = self.lines.map_while(|line| line.ok());
        acked.extend(rest.filter_map(|line| {
            let key = line.strip_prefix("acked ")?;
            key.ends_with(".m4s").then(|| key.to_owned())
        }));
        Ok(acked)
    }
}
