//! One volume, opened for reading only. Its zones go by their numbers in the store.

use std::ops::Range;
use std::path::{Path, PathBuf};

use tapeloop_engine::VolumeFile;
use tapeloop_format::{
    BLOCK, CHECKPOINT_SLOTS, Checkpoint, FormatError, Geometry, KeyHasher, Salt, StoreId,
    VolumeHeader, ZoneHeader,
};

use super::fault::Fault;
use super::journal::{OwedCarry, read_journal};
use crate::error::ToolError;

/// A server may be writing a checkpoint this moment: a slot is read again before it is called bad.
const SLOT_READS_MAX: usize = 3;

/// A volume whose header could be read from at least one of its two copies.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) path: PathBuf,
    /// Length of the file or device.
    pub(crate) len: u64,
    pub(crate) header: VolumeHeader,
    /// What is wrong with a header copy: (offset, fault).
    pub(crate) header_faults: Vec<(u64, Fault)>,
    pub(crate) slots: [Result<Checkpoint, Fault>; 2],
    /// The newest checkpoint of the store, on whichever volume it lies.
    newest: Option<Checkpoint>,
    /// Records of the carry journals that open zones may still be owed.
    owed: Vec<OwedCarry>,
    file: VolumeFile,
}

impl Volume {
    /// Opens a file or device and finds out what it is. Foreign and newer volumes are refused.
    pub(crate) fn open(path: &Path) -> Result<Volume, ToolError> {
        let path = path.to_path_buf();
        let file = VolumeFile::open_read_only(&path)?;
        let len = file.len();
        let (header, header_faults) =
            read_headers(&file, len).map_err(|cause| not_usable(&path, cause))?;
        let slots = CHECKPOINT_SLOTS.map(|offset| read_slot(&file, offset, &header.store_id));
        Ok(Volume { path, len, header, header_faults, slots, newest: None, owed: Vec::new(), file })
    }

    /// Number of this volume in its store.
    pub(crate) fn index(&self) -> u16 {
        self.header.volume_index
    }

    /// Its zones, as the store numbers them.
    pub(crate) fn zones(&self) -> Range<u32> {
        let count = self.header.geometry.zone_count();
        let first = u32::from(self.index()) * count;
        first..first + count
    }

    /// Where a zone of the store starts on this volume.
    pub(crate) fn zone_offset(&self, zone: u32) -> u64 {
        assert!(self.zones().contains(&zone));
        self.header.geometry.zone_offset(zone - self.zones().start)
    }

    pub(crate) fn zone_size(&self) -> u64 {
        self.header.geometry.zone_size()
    }

    pub(crate) fn is_device(&self) -> bool {
        self.file.is_device()
    }

    /// The server that has it open, as far as the kernel tells.
    pub(crate) fn holder_pid(&self) -> Option<u32> {
        self.file.holder_pid()
    }

    /// Nothing of this store was ever written there. A file starts blank; a device keeps what its
    /// earlier owners left.
    pub(crate) fn was_never_written(&self, fault: &Fault) -> bool {
        fault.is_blank() || (self.file.is_device() && fault.is_leftover())
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.header.geometry
    }

    pub(crate) fn store_id(&self) -> &StoreId {
        &self.header.store_id
    }

    pub(crate) fn salt(&self) -> Salt {
        self.header.store_id.salt()
    }

    pub(crate) fn hasher(&self) -> KeyHasher {
        KeyHasher::new(&self.header.store_id)
    }

