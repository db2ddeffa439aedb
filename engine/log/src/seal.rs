//! Full zones get their footer, and the checkpoint says how far open ones are durable.

use crate::clock::MARK_PERIOD_MS;
use crate::log::{Log, Purpose, volume_offset};
use crate::zone::{Kills, ZoneState};
use tapeloop_format::{
    BLOCK, Checkpoint, FooterBuilder, FooterSummary, FooterTable, FooterTrailer, OPEN_ZONES_MAX,
    OpenZoneMark, ZoneHeader, ZoneLap,
};

/// While something changes a checkpoint this often keeps the scan after a crash short.
const CHECKPOINT_PERIOD_MS: u64 = 1000;
/// An idle log only keeps its clock mark fresh.
const CHECKPOINT_PERIOD_IDLE_MS: u64 = MARK_PERIOD_MS - 2 * CHECKPOINT_PERIOD_MS;
/// A slot that refuses a checkpoint this often is given up for the other one, which holds the last
/// good checkpoint: until then a crash in mid-write must not cost both.
const SLOT_FAILURES_MAX: u32 = 3;
/// Starting and closing try both slots.
pub(crate) const CHECKPOINT_FAILURES_MAX: u32 = 2 * SLOT_FAILURES_MAX;

impl Log {
    /// The zone takes no more records; it is sealed as soon as nothing in it is in flight.
    pub(crate) fn close_zone(&mut self, zone: u32) {
        self.leave_class(zone);
        self.open.get_mut(&zone).expect("only open zones are closed").closing = true;
        self.seal_if_quiet(zone);
    }

    pub(crate) fn seal_if_quiet(&mut self, zone: u32) {
        let Some(open) = self.open.get_mut(&zone) else { return };
        if !open.closing || open.sealing || open.in_flight > 0 {
            return;
        }
        open.sealing = true;
        let mut builder = FooterBuilder::new();
        let meta = &self.zones[zone as usize];
        open.build_footer(meta.opened_ms, &mut builder);
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
        let offset = volume_offset(&self.options.geometry, zone, offset);
        self.want_write(offset, bytes, Purpose::Footer { zone, kills_at });
    }

    /// The footer is durable.
    pub(crate) fn zone_sealed(&mut self, zone: u32, kills_at: Kills) {
        self.open.remove(&zone).expect("a sealed zone was open");
        let meta = &mut self.zones[zone as usize];
        meta.state = ZoneState::Sealed;
        meta.kills = kills_at;
        self.prepare_next();
    }

    /// Without a footer the zone is found by scanning, for which checkpoints go on naming it as
    /// open; its kills stay in memory until it is reused.
    pub(crate) fn footer_failed(&mut self, zone: u32) {
        let open = self.open.get_mut(&zone).expect("a sealed zone was open");
        open.footer_failed = true;
        let meta = &mut self.zones[zone as usize];
        meta.bad = true;
        meta.kills = Kills::InMemory(open.kills.clone());
        self.prepare_next();
    }

    /// At most one checkpoint is on its way: a crash tears one slot, never both.
    pub(crate) fn checkpoint_if_due(&mut self) {
        if self.checkpoint_busy || self.now_ms < self.checkpoint_due_ms {
            return;
        }
        let changed = self.checkpoint().open_zones != self.checkpoint_last.open_zones
            || self.next_lsn() != self.checkpoint_last.next_lsn
            || self.durable_lsn() != self.checkpoint_last.durable_lsn
            || self.next_base_position != self.checkpoint_last.next_base_position;
        let idle_ms = CHECKPOINT_PERIOD_IDLE_MS - CHECKPOINT_PERIOD_MS;
        if changed || self.now_ms >= self.checkpoint_due_ms + idle_ms {
            self.want_checkpoint();
        }
    }

    pub(crate) fn want_checkpoint(&mut self) {
        assert!(!self.checkpoint_busy);
        self.checkpoint_busy = true;
        self.checkpoint_due_ms = self.now_ms + CHECKPOINT_PERIOD_MS;
        self.checkpoint_sequence += 1;
        self.checkpoint_last = self.checkpoint();
        let bytes = self.checkpoint_last.encode(&self.options.store_id).to_vec();
        self.want_write(self.checkpoint_last.slot_offset(), bytes, Purpose::Checkpoint);
    }

    /// The sequence goes on so that the next one goes to the same slot or, in the end, to the
    /// other.
    pub(crate) fn checkpoint_refused(&mut self) {
        self.checkpoint_busy = false;
        self.checkpoint_failures += 1;
        if !self.checkpoint_failures.is_multiple_of(SLOT_FAILURES_MAX) {
            self.checkpoint_sequence += 1;
        }
        self.checkpoint_last.next_lsn = 0; // nothing is known to be on the drive: it is due
    }

    fn checkpoint(&self) -> Checkpoint {
        let marks = self.open.iter().map(|(zone, open)| OpenZoneMark {
            zone_lap: ZoneLap { zone: *zone, lap: self.zones[*zone as usize].lap },
            durable_len: open.durable_len,
        });
        let open_zones: Vec<OpenZoneMark> = marks.collect();
        assert!(open_zones.len() <= OPEN_ZONES_MAX, "an unnamed open zone could not be recovered");
        Checkpoint {
            sequence: self.checkpoint_sequence,
            incarnation: self.options.incarnation,
            clock: self.clock,
            durable_lsn: self.durable_lsn(),
            next_lsn: self.next_lsn(),
            next_base_position: self.next_base_position,
            open_zones,
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
