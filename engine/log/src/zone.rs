//! What the log remembers of a zone, and of a zone that is open.

use crate::ghost::VICTIMS_MAX;
use std::collections::VecDeque;
use tapeloop_format::{
    BLOCK, ClassId, FooterBuilder, FooterEntry, FooterTrailer, Geometry, KeyHash, Kill,
    RecordShape, footer_len,
};

/// Where the kills of a zone are kept until it is reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kills {
    None,
    /// In the footer with this trailer.
    OnDrive(Box<FooterTrailer>),
    /// The zone has no footer that could be trusted.
    InMemory(Vec<Kill>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ZoneState {
    /// May be reused at once; what it held is expired.
    Free,
    /// Being made ready for its next lap.
    Preparing,
    /// Appended to, or full and not yet sealed.
    Open,
    /// Full, footer durable.
    Sealed,
    /// On a volume that is missing, or the drive cannot read what it is: nothing is known of it,
    /// and nothing is written.
    Unknown,
}

/// One zone.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    pub(crate) state: ZoneState,
    /// Lap on the drive; 0 if it was never used.
    pub(crate) lap: u64,
    pub(crate) class: ClassId,
    pub(crate) base_position: u64,
    pub(crate) opened_ms: u64,
    /// When the last of its objects expires.
    pub(crate) max_expires_ms: u64,
    pub(crate) used_len: u64,
    pub(crate) record_count: u32,
    pub(crate) kills: Kills,
    /// A write failed here: nothing more is written until the store is opened again.
    pub(crate) bad: bool,
    /// Its kills were too many when the log had come to this position.
    pub(crate) put_back_at: Option<u64>,
}

impl Zone {
    /// Not to be touched.
    pub(crate) fn unknown() -> Zone {
        Zone { state: ZoneState::Unknown, ..Zone::unused() }
    }

    pub(crate) fn unused() -> Zone {
        Zone {
            state: ZoneState::Free,
            lap: 0,
            class: ClassId { bucket: 0, group: 0 },
            base_position: 0,
            opened_ms: 0,
            max_expires_ms: 0,
            used_len: 0,
            record_count: 0,
            kills: Kills::None,
            bad: false,
            put_back_at: None,
        }
    }
}

/// One object of an open zone, as the footer will list it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) hash: KeyHash,
    pub(crate) lsn: u64,
    pub(crate) offset: u64,
    pub(crate) payload_len: u32,
    pub(crate) expires_ms: u64,
    pub(crate) metadata_len: u16,
    pub(crate) key: Box<[u8]>,
}

struct Placed {
    lsn: u64,
    offset: u64,
    len: u64,
    durable: bool,
}

/// A stretch of the zone that may hold what was written to it or not.
#[derive(Clone, Debug)]
pub(crate) struct Hole {
    /// Of the record.
    pub(crate) lsn: u64,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// The carry record of the lap is written again: as long as the zone has no footer only the
    /// journal has its kills. Any other record must not be found.
    pub(crate) carry: Option<Vec<u8>>,
}

/// The part of a zone's state that exists only while it is open.
pub(crate) struct OpenZone {
    /// End of what has been placed, from the start of the zone.
    pub(crate) used: u64,
    /// Everything below is durable and without holes.
    pub(crate) durable_len: u64,
    pub(crate) listed: Vec<Listed>,
    pub(crate) kills: Vec<Kill>,
    pub(crate) in_flight: u32,
    /// No more appends; sealed as soon as nothing is in flight.
    pub(crate) closing: bool,
    pub(crate) sealing: bool,
    /// The drive refused the footer: the zone stays among the open ones, so that a restart scans
    /// it.
    pub(crate) footer_failed: bool,
    placed: VecDeque<Placed>,
    /// What failed writes left; it is written over before the footer is written.
    pub(crate) holes: Vec<Hole>,
    /// Voids that are not durable yet.
    pub(crate) voids_left: usize,
    /// Smallest and largest LSN of the zone's records.
    pub(crate) lsn_first: u64,
    pub(crate) lsn_last: u64,
    entries_reserved: u64,
    kills_reserved: u64,
    keys_reserved: u64,
}

impl OpenZone {
    pub(crate) fn new(used: u64) -> OpenZone {
        assert!(used >= BLOCK as u64);
        OpenZone {
            used,
            durable_len: used,
            listed: Vec::new(),
            kills: Vec::new(),
            in_flight: 0,
            closing: false,
            sealing: false,
            footer_failed: false,
            placed: VecDeque::new(),
            holes: Vec::new(),
            voids_left: 0,
            lsn_first: u64::MAX,
            lsn_last: 0,
            entries_reserved: 0,
            kills_reserved: 0,
            keys_reserved: 0,
        }
    }

    /// Takes up what recovery found in the zone.
    pub(crate) fn recovered(
        used: u64,
        listed: Vec<Listed>,
        kills: Vec<Kill>,
        lsns: (u64, u64),
    ) -> OpenZone {
        let mut open = OpenZone::new(used);
        (open.lsn_first, open.lsn_last) = lsns;
        open.entries_reserved = listed.len() as u64;
        open.kills_reserved = kills.len() as u64;
        open.keys_reserved = listed.iter().map(|entry| entry.key.len() as u64).sum();
        open.listed = listed;
        open.kills = kills;
        open
    }

