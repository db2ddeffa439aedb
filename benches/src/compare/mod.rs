//! nginx and tapeloop in turn on one machine and disk, every byte verified.
//!
//! Servers alternate (A B A B): each round starts every peer afresh, fills it, measures its rows
//! and stops it, so that what the machine does meanwhile hits all of them. Medians and ranges are
//! over rounds. One generator thread and `--threads` server threads share the machine's cores.

mod echo;
mod load;
mod mix;
mod nginx;
mod peer;
mod put;
mod sample;
mod table;
mod workloads;

use crate::binaries::Binaries;
use crate::error::{BenchError, Result};
use crate::machine;
use crate::scratch::{Scratch, require_space};
use clap::{Args, ValueEnum};
use peer::{Peer, Server};
use sample::{Cells, Sample};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use table::Report;

const MIB: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Short runs and small data: a minute or two, for looking only.
    #[arg(long)]
    quick: bool,
    /// Rows to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Row::ALL)]
    rows: Vec<Row>,
    /// Rounds [default: 5, with --quick 2].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: Option<u32>,
    /// Threads of each server: nginx's worker_processes, tapeloop's --threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Folder on the drive to use [default: beside the built programs].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Folder with `tapeloop` and `tapectl` to use instead of building them.
    #[arg(long)]
    prebuilt: Option<PathBuf>,
    /// Where to write the figures as JSON [default: target/bench-results/compare.json].
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Row {
    /// 2 KiB hot GET over 64 connections.
    SmallGet,
    /// 512 KiB hot GET over 8 connections.
    LargeGet,
    /// 2 MiB PUT, one encoder and eight.
    Put,
    /// Ingest, live edge, DVR and playlists with data 8 times a memory cap.
    Mix,
    /// Throughput against object size.
    Sizes,
    /// Latency against load, up to saturation.
    LoadCurve,
    /// 2 KiB hot GET beside 10,000 idle connections.
    IdleConnections,
    /// Hot GETs beside 1,000 and 10,000 slow readers.
    SlowReaders,
    /// Hot GETs while 20,000 objects expire.
    ExpiryStorm,
    /// Drive bytes per byte ingested, by how full the volume is.
    Written,
    /// Cold reads handed to kernel worker threads.
    Punts,
}

impl Row {
    const ALL: [Row; 11] = [
        Row::SmallGet,
        Row::LargeGet,
        Row::Put,
        Row::Mix,
        Row::Sizes,
        Row::LoadCurve,
        Row::IdleConnections,
        Row::SlowReaders,
        Row::ExpiryStorm,
        Row::Written,
        Row::Punts,
    ];
}

/// The sizes of a run.
struct Plan {
    rounds: u32,
    threads: u32,
    get_time: Duration,
    put_count: u64,
    capacity_bytes: u64,
    ram_bytes: u64,
    mix: mix::Shape,
    /// For finding a rate, and for one step of a curve.
    probe_time: Duration,
    /// One window beside a crowd.
    window_time: Duration,
    idle_connections: u32,
    slow_readers_few: u32,
    slow_readers_many: u32,
    storm: workloads::Storm,
    ring: workloads::Ring,
}

impl Plan {
    fn of(args: &CompareArgs) -> Plan {
        let (threads, quick) = (args.threads, args.quick);
        Plan {
            rounds: args.rounds.unwrap_or(if quick { 2 } else { 5 }),
            threads,
            get_time: Duration::from_secs(if quick { 3 } else { 10 }),
            put_count: if quick { 150 } else { 400 },
            capacity_bytes: if quick { 2048 * MIB } else { 4096 * MIB },
            ram_bytes: 256 * MIB,
            mix: if quick { mix::Shape::quick() } else { mix::Shape::full() },
            probe_time: Duration::from_millis(if quick { 250 } else { 1_500 }),
            window_time: Duration::from_secs(if quick { 1 } else { 4 }),
            idle_connections: if quick { 1_000 } else { 10_000 },
            slow_readers_few: 1_000,
            slow_readers_many: if quick { 1_000 } else { 10_000 },
            storm: if quick { workloads::Storm::quick() } else { workloads::Storm::full() },
            ring: if quick { workloads::Ring::quick() } else { workloads::Ring::full() },
        }
    }
}

/// Runs `compare`.
pub(crate) fn run(args: &CompareArgs) -> Result<()> {
    let plan = Plan::of(args);
    let binaries = Binaries::ready(args.prebuilt.as_deref())?;
    let dir = args.dir.clone().unwrap_or_else(|| binaries.results.clone());
    let needed = match args.rows.contains(&Row::Mix) {
        true => plan.mix.capacity_bytes() + plan.mix.capacity_bytes() / 2,
        false => plan.capacity_bytes * 2,
    };
    require_space(&dir, needed)?;
    nginx::version()?;
    let load_average = machine::load_average();
    let begun = Instant::now();
    let bench = Bench { args, plan, binaries, dir };
    let mut cells = Cells::default();
    for round in 1..=bench.plan.rounds {
        bench.hot_rows(round, &mut cells)?;
        if bench.wants(Row::Mix) {
            bench.mix_rows(round, &mut cells)?;
        }
        workloads::run(&bench, round, &mut cells)?;
    }
    let report = Report {
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        machine: machine::line(),
        date: machine::date(),
        nginx: nginx::version()?,
        load_average,
        took_s: begun.elapsed().as_secs(),
        rounds: bench.plan.rounds,
        threads: bench.plan.threads,
        mix: bench.wants(Row::Mix).then(|| bench.plan.mix.text()),
        cells,
    };
    report.print();
    let json = args.json.clone().unwrap_or_else(|| bench.binaries.results.join("compare.json"));
    report.write(&json)?;
    match report.cells.error_count() {
        0 => Ok(()),
        count => Err(BenchError::Answer {
            what: "requests".into(),
            cause: format!("{count} failed or had wrong bytes: see the table"),
        }),
    }
}

