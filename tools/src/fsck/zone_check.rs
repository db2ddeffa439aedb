//! One zone: header, footer, every record, and that footer and records say the same.
//!
//! In a sealed zone every block belongs to a record: the place of a write that the drive refused
//! was made a void before the seal. In an open zone the LSNs tell what was durable.

use std::collections::HashSet;

use tapeloop_format::{
    BLOCK, FooterEntry, FooterTable, KeyHash, Kill, KillList, RecordHeader, RecordKind,
};

use super::finding::{Finding, Findings, readable};
use super::report::Totals;
use crate::walk::{
    Footer, Found, ListedPut, RecordScan, Unreadable, Volume, WINDOW_ALL, ZoneReader, ZoneState,
    ZoneView, check_payload, check_record, payload,
};

/// A served zone may be recycled while it is read; it is then read again.
const READS_MAX: usize = 3;

/// Checks one zone and adds what it finds.
pub(crate) fn check(volume: &Volume, zone: u32, findings: &mut Findings, totals: &mut Totals) {
    for _ in 0..READS_MAX {
        let view = ZoneView::read(volume, zone);
        let mut check = ZoneCheck::new(volume, view);
        check.run();
        if ZoneView::read(volume, zone).lap() == check.view.lap() {
            check.totals.count_zone(check.view.state);
            findings.absorb(check.findings);
            return totals.add(&check.totals);
        }
    }
    totals.recycled_zones.push(zone);
}

struct ZoneCheck<'v> {
    volume: &'v Volume,
    view: ZoneView,
    findings: Findings,
    totals: Totals,
}

/// What a drive writes as a whole.
const SECTOR: usize = 512;

/// What the records of a zone add up to, to be compared with its footer.
#[derive(Default)]
struct Seen {
    put_offsets: HashSet<u64>,
    kills: Vec<(KeyHash, u64, u64)>,
}

