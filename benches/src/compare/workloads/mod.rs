//! Workloads beside the plain GETs and PUTs: what a server does under expiry, crowds, slow clients
//! and rising load, and what it costs the drive.
//!
//! Each file is one workload and adds its rows to the cells of the comparison. Every workload fills
//! its server itself, checks every byte it reads, and ends by itself. "Before" and "during" are
//! equal windows of the same load on the same server.

mod curve;
mod expiry;
mod follow;
mod idle;
mod pair;
mod pin;
mod punts;
mod reading;
mod sizes;
mod slow;
mod tasks;
mod trace;
mod written;

use super::peer::{self, Launch, Peer, Server};
use super::sample::Cells;
use super::{Bench, MIB, Plan, Row};
use crate::error::{Context, Result};
use crate::scratch::Scratch;
use std::path::Path;

pub(super) use expiry::Storm;
pub(super) use written::Ring;

const ARENA_BYTES: u64 = 256 * MIB;
/// Room for the objects of any workload that is not about the store's size; an object of 16 MiB
/// fits a zone.
const CAPACITY_BYTES: u64 = 1024 * MIB;

/// Runs one workload on one peer.
type Run = fn(&Bench<'_>, Peer, &mut Cells) -> Result<()>;

/// A workload and the peers it is run on, in turn.
struct Workload {
    row: Row,
    peers: &'static [Peer],
    when: When,
    run: Run,
}

/// In which rounds. A quick look has the first only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Every,
    /// It takes long: the first third of the rounds must do.
    Third,
    /// All but those.
    Rest,
}

const BESIDE_NGINX: &[Peer] = &[Peer::Nginx, Peer::Tapeloop];
/// Every slow reader of plain nginx costs it two descriptors, and few machines grant 20,000.
const BESIDE_FILE_CACHE: &[Peer] = &[Peer::NginxFileCache, Peer::Tapeloop];
const ALONE: &[Peer] = &[Peer::Tapeloop];

const fn workload(row: Row, peers: &'static [Peer], when: When, run: Run) -> Workload {
    Workload { row, peers, when, run }
}

const WORKLOADS: [Workload; 12] = [
    workload(Row::Sizes, BESIDE_NGINX, When::Third, sizes::run),
    workload(Row::LoadCurve, BESIDE_NGINX, When::Third, curve::run),
    workload(Row::LoadCurve, BESIDE_NGINX, When::Rest, curve::run_budget),
    workload(Row::LoadCurve, ALONE, When::Every, curve::run_floor),
    workload(Row::Followers, ALONE, When::Every, follow::run),
    workload(Row::IdleConnections, BESIDE_NGINX, When::Every, idle::run),
    workload(Row::SlowReaders, BESIDE_NGINX, When::Every, slow::run_few),
    workload(Row::SlowReaders, BESIDE_FILE_CACHE, When::Every, slow::run_many),
    workload(Row::ExpiryStorm, BESIDE_NGINX, When::Third, expiry::run),
    workload(Row::ExpiryStorm, ALONE, When::Rest, expiry::run),
    workload(Row::Written, ALONE, When::Third, written::run),
    workload(Row::Punts, ALONE, When::Every, punts::run),
];

/// The first third of the rounds has what takes long.
fn is_in_third(plan: &Plan, round: u32) -> bool {
    round <= plan.rounds.div_ceil(3)
}

/// What the workloads need of the machine, told before anything is measured.
pub(super) fn require(bench: &Bench<'_>) -> Result<()> {
    match bench.wants(Row::Punts) {
        true => trace::place().map(drop),
        false => Ok(()),
    }
}

/// Runs what is wanted in this round.
pub(super) fn run(bench: &Bench<'_>, round: u32, cells: &mut Cells) -> Result<()> {
    if bench.args.quick && round > 1 {
        return Ok(());
    }
    let is_in_third = is_in_third(&bench.plan, round);
    for workload in &WORKLOADS {
        let is_due = match workload.when {
            When::Every => true,
            When::Third => is_in_third,
            When::Rest => !is_in_third,
        };
        if !bench.wants(workload.row) || !is_due {
            continue;
        }
        for peer in workload.peers {
            eprintln!("round {round}: {:?}: {}", workload.row, peer.name());
            (workload.run)(bench, *peer, cells)?;
        }
    }
    Ok(())
}

/// A server started afresh, in a folder that goes away with it.
struct Stage {
    server: Server,
    _scratch: Scratch,
}

impl Stage {
    fn start(bench: &Bench<'_>, peer: Peer, connections_max: u32) -> Result<Stage> {
        let scratch = Scratch::create(&bench.dir, "tapeloop-compare", false)?;
        let launch = Launch {
            folder: scratch.path(),
            threads: bench.plan.threads,
            capacity_bytes: CAPACITY_BYTES,
            ram_bytes: ARENA_BYTES,
            cgroup: None,
            connections_max: connections_max.max(peer::CONNECTIONS_MAX),
        };
        let server = Server::start(peer, &bench.binaries, &launch)?;
        Ok(Stage { server, _scratch: scratch })
    }

    fn stop(self, workload: &str, cells: &mut Cells) -> Result<()> {
        self.server.stop(workload, cells)
    }
}

/// A folder for the logs of one of several loads.
fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).context(format!("creating {}", path.display()))
}