struct Bench<'a> {
    args: &'a CompareArgs,
    plan: Plan,
    binaries: Binaries,
    dir: PathBuf,
}

impl Bench<'_> {
    fn wants(&self, row: Row) -> bool {
        self.args.rows.contains(&row)
    }

    /// The rows without a memory cap: one start of each peer per round.
    fn hot_rows(&self, round: u32, cells: &mut Cells) -> Result<()> {
        let gets = self.wants(Row::SmallGet) || self.wants(Row::LargeGet);
        if !gets && !self.wants(Row::Put) {
            return Ok(());
        }
        for peer in [Peer::Nginx, Peer::NginxFileCache, Peer::Tapeloop] {
            // The file cache is of no use to PUTs.
            if peer == Peer::NginxFileCache && !gets {
                continue;
            }
            let scratch = Scratch::create(&self.dir, "tapeloop-compare", false)?;
            let mut server = Server::start(
                peer,
                &self.binaries,
                &peer::Launch {
                    folder: scratch.path(),
                    threads: self.plan.threads,
                    capacity_bytes: self.plan.capacity_bytes,
                    ram_bytes: self.plan.ram_bytes,
                    cgroup: None,
                    connections_max: peer::CONNECTIONS_MAX,
                },
            )?;
            let told = |row: &str| eprintln!("round {round}: {row}: {}", peer.name());
            if self.wants(Row::SmallGet) {
                told("2 KiB GET");
                let sample = self.get_row(&server, "2k", 2048, 100, 64)?;
                cells.add("hot GET 2 KiB, 64 connections", peer.name(), sample);
            }
            if self.wants(Row::LargeGet) {
                told("512 KiB GET");
                let sample = self.get_row(&server, "512k", 512 * 1024, 64, 8)?;
                cells.add("hot GET 512 KiB, 8 connections", peer.name(), sample);
            }
            if self.wants(Row::Put) && peer != Peer::NginxFileCache {
                told("2 MiB PUT");
                self.put_rows(&mut server, peer, cells)?;
            }
            server.stop()?;
        }
        if self.wants(Row::SmallGet) {
            self.echo_row(round, cells)?;
        }
        Ok(())
    }

    /// The floor under the small rows.
    fn echo_row(&self, round: u32, cells: &mut Cells) -> Result<()> {
        eprintln!("round {round}: 2 KiB GET: {}", echo::NAME);
        let scratch = Scratch::create(&self.dir, "tapeloop-compare", false)?;
        let server = echo::start(&self.binaries, scratch.path(), 2048)?;
        let url = format!("http://{}/", server.address);
        let time = self.plan.get_time;
        let gets = load::Gets { url: &url, what: load::What::Anything, connections: 64, time };
        let sample = load::get(&self.binaries.tapectl, &server, &gets)?;
        cells.add("hot GET 2 KiB, 64 connections", echo::NAME, sample);
        server.stop()
    }

    fn get_row(
        &self,
        server: &Server,
        name: &str,
        bytes: u64,
        objects: u64,
        connections: u32,
    ) -> Result<Sample> {
        let tapectl = &self.binaries.tapectl;
        let url = format!("http://{}/hot/{name}-{{n}}", server.address);
        load::fill(tapectl, &url, bytes, objects, server.folder())?;
        let what = load::What::Stored { bytes, objects };
        let gets = load::Gets { url: &url, what, connections, time: self.plan.get_time };
        load::get(tapectl, server, &load::Gets { time: Duration::from_secs(1), ..gets })?;
        load::get(tapectl, server, &gets)
    }

    fn put_rows(&self, server: &mut Server, peer: Peer, cells: &mut Cells) -> Result<()> {
        // Every page of the arena, and of the page cache as much, is touched once before anything
        // is measured: a machine gives memory out slowly the first time.
        let warm_count = self.plan.ram_bytes * 5 / 4 / put::BODY_LEN as u64;
        put::run(server, 4, warm_count, put::Sync::Server)?;
        for connections in [1, 8] {
            let row = match connections {
                1 => "PUT 2 MiB, 1 encoder",
                _ => "PUT 2 MiB, 8 encoders",
            };
            let count = self.plan.put_count;
            let sample = put::run(server, connections, count, put::Sync::Server)?;
            let name = if peer == Peer::Nginx { "nginx (no fsync)" } else { peer.name() };
            cells.add(row, name, sample);
            if peer == Peer::Nginx {
                let sample = put::run(server, connections, count, put::Sync::Client)?;
                cells.add(row, "nginx + fsync", sample);
            }
        }
        Ok(())
    }

    fn mix_rows(&self, round: u32, cells: &mut Cells) -> Result<()> {
        for peer in [Peer::Nginx, Peer::NginxDirect, Peer::Tapeloop] {
            eprintln!("round {round}: mix under a memory cap: {}", peer.name());
            let scratch = Scratch::create(&self.dir, "tapeloop-compare", false)?;
            let shape = &self.plan.mix;
            mix::run(peer, &self.binaries, scratch.path(), self.plan.threads, shape, cells)?;
        }
        Ok(())
    }
}
