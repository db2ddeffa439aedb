//! The tapeloop engine beside RocksDB with blob files and foyer's disk engine, no server between.
//!
//! Each engine runs in a process of its own, started afresh in every round, in turn (A B A B):
//! durable puts that fill it, random gets from all of it, and both mixed. Every byte read is
//! compared with what was put. Clients are threads that wait for each operation. Memory is the same
//! for all and a fraction of the data; all use direct I/O where they can.

mod measure;
mod report;
mod stores;
mod work;

use clap::{Parser, ValueEnum};
use measure::Sample;
use report::{Cells, Report};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Debug, Parser)]
#[command(about = "The tapeloop engine beside RocksDB with blob files and foyer.")]
struct Args {
    /// Folder on the drive to use; what is made in it is removed again.
    #[arg(long)]
    dir: PathBuf,
    /// Times every engine is started.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Objects of 512 KiB.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u64).range(16..=65536))]
    objects: u64,
    /// Seconds of the gets, and of the mix.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Where to write the figures [default: target/bench-results/engines.json of this checkout].
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measures one engine in `dir` and prints its samples: what each round starts.
    #[arg(long, hide = true)]
    only: Option<Peer>,
}

/// An engine under comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Peer {
    Rocksdb,
    Foyer,
    Tapeloop,
}

impl Peer {
    const ALL: [Peer; 3] = [Peer::Rocksdb, Peer::Foyer, Peer::Tapeloop];

    fn name(self) -> &'static str {
        match self {
            Peer::Rocksdb => "RocksDB blobs, WAL sync",
            Peer::Foyer => "foyer (cache, not durable)",
            Peer::Tapeloop => "tapeloop",
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.only {
        Some(peer) => run_one(&args, peer),
        None => run_all(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tapeloop-engines: {error}");
            ExitCode::from(2)
        }
    }
}

fn run_one(args: &Args, peer: Peer) -> Result<()> {
    let store = stores::open(peer, &args.dir, args.objects)?;
    let samples = work::run(store.as_ref(), args.objects, args.seconds)?;
    println!("{}", serde_json::to_string(&samples)?);
    Ok(())
}

fn run_all(args: &Args) -> Result<()> {
    let mut cells = Cells::default();
    let load_average = measure::load_average();
    for round in 1..=args.rounds {
        for peer in Peer::ALL {
            eprintln!("round {round}: {}", peer.name());
            for (row, sample) in measured(args, peer)? {
                cells.add(&row, peer.name(), sample);
            }
        }
    }
    let report = Report::new(args.rounds, load_average, cells);
    report.print();
    let json = match &args.json {
        Some(json) => json.clone(),
        None => {
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench-results/engines.json")
        }
    };
    std::fs::create_dir_all(json.parent().ok_or("the JSON needs a folder")?)?;
    std::fs::write(&json, serde_json::to_string_pretty(&report)?)?;
    println!("JSON: {}; `tapeloop-benches plot` draws it", json.display());
    Ok(())
}

/// One engine in a process and a folder of its own.
fn measured(args: &Args, peer: Peer) -> Result<Vec<(String, Sample)>> {
    let folder = args.dir.join(format!("tapeloop-engines-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut command = Command::new(std::env::current_exe()?);
    let only = peer.to_possible_value().ok_or("every engine has a name")?;
    command.arg("--dir").arg(&folder).args(["--only", only.get_name()]);
    command.args(["--objects", &args.objects.to_string()]);
    command.args(["--seconds", &args.seconds.to_string()]);
    let output = command.stderr(Stdio::inherit()).output();
    // Also when it failed: nothing is left behind.
    std::fs::remove_dir_all(&folder)?;
    let output = output?;
    if !output.status.success() {
        return Err(format!("{} ended with {}", peer.name(), output.status).into());
    }
    // foyer talks on stdout as well.
    let lines = String::from_utf8(output.stdout)?;
    Ok(serde_json::from_str(lines.lines().next_back().unwrap_or_default())?)
}
