//! Creating a store, and opening one: header, recovery, appender.

use crate::admission::Admission;
use crate::appender;
use crate::engine::Shared;
use crate::error::{CreateError, OpenError};
use crate::live::Live;
use crate::options::Options;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tapeloop_format::{
    BLOCK, Checkpoint, DATA_OFFSET, FormatError, Geometry, KeyHasher, StoreId, VolumeHeader,
};
use tapeloop_io::{ARENA_BLOCK, AlignedBuf, Arena, VolumeFile, WriteRing, clock, probe};
use tapeloop_log::{IoFailure, MachineTime, Recovery, RecoveryReport, StoreClock};

/// Reads in flight while recovering.
const RECOVERY_DEPTH: usize = 32;
/// Smallest arena, in blocks.
const ARENA_BLOCKS_MIN: u64 = 64;
const RECOVERY_WAIT: Duration = Duration::from_secs(1);

/// What opening a store found and did.
#[derive(Clone, Debug)]
pub struct RecoverySummary {
    /// Identity of the store.
    pub store_id: StoreId,
    /// Found on the drive.
    pub report: RecoveryReport,
    /// Time it took, index included.
    pub duration: Duration,
}

fn machine_time() -> MachineTime {
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

/// Creates a store of one volume of `capacity` bytes and writes all of it out, so that there is no
/// lack of space later. `progress` hears bytes done and bytes wanted. An existing file is never
/// replaced, and on an error nothing is left behind.
pub fn format(
    path: &Path,
    capacity: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<StoreId, CreateError> {
    let is_device = path.metadata().is_ok_and(|metadata| {
        std::os::unix::fs::FileTypeExt::is_block_device(&metadata.file_type())
    });
    let geometry = Geometry::for_capacity(capacity)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| CreateError::Random(error.to_string()))?;
    let store_id = StoreId(id);
    let now = machine_time();
    let header = VolumeHeader {
        store_id,
        volume_index: 0,
        volume_count: 1,
        geometry,
        created_wall_ms: now.wall_ms,
    };
    let checkpoint = Checkpoint {
        sequence: 1,
        incarnation: 1,
        clock: StoreClock::new(now).mark(now.boottime_ms, now.wall_ms),
        durable_lsn: 0,
        next_lsn: 1,
        next_base_position: 0,
        open_zones: Vec::new(),
    };
    let header_bytes = header.encode();
    let checkpoint_bytes = checkpoint.encode(&store_id);
    let first: [(u64, &[u8]); 3] = [
        (0, &header_bytes[..]),
        (geometry.header_b_offset(), &header_bytes[..]),
        (checkpoint.slot_offset(), &checkpoint_bytes[..]),
    ];
    match is_device {
        true => VolumeFile::prepare_device(path, &blank_then(&geometry, &first))?,
        false => VolumeFile::create_with(path, geometry.volume_len(), &first, progress)?,
    }
    Ok(store_id)
}

static BLANK: [u8; DATA_OFFSET as usize] = [0; DATA_OFFSET as usize];

/// A device may hold anything. Whatever recovery would look at before a zone's first lap is made
/// blank, then the new structures are written.
fn blank_then<'a>(geometry: &Geometry, first: &[(u64, &'a [u8])]) -> Vec<(u64, &'a [u8])> {
    let block = &BLANK[..BLOCK];
    let ends = (0..geometry.zone_count()).flat_map(|zone| {
        let start = geometry.zone_offset(zone);
        [(start, block), (start + geometry.zone_size() - BLOCK as u64, block)]
    });
    [(0, &BLANK[..])].into_iter().chain(ends).chain(first.iter().copied()).collect()
}

