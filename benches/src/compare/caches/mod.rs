//! Caches in memory with nginx behind them, as many an origin is shielded.
//!
//! Objects are put through the cache. How long it may keep them, nginx says in Cache-Control: a
//! day, playlists a second. CPU and memory of a server are those of the cache and its nginx.

mod trafficserver;
mod varnish;

use super::peer::{Launch, Peer};
use super::{Bench, Row, hot, nginx};
use crate::client::{self, Client};
use crate::error::{BenchError, Context, Result};
use crate::process::Running;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// What a reader of the table must know of them: name and note.
pub(super) const NOTES: [(&str, &str); 2] =
    [(varnish::NAME, varnish::NOTE), (trafficserver::NAME, trafficserver::NOTE)];

/// The name of a cache in the table.
pub(super) fn name(cache: Cache) -> &'static str {
    match cache {
        Cache::Varnish => varnish::NAME,
        Cache::TrafficServer => trafficserver::NAME,
    }
}

/// Which cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    Varnish,
    TrafficServer,
}

/// A cache that answers, and what lies behind it.
pub(super) struct Cached {
    pub(super) cache: Running,
    pub(super) address: SocketAddr,
    pub(super) nginx: Running,
}

/// The rows that have caches as peers.
pub(super) fn is_wanted(bench: &Bench<'_>) -> bool {
    hot::is_wanted(bench) || bench.wants(Row::Mix)
}

/// Their versions, and proof that they are installed.
pub(super) fn versions() -> Result<Vec<String>> {
    Ok(vec![varnish::version()?, trafficserver::version()?])
}

/// Starts nginx, and the cache before it.
pub(super) fn start(cache: Cache, launch: &Launch<'_>) -> Result<Cached> {
    let (nginx, origin) = nginx::start(Peer::Cached(cache), launch)?;
    let address = client::free_address().context("looking for a free port")?;
    let mut running = match cache {
        Cache::Varnish => varnish::start(launch, address, origin)?,
        Cache::TrafficServer => trafficserver::start(launch, address, origin)?,
    };
    // Only what nginx has answered shows that both are there.
    running.wait_ready(LIMIT, || {
        let answer = Client::connect(address, LIMIT).and_then(|mut c| c.get("/none/such"));
        answer.ok().filter(|answer| answer.status == 404).map(drop)
    })?;
    Ok(Cached { cache: running, address, nginx })
}

/// Reads each path until it is a hit in memory: the first GET brings it into the cache, and one
/// that writes to its disk first has it in memory by the second.
pub(super) fn warm(address: SocketAddr, paths: impl Iterator<Item = String>) -> Result<()> {
    let mut client = Client::connect(address, LIMIT).context("connecting to warm a cache")?;
    for path in paths {
        for _ in 0..2 {
            let answer = client.get(&path).context(format!("reading {path}"))?;
            if answer.status != 200 {
                let cause = format!("stored, and now status {}", answer.status);
                return Err(BenchError::Answer { what: path, cause });
            }
        }
    }
    Ok(())
}

/// The first place where a program is, or its bare name for PATH.
fn program(name: &str) -> PathBuf {
    let places = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"];
    let found = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| name.into())
}
