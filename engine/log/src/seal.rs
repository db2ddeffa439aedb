//! Full zones get their footer, and the checkpoints say how far open ones are durable.
//!
//! Every checkpoint names the open zones of all volumes, fenced ones too, so that recovery can go
//! by the newest one that it finds anywhere.

use crate::clock::MARK_PERIOD_MS;
use crate::log::{Log, Purpose};
use crate::zone::{Kills, ZoneState};
use tapeloop_format::{
    BLOCK, Checkpoint, FooterBuilder, FooterSummary, FooterTable, FooterTrailer, OPEN_ZONES_MAX,
    OpenZoneMark, RecordKind, ZoneHeader, ZoneLap,
};

/// While something changes a checkpoint this often keeps the scan after a crash short.
const CHECKPOINT_PERIOD_MS: u64 = 1000;
/// An idle log only keeps its clock mark fresh.
const CHECKPOINT_PERIOD_IDLE_MS: u64 = MARK_PERIOD_MS - 2 * CHECKPOINT_PERIOD_MS;
/// Starting and closing try so often.
pub(crate) const CHECKPOINT_FAILURES_MAX: u32 = 4;

impl Log {
    /// The zone takes no more records; it is sealed as soon as nothing in it is in flight.
    pub(crate) fn close_zone(&mut self, zone: u32) {
        self.leave_class(zone);
        self.open.get_mut(&zone).expect("only open zones are closed").closing = true;
        self.seal_if_quiet(zone);
    }

    pub(crate) fn seal_if_quiet(&mut self, zone: u32) {
        let volume = self.volume_of(zone);
        if !self.volume(volume).is_usable() {
            return;
        }
        let Some(open) = self.open.get_mut(&zone) else { return };
        if !open.closing || open.sealing || open.in_flight > 0 {
            return;
        }
        open.sealing = true;
        open.voids_left = open.holes.len();
        match open.holes.is_empty() {
            true => self.write_footer(zone),
            false => self.write_voids(zone),
        }
    }

    /// What failed writes may have left in the zone is made unfindable before the footer calls the
    /// zone complete.
    fn write_voids(&mut self, zone: u32) {
        let meta = &self.zones[zone as usize];
        let (lap, base_position) = (meta.lap, meta.base_position);
        for hole in self.open[&zone].holes.clone() {
            if let Some(carry) = hole.carry {
                let purpose = Purpose::Void { zone, lsns: [hole.lsn; 2] };
                self.want_zone_write(zone, hole.offset, carry, purpose);
                continue;
            }
            let lsn = self.take_lsn();
            let place = ZoneLap { zone, lap };
            let position = base_position + hole.offset;
            let mut void = self.own_record(RecordKind::Void, place, position, lsn);
            void.hole_len = hole.len as u32;
            self.open.get_mut(&zone).expect("being sealed").saw_lsn(lsn);
            let purpose = Purpose::Void { zone, lsns: [hole.lsn, lsn] };
            self.want_zone_write(zone, hole.offset, void.encode(self.salt), purpose);
        }
    }

    pub(crate) fn void_durable(&mut self, zone: u32, lsns: [u64; 2]) {
        lsns.into_iter().for_each(|lsn| self.resolve_lsn(lsn));
        let open = self.open.get_mut(&zone).expect("being sealed");
        open.voids_left -= 1;
        if open.voids_left == 0 && !open.footer_failed {
            self.write_footer(zone);
        }
    }

    fn write_footer(&mut self, zone: u32) {
        let open = self.open.get_mut(&zone).expect("being sealed");
        let mut builder = FooterBuilder::new();
        let meta = &self.zones[zone as usize];
        open.build_footer(meta.opened_ms, &mut builder);
        // A checkpoint that said too much of what is durable may have left no room for it.
        if open.used + builder.encoded_len() > self.options.geometry.zone_size() {
            return self.footer_failed(zone);
        }
        let header = ZoneHeader {
            zone,
            lap: meta.lap,
            base_position: meta.base_position,
            class: meta.class,
            opened_store_ms: meta.opened_ms,
            incarnation: self.options.incarnation,
        };
        let summary = FooterSummary {
            sealed_store_ms: self.now_ms,
            used_len: open.used,
            // A zone that lost all it had still gets its footer.
            lsn_first: open.lsn_first.min(open.lsn_last),
            lsn_last: open.lsn_last,
            expires_ms_max: meta.max_expires_ms,
        };
        let zone_size = self.options.geometry.zone_size();
        let bytes = builder.encode(&self.options.store_id, &header, zone_size, &summary);
        let trailer = FooterTrailer::decode(&bytes[bytes.len() - BLOCK..], &self.options.store_id)
            .expect("the footer that was just encoded");
        let kills_at = Kills::of_footer(&trailer);
        let offset = zone_size - bytes.len() as u64;
        self.want_zone_write(zone, offset, bytes, Purpose::Footer { zone, kills_at });
    }