pub(crate) fn open(
    options: Options,
) -> Result<(Arc<Shared>, JoinHandle<()>, RecoverySummary), OpenError> {
    let [path] = &options.volumes[..] else {
        return Err(OpenError::VolumeCount { found: options.volumes.len() });
    };
    let begun = Instant::now();
    // Who is foreign is refused before anything is locked or probed.
    let header = read_header(path)?;
    // A bare file name has an empty parent.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    probe::probe(folder.unwrap_or(Path::new(".")))?;
    let volume = Arc::new(VolumeFile::open_direct(path)?);
    let geometry = header.geometry;
    let min = ARENA_BLOCKS_MIN * ARENA_BLOCK as u64;
    if options.arena_bytes < min {
        return Err(OpenError::ArenaTooSmall { found: options.arena_bytes, min });
    }
    // An object passes through the arena whole, and half of it is for everybody else.
    let arena_share = (options.arena_bytes / ARENA_BLOCK as u64 / 2 - 1) * ARENA_BLOCK as u64;
    let failed = |context| move |source| OpenError::Io { path: path.clone(), context, source };
    let arena = Arena::new(options.arena_bytes as usize).map_err(failed("reserving the arena"))?;
    let recovery = read_all(Recovery::new(header.store_id, geometry), &volume)
        .map_err(failed("reading the volume for recovery"))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (log, clock, report) = recovery.finish(options.groups, machine_time(), threads);
    let object_len_max = tapeloop_log::object_len_max(&geometry).min(arena_share);
    let reserve = (object_len_max as usize).div_ceil(ARENA_BLOCK);
    let directory = Arc::clone(log.directory());
    let (shared, thread) = appender::spawn(log, clock, Arc::clone(&volume), |appender| {
        Arc::new(Shared {
            store_id: header.store_id,
            geometry,
            hasher: KeyHasher::new(&header.store_id),
            clock,
            directory,
            volume,
            read_buffers: options.read_buffers,
            live: Live::new(),
            admission: Admission::new(arena, reserve),
            appender,
            object_len_max,
        })
    })
    .map_err(failed("starting the appender"))?;
    let store_id = header.store_id;
    let summary = RecoverySummary { store_id, report, duration: begun.elapsed() };
    Ok((shared, thread, summary))
}

/// Reads and checks the volume header without a lock and without a write.
fn read_header(path: &Path) -> Result<VolumeHeader, OpenError> {
    let volume = VolumeFile::open_read_only(path)?;
    let refuse = |error| OpenError::Header { path: path.to_path_buf(), error };
    let failed = |source| OpenError::Io {
        path: path.to_path_buf(),
        context: "reading the volume header",
        source,
    };
    if volume.len() < BLOCK as u64 {
        let what = tapeloop_format::Structure::VolumeHeader;
        let found = volume.len() as usize;
        return Err(refuse(FormatError::Truncated { what, needed: BLOCK, found }));
    }
    let mut block = vec![0; BLOCK];
    volume.read_at(&mut block, 0).map_err(failed)?;
    let header = VolumeHeader::decode(&block).or_else(|error| {
        if matches!(error, FormatError::Newer { .. } | FormatError::NotTapeloop { .. }) {
            return Err(refuse(error));
        }
        // Copy B lies in the last block. It helps against damage, not against a stranger.
        let last = volume.len() / BLOCK as u64 * BLOCK as u64 - BLOCK as u64;
        volume.read_at(&mut block, last).map_err(failed)?;
        let copy = VolumeHeader::decode(&block).ok();
        copy.filter(|copy| copy.geometry.header_b_offset() == last).ok_or_else(|| refuse(error))
    })?;
    let path = path.to_path_buf();
    if header.volume_count != 1 {
        let (index, count) = (header.volume_index, header.volume_count);
        return Err(OpenError::SeveralVolumes { path, index, count });
    }
    let (expected, found) = (header.geometry.volume_len(), volume.len());
    if found < expected {
        return Err(OpenError::Truncated { path, expected, found });
    }
    Ok(header)
}

/// Runs a recovery's reads on a ring of its own, many at a time.
fn read_all(mut recovery: Recovery, volume: &Arc<VolumeFile>) -> io::Result<Recovery> {
    let mut ring = WriteRing::new(Arc::clone(volume), RECOVERY_DEPTH as u32)?;
    let mut in_flight = 0;
    while !recovery.is_done() {
        while in_flight < RECOVERY_DEPTH {
            let Some(read) = recovery.poll_read() else { break };
            let buf = AlignedBuf::zeroed(read.len);
            ring.push_read(read.id, buf, read.offset)
                .map_err(|full| io::Error::other(full.to_string()))?;
            in_flight += 1;
        }
        ring.submit_and_wait(RECOVERY_WAIT)?;
        while let Some(done) = ring.pop() {
            in_flight -= 1;
            match (done.result, &done.buf) {
                (Ok(_), Some(buf)) => recovery.read_done(done.token, Ok(buf)),
                (Ok(_), None) => unreachable!("a read gives its buffer back"),
                (Err(error), _) => {
                    let errno = error.raw_os_error().unwrap_or(5);
                    recovery.read_done(done.token, Err(IoFailure { errno }));
                }
            }
        }
    }
    Ok(recovery)
}
