//! The JSON documents of `/api/v1`. Field names carry their unit and are a promise once released.

use super::{Watched, scrub};
use crate::net::Counters;
use serde::Serialize;
use std::sync::atomic::Ordering;
use tapeloop_engine::{Health, ListEntry, VolumeState, VolumeStatus};

/// `/api/v1/status`.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    uptime_s: u64,
    is_stopping: bool,
    health: &'static str,
    health_cause: Option<String>,
    store: Store,
    arena: Arena,
    data_plane: DataPlane,
    scrub: scrub::Summary,
}

#[derive(Debug, Serialize)]
struct Store {
    id: String,
    volumes: Vec<Volume>,
    capacity_bytes: u64,
    object_bytes_max: u64,
    zone_bytes: u64,
    zones: u32,
    zones_free: u32,
    zones_open: u32,
    zones_sealed: u32,
    zones_bad: u32,
    index_entries: u64,
    index_bytes: u64,
    records_stored: u64,
    payload_bytes_stored: u64,
    bytes_written: u64,
    flushes: u64,
    zones_expired: u64,
    zones_evicted: u64,
    retention_achieved_ms: u64,
    backlog: u32,
}

#[derive(Debug, Serialize)]
struct Volume {
    volume: u16,
    path: Option<String>,
    /// `ok`, `slow`, `hung`, `fenced` or `missing`.
    state: &'static str,
    cause: Option<String>,
    zones_free: u32,
    zones_open: u32,
    zones_sealed: u32,
    zones_bad: u32,
}

impl From<VolumeStatus> for Volume {
    fn from(status: VolumeStatus) -> Volume {
        let is_ok = status.state == VolumeState::Ok;
        Volume {
            volume: status.volume,
            path: status.path.map(|path| path.display().to_string()),
            state: status.state.name(),
            cause: (!is_ok).then(|| status.state.to_string()),
            zones_free: status.zones_free,
            zones_open: status.zones_open,
            zones_sealed: status.zones_sealed,
            zones_bad: status.zones_bad,
        }
    }
}

#[derive(Debug, Serialize)]
struct Arena {
    bytes: u64,
    uploading_bytes: u64,
    objects: u64,
}

#[derive(Debug, Default, Serialize)]
struct DataPlane {
    addr: String,
    threads: usize,
    connections_open: u64,
    connections_accepted: u64,
    accept_pauses: u64,
    deadlines_passed: u64,
    resets: u64,
    gets: u64,
    puts: u64,
    deletes: u64,
    answers_2xx: u64,
    answers_3xx: u64,
    answers_4xx: u64,
    answers_5xx: u64,
    bytes_received: u64,
    bytes_sent: u64,
}

/// `/api/v1/objects`.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    objects: Vec<Entry>,
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct Entry {
    key: String,
    bytes: u64,
}

impl Listing {
    pub(super) fn new(entries: &[ListEntry], limit: usize) -> Listing {
        let text = |entry: &ListEntry| String::from_utf8_lossy(entry.key.as_bytes()).into_owned();
        let is_full = entries.len() >= limit;
        Listing {
            next: entries.last().filter(|_| is_full).map(text),
            objects: entries
                .iter()
                .map(|entry| Entry { key: text(entry), bytes: entry.len })
                .collect(),
        }
    }
}

/// What a cause begins with while the store works without some of its volumes.
pub(super) const DEGRADED: &str = "degraded: ";

/// Why the store cannot do its work, or not all of it; `None` when it can.
pub(super) fn health_cause(health: &Health) -> Option<String> {
    match health {
        Health::Ok => None,
        Health::Degraded { volumes } => {
            let troubles: Vec<String> = volumes.iter().map(ToString::to_string).collect();
            Some(format!("{DEGRADED}{}", troubles.join("; ")))
        }
        Health::Fenced { cause } => Some(format!("fenced read-only: {cause}")),
        Health::Stalled { waited_ms } => {
            Some(format!("the drive has not answered for {waited_ms} ms"))
        }
        Health::Closed => Some("the store is closed".to_owned()),
    }
}

fn health_name(health: &Health) -> &'static str {
    match health {
        Health::Ok => "ok",
        Health::Degraded { .. } => "degraded",
        Health::Fenced { .. } => "fenced",
        Health::Stalled { .. } => "stalled",
        Health::Closed => "closed",
    }
}

pub(super) fn of(watched: &Watched) -> Status {
    let engine = &watched.engine.0;
    let stats = engine.stats();
    let health = engine.health();
    Status {
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: watched.started.elapsed().as_secs(),
        is_stopping: watched.is_stopping.load(Ordering::Relaxed),
        health: health_name(&health),
        health_cause: health_cause(&health),
        store: Store {
            id: engine.store_id().to_string(),
            volumes: engine.volumes().into_iter().map(Volume::from).collect(),
            capacity_bytes: u64::from(stats.zones) * stats.zone_bytes,
            object_bytes_max: engine.object_len_max(),
            zone_bytes: stats.zone_bytes,
            zones: stats.zones,
            zones_free: stats.log.zones_free,
            zones_open: stats.log.zones_open,
            zones_sealed: stats.log.zones_sealed,
            zones_bad: stats.log.zones_bad,
            index_entries: stats.index_entries,
            index_bytes: stats.index_bytes,
            records_stored: stats.log.records_stored,
            payload_bytes_stored: stats.log.payload_bytes_stored,
            bytes_written: stats.log.bytes_written,
            flushes: stats.log.flushes,
            zones_expired: stats.log.zones_expired,
            zones_evicted: stats.log.zones_evicted,
            retention_achieved_ms: stats.log.retention_achieved_ms,
            backlog: stats.log.backlog,
        },
        arena: Arena {
            bytes: stats.arena_blocks * stats.arena_block_bytes,
            uploading_bytes: stats.arena_blocks_uploading * stats.arena_block_bytes,
            objects: stats.arena_objects,
        },
        data_plane: data_plane(watched),
        scrub: scrub::Summary::of(&engine.scrub_report()),
    }
}

fn data_plane(watched: &Watched) -> DataPlane {
    let sum = |of: fn(&Counters) -> u64| watched.counters.iter().map(|one| of(one)).sum();
    DataPlane {
        addr: watched.data_addr.to_string(),
        threads: watched.counters.len(),
        connections_open: sum(|one| one.connections_open.get()),
        connections_accepted: sum(|one| one.connections_accepted.get()),
        accept_pauses: sum(|one| one.accept_pauses.get()),
        deadlines_passed: sum(|one| one.deadlines_passed.get()),
        resets: sum(|one| one.resets.get()),
        gets: sum(|one| one.gets.get()),
        puts: sum(|one| one.puts.get()),
        deletes: sum(|one| one.deletes.get()),
        answers_2xx: sum(|one| one.answers[0].get()),
        answers_3xx: sum(|one| one.answers[1].get()),
        answers_4xx: sum(|one| one.answers[2].get()),
        answers_5xx: sum(|one| one.answers[3].get()),
        bytes_received: sum(|one| one.bytes_received.get()),
        bytes_sent: sum(|one| one.bytes_sent.get()),
    }
}
