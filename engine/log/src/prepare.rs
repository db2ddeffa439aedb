//! Making a zone ready for its next lap.
//!
//! Steps, each durable before the next: the kills that must outlive the zone go to the carry
//! journal of its volume; the zone header of the new lap is written; the carry record becomes the
//! first record of the lap. A crash between any two leaves every kill on the drive: in the old
//! footer, in the journal, or in the zone. Each volume prepares one zone at a time, because it has
//! one journal.
//!
//! A drive that refuses the header or the carry record, or is fenced then, leaves a zone of which
//! nobody knows which lap it is in. Its kills live in the journal: they are *orphans*. The next
//! preparation, on whatever volume, takes them along; a journal starts over once no orphan is left
//! in it.
//!
//! A base position is used once. A checkpoint calls the base of a zone that is being prepared the
//! next one still: until the header is durable a crash must take the zone for one opened since.

use crate::append::shape_of;
use crate::ghost::VICTIMS_MAX;
use crate::log::{Log, Purpose, Written};
use crate::seal::kill_table;
use crate::types::{AppendError, Event, IoFailure};
use crate::zone::{Kills, OpenZone, ZoneState};
use tapeloop_format::{
    BLOCK, CARRY_JOURNAL_LEN, CARRY_JOURNAL_OFFSET, CHUNK, ClassId, FooterTable, FooterTrailer,
    Geometry, KILL_LEN, KeyHash, Kill, KillList, RecordHeader, RecordKind, RecordShape, StoreId,
    ZoneHeader, ZoneLap, chunk_crc, round_up,
};

/// A zone on its way to its next lap.
pub(crate) struct Prepare {
    zone: u32,
    pub(crate) class: ClassId,
    step: Step,
    /// Kills that stay true beyond this zone's old lap, and the orphans taken along.
    kills: Vec<Kill>,
    /// Which orphans.
    adopted: Vec<u64>,
    carry: Vec<u8>,
    carry_lsn: u64,
    pub(crate) base_position: u64,
    opened_ms: u64,
}

/// Kills of a zone that could not be made ready.
pub(crate) struct Orphans {
    /// Whose journal has them.
    volume: u16,
    kills: Vec<Kill>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    ReadKills,
    Journal,
    Header,
    Carry,
}

impl Prepare {
    /// The zone that is being written to, or what lies before all zones. `None` while it reads.
    pub(crate) fn written_place(&self) -> Option<Option<u32>> {
        match self.step {
            Step::ReadKills => None,
            Step::Journal => Some(None),
            Step::Header | Step::Carry => Some(Some(self.zone)),
        }
    }
}

impl Log {
    /// Starts to prepare zones for the classes that want one, on volumes that have none under way.
    pub(crate) fn prepare_next(&mut self) {
        for at in 0..self.classes.len() {
            let too_few = self.near_zones(at).count() < 2 && !self.classes[at].waiting.is_empty();
            self.classes[at].wants_zone |= too_few;
        }
        while self.is_running() {
            // Records that wait go before zones that are wanted ahead of need.
            let wanting = self.classes.iter().filter(|class| class.wants_zone);
            let unserved = wanting.filter(|class| !self.is_prepared_for(class.class));
            let Some(class) = unserved.max_by_key(|class| class.waiting.len()) else { return };
            let (class, is_needed) = (class.class, !class.waiting.is_empty());
            match self.take_zone(is_needed) {
                Some(zone) => self.prepare_zone(zone, class),
                None if self.a_zone_comes() || self.close_for_space(class) => return,
                None => self.no_zone_for(class),
            }
        }
    }

    /// Is a zone for the class under way that is likely to come soon?
    fn is_prepared_for(&self, class: ClassId) -> bool {
        let near = self.volumes.iter().filter(|own| own.is_usable() && !own.is_far);
        let mut prepares = near.filter_map(|own| own.prepare.as_ref());
        prepares.any(|prepare| prepare.class == class)
    }

    /// A volume is busy with another zone, or a zone is being sealed: waiting for that is no lack
    /// of space.
    fn a_zone_comes(&self) -> bool {
        let is_preparing = |volume: &u16| self.volume(*volume).prepare.is_some();
        let is_sealed_soon = |zone: u32| {
            let open = &self.open[&zone];
            open.closing && !open.footer_failed && self.volume(self.volume_of(zone)).is_usable()
        };
        self.usable_volumes().iter().any(is_preparing)
            || self.open.keys().any(|zone| is_sealed_soon(*zone))
    }

    /// Every zone is open: one that holds nothing better makes way, unless the want is ahead of
    /// need.
    fn close_for_space(&mut self, class: ClassId) -> bool {
        let wanting = self.classes.iter().find(|known| known.class == class);
        if wanting.is_none_or(|class| class.waiting.is_empty()) {
            return false;
        }
        let usable = |zone: &u32| self.volume(self.volume_of(*zone)).is_usable();
        let open: Vec<u32> = self.open.keys().copied().filter(usable).collect();
        let Some(zone) = self.first_to_give(open.into_iter()) else { return false };
        self.close_zone(zone);
        true
    }