impl<'v> ZoneCheck<'v> {
    fn new(volume: &'v Volume, view: ZoneView) -> ZoneCheck<'v> {
        ZoneCheck { volume, view, findings: Findings::default(), totals: Totals::default() }
    }

    fn run(&mut self) {
        let last_block = self.volume.zone_size() - BLOCK as u64;
        if let Some(fault) = self.view.header_fault.clone() {
            let finding = self.finding("zone header", 0, fault.to_string());
            match self.is_header_torn() {
                true => self.findings.torn.push(finding),
                false => self.findings.damage(finding),
            }
        }
        if let Some(fault) = self.view.trailer_fault.clone() {
            self.footer_fault("footer trailer", last_block, fault.to_string());
        }
        let footer = Footer::read(self.volume, &self.view);
        self.check_tables(&footer);
        let Some(mut scan) = RecordScan::new(self.volume, &self.view, &footer) else { return };
        let mut reader = ZoneReader::new(self.volume, self.view.zone, WINDOW_ALL);
        let mut seen = Seen::default();
        while let Some(found) = scan.next(&mut reader) {
            match found {
                Found::Record { offset, header } => {
                    self.check_record(&mut reader, offset, &header, &footer, &mut seen);
                }
                Found::Mended { offset, mended, fault } => {
                    let detail = format!(
                        "{fault} (bit {} of byte {} of the record has flipped)",
                        mended.bit, mended.byte,
                    );
                    let header = &mended.header;
                    self.record_fault("record header", offset, header, detail, &footer);
                    // Header and padding of an inline record share a block: one flip, one finding.
                    reader.patch(offset + mended.byte as u64, mended.bit);
                    self.check_record(&mut reader, offset, header, &footer, &mut seen);
                }
                Found::Unreadable(unreadable) => {
                    seen.put_offsets.insert(unreadable.offset);
                    self.unreadable(unreadable, &footer);
                }
            }
        }
        self.check_agreement(&footer, &seen);
        self.totals.read_bytes += reader.byte_count;
    }

    /// A header is durable before anything behind it is written. A crash before that leaves some of
    /// its sectors, of which the first and the last are never blank in a whole one, and nothing
    /// behind them.
    fn is_header_torn(&self) -> bool {
        let start = self.volume.zone_offset(self.view.zone);
        let (Ok(header), Ok(behind)) =
            (self.volume.read_block(start), self.volume.read_block(start + BLOCK as u64))
        else {
            return false;
        };
        let is_blank = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        let (first, last) = (&header[..SECTOR], &header[BLOCK - SECTOR..]);
        self.view.header.is_none() && is_blank(&behind[..]) && is_blank(first) != is_blank(last)
    }

    fn finding(&self, structure: &'static str, offset: u64, detail: String) -> Finding {
        Finding::in_zone(structure, self.volume, &self.view, offset, detail)
    }

    fn damage(&mut self, structure: &'static str, offset: u64, detail: String) {
        let finding = self.finding(structure, offset, detail);
        self.findings.damage(finding);
    }

    /// What was durable, as far as it is known before all LSNs are: all of a zone with a usable
    /// footer, and what the checkpoint says of others. Of a zone whose footer is damaged the LSNs
    /// decide alone, as they do in recovery.
    fn was_surely_durable(&self, offset: u64, footer: &Footer) -> bool {
        let is_sealed = self.view.state == ZoneState::Sealed && footer.is_usable();
        is_sealed || offset < self.view.durable_len
    }

    /// A crash while the zone was being sealed leaves part of a footer; the records tell the same.
    fn footer_fault(&mut self, structure: &'static str, offset: u64, detail: String) {
        let finding = self.finding(structure, offset, detail);
        if self.view.may_have_been_open || self.view.is_unsure {
            self.findings.torn.push(finding);
        } else {
            self.findings.damage(finding);
        }
    }

    fn record_fault(
        &mut self,
        structure: &'static str,
        offset: u64,
        header: &RecordHeader,
        detail: String,
        footer: &Footer,
    ) {
        let finding = self.finding(structure, offset, detail).of_record(header);
        self.judge(finding, offset, Some(header.lsn), footer);
    }

    /// Damage, torn, or not known before all LSNs are.
    fn judge(&mut self, finding: Finding, offset: u64, lsn_max: Option<u64>, footer: &Footer) {
        if self.was_surely_durable(offset, footer) {
            self.findings.damage(finding);
        } else if self.view.is_unsure {
            self.findings.torn.push(finding);
        } else {
            self.findings.suspect(finding, lsn_max);
        }
    }

    fn unreadable(&mut self, place: Unreadable, footer: &Footer) {
        let Unreadable { offset, len, fault, listed, lsn_max } = place;
        let detail = format!("{fault}; {len} bytes cannot be read as a record");
        let mut finding = self.finding("record", offset, detail);
        if let Some(listed) = listed {
            finding.lsn = Some(listed.entry.lsn);
            finding.key = listed.key.as_deref().map(readable);
            finding.key_hash = Some(listed.entry.key_hash);
            let opened_ms = self.view.header.map_or(0, |header| header.opened_store_ms);
            finding.expires_ms = Some(listed.entry.expires_ms(opened_ms));
            // A listed record was durable, whatever has become of the other tables.
            return self.findings.damage(finding);
        }
        let owed_len = self.view.header.map_or(0, |header| self.volume.owed_len(&header));
        if offset + len <= BLOCK as u64 + owed_len {
            finding.detail += "; the carry journal still has it";
            return self.findings.torn.push(finding);
        }
        self.judge(finding, offset, lsn_max, footer);
    }

    fn check_record(
        &mut self,
        reader: &mut ZoneReader<'_>,
        offset: u64,
        header: &RecordHeader,
        footer: &Footer,
        seen: &mut Seen,
    ) {
        self.totals.record_count += 1;
        self.totals.payload_bytes += header.payload_len;
        if let Some((fault, count)) = check_record(reader, self.volume.salt(), offset, header) {
            let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
            let detail = format!("{fault}{more}");
            self.record_fault("record payload", offset, header, detail, footer);
        } else {
            // The word of a record counts only when all of it is there.
            self.findings.durable_up_to(header.durable_lsn);
        }
        if !header.key.is_empty() && self.volume.hasher().hash(&header.key) != header.key_hash {
            let detail = "the key hash is not the hash of the key".to_owned();
            self.record_fault("record header", offset, header, detail, footer);
        }
        match header.kind {
            RecordKind::Put => {
                seen.put_offsets.insert(offset);
                self.check_listing(offset, header, footer);
            }
            RecordKind::Carry => self.see_carried(reader, offset, header, seen),
            RecordKind::Tombstone | RecordKind::Void => {}
        }
        seen.kills.extend(header.kills().map(|kill| (kill.key_hash, kill.lsn, offset)));
    }

    fn see_carried(
        &mut self,
        reader: &mut ZoneReader<'_>,
        offset: u64,
        header: &RecordHeader,
        seen: &mut Seen,
    ) {
        let is_whole = check_payload(reader, self.volume.salt(), offset, header).is_none();
        let kills = payload(reader, offset, header).ok().filter(|_| is_whole);
        let Some(Ok(kills)) = kills.map(KillList::new) else { return };
        seen.kills.extend(kills.map(|kill: Kill| (kill.key_hash, kill.lsn, offset)));
    }

    /// A put of a sealed zone must be listed in the footer, with the same particulars.
    fn check_listing(&mut self, offset: u64, header: &RecordHeader, footer: &Footer) {
        let (Some(trailer), Some(zone)) = (self.view.trailer, self.view.header) else { return };
        if footer.faults.iter().any(|(table, _)| *table == FooterTable::Entries) {
            return;
        }
        let Some(listed) = footer.put_at(offset) else {
            let detail = "the footer does not list this object".to_owned();
            return self.record_fault("footer entry table", offset, header, detail, footer);
        };
        // Without the record's own word on it the hash of the lap decides nothing: `of` checks it.
        let expected = FooterEntry::of(header, &zone);
        let same_key = listed.key.as_ref().is_none_or(|key| *key == header.key);
        if listed.entry != expected || !same_key {
            let detail = format!("the footer says {:?}, the record {expected:?}", listed.entry);
            self.record_fault("footer entry table", offset, header, detail, footer);
        }
        if header.expires_ms > trailer.expires_ms_max
            || !(trailer.lsn_first..=trailer.lsn_last).contains(&header.lsn)
        {
            let detail = format!(
                "LSN {} or expiry {} lies outside what the trailer says of the whole zone",
                header.lsn, header.expires_ms,
            );
            self.record_fault("footer trailer", offset, header, detail, footer);
        }
    }

    fn check_tables(&mut self, footer: &Footer) {
        let Some(trailer) = self.view.trailer else { return };
        for (table, fault) in &footer.faults {
            let name = match table {
                FooterTable::Entries => "footer entry table",
                FooterTable::Kills => "footer kill table",
                FooterTable::Keys => "footer key blob",
            };
            self.footer_fault(name, trailer.table(*table).offset, fault.to_string());
        }
        for put in &footer.puts {
            self.check_listed_key(put, trailer.table(FooterTable::Keys).offset);
        }
        let header = self.view.header;
        let is_whole = self.view.header_fault.is_none();
        let agrees = header.filter(|_| is_whole).is_none_or(|header| {
            header.base_position == trailer.base_position
                && header.class == trailer.class
                && header.opened_store_ms == trailer.opened_store_ms
        });
        if !agrees {
            let detail = "header and trailer of the zone disagree".to_owned();
            self.damage("footer trailer", trailer.zone_size - BLOCK as u64, detail);
        }
    }

    fn check_listed_key(&mut self, put: &ListedPut, keys_offset: u64) {
        let Some(key) = &put.key else { return };
        if self.volume.hasher().hash(key) != put.entry.key_hash {
            let detail = format!("{} does not hash to what its entry says", readable(key));
            self.damage("footer key blob", keys_offset, detail);
        }
    }

    /// Whatever the footer lists must have been met, and every kill met must be in the footer.
    fn check_agreement(&mut self, footer: &Footer, seen: &Seen) {
        if self.view.state != ZoneState::Sealed {
            return;
        }
        for put in &footer.puts {
            if !seen.put_offsets.contains(&put.entry.offset()) {
                let key = put.key.as_deref().map_or_else(|| "?".to_owned(), readable);
                let detail = format!("lists {key} where no record lies");
                self.damage("footer entry table", put.entry.offset(), detail);
            }
        }
        if footer.faults.iter().any(|(table, _)| *table == FooterTable::Kills) {
            return;
        }
        let listed: HashSet<_> =
            footer.kills.iter().map(|kill| (kill.key_hash, kill.lsn)).collect();
        for (key_hash, lsn, offset) in &seen.kills {
            if !listed.contains(&(*key_hash, *lsn)) {
                let detail = format!("the kill of {key_hash} below LSN {lsn} is not in the footer");
                self.damage("footer kill table", *offset, detail);
            }
        }
    }
}
