//! Which files are the volumes of which store? Headers are read without a lock and without a write,
//! and everything that does not fit together is refused before anything is locked or opened for
//! writing.

use crate::error::OpenError;
use crate::patience;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tapeloop_format::{
    BLOCK, CHECKPOINT_SLOTS, Checkpoint, FormatError, StoreGeometry, StoreId, Structure,
    VOLUME_COUNT_MAX, VolumeHeader,
};
use tapeloop_io::{VolumeError, VolumeFile};

/// A drive that keeps its header back for so long hangs.
const HEADER_WAIT: Duration = Duration::from_secs(10);

/// The volumes of one store.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) store_id: StoreId,
    pub(crate) geometry: StoreGeometry,
    /// By index; `None` for those that are missing.
    pub(crate) paths: Vec<Option<PathBuf>>,
}

impl Members {
    /// Finds out what `paths` are, in any order. `degraded`: some may be missing.
    pub(crate) fn find(paths: &[PathBuf], degraded: bool) -> Result<Members, OpenError> {
        let mut found: Vec<(&Path, VolumeHeader)> = Vec::new();
        let mut away: Vec<(&Path, OpenError)> = Vec::new();
        for path in paths {
            match read_header(path) {
                Ok(header) => found.push((path, header)),
                Err(error) if paths.len() > 1 && is_away(&error) => away.push((path, error)),
                Err(error) => return Err(error),
            }
        }
        let Some((first, rest)) = found.split_first() else {
            return Err(away.into_iter().next().map_or(OpenError::NoVolume, |(_, error)| error));
        };
        for other in rest {
            same_store(first, other)?;
        }
        let (path, VolumeHeader { store_id, volume_count, geometry, .. }) = *first;
        let refuse = |error| OpenError::Header { path: path.to_path_buf(), error };
        let geometry = StoreGeometry::new(geometry, volume_count).map_err(refuse)?;
        let mut members: Vec<Option<PathBuf>> = vec![None; usize::from(volume_count)];
        for (path, header) in &found {
            let place = &mut members[usize::from(header.volume_index)];
            if let Some(earlier) = place.replace(path.to_path_buf()) {
                let (index, path) = (header.volume_index, path.to_path_buf());
                return Err(OpenError::SameVolume { index, path, earlier });
            }
        }
        let missing: Vec<u16> =
            (0..volume_count).filter(|index| members[usize::from(*index)].is_none()).collect();
        if away.len() > missing.len() {
            let (found, expected) = (paths.len(), volume_count);
            return Err(OpenError::TooMany { found, expected });
        }
        if let (Some(index), false) = (missing.first(), degraded) {
            let why = away.first().map(|(_, error)| error.to_string());
            return Err(OpenError::Missing { index: *index, count: volume_count, why });
        }
        Ok(Members { store_id, geometry, paths: members })
    }

    /// Numbers of the volumes that are not there.
    pub(crate) fn missing(&self) -> Vec<u16> {
        let missing = (0..).zip(&self.paths).filter(|(_, path)| path.is_none());
        missing.map(|(index, _)| index).collect()
    }
}

/// A path where nothing can be opened or read: no volume, as opposed to the wrong one.
fn is_away(error: &OpenError) -> bool {
    matches!(error, OpenError::Volume(VolumeError::Open { .. }) | OpenError::Io { .. })
}

fn same_store(
    first: &(&Path, VolumeHeader),
    other: &(&Path, VolumeHeader),
) -> Result<(), OpenError> {
    let (first_path, first) = first;
    let (path, header) = other;
    let (path, first_path) = (path.to_path_buf(), first_path.to_path_buf());
    let index = header.volume_index;
    if header.store_id != first.store_id {
        let (expected, found) = (first.store_id, header.store_id);
        return Err(OpenError::ForeignVolume { path, index, expected, found, first: first_path });
    }
    let shape = |header: &VolumeHeader| {
        (header.volume_count, header.geometry.zone_size(), header.geometry.zone_count())
    };
    if shape(header) != shape(first) {
        let (expected, found) = (shape(first), shape(header));
        return Err(OpenError::OtherShape { path, index, expected, found, first: first_path });
    }
    Ok(())
}

/// Reads and checks one volume header, and does not wait for a drive that hangs.
fn read_header(path: &Path) -> Result<VolumeHeader, OpenError> {
    let owned = path.to_path_buf();
    patience::within(HEADER_WAIT, move || read_header_now(&owned)).unwrap_or_else(|source| {
        let context = "reading the volume header";
        Err(OpenError::Io { path: path.to_path_buf(), context, source })
    })
}

fn read_header_now(path: &Path) -> Result<VolumeHeader, OpenError> {
    let volume = VolumeFile::open_read_only(path)?;
    let refuse = |error| OpenError::Header { path: path.to_path_buf(), error };
    let failed = |source| OpenError::Io {
        path: path.to_path_buf(),
        context: "reading the volume header",
        source,
    };
    if volume.len() < BLOCK as u64 {
        let what = Structure::VolumeHeader;
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
    let count = header.volume_count;
    if count > VOLUME_COUNT_MAX {
        return Err(refuse(FormatError::VolumeCount { found: count, max: VOLUME_COUNT_MAX }));
    }
    let path = path.to_path_buf();
    let (expected, found) = (header.geometry.volume_len(), volume.len());
    if found < expected {
        return Err(OpenError::Truncated { path, expected, found });
    }
    check_body(&volume, &header.store_id)
        .map_err(failed)?
        .map_or(Ok(header), |error| Err(refuse(error)))
}

/// A header over the body of another store: its checkpoints are whole, and name that store. Opened,
/// it would be an empty store, and its objects written over.
fn check_body(volume: &VolumeFile, store_id: &StoreId) -> io::Result<Option<FormatError>> {
    let mut stranger = None;
    for offset in CHECKPOINT_SLOTS {
        let mut block = vec![0; BLOCK];
        volume.read_at(&mut block, offset)?;
        match Checkpoint::decode(&block, store_id) {
            Ok(_) => return Ok(None),
            Err(error @ FormatError::ForeignStore { found, .. })
                if Checkpoint::decode(&block, &found).is_ok() =>
            {
                stranger = Some(error);
            }
            Err(_) => {}
        }
    }
    Ok(stranger)
}
