//! A store: its volumes, as far as they were given, and what only all of them together tell.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tapeloop_engine::volume_path;
use tapeloop_format::{Checkpoint, Geometry, KeyHasher, StoreId};

use super::journal::{Journal, read_journal};
use super::volume::Volume;
use crate::error::ToolError;

/// The volumes of one store, opened for reading.
#[derive(Debug)]
pub(crate) struct Store {
    /// In order of their index.
    volumes: Vec<Volume>,
    /// Indexes of volumes that were not given.
    pub(crate) missing: Vec<u16>,
}

impl Store {
    /// Opens files, devices and data directories as the volumes of one store. What is missing is
    /// noted; what does not belong together is refused.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Store, ToolError> {
        let mut volumes: BTreeMap<u16, Volume> = BTreeMap::new();
        for path in expand(paths)? {
            let volume = Volume::open(&path)?;
            if let Some(first) = volumes.values().next() {
                belongs(first, &volume)?;
            }
            if let Some(twin) = volumes.get(&volume.index()) {
                let cause =
                    format!("volume {} again, as in {}", volume.index(), twin.path.display());
                return Err(refused(&volume.path, cause));
            }
            volumes.insert(volume.index(), volume);
        }
        let mut volumes: Vec<Volume> = volumes.into_values().collect();
        let newest = newest(&volumes).cloned();
        volumes.iter_mut().for_each(|volume| volume.go_by(newest.as_ref()));
        let count = volumes[0].header.volume_count;
        let is_missing = |index: &u16| volumes.iter().all(|volume| volume.index() != *index);
        let missing = (0..count).filter(is_missing).collect();
        Ok(Store { volumes, missing })
    }

    pub(crate) fn volumes(&self) -> &[Volume] {
        &self.volumes
    }

    /// The volume that a zone of the store lies on; None if it is missing or there is none.
    pub(crate) fn volume_of(&self, zone: u32) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.zones().contains(&zone))
    }

    /// Zones of the volumes that are here.
    pub(crate) fn zones(&self) -> impl Iterator<Item = (&Volume, u32)> {
        self.volumes.iter().flat_map(|volume| volume.zones().map(move |zone| (volume, zone)))
    }

    /// Zones of all volumes, missing ones too.
    pub(crate) fn zone_count(&self) -> u32 {
        self.geometry().zone_count() * u32::from(self.volume_count())
    }

    pub(crate) fn volume_count(&self) -> u16 {
        self.volumes[0].header.volume_count
    }

    /// Geometry of each volume.
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.volumes[0].header.geometry
    }

    pub(crate) fn store_id(&self) -> &StoreId {
        self.volumes[0].store_id()
    }

    pub(crate) fn hasher(&self) -> KeyHasher {
        KeyHasher::new(self.store_id())
    }

    /// Bytes on the volumes that are here.
    pub(crate) fn len(&self) -> u64 {
        self.volumes.iter().map(|volume| volume.len).sum()
    }

    /// The checkpoint that recovery would go by.
    pub(crate) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.volumes[0].checkpoint()
    }

    /// Milliseconds of store time, as a process opening the store now would count them; None
    /// without a readable checkpoint.
    pub(crate) fn now_ms(&self) -> Option<u64> {
        self.checkpoint().map(tapeloop_engine::store_now_ms)
    }

    /// The server that has it open, as far as the kernel tells. This process is none.
    pub(crate) fn holder_pid(&self) -> Option<u32> {
        let mut pids = self.volumes.iter().filter_map(Volume::holder_pid);
        pids.find(|pid| *pid != std::process::id())
    }

    /// The carry journals, with the volume each lies on.
    pub(crate) fn journals(&self) -> impl Iterator<Item = (&Volume, Journal)> {
        self.volumes.iter().map(|volume| (volume, read_journal(volume)))
    }

    /// The paths, as people would type them again.
    pub(crate) fn paths(&self) -> String {
        let paths = self.volumes.iter().map(|volume| volume.path.display().to_string());
        paths.collect::<Vec<_>>().join(" ")
    }
}

/// Directories stand for the volumes in them.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ToolError> {
    let mut volumes = Vec::new();
    for path in paths {
        if !path.is_dir() {
            volumes.push(path.clone());
            continue;
        }
        let unreadable = |error: std::io::Error| refused(path, error.to_string());
        let mut found = Vec::new();
        for entry in path.read_dir().map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            if file.extension().is_some_and(|extension| extension == "tape") {
                found.push(file);
            }
        }
        // None: the error names the file that a data directory has.
        if found.is_empty() {
            found.push(volume_path(path));
        }
        found.sort();
        volumes.extend(found);
    }
    Ok(volumes)
}

/// Of each volume the one with the higher sequence; of those the latest. Sequences of different
/// volumes cannot be compared.
fn newest(volumes: &[Volume]) -> Option<&Checkpoint> {
    let age = |mark: &&Checkpoint| {
        let epoch = mark.incarnation >> 32;
        (epoch, mark.clock.store_ms, mark.incarnation, mark.next_lsn)
    };
    let of_volumes = volumes.iter().filter_map(|volume| {
        let slots = volume.slots.iter().flatten();
        slots.max_by_key(|checkpoint| checkpoint.sequence)
    });
    of_volumes.max_by_key(age)
}

/// Refuses a volume of another store.
fn belongs(first: &Volume, other: &Volume) -> Result<(), ToolError> {
    let (ours, theirs) = (&first.header, &other.header);
    let cause = if ours.store_id != theirs.store_id {
        format!(
            "belongs to store {}, {} to {}",
            theirs.store_id,
            first.path.display(),
            ours.store_id
        )
    } else if ours.volume_count != theirs.volume_count || ours.geometry != theirs.geometry {
        format!("says another number or size of volumes than {}", first.path.display())
    } else {
        return Ok(());
    };
    Err(refused(&other.path, cause))
}

fn refused(path: &Path, cause: String) -> ToolError {
    let advice = "give every volume of one store once";
    ToolError::Volume { path: path.to_owned(), cause, advice }
}
