//! Restart after kill -9 with many small objects: memory per object, and the time to the first good
//! GET.
//!
//! A child fills a store through the engine and is killed while it writes. Then, several times, the
//! real server is started on it, is killed while encoders push over HTTP, and is started again: the
//! clock runs from the SIGKILL to the first GET whose bytes are right. Every PUT acknowledged
//! before a kill is read back after it.

mod fill;
mod objects;
mod pushers;
mod report;

pub(crate) use fill::{FillArgs, run as fill};

use crate::binaries::Binaries;
use crate::client::Client;
use crate::error::{BenchError, Context, Result};
use crate::machine;
use crate::process::Running;
use crate::scratch::{Scratch, require_space};
use crate::tapeloop::{Launch, Tapeloop};
use clap::Args;
use fill::Filler;
use pushers::Pushers;
use report::{Report, Round, Series};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tapeloop_engine::{Geometry, volume_path};

const OBJECTS_MAX: u64 = 100_000_000;
/// Space left to others on the file system.
const SPARE_BYTES: u64 = 4 << 30;
const ARENA_BYTES: u64 = 256 << 20;
const START_LIMIT: Duration = Duration::from_secs(300);
const PUSH_TIME: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(20);
/// Objects of the fill that are read back after every restart.
const SAMPLES: u64 = 1_000;

#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// Small objects to store, one 4 KiB record each; several counts make a curve.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000_000])]
    objects: Vec<u64>,
    /// Folder on the drive to use; the store is a new folder in it.
    #[arg(long)]
    dir: PathBuf,
    /// Times the server is killed and started again.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Front-end threads of the server.
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Leave the store where it is.
    #[arg(long)]
    keep: bool,
    /// Folder with `tapeloop` to use instead of building it.
    #[arg(long)]
    prebuilt: Option<PathBuf>,
    /// Where to write the figures as JSON [default: target/bench-results/restart-OBJECTS.json, for
    /// several counts restart.json].
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Runs `restart`.
pub(crate) fn run(args: &RestartArgs) -> Result<()> {
    for objects in &args.objects {
        if !(1..=OBJECTS_MAX).contains(objects) {
            let (value, allowed) = (objects.to_string(), "a number from 1 to 100000000");
            return Err(BenchError::Flag { flag: "--objects", value, allowed });
        }
    }
    let binaries = Binaries::ready(args.prebuilt.as_deref())?;
    let json = args.json.clone().unwrap_or_else(|| match args.objects[..] {
        [objects] => binaries.results.join(format!("restart-{objects}.json")),
        _ => binaries.results.join("restart.json"),
    });
    let mut series = Series::default();
    for objects in &args.objects {
        let report = run_size(args, &binaries, *objects)?;
        report.print();
        series.sizes.push(report);
        // Each time: the next size may take long, or have no room.
        series.write(&json)?;
    }
    series.print();
    crate::plot::write(&[json])
}

/// One count of objects, in a store of its own.
fn run_size(args: &RestartArgs, binaries: &Binaries, objects: u64) -> Result<Report> {
    let capacity = capacity_for(objects);
    let geometry =
        Geometry::for_capacity(capacity).map_err(|error| BenchError::Engine(error.to_string()))?;
    require_space(&args.dir, geometry.volume_len() + SPARE_BYTES)?;
    let name = format!("tapeloop-restart-{objects}");
    let scratch = Scratch::create(&args.dir, &name, args.keep)?;
    let bench = Bench { args, objects, binaries, data: scratch.path(), capacity };
    bench.measure(geometry.volume_len())
}

/// Records, footers (40 bytes and the key for each object), room for what is pushed during the
/// kills, and some zones for the other classes.
fn capacity_for(objects: u64) -> u64 {
    let records = objects * 4096;
    let room = records + records / 40 + (256 << 20);
    // A quarter more zones in a small store, four more in a large one.
    let zone = (room / 16).next_power_of_two().clamp(8 << 20, 256 << 20);
    room.next_multiple_of(zone) + (room / 4).min(4 * zone).next_multiple_of(zone)
}

struct Bench<'a> {
    args: &'a RestartArgs,
    objects: u64,
    binaries: &'a Binaries,
    data: &'a Path,
    capacity: u64,
}

