//! Making a zone ready for its next lap.
//!
//! Steps, each durable before the next: the kills that must outlive the zone go to the carry
//! journal; the zone header of the new lap is written; the carry record becomes the first record of
//! the lap. A crash between any two leaves every kill on the drive: in the old footer, in the
//! journal, or in the zone. One zone is prepared at a time, because there is one journal.
//!
//! A drive that refuses the header or the carry record leaves a zone of which nobody knows which
//! lap it is in. Its kills live in the journal then, so the next preparation writes its own behind
//! them and carries both; the journal starts over once a carry is durable.

use crate::log::{Log, Purpose, Written, volume_offset};
use crate::seal::kill_table;
use crate::types::{AppendError, Event, IoFailure};
use crate::zone::{Kills, OpenZone, ZoneState};
use tapeloop_format::{
    BLOCK, CARRY_JOURNAL_LEN, CARRY_JOURNAL_OFFSET, CHUNK, ClassId, FooterTable, FooterTrailer,
    Geometry, KILL_LEN, KeyHash, Kill, KillList, RecordHeader, RecordKind, RecordShape, StoreId,
    ZoneHeader, chunk_crc, round_up,
};

/// A zone on its way to its next lap.
pub(crate) struct Prepare {
    zone: u32,
    class: ClassId,
    step: Step,
    /// Kills that stay true beyond this zone's old lap, and those of zones that failed before it.
    kills: Vec<Kill>,
    carry: Vec<u8>,
    carry_lsn: u64,
    opened_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    ReadKills,
    Journal,
    Header,
    Carry,
}

impl Log {
    /// Starts to prepare a zone if a class wants one and none is under way.
    pub(crate) fn prepare_next(&mut self) {
        for class in &mut self.classes {
            class.wants_zone |= class.zones.len() < 2 && !class.waiting.is_empty();
        }
        while self.prepare.is_none() && self.is_running() {
            // Records that wait go before zones that are wanted ahead of need.
            let wanting = self.classes.iter().filter(|class| class.wants_zone);
            let Some(class) = wanting.max_by_key(|class| class.waiting.len()) else { return };
            let class = class.class;
            match self.take_zone() {
                Some(zone) => self.prepare_zone(zone, class),
                None if self.a_zone_is_closing() || self.close_for_space(class) => return,
                None => self.no_zone_for(class),
            }
        }
    }

    /// A zone that is being sealed can be taken soon: waiting for it is no lack of space.
    fn a_zone_is_closing(&self) -> bool {
        self.open.values().any(|open| open.closing && !open.footer_failed)
    }

    /// Every zone is open: one that holds nothing better makes way, unless the want is ahead of
    /// need.
    fn close_for_space(&mut self, class: ClassId) -> bool {
        let wanting = self.classes.iter().find(|known| known.class == class);
        if wanting.is_none_or(|class| class.waiting.is_empty()) {
            return false;
        }
        let open: Vec<u32> = self.open.keys().copied().collect();
        let Some(zone) = self.first_to_give(open.into_iter()) else { return false };
        self.close_zone(zone);
        true
    }

    fn no_zone_for(&mut self, class: ClassId) {
        let found = self.classes.iter_mut().find(|known| known.class == class);
        let class = found.expect("it just wanted a zone");
        class.wants_zone = false;
        let waiting = std::mem::take(&mut class.waiting);
        for pending in waiting {
            let (hash, ticket) = (pending.append.hash, pending.append.ticket);
            self.finish(&hash, Event::Failed { ticket, error: AppendError::NoSpace });
        }
    }

    fn prepare_zone(&mut self, zone: u32, class: ClassId) {
        let lap = self.zones[zone as usize].lap;
        self.zones[zone as usize].state = ZoneState::Preparing;
        self.directory.set_lap(zone, lap, false);
        let (step, kills) = match &self.zones[zone as usize].kills {
            Kills::None => (Step::Journal, Vec::new()),
            Kills::InMemory(kills) => (Step::Journal, kills.clone()),
            Kills::OnDrive(trailer) => {
                let (offset, len) = kill_table(trailer);
                let offset = volume_offset(&self.options.geometry, zone, offset);
                self.want_read(offset, len, Purpose::Prepare);
                (Step::ReadKills, Vec::new())
            }
        };
        let (carry, carry_lsn, opened_ms) = (Vec::new(), 0, 0);
        self.prepare = Some(Prepare { zone, class, step, kills, carry, carry_lsn, opened_ms });
        if step == Step::Journal {
            self.write_journal();
        }
    }