    /// No zone can be had: what waits goes where it would rather not have gone, or fails.
    fn no_zone_for(&mut self, class: ClassId) {
        let at = self.classes.iter().position(|known| known.class == class);
        let at = at.expect("it just wanted a zone");
        self.classes[at].wants_zone = false;
        let waiting = std::mem::take(&mut self.classes[at].waiting);
        for pending in waiting {
            let shape = shape_of(&pending.append);
            let key_len = pending.append.key.len();
            if let Some(zone) = self.far_zone_with_room(class, &shape, key_len) {
                self.write_record(zone, &shape, pending);
                continue;
            }
            let (hash, ticket) = (pending.append.hash, pending.append.ticket);
            self.finish(&hash, Event::Failed { ticket, error: AppendError::NoSpace });
        }
    }

    fn prepare_zone(&mut self, zone: u32, class: ClassId) {
        let volume = self.volume_of(zone);
        assert!(self.volume(volume).prepare.is_none(), "a volume has one journal");
        let lap = self.zones[zone as usize].lap;
        self.zones[zone as usize].state = ZoneState::Preparing;
        self.directory.set_lap(zone, lap, false);
        let (step, kills) = match &self.zones[zone as usize].kills {
            Kills::None => (Step::Journal, Vec::new()),
            Kills::InMemory(kills) => (Step::Journal, kills.clone()),
            Kills::OnDrive(trailer) => {
                let (offset, len) = kill_table(trailer);
                self.want_zone_read(zone, offset, len, Purpose::Prepare);
                (Step::ReadKills, Vec::new())
            }
        };
        self.volume_mut(volume).prepare = Some(Prepare {
            zone,
            class,
            step,
            kills,
            adopted: Vec::new(),
            carry: Vec::new(),
            carry_lsn: 0,
            base_position: u64::MAX,
            opened_ms: 0,
        });
        if step == Step::Journal {
            self.write_journal(volume);
        }
    }

    pub(crate) fn prepare(&self, volume: u16) -> &Prepare {
        self.volume(volume).prepare.as_ref().expect("a preparation is under way")
    }

    fn prepare_mut(&mut self, volume: u16) -> &mut Prepare {
        self.volume_mut(volume).prepare.as_mut().expect("a preparation is under way")
    }

    /// An I/O of the preparation ended.
    pub(crate) fn prepare_step_done(&mut self, volume: u16, result: Result<Vec<u8>, IoFailure>) {
        let prepare = self.prepare(volume);
        match (prepare.step, result) {
            (Step::ReadKills, Ok(bytes)) => {
                let Kills::OnDrive(trailer) = &self.zones[prepare.zone as usize].kills else {
                    unreachable!("kills are read from where the zone says they are")
                };
                match decode_kills(trailer, &self.options.store_id, &bytes) {
                    Some(kills) => {
                        self.prepare_mut(volume).kills = kills;
                        self.write_journal(volume);
                        self.prepare_next();
                    }
                    None => self.abandon_zone(volume),
                }
            }
            (Step::Journal, Ok(_)) if planted!(Bug::JournalNotFlushed) => self.write_header(volume),
            (Step::Header, Ok(_)) if planted!(Bug::HeaderNotFlushed) => self.header_durable(volume),
            (Step::Carry, Ok(_)) if planted!(Bug::CarryNotFlushed) => self.zone_prepared(volume),
            (_, Ok(_)) => self.written(volume, Written::Prepare),
            (_, Err(_)) => self.abandon_zone(volume),
        }
    }

    /// A step of the preparation is durable.
    pub(crate) fn prepare_step_durable(&mut self, volume: u16) {
        match self.prepare(volume).step {
            Step::ReadKills => unreachable!("a read is never flushed"),
            Step::Journal => self.write_header(volume),
            Step::Header => self.header_durable(volume),
            Step::Carry => self.zone_prepared(volume),
        }
    }

    /// A kill is needed for as long as a drive holds its victim. The old lap of the zone that is
    /// reused is about to go.
    fn is_needed(&self, kill: &Kill, reused: u32) -> bool {
        let victim = self.zones.get(kill.victim_zone as usize);
        kill.victim_zone != reused
            && victim.is_some_and(|victim| match victim.state {
                // What a missing volume holds is given up, and its kills with it.
                ZoneState::Unknown => !self.volume(self.volume_of(kill.victim_zone)).is_missing,
                _ => kill.names(kill.victim_zone, victim.lap),
            })
    }

