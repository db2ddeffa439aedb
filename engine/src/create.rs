//! Creating a store: all of its volumes, or nothing.

use crate::error::CreateError;
use crate::open::machine_time;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use tapeloop_format::{
    BLOCK, Checkpoint, DATA_OFFSET, Geometry, StoreGeometry, StoreId, VOLUME_COUNT_MAX,
    VolumeHeader,
};
use tapeloop_io::VolumeFile;
use tapeloop_log::StoreClock;

/// Creates a store with one volume of `capacity` bytes at each of `paths` and writes all of it out,
/// so that there is no lack of space later. `progress` hears bytes done and bytes wanted. An
/// existing file is never replaced, and on an error nothing is left behind.
pub fn format(
    paths: &[PathBuf],
    capacity: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<StoreId, CreateError> {
    let count = u16::try_from(paths.len()).unwrap_or(u16::MAX);
    let geometry = Geometry::for_capacity(capacity)?;
    StoreGeometry::new(geometry, count)?;
    refuse_twice(paths)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| CreateError::Random(error.to_string()))?;
    let store_id = StoreId(id);
    let now = machine_time();
    let all_bytes = geometry.volume_len() * u64::from(count);
    let mut made = Made::default();
    for (volume_index, path) in (0..count).zip(paths) {
        let header = VolumeHeader {
            store_id,
            volume_index,
            volume_count: count,
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
            given_up: [0; VOLUME_COUNT_MAX as usize],
        };
        let before = geometry.volume_len() * u64::from(volume_index);
        let mut progress = |done: u64, _: u64| progress(before + done, all_bytes);
        made.add(path, &header, &checkpoint, &mut progress)?;
    }
    made.keep();
    Ok(store_id)
}

/// Volumes made so far. Dropped before `keep`, it unmakes them.
#[derive(Default)]
struct Made<'a> {
    volumes: Vec<(&'a Path, Geometry)>,
}

impl<'a> Made<'a> {
    fn add(
        &mut self,
        path: &'a Path,
        header: &VolumeHeader,
        checkpoint: &Checkpoint,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), CreateError> {
        let geometry = header.geometry;
        let header_bytes = header.encode();
        let checkpoint_bytes = checkpoint.encode(&header.store_id);
        let first: [(u64, &[u8]); 3] = [
            (0, &header_bytes[..]),
            (geometry.header_b_offset(), &header_bytes[..]),
            (checkpoint.slot_offset(), &checkpoint_bytes[..]),
        ];
        if is_device(path) {
            // Half-prepared counts as made: it is blanked again.
            self.volumes.push((path, geometry));
            VolumeFile::prepare_device(path, &blank_then(&geometry, &first))?;
        } else {
            VolumeFile::create_with(path, geometry.volume_len(), &first, progress)?;
            self.volumes.push((path, geometry));
        }
        Ok(())
    }

    fn keep(mut self) {
        self.volumes.clear();
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        for (path, geometry) in self.volumes.drain(..) {
            // The error that is being told is worth more than one of these.
            if is_device(path) {
                let blank = &BLANK[..BLOCK];
                let headers = [(0, blank), (geometry.header_b_offset(), blank)];
                let _ = VolumeFile::prepare_device(path, &headers);
            } else {
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn is_device(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// One device or path for two volumes would become the second of them only.
fn refuse_twice(paths: &[PathBuf]) -> Result<(), CreateError> {
    let device = |path: &PathBuf| {
        let metadata = path.metadata().ok()?;
        metadata.file_type().is_block_device().then(|| metadata.rdev())
    };
    for (index, path) in paths.iter().enumerate() {
        let is_same = |earlier: &&PathBuf| {
            *earlier == path || device(path).is_some_and(|at| device(earlier) == Some(at))
        };
        if let Some(earlier) = paths[..index].iter().find(is_same) {
            let (path, earlier) = (path.clone(), earlier.clone());
            return Err(CreateError::SameVolume { path, earlier });
        }
    }
    Ok(())
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