    /// An I/O of the preparation ended.
    pub(crate) fn prepare_step_done(&mut self, result: Result<Vec<u8>, IoFailure>) {
        let prepare = self.prepare.as_mut().expect("a preparation is under way");
        match (prepare.step, result) {
            (Step::ReadKills, Ok(bytes)) => {
                let Kills::OnDrive(trailer) = &self.zones[prepare.zone as usize].kills else {
                    unreachable!("kills are read from where the zone says they are")
                };
                match decode_kills(trailer, &self.options.store_id, &bytes) {
                    Some(kills) => {
                        prepare.kills = kills;
                        self.write_journal();
                        self.prepare_next();
                    }
                    None => self.abandon_zone(),
                }
            }
            (_, Ok(_)) => self.written_unflushed(Written::Prepare),
            (_, Err(_)) => self.abandon_zone(),
        }
    }

    /// A step of the preparation is durable.
    pub(crate) fn prepare_step_durable(&mut self) {
        match self.prepare.as_ref().expect("a preparation is under way").step {
            Step::ReadKills => unreachable!("a read is never flushed"),
            Step::Journal => self.write_header(),
            Step::Header => self.header_durable(),
            Step::Carry => self.zone_prepared(),
        }
    }

    fn write_journal(&mut self) {
        let prepare = self.prepare.as_mut().expect("a preparation is under way");
        let zones = &self.zones;
        let zone = prepare.zone;
        prepare.kills.append(&mut self.orphans.clone());
        // A kill is needed for as long as the drive holds its victim. This zone's own old lap is
        // about to go.
        prepare.kills.retain(|kill| {
            let victim = kill.victim_zone;
            victim != zone && kill.names(victim, zones[victim as usize].lap)
        });
        if prepare.kills.is_empty() {
            return self.write_header();
        }
        let lsn = self.take_lsn();
        let carry = self.carry_record(zone, lsn);
        let prepare = self.prepare.as_mut().expect("a preparation is under way");
        prepare.carry_lsn = lsn;
        let journal_left = CARRY_JOURNAL_LEN - self.journal_used;
        let table_len = round_up(prepare.kills.len() * KILL_LEN, BLOCK) - BLOCK;
        let fits_zone = (carry.len() + table_len) as u64 <= carry_room(&self.options.geometry);
        if !fits_zone || carry.len() as u64 > journal_left {
            return self.put_zone_back();
        }
        prepare.step = Step::Journal;
        prepare.carry = carry.clone();
        let offset = CARRY_JOURNAL_OFFSET + self.journal_used;
        self.journal_used += carry.len() as u64;
        self.want_write(offset, carry, Purpose::Prepare);
    }

    /// The record that brings the kills into the new lap; the journal holds the very same bytes.
    fn carry_record(&self, zone: u32, lsn: u64) -> Vec<u8> {
        let kills = &self.prepare.as_ref().expect("a preparation is under way").kills;
        let payload = Kill::encode_list(kills);
        let shape = RecordShape::of(0, 0, payload.len() as u64);
        let crcs = payload.chunks(CHUNK).map(|chunk| chunk_crc(self.salt, chunk)).collect();
        let header = RecordHeader {
            kind: RecordKind::Carry,
            zone,
            lap: self.zones[zone as usize].lap + 1,
            position: self.next_base_position + BLOCK as u64,
            lsn,
            incarnation: self.options.incarnation,
            durable_lsn: self.durable_lsn(),
            stored_ms: self.now_ms,
            expires_ms: 0,
            created_wall_ms: 0,
            payload_len: payload.len() as u64,
            hole_len: 0,
            content_hash: [0; 16],
            key_hash: KeyHash([0; 16]),
            victim: None,
            key: Box::default(),
            metadata: Box::default(),
            chunk_crcs: crcs,
        };
        let mut bytes = header.encode(self.salt);
        bytes.resize(shape.record_len, 0);
        bytes[shape.payload_offset..][..payload.len()].copy_from_slice(&payload);
        bytes
    }

    fn write_header(&mut self) {
        let prepare = self.prepare.as_mut().expect("a preparation is under way");
        prepare.step = Step::Header;
        prepare.opened_ms = self.now_ms;
        let (zone, class) = (prepare.zone, prepare.class);
        let header = ZoneHeader {
            zone,
            lap: self.zones[zone as usize].lap + 1,
            base_position: self.next_base_position,
            class,
            opened_store_ms: self.now_ms,
            incarnation: self.options.incarnation,
        };
        let offset = volume_offset(&self.options.geometry, zone, 0);
        self.want_write(offset, header.encode(&self.options.store_id).to_vec(), Purpose::Prepare);
    }