    fn write_journal(&mut self, volume: u16) {
        let mut prepare = self.volume_mut(volume).prepare.take().expect("under way");
        for (number, orphans) in &self.orphans {
            prepare.kills.extend_from_slice(&orphans.kills);
            prepare.adopted.push(*number);
        }
        prepare.kills.retain(|kill| self.is_needed(kill, prepare.zone));
        if planted!(Bug::SkipCarry) {
            prepare.kills.clear();
        }
        if prepare.kills.is_empty() {
            self.volume_mut(volume).prepare = Some(prepare);
            return self.write_header(volume);
        }
        let lsn = self.take_lsn();
        let carry = self.carry_record(&prepare, lsn);
        prepare.carry_lsn = lsn;
        let journal_used = self.volume(volume).journal_used;
        // Behind the carry the largest object must still fit, whatever it names.
        let kills_max = prepare.kills.len() + VICTIMS_MAX;
        let table_len = round_up(kills_max * KILL_LEN, BLOCK) - BLOCK;
        let fits_zone =
            (carry.len() + table_len) as u64 <= carry_room(self.options.geometry.volume());
        if !fits_zone || carry.len() as u64 > CARRY_JOURNAL_LEN - journal_used {
            return self.put_zone_back(&prepare);
        }
        prepare.step = Step::Journal;
        prepare.carry = carry.clone();
        prepare.base_position = self.take_base_position();
        let own = self.volume_mut(volume);
        own.prepare = Some(prepare);
        own.journal_used += carry.len() as u64;
        let behind = if planted!(Bug::JournalReused) { 0 } else { journal_used };
        self.want_write(volume, CARRY_JOURNAL_OFFSET + behind, carry, Purpose::Prepare);
    }

    fn take_base_position(&mut self) -> u64 {
        let base_position = self.next_base_position;
        self.next_base_position += self.options.geometry.zone_size();
        base_position
    }

    /// The record that brings the kills into the new lap; the journal holds the very same bytes.
    fn carry_record(&self, prepare: &Prepare, lsn: u64) -> Vec<u8> {
        let payload = Kill::encode_list(&prepare.kills);
        let shape = RecordShape::of(0, 0, payload.len() as u64);
        let crcs = payload.chunks(CHUNK).map(|chunk| chunk_crc(self.salt, chunk)).collect();
        let lap = self.zones[prepare.zone as usize].lap + 1;
        let header = RecordHeader {
            payload_len: payload.len() as u64,
            chunk_crcs: crcs,
            // The base position that the zone is about to take.
            ..self.own_record(
                RecordKind::Carry,
                ZoneLap { zone: prepare.zone, lap },
                self.next_base_position + BLOCK as u64,
                lsn,
            )
        };
        let mut bytes = header.encode(self.salt);
        bytes.resize(shape.record_len, 0);
        bytes[shape.payload_offset..][..payload.len()].copy_from_slice(&payload);
        bytes
    }

    /// A record that belongs to no key.
    pub(crate) fn own_record(
        &self,
        kind: RecordKind,
        place: ZoneLap,
        position: u64,
        lsn: u64,
    ) -> RecordHeader {
        RecordHeader {
            kind,
            zone: place.zone,
            lap: place.lap,
            position,
            lsn,
            incarnation: self.options.incarnation,
            durable_lsn: self.durable_lsn(),
            stored_ms: self.now_ms,
            expires_ms: 0,
            created_wall_ms: 0,
            payload_len: 0,
            hole_len: 0,
            content_hash: [0; 16],
            key_hash: KeyHash([0; 16]),
            victim: None,
            more_victims: Box::default(),
            key: Box::default(),
            metadata: Box::default(),
            chunk_crcs: Box::default(),
        }
    }

    fn write_header(&mut self, volume: u16) {
        if self.prepare(volume).base_position == u64::MAX {
            self.prepare_mut(volume).base_position = self.take_base_position();
        }
        let now_ms = self.now_ms;
        let prepare = self.prepare_mut(volume);
        prepare.step = Step::Header;
        prepare.opened_ms = now_ms;
        let (zone, class, base_position) = (prepare.zone, prepare.class, prepare.base_position);
        let header = ZoneHeader {
            zone,
            lap: self.zones[zone as usize].lap + 1,
            base_position,
            class,
            opened_store_ms: now_ms,
            incarnation: self.options.incarnation,
        };
        let bytes = header.encode(&self.options.store_id).to_vec();
        self.want_zone_write(zone, 0, bytes, Purpose::Prepare);
    }

