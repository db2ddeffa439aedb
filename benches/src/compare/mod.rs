//! nginx, caches before nginx, and tapeloop in turn on one machine and disk, every byte verified.
//!
//! Servers alternate (A B A B): each round starts every peer afresh, fills it, measures its rows
//! and stops it, so that what the machine does meanwhile hits all of them. A row has one window or
//! several in a round; medians and ranges are over all windows of all rounds. One generator thread
//! and `--threads` server threads share the machine's cores.

mod caches;
mod cold;
mod echo;
mod encoders;
mod fio;
mod floor;
mod hot;
mod load;
mod mix;
mod nginx;
mod peer;
mod put;
mod quiet;
mod sample;
mod scanners;
mod table;
mod workloads;

use crate::binaries::Binaries;
use crate::cgroup::MemoryCap;
use crate::error::{Context, Result};
use crate::machine;
use crate::scratch::{Scratch, require_space};
use caches::Cache;
use clap::{Args, ValueEnum};
use peer::{Peer, Server};
use quiet::Quiet;
use sample::{Cells, Sample};
use scanners::Scanners;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use table::Report;

const MIB: u64 = 1 << 20;
const HOT_PEERS: [Peer; 5] = [
    Peer::Nginx,
    Peer::NginxFileCache,
    Peer::Cached(Cache::Varnish),
    Peer::Cached(Cache::TrafficServer),
    Peer::Tapeloop,
];
const MIX_PEERS: [Peer; 5] = [
    Peer::Nginx,
    Peer::NginxDirect,
    Peer::Cached(Cache::Varnish),
    Peer::Cached(Cache::TrafficServer),
    Peer::Tapeloop,
];

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Short runs and small data: four minutes, for looking only.
    #[arg(long)]
    quick: bool,
    /// Rows to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Row::ALL)]
    rows: Vec<Row>,
    /// Rounds [default: 3, with --quick 1].
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
    /// 2 KiB hot GET over 1, 64 and 1,000 connections.
    SmallGet,
    /// 64 KiB hot GET over 64 connections.
    PartGet,
    /// 512 KiB and 4 MiB hot GET over 8 connections.
    LargeGet,
    /// 512 KiB and 4 MiB GET with data 4 times a memory cap, 16 connections.
    ColdGet,
    /// 2 MiB PUT, 1, 8 and 32 encoders.
    Put,
    /// Ingest, live edge, DVR and playlists with data 8 times a memory cap.
    Mix,
    /// Throughput against object size.
    Sizes,
    /// Latency against load, up to saturation.
    LoadCurve,
    /// From a chunk of an upload to those who follow it.
    Followers,
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
    const ALL: [Row; 14] = [
        Row::SmallGet,
        Row::PartGet,
        Row::LargeGet,
        Row::ColdGet,
        Row::Put,
        Row::Mix,
        Row::Sizes,
        Row::LoadCurve,
        Row::Followers,
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
    /// Of a plain row in one round, one after the other, each a sample.
    windows: u32,
    get_time: Duration,
    put_count: u64,
    capacity_bytes: u64,
    ram_bytes: u64,
    cold: cold::Shape,
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
            rounds: args.rounds.unwrap_or(if quick { 1 } else { 3 }),
            threads,
            windows: if quick { 1 } else { 2 },
            get_time: Duration::from_secs(if quick { 1 } else { 2 }),
            put_count: if quick { 160 } else { 640 },
            capacity_bytes: if quick { 2048 * MIB } else { 4096 * MIB },
            ram_bytes: 256 * MIB,
            cold: if quick { cold::Shape::quick() } else { cold::Shape::full() },
            mix: if quick { mix::Shape::quick() } else { mix::Shape::full() },
            probe_time: Duration::from_millis(if quick { 250 } else { 1_500 }),
            window_time: Duration::from_secs(if quick { 1 } else { 6 }),
            idle_connections: if quick { 1_000 } else { 10_000 },
            slow_readers_few: 1_000,
            slow_readers_many: if quick { 1_000 } else { 10_000 },
            storm: if quick { workloads::Storm::quick() } else { workloads::Storm::full() },
            ring: if quick { workloads::Ring::quick() } else { workloads::Ring::full() },
        }
    }
}

impl Plan {
    /// What the rows take on the drive at most.
    fn space_bytes(&self, rows: &[Row]) -> u64 {
        let of_row = |row: &Row| match row {
            Row::ColdGet => self.cold.capacity_bytes(),
            Row::Mix => self.mix.capacity_bytes(),
            _ => self.capacity_bytes,
        };
        let most = rows.iter().map(of_row).max().unwrap_or(0).max(self.capacity_bytes);
        most + most / 4
    }
}

/// Whatever starts from here on goes before the machine's other work, servers and generators alike:
/// a kernel thread that looks for idle memory every half second is nobody's latency.
fn before_others() -> Result<()> {
    rustix::process::setpriority_process(None, -20)
        .context("putting servers and generators before other work (needs CAP_SYS_NICE)")
}