    /// The footer is durable.
    pub(crate) fn zone_sealed(&mut self, zone: u32, kills_at: Kills) {
        self.open.remove(&zone).expect("a sealed zone was open");
        let meta = &mut self.zones[zone as usize];
        meta.state = ZoneState::Sealed;
        meta.kills = kills_at;
        self.ghosts.forget_zone(ZoneLap { zone, lap: meta.lap });
        self.prepare_next();
    }

    /// Without a footer the zone is found by scanning, for which checkpoints go on naming it as
    /// open; its kills stay in memory until it is reused. A void that was refused is no better: the
    /// zone must not be called complete.
    pub(crate) fn footer_failed(&mut self, zone: u32) {
        let open = self.open.get_mut(&zone).expect("a sealed zone was open");
        open.footer_failed = true;
        let meta = &mut self.zones[zone as usize];
        meta.bad = true;
        meta.kills = Kills::InMemory(open.kills.clone());
        self.prepare_next();
    }

    /// At most one checkpoint is on its way to a volume: a crash tears one slot, never both.
    pub(crate) fn checkpoints_if_due(&mut self) {
        for volume in self.usable_volumes() {
            let slots = &self.volume(volume).slots;
            if slots.busy || self.now_ms < slots.due_ms {
                continue;
            }
            let is_idle_due =
                self.now_ms >= slots.due_ms + (CHECKPOINT_PERIOD_IDLE_MS - CHECKPOINT_PERIOD_MS);
            let next = self.checkpoint(slots.sequence);
            let changed = slots.last.as_ref().is_none_or(|last| {
                last.open_zones != next.open_zones
                    || last.next_lsn != next.next_lsn
                    || last.durable_lsn != next.durable_lsn
                    || last.next_base_position != next.next_base_position
            });
            if changed || is_idle_due {
                self.want_checkpoint(volume);
            }
        }
    }

    pub(crate) fn want_checkpoint(&mut self, volume: u16) {
        let step = if planted!(Bug::CheckpointOneSlot) { 2 } else { 1 };
        let sequence = self.volume(volume).slots.sequence + step;
        let checkpoint = self.checkpoint(sequence);
        let now_ms = self.now_ms;
        let slots = &mut self.volume_mut(volume).slots;
        assert!(!slots.busy);
        slots.busy = true;
        slots.due_ms = now_ms + CHECKPOINT_PERIOD_MS;
        slots.sequence = sequence;
        let offset = checkpoint.slot_offset();
        let bytes = checkpoint.encode(&self.options.store_id).to_vec();
        self.volume_mut(volume).slots.last = Some(checkpoint);
        self.want_write(volume, offset, bytes, Purpose::Checkpoint);
    }

    /// The sequence goes on so that the next one goes to the same slot: the other one holds the
    /// last good checkpoint, and a refused write may have torn what was there.
    pub(crate) fn checkpoint_refused(&mut self, volume: u16) {
        let slots = &mut self.volume_mut(volume).slots;
        slots.busy = false;
        slots.failures += 1;
        slots.sequence += 1;
        slots.last = None; // nothing is known to be on the drive: it is due
    }

    /// The state of the whole store, on whichever volume it will lie.
    fn checkpoint(&self, sequence: u64) -> Checkpoint {
        let marks = self.open.iter().map(|(zone, open)| OpenZoneMark {
            zone_lap: ZoneLap { zone: *zone, lap: self.zones[*zone as usize].lap },
            durable_len: if planted!(Bug::DurableLenTooFar) { open.used } else { open.durable_len },
        });
        let mut open_zones: Vec<OpenZoneMark> = marks.collect();
        let room = OPEN_ZONES_MAX.checked_sub(open_zones.len());
        let room = room.expect("an unnamed open zone could not be recovered");
        // If the lap has begun on the drive after all, nothing is wrong with that.
        let unsure = self.unsure_laps.iter().take(room);
        open_zones.extend(unsure.map(|lap| OpenZoneMark { zone_lap: *lap, durable_len: 0 }));
        let prepares = self.volumes.iter().filter_map(|own| own.prepare.as_ref());
        let next_base_position =
            prepares.map(|prepare| prepare.base_position).fold(self.next_base_position, u64::min);
        Checkpoint {
            sequence,
            incarnation: self.options.incarnation,
            clock: self.clock,
            durable_lsn: self.durable_lsn(),
            next_lsn: self.next_lsn(),
            next_base_position,
            open_zones,
            given_up: self.options.given_up,
        }
    }
}

impl Kills {
    /// Where a footer keeps its kills.
    pub(crate) fn of_footer(trailer: &FooterTrailer) -> Kills {
        match trailer.kill_count {
            0 => Kills::None,
            _ => Kills::OnDrive(Box::new(*trailer)),
        }
    }
}

/// The kill table's place in a zone: offset and padded length.
pub(crate) fn kill_table(trailer: &FooterTrailer) -> (u64, usize) {
    let span = trailer.table(FooterTable::Kills);
    (span.offset, span.padded_len)
}
