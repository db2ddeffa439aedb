//! What the log keeps of each volume: its I/O, its checkpoint slots, its carry journal, its free
//! zones, and how it fares.
//!
//! Invariants:
//! - A flush covers what was written on its own volume, and is asked for one at a time.
//! - Nothing is handed out for a volume that is missing or fenced.
//! - A volume that is slow is far: it gets new records only if no other volume can take them. Where
//!   all are slow none is far.

use crate::log::{InFlight, Log, Phase, Purpose, Repair, Written};
use crate::prepare::Prepare;
use crate::types::{Io, IoFailure, IoOp, VolumeStats};
use crate::zone::ZoneState;
use std::collections::{BTreeSet, VecDeque};
use tapeloop_format::{BLOCK, Checkpoint};

/// Bytes of records written at once. More wait, so that a flush never has to wait for long.
const IN_FLIGHT_BYTES_MAX: u64 = 64 << 20;

/// One volume.
pub(crate) struct VolumeLog {
    pub(crate) wanted: VecDeque<Io>,
    pub(crate) records_wanted: VecDeque<Io>,
    pub(crate) record_bytes_in_flight: u64,
    pub(crate) written: Vec<Written>,
    pub(crate) flushing: Option<Vec<Written>>,
    /// Zones that may be reused at once.
    pub(crate) free: VecDeque<u32>,
    /// The zone being made ready; one at a time, because there is one journal.
    pub(crate) prepare: Option<Prepare>,
    /// Bytes of the carry journal that must not be written over yet.
    pub(crate) journal_used: u64,
    pub(crate) slots: Slots,
    /// What recovery read there is durable.
    pub(crate) is_found_durable: bool,
    /// What recovery wants written then.
    pub(crate) repairs: Vec<Repair>,
    /// Repairs under way.
    pub(crate) repairs_left: u32,
    /// Places, zones or what lies before them, that refused a write since one was taken anywhere.
    pub(crate) refusing: BTreeSet<Option<u32>>,
    pub(crate) fenced: Option<IoFailure>,
    pub(crate) is_missing: bool,
    /// The caller says so.
    is_slow: bool,
    /// Slow, while another one is not.
    pub(crate) is_far: bool,
}

/// The two checkpoint slots of a volume.
pub(crate) struct Slots {
    pub(crate) sequence: u64,
    pub(crate) due_ms: u64,
    /// A checkpoint is being written and not durable yet.
    pub(crate) busy: bool,
    /// Refused in a row.
    pub(crate) failures: u32,
    /// The last one asked for.
    pub(crate) last: Option<Checkpoint>,
}

impl VolumeLog {
    pub(crate) fn new(sequence: u64, is_missing: bool) -> VolumeLog {
        VolumeLog {
            wanted: VecDeque::new(),
            records_wanted: VecDeque::new(),
            record_bytes_in_flight: 0,
            // What recovery read may not be durable yet: a flush comes before a checkpoint says it
            // is.
            written: if is_missing { Vec::new() } else { vec![Written::Found] },
            flushing: None,
            free: VecDeque::new(),
            prepare: None,
            journal_used: 0,
            slots: Slots { sequence, due_ms: 0, busy: false, failures: 0, last: None },
            is_found_durable: false,
            repairs: Vec::new(),
            repairs_left: 0,
            refusing: BTreeSet::new(),
            fenced: None,
            is_missing,
            is_slow: false,
            is_far: false,
        }
    }

    /// Is it as recovery wants it to be?
    pub(crate) fn is_repaired(&self) -> bool {
        self.is_found_durable && self.repairs_left == 0
    }

    /// May anything be written there?
    pub(crate) fn is_usable(&self) -> bool {
        !self.is_missing && self.fenced.is_none()
    }

    fn poll_write(&mut self) -> Option<Io> {
        if let Some(io) = self.wanted.pop_front() {
            return Some(io);
        }
        let len = self.record_that_fits()?;
        self.record_bytes_in_flight += len;
        self.records_wanted.pop_front()
    }

    fn wants_write(&self) -> bool {
        !self.wanted.is_empty() || self.record_that_fits().is_some()
    }

    /// Length of the next record, if it may start now.
    fn record_that_fits(&self) -> Option<u64> {
        let len = record_len(self.records_wanted.front()?);
        let fits = self.record_bytes_in_flight + len <= IN_FLIGHT_BYTES_MAX;
        (fits || self.record_bytes_in_flight == 0).then_some(len)
    }
}

fn record_len(io: &Io) -> u64 {
    match &io.op {
        IoOp::Record { shape, .. } => shape.record_len as u64,
        _ => unreachable!("only records wait here"),
    }
}

