//! Opening a store: its volumes, their recovery, their appenders.

use crate::admission::Admission;
use crate::appender;
use crate::door::{COMMANDS_MAX, Door};
use crate::drive::Drive;
use crate::engine::Shared;
use crate::error::OpenError;
use crate::hub::Hub;
use crate::live::Live;
use crate::members::Members;
use crate::options::Options;
use crate::recovery;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tapeloop_format::{Checkpoint, KeyHasher, StoreId};
use tapeloop_io::{ARENA_BLOCK, Arena, VolumeFile, clock, give_back_free_memory, probe};
use tapeloop_log::{MachineTime, Recovery, RecoveryReport, StoreClock};
use tokio::sync::mpsc;

/// Smallest arena, in blocks.
const ARENA_BLOCKS_MIN: u64 = 64;

/// What opening a store found and did.
#[derive(Clone, Debug)]
pub struct RecoverySummary {
    /// Identity of the store.
    pub store_id: StoreId,
    /// Volumes that it was opened without. What they hold is given up.
    pub missing: Vec<u16>,
    /// Found on the drives.
    pub report: RecoveryReport,
    /// Time it took, index included.
    pub duration: Duration,
}

pub(crate) fn machine_time() -> MachineTime {
    MachineTime {
        boot_id: clock::boot_id(),
        boottime_ms: clock::boottime_ms(),
        wall_ms: clock::wall_ms(),
    }
}

/// Store time as an engine that goes on from `checkpoint` would count it now. For tools.
pub fn store_now_ms(checkpoint: &Checkpoint) -> u64 {
    let now = machine_time();
    StoreClock::resume(&checkpoint.clock, 0, now).at(now.boottime_ms)
}

pub(crate) fn open(options: Options) -> Result<(Arc<Shared>, RecoverySummary), OpenError> {
    let begun = Instant::now();
    // Who is foreign is refused before anything is locked or probed.
    let members = Members::find(&options.volumes, options.degraded)?;
    let volumes = open_all(&members)?;
    let min = ARENA_BLOCKS_MIN * ARENA_BLOCK as u64;
    if options.arena_bytes < min {
        return Err(OpenError::ArenaTooSmall { found: options.arena_bytes, min });
    }
    let failed = |context| {
        let path = options.volumes.first().cloned().unwrap_or_default();
        move |source| OpenError::Io { path, context, source }
    };
    let arena = Arena::new(options.arena_bytes as usize).map_err(failed("reserving the arena"))?;
    let missing = members.missing();
    let recovery = Recovery::new(members.store_id, members.geometry, &missing);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let recovery = recovery::read_all(recovery, &volumes, threads)?;
    let (log, clock, report) = recovery.finish(options.groups.clone(), machine_time(), threads);
    give_back_free_memory();
    if report.clock_held_ms > 0 {
        let held_ms = report.clock_held_ms;
        tracing::warn!(
            held_ms,
            "the wall clock is further ahead than a store may have been away: \
            store time counts less, so nothing expires by it. Check the clock of this machine"
        );
    }
    let there = volumes.iter().flatten().count();
    // An object passes through the arena whole, and half of it is for everybody else.
    let arena_share = (options.arena_bytes / ARENA_BLOCK as u64 / 2 - 1) * ARENA_BLOCK as u64;
    let object_len_max = tapeloop_log::object_len_max(members.geometry.volume()).min(arena_share);
    let reserve = (object_len_max as usize).div_ceil(ARENA_BLOCK);
    let directory = Arc::clone(log.directory());
    let (sender, commands) = mpsc::channel(COMMANDS_MAX);
    let hub = Arc::new(Hub::new(log, clock, drives(&volumes), commands));
    let shared = Arc::new(Shared {
        store_id: members.store_id,
        geometry: members.geometry,
        hasher: KeyHasher::new(&members.store_id),
        clock,
        directory,
        hub: Arc::clone(&hub),
        read_buffers: options.read_buffers_for(there),
        live: Live::new(),
        admission: Admission::new(arena, reserve),
        door: Door::new(sender, Arc::clone(&hub)),
        object_len_max,
    });
    hub.set_shared(&shared);
    let bytes_max = bytes_per_volume(options.arena_bytes, there);
    for (volume, file) in (0..).zip(&volumes) {
        let Some(file) = file else { continue };
        if let Err(source) = appender::spawn(&hub, volume, Arc::clone(file), bytes_max) {
            hub.abandon();
            let (path, context) = (file.path().to_path_buf(), "starting the appender");
            return Err(OpenError::Io { path, context, source });
        }
    }
    let (store_id, duration) = (members.store_id, begun.elapsed());
    Ok((shared, RecoverySummary { store_id, missing, report, duration }))
}

/// Opens the volumes for this process alone.
fn open_all(members: &Members) -> Result<Vec<Option<Arc<VolumeFile>>>, OpenError> {
    let mut volumes = Vec::new();
    for path in &members.paths {
        let Some(path) = path else {
            volumes.push(None);
            continue;
        };
        probe::probe(path)?;
        volumes.push(Some(Arc::new(VolumeFile::open_direct(path)?)));
    }
    Ok(volumes)
}

fn drives(volumes: &[Option<Arc<VolumeFile>>]) -> Vec<Drive> {
    let mut readers = 0;
    let drive = |file: &Option<Arc<VolumeFile>>| match file {
        Some(file) => {
            readers += 1;
            Drive::new(Arc::clone(file), readers - 1)
        }
        None => Drive::missing(),
    };
    volumes.iter().map(drive).collect()
}

/// What operations of one volume may hold of the arena: all other volumes together may hang, and
/// uploads must still find room. A single volume has nobody to be considerate of.
fn bytes_per_volume(arena_bytes: u64, volumes: usize) -> u64 {
    match volumes {
        1 => u64::MAX,
        _ => arena_bytes / 4 / (volumes as u64 - 1),
    }
}
