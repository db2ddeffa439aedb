//! Full zones get their footer, and the checkpoint says how far open ones are durable.

use crate::clock::MARK_PERIOD_MS;
use crate::log::{Log, Purpose, volume_offset};
use crate::zone::{Kills, ZoneState};
use tapeloop_format::{
    BLOCK, Checkpoint, FooterBuilder, FooterSummary, FooterTable, FooterTrailer, OPEN_ZONES_MAX,
    OpenZoneMark, ZoneHeader, ZoneLap,
};

/// A checkpoint this often keeps the scan after a crash short.
const CHECKPOINT_PERIOD_MS: u64 = 1000;
const _: () = assert!(CHECKPOINT_PERIOD_MS <= MARK_PERIOD_MS);

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

    /// Without a footer the zone is found by scanning, for which checkpoints go on naming it as open; its
    /// kills stay in memory until it is reused.
    pub(crate) fn footer_failed(&mut self, zone: u32) {
        let open = self.open.get_mut(&zone).expect("a sealed zone was open");
        open.footer_failed = true;
        let meta = &mut self.zones[zone as usize];
        meta.bad = true;
        meta.kills = Kills::InMemory(open.kills.clone());
        self.prepare_next();
    }

    pub(crate) fn want_checkpoint(&mut self) {
        self.checkpoint_due_ms = self.now_ms + CHECKPOINT_PERIOD_MS;
        self.checkpoint_sequence += 1;
        let open_zones: Vec<OpenZoneMark> = self
            .open
            .iter()
            .map(|(zone, open)| OpenZoneMark {
                zone_lap: ZoneLap { zone: *zone, lap: self.zones[*zone as usize].lap },
                durable_len: open.durable_len,
            })
            .take(OPEN_ZONES_MAX)
            .collect();
        let checkpoint = Checkpoint {
            sequence: self.checkpoint_sequence,
            incarnation: self.options.incarnation,
            clock: self.clock,
            durable_lsn: self.durable_lsn(),
            next_lsn: self.next_lsn(),
            next_base_position: self.next_base_position,
            open_zones,
        };
        let bytes = checkpoint.encode(&self.options.store_id).to_vec();
        self.want_write(checkpoint.slot_offset(), bytes, Purpose::Checkpoint);
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