impl Log {
    /// The next I/O to do on a volume, if it may start now.
    pub fn poll_io(&mut self, volume: u16) -> Option<Io> {
        let own = self.volume_mut(volume);
        if !own.is_usable() {
            return None;
        }
        if let Some(io) = own.poll_write() {
            return Some(io);
        }
        if own.flushing.is_some() || own.written.is_empty() {
            return None;
        }
        own.flushing = Some(std::mem::take(&mut own.written));
        if planted!(Bug::NoFlushAtStart) && matches!(self.phase, Phase::Starting { .. }) {
            self.flushed(volume);
            return self.poll_io(volume);
        }
        let id = self.io_id(volume, Purpose::Flush);
        Some(Io { id, op: IoOp::Flush })
    }

    /// Would [`Log::poll_io`] hand something out?
    pub fn wants_io(&self, volume: u16) -> bool {
        let own = self.volume(volume);
        let wants_flush = own.flushing.is_none() && !own.written.is_empty();
        own.is_usable() && (own.wants_write() || wants_flush)
    }

    /// The drive of a volume is slow to answer, or is not any more: as long as it is, records and
    /// zones go elsewhere if anything else can take them.
    pub fn avoid_volume(&mut self, volume: u16, is_slow: bool) {
        if self.volume(volume).is_slow == is_slow {
            return;
        }
        self.volume_mut(volume).is_slow = is_slow;
        self.find_far();
        if self.is_running() {
            self.place_all_waiting();
        }
    }

    /// Who is slow and can be passed over?
    pub(crate) fn find_far(&mut self) {
        let near = self.volumes.iter().any(|own| own.is_usable() && !own.is_slow);
        for own in &mut self.volumes {
            own.is_far = own.is_slow && near;
        }
    }

    /// Why a volume is read-only, if it is.
    pub fn fenced(&self, volume: u16) -> Option<IoFailure> {
        self.volume(volume).fenced
    }

    /// Is no volume left that could be written to?
    pub fn is_read_only(&self) -> bool {
        !self.volumes.iter().any(VolumeLog::is_usable)
    }

    /// How a volume fares.
    pub fn volume_stats(&self, volume: u16) -> VolumeStats {
        let own = self.volume(volume);
        let mut stats = VolumeStats {
            fenced: own.fenced,
            is_avoided: own.is_far,
            is_missing: own.is_missing,
            ..VolumeStats::default()
        };
        for zone in self.options.geometry.zones_of(volume) {
            let zone = &self.zones[zone as usize];
            match zone.state {
                _ if zone.bad => stats.zones_bad += 1,
                ZoneState::Free => stats.zones_free += 1,
                ZoneState::Preparing | ZoneState::Open => stats.zones_open += 1,
                ZoneState::Sealed => stats.zones_sealed += 1,
                ZoneState::Unknown => {}
            }
        }
        stats
    }

    pub(crate) fn volume(&self, volume: u16) -> &VolumeLog {
        &self.volumes[usize::from(volume)]
    }

    pub(crate) fn volume_mut(&mut self, volume: u16) -> &mut VolumeLog {
        &mut self.volumes[usize::from(volume)]
    }

    /// Volumes that can be written to.
    pub(crate) fn usable_volumes(&self) -> Vec<u16> {
        let volumes = 0..self.options.geometry.volume_count();
        volumes.filter(|volume| self.volume(*volume).is_usable()).collect()
    }

    pub(crate) fn volume_of(&self, zone: u32) -> u16 {
        self.options.geometry.volume_of(zone)
    }

    /// The log's own bytes at an offset of the volume.
    pub(crate) fn want_write(
        &mut self,
        volume: u16,
        offset: u64,
        bytes: Vec<u8>,
        purpose: Purpose,
    ) {
        assert_eq!(bytes.len() % BLOCK, 0);
        assert!(self.volume(volume).is_usable(), "nothing is written to a fenced volume");
        self.stats.bytes_written += bytes.len() as u64;
        let id = self.io_id(volume, purpose);
        self.volume_mut(volume).wanted.push_back(Io { id, op: IoOp::Write { offset, bytes } });
    }

    /// The log's own bytes at an offset of the zone.
    pub(crate) fn want_zone_write(
        &mut self,
        zone: u32,
        offset: u64,
        bytes: Vec<u8>,
        purpose: Purpose,
    ) {
        assert!(offset + bytes.len() as u64 <= self.options.geometry.zone_size());
        let offset = self.options.geometry.zone_offset(zone) + offset;
        self.want_write(self.volume_of(zone), offset, bytes, purpose);
    }

    pub(crate) fn want_zone_read(&mut self, zone: u32, offset: u64, len: usize, purpose: Purpose) {
        let (volume, at) = (self.volume_of(zone), self.options.geometry.zone_offset(zone));
        assert!(self.volume(volume).is_usable(), "a fenced volume may never answer");
        let id = self.io_id(volume, purpose);
        let op = IoOp::Read { offset: at + offset, len };
        self.volume_mut(volume).wanted.push_back(Io { id, op });
    }

    pub(crate) fn io_id(&mut self, volume: u16, purpose: Purpose) -> u64 {
        let id = self.next_io;
        self.next_io += 1;
        self.in_flight.insert(id, InFlight { volume, purpose });
        id
    }
}