    fn header_durable(&mut self, volume: u16) {
        let prepare = self.prepare_mut(volume);
        let (zone, class, opened_ms) = (prepare.zone, prepare.class, prepare.opened_ms);
        let base_position = prepare.base_position;
        let carry = prepare.carry.clone();
        let meta = &mut self.zones[zone as usize];
        self.ghosts.forget_zone(ZoneLap { zone, lap: meta.lap });
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
            return self.zone_prepared(volume);
        }
        let prepare = self.prepare_mut(volume);
        prepare.step = Step::Carry;
        let record_len = carry.len() as u64;
        let (lsn, kills) = (prepare.carry_lsn, std::mem::take(&mut prepare.kills));
        self.stats.kills_carried += kills.len() as u64;
        self.open.get_mut(&zone).expect("just opened").carried(lsn, record_len, kills);
        self.zones[zone as usize].record_count = 1;
        self.want_zone_write(zone, BLOCK as u64, carry, Purpose::Prepare);
    }

    fn zone_prepared(&mut self, volume: u16) {
        let prepare = self.volume_mut(volume).prepare.take().expect("under way");
        self.open.get_mut(&prepare.zone).expect("just opened").carry_durable();
        if prepare.carry_lsn != 0 {
            self.resolve_lsn(prepare.carry_lsn);
        }
        for number in &prepare.adopted {
            self.orphans.remove(number);
        }
        self.start_journals_over();
        self.zone_ready(prepare.class, prepare.zone);
        self.prepare_next();
    }

    /// What is in a journal is needed while its zone is being prepared, and while it has orphans.
    fn start_journals_over(&mut self) {
        for volume in 0..self.options.geometry.volume_count() {
            let has_orphans = self.orphans.values().any(|orphans| orphans.volume == volume);
            let own = self.volume_mut(volume);
            if own.prepare.is_none() && !has_orphans {
                own.journal_used = 0;
            }
        }
    }

    /// More kills than a zone may begin with: it is tried again when another zone has moved on,
    /// because kills die with their victims.
    fn put_zone_back(&mut self, prepare: &Prepare) {
        self.resolve_lsn(prepare.carry_lsn);
        self.keep_old_lap(prepare.zone);
        self.zones[prepare.zone as usize].put_back_at = Some(self.next_base_position);
    }

    /// The zone cannot be made ready: its drive refuses or is fenced, or its kills cannot be read.
    /// What it holds is left alone, because only its own footer keeps old versions dead.
    pub(crate) fn abandon_zone(&mut self, volume: u16) {
        let prepare = self.volume_mut(volume).prepare.take().expect("under way");
        let zone = prepare.zone;
        self.zones[zone as usize].bad |= self.volume(volume).is_usable();
        if prepare.carry_lsn != 0 && prepare.step != Step::Carry {
            self.resolve_lsn(prepare.carry_lsn);
        }
        match prepare.step {
            Step::ReadKills => self.keep_old_lap(zone),
            Step::Journal => {
                // Who reads the journal stops at what a failed write left: it is written over.
                self.volume_mut(volume).journal_used -= prepare.carry.len() as u64;
                self.keep_old_lap(zone);
            }
            Step::Header => {
                // The new lap may be there or not.
                let lap = self.zones[zone as usize].lap + 1;
                self.unsure_laps.push(ZoneLap { zone, lap });
                self.add_orphans(volume, prepare.kills, &prepare.adopted, Some(zone));
                self.keep_old_lap(zone);
                self.directory.set_lap(zone, self.zones[zone as usize].lap, false);
            }
            Step::Carry => {
                let open = self.open.get_mut(&zone).expect("just opened");
                open.carry_lost(prepare.carry_lsn, prepare.carry);
                let kills = open.kills.clone();
                self.add_orphans(volume, kills, &prepare.adopted, None);
                self.close_zone(zone);
            }
        }
        self.prepare_next();
    }

    /// Those that were taken along are among the kills, which this journal has; but not those of
    /// what lies in the zone itself, and that may still be there if its new lap is not.
    fn add_orphans(&mut self, volume: u16, kills: Vec<Kill>, adopted: &[u64], kept: Option<u32>) {
        for number in adopted {
            // Another volume's preparation may have brought them all to safety meanwhile.
            let Some(taken) = self.orphans.get_mut(number) else { continue };
            taken.kills.retain(|kill| Some(kill.victim_zone) == kept);
            if taken.kills.is_empty() {
                self.orphans.remove(number);
            }
        }
        if !kills.is_empty() && !planted!(Bug::ForgetOrphans) {
            self.orphans.insert(self.next_orphans, Orphans { volume, kills });
            self.next_orphans += 1;
        }
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

/// Largest object that a log takes on volumes of this geometry, in bytes.
pub fn object_len_max(geometry: &Geometry) -> u64 {
    geometry.record_payload_max() - carry_room(geometry)
}

fn decode_kills(trailer: &FooterTrailer, store_id: &StoreId, bytes: &[u8]) -> Option<Vec<Kill>> {
    let table = trailer.verify_table(store_id, FooterTable::Kills, bytes).ok()?;
    Some(KillList::new(table).ok()?.collect())
}