    /// The checkpoint that recovery would go by.
    pub(crate) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.newest.as_ref()
    }

    /// Told by the store, which knows all volumes.
    pub(super) fn go_by(&mut self, newest: Option<&Checkpoint>) {
        self.newest = newest.cloned();
        self.owed = read_journal(self).owed;
    }

    /// Did the drive take the flush of the newest start? One that refused has no checkpoint of it,
    /// and nobody knows what of its open zones is durable.
    pub(crate) fn was_flushed(&self) -> bool {
        let own = self.slots.iter().flatten().max_by_key(|checkpoint| checkpoint.sequence);
        let incarnation = |checkpoint: Option<&Checkpoint>| checkpoint.map(|own| own.incarnation);
        incarnation(own) == incarnation(self.newest.as_ref())
    }

    /// Bytes at the start of a zone that the carry journal still has for it.
    pub(crate) fn owed_len(&self, zone: &ZoneHeader) -> u64 {
        let position = zone.base_position + BLOCK as u64;
        let is_it =
            |owed: &&OwedCarry| owed.zone_lap == zone.zone_lap() && owed.position == position;
        self.owed.iter().find(is_it).map_or(0, |owed| owed.len)
    }

    /// Zones with a smaller base position do not count: the store went on without this volume.
    pub(crate) fn given_up_below(&self) -> u64 {
        let given_up = self.newest.as_ref().map(|checkpoint| &checkpoint.given_up);
        given_up.and_then(|bases| bases.get(usize::from(self.index()))).copied().unwrap_or(0)
    }

    /// Reads exactly `out.len()` bytes.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Fault> {
        self.file.read_at(out, offset).map_err(|error| Fault::read(out.len(), &error))
    }

    pub(crate) fn read_block(&self, offset: u64) -> Result<Box<[u8; BLOCK]>, Fault> {
        let mut block = Box::new([0; BLOCK]);
        self.read(offset, &mut block[..])?;
        Ok(block)
    }
}

fn not_usable(path: &Path, cause: Fault) -> ToolError {
    let advice = match &cause {
        Fault::Format(FormatError::NotTapeloop { .. }) => {
            "give the path of a volume made by `tapectl format` or by `tapeloop`"
        }
        Fault::Format(FormatError::Newer { .. }) => "use the tapectl of the release that wrote it",
        _ => "neither copy of the volume header can be read; restore the volume from a replica",
    };
    ToolError::Volume { path: path.to_owned(), cause: cause.to_string(), advice }
}

/// Reads both copies. When the first is damaged, the second is the last block of a file; a device
/// may be longer, and its length tells.
fn read_headers(file: &VolumeFile, len: u64) -> Result<(VolumeHeader, Vec<(u64, Fault)>), Fault> {
    let first = read_header(file, 0);
    let last_block = (len / BLOCK as u64).saturating_sub(1) * BLOCK as u64;
    let second_offset = match &first {
        Ok(header) => header.geometry.header_b_offset(),
        Err(_) if file.is_device() => {
            Geometry::for_device(len).map_or(last_block, |device| device.header_b_offset())
        }
        Err(_) => last_block,
    };
    let second = read_header(file, second_offset);
    match (first, second) {
        (Ok(first), Ok(second)) if first == second => Ok((first, Vec::new())),
        (Ok(first), Ok(_)) => {
            let fault = Fault::CopiesDiffer;
            Ok((first, vec![(second_offset, fault)]))
        }
        (Ok(first), Err(fault)) => Ok((first, vec![(second_offset, fault)])),
        (Err(fault), Ok(second)) if second.geometry.header_b_offset() == second_offset => {
            Ok((second, vec![(0, fault)]))
        }
        (Err(fault), _) => Err(fault),
    }
}

fn read_header(file: &VolumeFile, offset: u64) -> Result<VolumeHeader, Fault> {
    let mut block = [0; BLOCK];
    file.read_at(&mut block, offset).map_err(|error| Fault::read(BLOCK, &error))?;
    Ok(VolumeHeader::decode(&block)?)
}

fn read_slot(file: &VolumeFile, offset: u64, store_id: &StoreId) -> Result<Checkpoint, Fault> {
    let read = || -> Result<Checkpoint, Fault> {
        let mut block = [0; BLOCK];
        file.read_at(&mut block, offset).map_err(|error| Fault::read(BLOCK, &error))?;
        Ok(Checkpoint::decode(&block, store_id)?)
    };
    let mut result = read();
    for _ in 1..SLOT_READS_MAX {
        match &result {
            Err(fault) if !fault.is_blank() => result = read(),
            _ => break,
        }
    }
    result
}
