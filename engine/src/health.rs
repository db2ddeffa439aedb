//! Can the store do its work, and which of its volumes cannot?

use crate::drive::{self, Drive};
use crate::engine::Engine;
use std::fmt;
use std::path::PathBuf;
use tapeloop_log::LogStats;

/// Counters and gauges of a store.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// Of the log, over all volumes.
    pub log: LogStats,
    /// Objects in the index, expired ones of living zones included.
    pub index_entries: u64,
    /// Memory of the index, in bytes.
    pub index_bytes: u64,
    /// Reads of objects that drives were asked for. Readers of one thread that want the same at
    /// the same time share one.
    pub drive_reads: u64,
    /// Readers that were refused because too many waited for a drive.
    pub reads_shed: u64,
    /// Stored objects served from memory.
    pub arena_objects: u64,
    /// Arena blocks held by uploads.
    pub arena_blocks_uploading: u64,
    /// Arena blocks.
    pub arena_blocks: u64,
    /// Bytes of one arena block.
    pub arena_block_bytes: u64,
    /// Zones of the store, those of missing volumes included.
    pub zones: u32,
    /// Bytes of a zone.
    pub zone_bytes: u64,
}

/// Can the store do its work?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Reads and writes, on all volumes.
    Ok,
    /// Reads and writes, but not on these volumes.
    Degraded {
        /// Those that are missing, fenced or hang.
        volumes: Vec<VolumeTrouble>,
    },
    /// No volume is left that could be written to: reads only, until the store is opened again.
    Fenced {
        /// Of the volume that was fenced first.
        cause: String,
    },
    /// No drive answers.
    Stalled {
        /// For how long.
        waited_ms: u64,
    },
    /// Closed.
    Closed,
}

/// A volume that cannot do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeTrouble {
    /// Its number in the store.
    pub volume: u16,
    /// What is wrong with it.
    pub state: VolumeState,
}

impl fmt::Display for VolumeTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "volume {}: {}", self.volume, self.state)
    }
}

/// How a volume does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeState {
    /// Reads and writes.
    Ok,
    /// Its drive takes long; new records go elsewhere as long as anything else can take them.
    Slow {
        /// How long its oldest operation has waited.
        waited_ms: u64,
    },
    /// Its drive does not answer, and may come back.
    Hung {
        /// For how long.
        waited_ms: u64,
    },
    /// Nothing is written to it any more; what can be read there is served.
    Fenced {
        /// Why.
        cause: String,
    },
    /// The store was opened without it.
    Missing,
}

impl VolumeState {
    fn of(drive: &Drive) -> VolumeState {
        if drive.is_missing() {
            return VolumeState::Missing;
        }
        if let Some(cause) = drive.fence() {
            return VolumeState::Fenced { cause: cause.to_owned() };
        }
        match (drive.hung_ms(), drive.slow_ms()) {
            (Some(waited_ms), _) => VolumeState::Hung { waited_ms },
            (None, Some(waited_ms)) => VolumeState::Slow { waited_ms },
            (None, None) => VolumeState::Ok,
        }
    }

    /// One word.
    pub fn name(&self) -> &'static str {
        match self {
            VolumeState::Ok => "ok",
            VolumeState::Slow { .. } => "slow",
            VolumeState::Hung { .. } => "hung",
            VolumeState::Fenced { .. } => "fenced",
            VolumeState::Missing => "missing",
        }
    }

    /// Does it do its work, however slowly?
    pub fn works(&self) -> bool {
        matches!(self, VolumeState::Ok | VolumeState::Slow { .. })
    }
}

impl fmt::Display for VolumeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VolumeState::Ok => f.write_str("ok"),
            VolumeState::Slow { waited_ms } => write!(f, "slow: {waited_ms} ms for an answer"),
            VolumeState::Hung { waited_ms } => {
                write!(f, "the drive has not answered for {waited_ms} ms")
            }
            VolumeState::Fenced { cause } => write!(f, "fenced read-only: {cause}"),
            VolumeState::Missing => f.write_str("missing"),
        }
    }
}

/// One volume of a store.
#[derive(Clone, Debug)]
pub struct VolumeStatus {
    /// Its number in the store.
    pub volume: u16,
    /// Where it is; `None` when it is missing.
    pub path: Option<PathBuf>,
    /// How it does.
    pub state: VolumeState,
    /// Zones that can be used at once.
    pub zones_free: u32,
    /// Zones being appended to, prepared or sealed.
    pub zones_open: u32,
    /// Zones full and servable.
    pub zones_sealed: u32,
    /// Zones taken out of use after a write error.
    pub zones_bad: u32,
}

impl Engine {
    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let (index_entries, index_bytes) = shared.directory.index_size();
        let (held, all) = shared.admission.usage();
        Stats {
            log: shared.hub.stats().0,
            index_entries: index_entries as u64,
            index_bytes: index_bytes as u64,
            drive_reads: shared.hub.drives.iter().map(Drive::reads).sum(),
            reads_shed: shared.hub.drives.iter().map(Drive::shed).sum(),
            arena_objects: shared.live.stored_count() as u64,
            arena_blocks_uploading: held as u64,
            arena_blocks: all as u64,
            arena_block_bytes: tapeloop_io::ARENA_BLOCK as u64,
            zones: shared.geometry.zone_count(),
            zone_bytes: shared.geometry.zone_size(),
        }
    }

    /// Every volume of the store, by number.
    pub fn volumes(&self) -> Vec<VolumeStatus> {
        let hub = &self.shared.hub;
        let of =
            |(drive, (volume, stats)): (&Drive, (u16, tapeloop_log::VolumeStats))| VolumeStatus {
                volume,
                path: drive.path().map(PathBuf::from),
                state: VolumeState::of(drive),
                zones_free: stats.zones_free,
                zones_open: stats.zones_open,
                zones_sealed: stats.zones_sealed,
                zones_bad: stats.zones_bad,
            };
        hub.drives.iter().zip((0..).zip(hub.stats().1)).map(of).collect()
    }

    /// Can the store do its work? Touches no drive.
    pub fn health(&self) -> Health {
        let hub = &self.shared.hub;
        if hub.read_only().is_some() {
            let cause = hub.drives.iter().find_map(Drive::fence).unwrap_or_default();
            return Health::Fenced { cause: cause.to_owned() };
        }
        if hub.is_closed() {
            return Health::Closed;
        }
        if let Some(waited_ms) = drive::all_stalled_ms(&hub.drives) {
            return Health::Stalled { waited_ms };
        }
        let states = (0..).zip(hub.drives.iter().map(VolumeState::of));
        let troubles = states.filter(|(_, state)| !state.works());
        let volumes: Vec<VolumeTrouble> =
            troubles.map(|(volume, state)| VolumeTrouble { volume, state }).collect();
        match (volumes.as_slice(), hub.drives.len()) {
            ([], _) => Health::Ok,
            ([VolumeTrouble { state: VolumeState::Hung { waited_ms }, .. }], 1) => {
                Health::Stalled { waited_ms: *waited_ms }
            }
            _ => Health::Degraded { volumes },
        }
    }
}