    /// Room for one more record and the footer that must still fit behind it? A record may bring as
    /// many kills as it can name victims.
    pub(crate) fn has_room(&self, zone_size: u64, shape: &RecordShape, key_len: usize) -> bool {
        let footer = footer_len(
            self.entries_reserved + 1,
            self.kills_reserved + VICTIMS_MAX as u64,
            self.keys_reserved + key_len as u64,
        );
        self.used + shape.record_len as u64 + footer <= zone_size
    }

    /// Bytes that could still take records.
    pub(crate) fn room(&self, zone_size: u64) -> u64 {
        let footer =
            footer_len(self.entries_reserved + 1, self.kills_reserved + 1, self.keys_reserved);
        zone_size.saturating_sub(self.used + footer)
    }

    /// Places a record; the offset it gets.
    pub(crate) fn place(
        &mut self,
        lsn: u64,
        record_len: u64,
        put_key_len: Option<usize>,
        kills: u64,
    ) -> u64 {
        assert_eq!(record_len % BLOCK as u64, 0);
        assert!(!self.closing);
        self.saw_lsn(lsn);
        let offset = self.used;
        self.used += record_len;
        self.in_flight += 1;
        self.kills_reserved += kills;
        if let Some(key_len) = put_key_len {
            self.entries_reserved += 1;
            self.keys_reserved += key_len as u64;
        }
        self.placed.push_back(Placed { lsn, offset, len: record_len, durable: false });
        offset
    }

    pub(crate) fn saw_lsn(&mut self, lsn: u64) {
        self.lsn_first = self.lsn_first.min(lsn);
        self.lsn_last = self.lsn_last.max(lsn);
    }

    /// A placed record came to its end. A lost one leaves a hole that `durable_len` never passes.
    pub(crate) fn resolve(&mut self, offset: u64, durable: bool) {
        assert!(self.in_flight > 0);
        self.in_flight -= 1;
        let placed = self.placed.iter_mut().find(|placed| placed.offset == offset);
        let placed = placed.expect("a resolved record was placed");
        placed.durable = durable;
        if !durable {
            let Placed { lsn, offset, len, .. } = *placed;
            self.holes.push(Hole { lsn, offset, len, carry: None });
        }
        while self.placed.front().is_some_and(|first| first.durable) {
            let first = self.placed.pop_front().expect("front was just seen");
            assert_eq!(first.offset, self.durable_len);
            self.durable_len += first.len;
        }
    }

    /// The carry record that opens a lap is on its way.
    pub(crate) fn carried(&mut self, lsn: u64, record_len: u64, kills: Vec<Kill>) {
        assert!(self.listed.is_empty() && self.kills.is_empty() && self.placed.is_empty());
        self.saw_lsn(lsn);
        self.used += record_len;
        self.kills_reserved += kills.len() as u64;
        self.kills = kills;
    }

    /// The carry record may be there or not.
    pub(crate) fn carry_lost(&mut self, lsn: u64, carry: Vec<u8>) {
        let (offset, len) = (BLOCK as u64, carry.len() as u64);
        assert_eq!(offset + len, self.used, "nobody appends before the carry is durable");
        self.holes.push(Hole { lsn, offset, len, carry: Some(carry) });
    }

    /// Nobody appends before this.
    pub(crate) fn carry_durable(&mut self) {
        assert!(self.placed.is_empty() && self.in_flight == 0);
        self.durable_len = self.used;
    }

    /// Lists what is in the zone, in the order it lies there.
    pub(crate) fn build_footer(&mut self, opened_ms: u64, builder: &mut FooterBuilder) {
        assert_eq!(self.in_flight, 0);
        self.listed.sort_unstable_by_key(|entry| entry.offset);
        let left_out = usize::from(planted!(Bug::FooterMissesLast) && !self.listed.is_empty());
        for entry in &self.listed[..self.listed.len() - left_out] {
            builder.push_put(&entry.summary(opened_ms), &entry.key);
        }
        for kill in &self.kills {
            builder.push_kill(kill);
        }
        assert!(builder.entry_count() <= self.entries_reserved);
        assert!(builder.kill_count() <= self.kills_reserved);
    }
}

impl Listed {
    fn summary(&self, opened_ms: u64) -> FooterEntry {
        let life_ms = self.expires_ms.saturating_sub(opened_ms);
        FooterEntry {
            key_hash: self.hash,
            lsn: self.lsn,
            offset_blocks: (self.offset / BLOCK as u64) as u32,
            payload_len: self.payload_len,
            expires_after_s: u32::try_from(life_ms.div_ceil(1000)).unwrap_or(u32::MAX),
            key_len: self.key.len() as u16,
            metadata_len: self.metadata_len,
        }
    }
}

/// The share of a zone below which its successor is prepared ahead of need.
pub(crate) fn is_nearly_full(geometry: &Geometry, open: &OpenZone) -> bool {
    open.room(geometry.zone_size()) < geometry.zone_size() / 8
}
