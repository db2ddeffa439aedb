//! GETs of what lies on the drive: four times the memory that the server may have, read in random
//! order in closed loop.
//!
//! The server alone runs in the capped group, page cache included.

use super::peer::{self, Launch, Peer, Server};
use super::sample::Cells;
use super::{Bench, MIB, load};
use crate::cgroup::MemoryCap;
use crate::error::Result;
use crate::scratch::Scratch;
use std::time::Duration;

pub(super) const CONNECTIONS: u32 = 16;
const WARM: Duration = Duration::from_millis(500);
const DATA_PER_CAP: u64 = 4;

/// How much is read, and how much memory there is.
pub(super) struct Shape {
    cap_bytes: u64,
}

/// The objects of a row.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) name: &'static str,
    pub(super) bytes: u64,
}

pub(super) const SIZES: [Size; 2] =
    [Size { name: "512 KiB", bytes: MIB / 2 }, Size { name: "4 MiB", bytes: 4 * MIB }];

impl Shape {
    pub(super) fn full() -> Shape {
        Shape { cap_bytes: 1024 * MIB }
    }

    pub(super) fn quick() -> Shape {
        Shape { cap_bytes: 192 * MIB }
    }

    pub(super) fn cap_bytes(&self) -> u64 {
        self.cap_bytes
    }

    pub(super) fn data_bytes(&self) -> u64 {
        DATA_PER_CAP * self.cap_bytes
    }

    /// What a store needs to keep all of it.
    pub(super) fn capacity_bytes(&self) -> u64 {
        self.data_bytes() * 5 / 4 + 512 * MIB
    }
}

impl Size {
    pub(super) fn row(&self) -> String {
        format!("cold GET {}, {CONNECTIONS} connections", self.name)
    }
}

/// One size of one peer.
pub(super) fn run(bench: &Bench<'_>, peer: Peer, size: Size, cells: &mut Cells) -> Result<()> {
    let shape = &bench.plan.cold;
    let scratch = Scratch::create(&bench.dir, "tapeloop-compare", false)?;
    let cap = MemoryCap::create("cold", shape.cap_bytes)?;
    let launch = Launch {
        folder: scratch.path(),
        threads: bench.plan.threads,
        capacity_bytes: shape.capacity_bytes(),
        // What lies in the arena is not cold.
        ram_bytes: shape.cap_bytes / 4,
        cgroup: Some(cap.path()),
        connections_max: peer::CONNECTIONS_MAX,
    };
    let server = Server::start(peer, &bench.binaries, &launch)?;
    let (tapectl, bytes) = (&bench.binaries.tapectl, size.bytes);
    let url = format!("http://{}/cold/{{n}}", server.address);
    let objects = shape.data_bytes() / bytes;
    load::fill(tapectl, &url, bytes, objects, server.folder())?;
    // Who has promised nothing still writes.
    rustix::fs::sync();
    let what = load::What::Stored { bytes, objects };
    let gets = load::Gets { url: &url, what, connections: CONNECTIONS, time: WARM };
    load::get(tapectl, &server, &gets)?;
    let gets = load::Gets { time: bench.plan.get_time, ..gets };
    let row = size.row();
    bench.add_windows(&row, peer.name(), cells, || load::get(tapectl, &server, &gets))?;
    server.stop(&row, cells)
}