/// Runs `compare`.
pub(crate) fn run(args: &CompareArgs) -> Result<()> {
    let plan = Plan::of(args);
    let binaries = Binaries::ready(args.prebuilt.as_deref())?;
    let dir = args.dir.clone().unwrap_or_else(|| binaries.results.clone());
    require_space(&dir, plan.space_bytes(&args.rows))?;
    nginx::version()?;
    let load_average = machine::load_average();
    before_others()?;
    let begun = Instant::now();
    let (quiet, scanners) = (Quiet::default(), Scanners::find());
    let bench = Bench { args, plan, binaries, dir, quiet, scanners, good_rates: OnceLock::new() };
    workloads::require(&bench)?;
    if bench.wants(Row::Mix) || bench.wants(Row::ColdGet) {
        drop(MemoryCap::create("proof", bench.plan.cold.cap_bytes())?);
    }
    let fio = fio::is_wanted(&bench).then(fio::version).transpose()?;
    let caches = if caches::is_wanted(&bench) { caches::versions()? } else { Vec::new() };
    let mut cells = Cells::default();
    for round in 1..=bench.plan.rounds {
        bench.hot_rows(round, &mut cells)?;
        if bench.wants(Row::ColdGet) {
            bench.cold_rows(round, &mut cells)?;
        }
        if bench.wants(Row::Put) {
            fio::run_put(&bench, round, &mut cells)?;
        }
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
        fio,
        caches,
        load_average,
        took_s: begun.elapsed().as_secs(),
        rounds: bench.plan.rounds,
        threads: bench.plan.threads,
        mix: bench.wants(Row::Mix).then(|| bench.plan.mix.text()),
        stolen: bench.quiet.stolen(),
        cells,
    };
    report.print();
    let json = args.json.clone().unwrap_or_else(|| bench.binaries.results.join("compare.json"));
    report.write(&json)?;
    crate::plot::write(std::slice::from_ref(&json))?;
    // From what is stored, so that whoever keeps the file can judge it again.
    print!("\nbudgets\n{}", crate::budgets::table(&crate::results::read_run(&json)?).aligned());
    report.verdict()
}

struct Bench<'a> {
    args: &'a CompareArgs,
    plan: Plan,
    binaries: Binaries,
    dir: PathBuf,
    quiet: Quiet,
    scanners: Scanners,
    /// Requests per second of the good client, 2 KiB and 512 KiB, once somebody has found them.
    good_rates: OnceLock<[f64; 2]>,
}

impl Bench<'_> {
    fn wants(&self, row: Row) -> bool {
        self.args.rows.contains(&row)
    }

    /// Measures the windows that a plain row has in a round, each again where the host disturbs it.
    fn add_windows(
        &self,
        row: &str,
        name: &str,
        cells: &mut Cells,
        mut measure: impl FnMut() -> Result<Sample>,
    ) -> Result<()> {
        let what = format!("{row}: {name}");
        for _ in 0..self.plan.windows {
            let sample = self.quiet.measured(&what, quiet::ATTEMPTS_MAX, &mut measure)?;
            cells.add(row, name, sample);
        }
        Ok(())
    }

    /// The rows without a memory cap: one start of each peer per round.
    fn hot_rows(&self, round: u32, cells: &mut Cells) -> Result<()> {
        let gets = hot::is_wanted(self);
        if !gets && !self.wants(Row::Put) {
            return Ok(());
        }
        for peer in HOT_PEERS {
            // The file cache is shown in one row of small GETs.
            if peer == Peer::NginxFileCache && !self.wants(Row::SmallGet) {
                continue;
            }
            // Caches are shown in rows of GETs.
            if matches!(peer, Peer::Cached(_)) && !gets {
                continue;
            }
            let scratch = Scratch::create(&self.dir, "tapeloop-compare", false)?;
            let server = Server::start(
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
            hot::run(self, round, &server, peer, cells)?;
            if self.wants(Row::Put) && matches!(peer, Peer::Nginx | Peer::Tapeloop) {
                eprintln!("round {round}: 2 MiB PUT: {}", peer.name());
                put::run_rows(self, &server, peer, cells)?;
            }
            server.stop("hot GET and PUT", cells)?;
        }
        hot::run_floor(self, round, cells)
    }

    fn cold_rows(&self, round: u32, cells: &mut Cells) -> Result<()> {
        // What the drive of a virtual machine gives may change with what it gave before: it is
        // asked as close to its users as can be.
        for size in cold::SIZES {
            for peer in [Peer::Nginx, Peer::NginxDirect, Peer::Tapeloop] {
                eprintln!("round {round}: cold {} GET: {}", size.name, peer.name());
                cold::run(self, peer, size, cells)?;
            }
            fio::run_cold(self, round, size, cells)?;
        }
        Ok(())
    }

    fn mix_rows(&self, round: u32, cells: &mut Cells) -> Result<()> {
        floor::run(cells)?;
        for peer in MIX_PEERS {
            eprintln!("round {round}: mix under a memory cap: {}", peer.name());
            mix::run(self, peer, cells)?;
        }
        Ok(())
    }
}
