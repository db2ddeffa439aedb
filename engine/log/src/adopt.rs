//! From a scanned zone to an open one: objects, kills, damage and the repairs that a crash made
//! needed.

use crate::directory::Location;
use crate::log::Repair;
use crate::recover::{Recovery, carried};
use crate::report::Finding;
use crate::scan::{Hole, Scan};
use crate::zone::OpenZone;
use std::collections::BTreeMap;
use tapeloop_format::{
    BLOCK, FormatError, KeyHash, Kill, RecordHeader, RecordKind, StoreId, ZoneHeader,
};

impl Recovery {
    pub(crate) fn adopt_scan(&mut self, zone: u32, mut scan: Scan, recovered: &mut Recovered) {
        self.report.zones_scanned += 1;
        self.report.bytes_scanned += scan.bytes_read;
        let mut listed = Vec::new();
        let mut kills = scan.carried.clone();
        let mut lsns = (u64::MAX, 0);
        let mut end = scan.end();
        if let Some((lsn, bytes)) = self.owed_carry(zone, &scan, &mut kills) {
            lsns = (lsn, lsn);
            end = end.max(BLOCK as u64 + bytes.len() as u64);
            scan.mend_start(bytes.len() as u64);
            recovered.repairs.push(Repair { zone, offset: BLOCK as u64, bytes });
        }
        let lsn_before = recovered.next_lsn;
        self.judge_holes(zone, &scan, recovered);
        if recovered.next_lsn > lsn_before {
            lsns = (lsns.0.min(lsn_before), lsns.1.max(recovered.next_lsn - 1));
        }
        let lap = scan.zone.lap;
        for found in scan.found {
            lsns = (lsns.0.min(found.lsn), lsns.1.max(found.lsn));
            kills.extend(found.kills);
            let Some(put) = found.listed else { continue };
            let location = Location { zone, lap, offset: put.offset, len: put.payload_len };
            self.add_version(&put.hash, put.lsn, &location);
            let meta = &mut self.zones[zone as usize];
            meta.max_expires_ms = meta.max_expires_ms.max(put.expires_ms);
            listed.push(put);
        }
        for kill in &kills {
            self.builder().add_kill(&kill.key_hash, kill.lsn);
        }
        let used = end.max(scan.durable_len);
        let meta = &mut self.zones[zone as usize];
        meta.record_count = listed.len() as u32;
        meta.used_len = used;
        let mut open = OpenZone::recovered(used, listed, kills, lsns);
        open.closing = scan.closing;
        recovered.open.insert(zone, open);
    }

    /// A zone that was opened but has not got its carry record: the journal still has it. Its LSN
    /// and bytes; its kills are added to those of the zone.
    fn owed_carry(
        &mut self,
        zone: u32,
        scan: &Scan,
        kills: &mut Vec<Kill>,
    ) -> Option<(u64, Vec<u8>)> {
        // A preparation that a crash ended before its header may have left a journal for the same
        // lap: the position tells.
        let position = scan.zone.base_position + BLOCK as u64;
        let is_here = |(header, _): &&(RecordHeader, _)| {
            (header.zone, header.lap, header.position) == (zone, scan.zone.lap, position)
        };
        let (header, record) = self.journal.iter().find(is_here)?;
        let first = scan.found.first().map_or(u64::MAX, |found| found.offset);
        if first < BLOCK as u64 + record.len() as u64 {
            return None;
        }
        let owed = carried(header, record);
        self.report.kills_from_journal += owed.len() as u32;
        kills.extend(owed);
        // Its incarnation is of the past; below the durable length of the checkpoint that follows
        // that is no matter.
        Some((header.lsn, record.clone()))
    }

    fn judge_holes(&mut self, zone: u32, scan: &Scan, recovered: &mut Recovered) {
        let end = scan.end();
        for hole in &scan.holes {
            let behind = scan.found.iter().filter(|found| found.offset >= hole.to);
            let durable_behind =
                behind.map(|found| found.lsn).any(|lsn| lsn <= recovered.durable_lsn);
            let durable_to = match durable_behind {
                true => hole.to,
                false => hole.to.min(scan.durable_len),
            };
            if durable_to > hole.from {
                self.find(Finding::Record {
                    zone,
                    offset: hole.from,
                    len: durable_to - hole.from,
                    error: hole.cause.clone(),
                });
            }
            let torn_from = durable_to.max(hole.from);
            if torn_from < hole.to.min(end) && !planted!(Bug::NoVoid) {
                self.report.torn_dropped += 1;
                let torn = Hole { from: torn_from, ..hole.clone() };
                recovered.fill(self.store_id, &scan.zone, &torn);
            } else if torn_from < hole.to && hole.from >= end && is_torn(&hole.cause) {
                self.report.torn_dropped += 1;
            }
        }
    }
}

/// Did a record of this lap begin here, or is it just free space?
fn is_torn(cause: &FormatError) -> bool {
    matches!(cause, FormatError::ChunkChecksum { .. } | FormatError::Checksum { .. })
}

/// What comes out of the scans.
pub(crate) struct Recovered {
    pub(crate) next_lsn: u64,
    pub(crate) incarnation: u64,
    pub(crate) durable_lsn: u64,
    pub(crate) open: BTreeMap<u32, OpenZone>,
    pub(crate) repairs: Vec<Repair>,
}

impl Recovered {
    /// A torn hole between valid records becomes a void record: the zone is contiguous again.
    fn fill(&mut self, store_id: StoreId, zone: &ZoneHeader, hole: &Hole) {
        let header = RecordHeader {
            kind: RecordKind::Void,
            zone: zone.zone,
            lap: zone.lap,
            position: zone.base_position + hole.from,
            lsn: self.next_lsn,
            incarnation: self.incarnation,
            durable_lsn: self.durable_lsn,
            stored_ms: 0,
            expires_ms: 0,
            created_wall_ms: 0,
            payload_len: 0,
            hole_len: (hole.to - hole.from) as u32,
            content_hash: [0; 16],
            key_hash: KeyHash([0; 16]),
            victim: None,
            more_victims: Box::default(),
            key: Box::default(),
            metadata: Box::default(),
            chunk_crcs: Box::default(),
        };
        self.next_lsn += 1;
        let bytes = header.encode(store_id.salt());
        self.repairs.push(Repair { zone: zone.zone, offset: hole.from, bytes });
    }
}
