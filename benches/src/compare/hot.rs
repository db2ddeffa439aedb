//! GETs of what lies in memory: each size and number of connections in closed loop.

use super::peer::{Peer, Server};
use super::sample::Cells;
use super::{Bench, MIB, Row, caches, echo, load};
use crate::error::Result;
use crate::scratch::Scratch;
use std::time::Duration;

const WARM: Duration = Duration::from_millis(500);

/// One row. The objects of all rows fit the arena together.
struct Hot {
    row: Row,
    title: &'static str,
    name: &'static str,
    bytes: u64,
    objects: u64,
    connections: u32,
    /// Beside tapeloop and plain nginx: nginx that keeps files open, which is right only where
    /// nothing is overwritten.
    with_file_cache: bool,
    /// And the floor.
    with_echo: bool,
}

const ROWS: [Hot; 6] = [
    Hot { title: "hot GET 2 KiB, 1 connection", connections: 1, with_file_cache: false, ..SMALL },
    SMALL,
    Hot {
        title: "hot GET 2 KiB, 1,000 connections",
        connections: 1_000,
        with_file_cache: false,
        ..SMALL
    },
    Hot {
        row: Row::PartGet,
        title: "hot GET 64 KiB, 64 connections",
        name: "64k",
        bytes: 64 << 10,
        connections: 64,
        ..LARGE
    },
    LARGE,
    Hot { title: "hot GET 4 MiB, 8 connections", name: "4m", bytes: 4 * MIB, objects: 16, ..LARGE },
];

const SMALL: Hot = Hot {
    row: Row::SmallGet,
    title: "hot GET 2 KiB, 64 connections",
    name: "2k",
    bytes: 2 << 10,
    objects: 100,
    connections: 64,
    with_file_cache: true,
    with_echo: true,
};

const LARGE: Hot = Hot {
    row: Row::LargeGet,
    title: "hot GET 512 KiB, 8 connections",
    name: "512k",
    bytes: 512 << 10,
    objects: 64,
    connections: 8,
    with_file_cache: false,
    with_echo: false,
};

pub(super) fn is_wanted(bench: &Bench<'_>) -> bool {
    ROWS.iter().any(|hot| bench.wants(hot.row))
}

/// All wanted rows of a server that stores.
pub(super) fn run(
    bench: &Bench<'_>,
    round: u32,
    server: &Server,
    peer: Peer,
    cells: &mut Cells,
) -> Result<()> {
    for hot in ROWS.iter().filter(|hot| bench.wants(hot.row)) {
        if peer == Peer::NginxFileCache && !hot.with_file_cache {
            continue;
        }
        eprintln!("round {round}: {}: {}", hot.title, peer.name());
        let url = format!("http://{}/hot/{}-{{n}}", server.address, hot.name);
        let tapectl = &bench.binaries.tapectl;
        load::fill(tapectl, &url, hot.bytes, hot.objects, server.folder())?;
        if matches!(peer, Peer::Cached(_)) {
            let paths = (0..hot.objects).map(|number| format!("/hot/{}-{number}", hot.name));
            caches::warm(server.address, paths)?;
        }
        let what = load::What::Stored { bytes: hot.bytes, objects: hot.objects };
        hot.measure(bench, server, peer.name(), (&url, what), cells)?;
    }
    Ok(())
}

/// The floor under the rows that have one.
pub(super) fn run_floor(bench: &Bench<'_>, round: u32, cells: &mut Cells) -> Result<()> {
    for hot in ROWS.iter().filter(|hot| hot.with_echo && bench.wants(hot.row)) {
        eprintln!("round {round}: {}: {}", hot.title, echo::NAME);
        let scratch = Scratch::create(&bench.dir, "tapeloop-compare", false)?;
        let server = echo::start(&bench.binaries, scratch.path(), hot.bytes)?;
        let url = format!("http://{}/", server.address);
        hot.measure(bench, &server, echo::NAME, (&url, load::What::Anything), cells)?;
        server.stop(hot.title, cells)?;
    }
    Ok(())
}

impl Hot {
    fn measure(
        &self,
        bench: &Bench<'_>,
        server: &Server,
        name: &str,
        (url, what): (&str, load::What),
        cells: &mut Cells,
    ) -> Result<()> {
        let gets = load::Gets { url, what, connections: self.connections, time: WARM };
        load::get(&bench.binaries.tapectl, server, &gets)?;
        let gets = load::Gets { time: bench.plan.get_time, ..gets };
        bench.add_windows(self.title, name, cells, || {
            load::get(&bench.binaries.tapectl, server, &gets)
        })
    }
}
