//! Workloads beside the plain GETs and PUTs: what a server does under expiry, crowds, slow clients
//! and rising load, and what it costs the drive.
//!
//! Each file is one workload and adds its rows to the cells of the comparison. Every workload fills
//! its server itself, checks every byte it reads, and ends by itself. "Before" and "during" are
//! equal windows of the same load on the same server.

mod curve;
mod expiry;
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
use super::{Bench, MIB, Row};
use crate::error::{Context, Result};
use crate::scratch::Scratch;
use std::path::Path;

pub(super) use expiry::Storm;
pub(super) use written::Ring;

const ARENA_BYTES: u64 = 256 * MIB;
/// Room for the objects of any workload that is not about the store's size.
const CAPACITY_BYTES: u64 = 2048 * MIB;

/// Runs one workload on one peer.
type Run = fn(&Bench<'_>, Peer, &mut Cells) -> Result<()>;

/// A workload and the peers it is run on, in turn.
struct Workload {
    row: Row,
    peers: &'static [Peer],
    /// Takes so long that a third of the rounds must do.
    is_long: bool,
    run: Run,
}

const BESIDE_NGINX: &[Peer] = &[Peer::Nginx, Peer::Tapeloop];

const WORKLOADS: [Workload; 8] = [
    Workload { row: Row::Sizes, peers: BESIDE_NGINX, is_long: false, run: sizes::run },
    Workload { row: Row::LoadCurve, peers: BESIDE_NGINX, is_long: false, run: curve::run },
    Workload { row: Row::IdleConnections, peers: BESIDE_NGINX, is_long: false, run: idle::run },
    Workload { row: Row::SlowReaders, peers: BESIDE_NGINX, is_long: false, run: slow::run_few },
    Workload {
        row: Row::SlowReaders,
        // Every reader of plain nginx costs it two descriptors, and few machines grant 20,000.
        peers: &[Peer::NginxFileCache, Peer::Tapeloop],
        is_long: true,
        run: slow::run_many,
    },
    Workload { row: Row::ExpiryStorm, peers: BESIDE_NGINX, is_long: true, run: expiry::run },
    Workload { row: Row::Written, peers: &[Peer::Tapeloop], is_long: true, run: written::run },
    Workload { row: Row::Punts, peers: &[Peer::Tapeloop], is_long: false, run: punts::run },
];

/// Runs what is wanted in this round.
pub(super) fn run(bench: &Bench<'_>, round: u32, cells: &mut Cells) -> Result<()> {
    let long_rounds = bench.plan.rounds.div_ceil(3);
    for workload in &WORKLOADS {
        let is_due = !workload.is_long || round <= long_rounds;
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

    fn stop(self) -> Result<()> {
        self.server.stop()
    }
}

/// A folder for the logs of one of several loads.
fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).context(format!("creating {}", path.display()))
}