    fn header_durable(&mut self) {
        let prepare = self.prepare.as_mut().expect("a preparation is under way");
        let (zone, class, opened_ms) = (prepare.zone, prepare.class, prepare.opened_ms);
        let carry = std::mem::take(&mut prepare.carry);
        let base_position = self.next_base_position;
        self.next_base_position += self.options.geometry.zone_size();
        let meta = &mut self.zones[zone as usize];
        meta.lap += 1;
        meta.class = class;
        meta.base_position = base_position;
        meta.opened_ms = opened_ms;
        meta.max_expires_ms = 0;
        meta.used_len = BLOCK as u64;
        meta.record_count = 0;
        meta.kills = Kills::None;
        meta.state = ZoneState::Open;
        self.directory.set_lap(zone, meta.lap, true);
        self.open.insert(zone, OpenZone::new(BLOCK as u64));
        if carry.is_empty() {
            return self.zone_prepared();
        }
        let prepare = self.prepare.as_mut().expect("a preparation is under way");
        prepare.step = Step::Carry;
        let record_len = carry.len() as u64;
        let (lsn, kills) = (prepare.carry_lsn, std::mem::take(&mut prepare.kills));
        self.stats.kills_carried += kills.len() as u64;
        self.open.get_mut(&zone).expect("just opened").carried(lsn, record_len, kills);
        self.zones[zone as usize].record_count = 1;
        let offset = volume_offset(&self.options.geometry, zone, BLOCK as u64);
        self.want_write(offset, carry, Purpose::Prepare);
    }

    fn zone_prepared(&mut self) {
        let prepare = self.prepare.take().expect("a preparation is under way");
        self.open.get_mut(&prepare.zone).expect("just opened").carry_durable();
        if prepare.carry_lsn != 0 {
            self.resolve_lsn(prepare.carry_lsn);
        }
        self.journal_used = 0;
        self.orphans.clear();
        self.zone_ready(prepare.class, prepare.zone);
        self.prepare_next();
    }

    /// More kills than a zone may begin with: it is tried again when another zone has moved on,
    /// because kills die with their victims.
    fn put_zone_back(&mut self) {
        let prepare = self.prepare.take().expect("a preparation is under way");
        self.resolve_lsn(prepare.carry_lsn);
        self.keep_old_lap(prepare.zone);
        self.zones[prepare.zone as usize].put_back_at = Some(self.next_base_position);
    }

    /// The zone cannot be made ready: its drive refuses, or its kills cannot be read. What it
    /// holds is left alone, because only its own footer keeps old versions dead.
    fn abandon_zone(&mut self) {
        let prepare = self.prepare.take().expect("a preparation is under way");
        if prepare.carry_lsn != 0 {
            self.resolve_lsn(prepare.carry_lsn);
        }
        self.zones[prepare.zone as usize].bad = true;
        match prepare.step {
            Step::ReadKills | Step::Journal => self.keep_old_lap(prepare.zone),
            Step::Header => {
                // The new lap may be there or not: its position is used up, its kills are in the
                // journal.
                self.next_base_position += self.options.geometry.zone_size();
                self.orphans = prepare.kills;
                self.keep_old_lap(prepare.zone);
                self.directory.set_lap(prepare.zone, self.zones[prepare.zone as usize].lap, false);
            }
            Step::Carry => {
                let open = self.open.get_mut(&prepare.zone).expect("just opened");
                self.orphans = open.kills.clone();
                self.close_zone(prepare.zone);
            }
        }
        self.prepare_next();
    }

    /// The zone stays what it was; unless it is expired it is served again.
    fn keep_old_lap(&mut self, zone: u32) {
        let now_ms = self.now_ms;
        let meta = &mut self.zones[zone as usize];
        meta.state = ZoneState::Sealed;
        self.directory.set_lap(zone, meta.lap, meta.max_expires_ms > now_ms);
    }
}

/// What a carry record and its kills in the footer may take from a zone: a sixteenth. Objects are
/// never so large that they need it.
fn carry_room(geometry: &Geometry) -> u64 {
    geometry.zone_size() / 16
}

/// Largest object that a log takes on a volume of this geometry, in bytes.
pub fn object_len_max(geometry: &Geometry) -> u64 {
    geometry.record_payload_max() - carry_room(geometry)
}

fn decode_kills(trailer: &FooterTrailer, store_id: &StoreId, bytes: &[u8]) -> Option<Vec<Kill>> {
    let table = trailer.verify_table(store_id, FooterTable::Kills, bytes).ok()?;
    Some(KillList::new(table).ok()?.collect())
}