impl Bench<'_> {
    fn measure(&self, volume_bytes: u64) -> Result<Report> {
        let load_average = machine::load_average();
        println!(
            "restart: {} objects on {} ({:.1} GB)",
            self.objects,
            self.data.display(),
            volume_bytes as f64 / 1e9,
        );
        let volume = volume_path(self.data);
        let mut filler = Filler::start(&volume, self.capacity, self.objects, false)?;
        let filled = filler.wait_filled()?;
        println!("filled: {:.0} objects/s, durable, {} s", filled.rate, filled.seconds);
        let mut acked = filler.kill_while_writing(PUSH_TIME)?;
        let mut reopened = Filler::start(&volume, self.capacity, self.objects, true)?;
        let opened = reopened.wait_opened()?;
        reopened.running().kill();
        println!("engine alone opens it in {:.0} ms: {}", opened.open_ms, opened.report);
        let mut rounds = Vec::new();
        let mut server = self.start_server(0)?;
        server.wait_listening(START_LIMIT)?;
        for number in 1..=self.args.rounds {
            let pushers = Pushers::start(server.address, number);
            std::thread::sleep(PUSH_TIME);
            let killed = Instant::now();
            server.running.kill();
            let dead = killed.elapsed();
            acked.extend(pushers.stop());
            let (next, round) = self.restart(number, killed, dead, &acked)?;
            server = next;
            println!("{}", round.text());
            rounds.push(round);
        }
        let index_bytes = server.admin.metric("tapeloop_index_bytes")?;
        let index_entries = server.admin.metric("tapeloop_index_entries")?;
        let recovery = server.running.log_text();
        Ok(Report {
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            machine: machine::line(),
            date: machine::date(),
            load_average,
            objects: self.objects,
            volume_bytes,
            fill_objects_per_s: filled.rate,
            engine_open_ms: opened.open_ms,
            engine_report: opened.report,
            index_bytes,
            index_entries,
            server_log: recovery.lines().take(20).map(str::to_owned).collect(),
            rounds,
        })
    }

    fn start_server(&self, number: u32) -> Result<Tapeloop> {
        let launch = Launch {
            data: self.data,
            capacity_bytes: self.capacity,
            ram_bytes: ARENA_BYTES,
            threads: self.args.threads,
            cgroup: None,
            log: self.data.join(format!("server-{number}.log")),
        };
        Tapeloop::start(self.binaries, &launch)
    }

    /// Starts the server on what a kill left, and takes the time to the first good GET.
    fn restart(
        &self,
        number: u32,
        killed: Instant,
        dead: Duration,
        acked: &[String],
    ) -> Result<(Tapeloop, Round)> {
        let mut server = self.start_server(number)?;
        let key = objects::key(objects::pick(u64::from(number), self.objects));
        let (address, expected) = (server.address, objects::payload(&key));
        let mut refused = 0;
        let body = server.running.wait_ready(START_LIMIT, || {
            let answer = Client::connect(address, TIMEOUT).and_then(|mut c| c.get(&path(&key)));
            refused += u32::from(answer.is_err());
            answer.ok()
        })?;
        let first_get = killed.elapsed();
        if body.status != 200 || body.body != expected {
            return Err(BenchError::Answer {
                what: key,
                cause: format!("status {} or wrong bytes", body.status),
            });
        }
        let usage = server.running.usage();
        let checked = self.read_back(&server, number, acked)?;
        let round = Round {
            kill_to_dead_ms: ms(dead),
            kill_to_first_get_ms: ms(first_get),
            rss_bytes: usage.rss_bytes,
            rss_bytes_max: usage.rss_bytes_max,
            cpu_s: usage.cpu_s,
            checked,
        };
        Ok((server, round))
    }

    /// Reads every acknowledged extra and a sample of the fill; anything wrong ends the bench.
    fn read_back(&self, server: &Tapeloop, number: u32, acked: &[String]) -> Result<u64> {
        let mut client =
            Client::connect(server.address, TIMEOUT).context("connecting to read back")?;
        let samples = (0..SAMPLES).map(|sample| {
            let seed = u64::from(number) << 32 | sample;
            objects::key(objects::pick(seed, self.objects))
        });
        let mut checked = 0;
        for key in samples.chain(acked.iter().cloned()) {
            let answer = client.get(&path(&key)).context(format!("reading {key} back"))?;
            if answer.status != 200 || answer.body != objects::payload(&key) {
                let cause = format!("acknowledged, and now status {} or wrong", answer.status);
                return Err(BenchError::Answer { what: key, cause });
            }
            checked += 1;
        }
        Ok(checked)
    }
}

fn path(key: &str) -> String {
    format!("/{key}")
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl Filler {
    fn running(&mut self) -> &mut Running {
        &mut self.running
    }
}
