//! One thing that is wrong, and the list of them.

use std::collections::BTreeSet;

use serde::Serialize;
use tapeloop_format::{KeyHash, RecordHeader};

use crate::walk::{Volume, ZoneView};

/// Findings kept for the report. A volume with more is beyond naming objects one by one.
const KEPT_MAX: usize = 100_000;

/// A damaged or torn object or structure.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Finding {
    pub(crate) structure: &'static str,
    /// Index of the volume.
    pub(crate) volume: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lap: Option<u64>,
    /// Offset of the record or table in its zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zone_offset: Option<u64>,
    pub(crate) volume_offset: u64,
    /// The object, as the key was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lsn: Option<u64>,
    /// live, expired or superseded, when the object is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<&'static str>,
    pub(crate) detail: String,
    #[serde(skip)]
    pub(crate) key_hash: Option<KeyHash>,
    #[serde(skip)]
    pub(crate) expires_ms: Option<u64>,
}

impl Finding {
    /// About a place in a zone.
    pub(crate) fn in_zone(
        structure: &'static str,
        volume: &Volume,
        view: &ZoneView,
        zone_offset: u64,
        detail: String,
    ) -> Finding {
        Finding {
            structure,
            volume: volume.index(),
            zone: Some(view.zone),
            lap: view.header.map(|header| header.lap),
            zone_offset: Some(zone_offset),
            volume_offset: volume.zone_offset(view.zone) + zone_offset,
            detail,
            ..Finding::default()
        }
    }

    /// Names the object.
    pub(crate) fn of_record(mut self, header: &RecordHeader) -> Finding {
        self.lsn = Some(header.lsn);
        if !header.key.is_empty() {
            self.key = Some(readable(&header.key));
            self.key_hash = Some(header.key_hash);
            self.expires_ms = Some(header.expires_ms);
        }
        self
    }
}

/// A key as text: what is not printable ASCII is escaped.
pub(crate) fn readable(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

/// A finding behind the durable length of an open zone: damage only if its write was complete.
#[derive(Debug)]
struct Suspect {
    finding: Finding,
    lsn_max: Option<u64>,
}

/// Everything found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) damage: Vec<Finding>,
    pub(crate) torn: Vec<Finding>,
    suspects: Vec<Suspect>,
    /// Damage found but not kept.
    pub(crate) omitted_count: u64,
    durable_lsn_max: u64,
}

impl Findings {
    pub(crate) fn damage(&mut self, finding: Finding) {
        if self.damage.len() < KEPT_MAX {
            self.damage.push(finding);
        } else {
            self.omitted_count += 1;
        }
    }

    /// Something that is damage if an LSN up to `lsn_max` was durable. Decided at the end, when the
    /// word of every record on that has been read.
    pub(crate) fn suspect(&mut self, finding: Finding, lsn_max: Option<u64>) {
        if self.suspects.len() < KEPT_MAX {
            self.suspects.push(Suspect { finding, lsn_max });
        } else {
            self.omitted_count += 1;
        }
    }

    /// A record says that every LSN up to this one was durable when it was written.
    pub(crate) fn durable_up_to(&mut self, lsn: u64) {
        self.durable_lsn_max = self.durable_lsn_max.max(lsn);
    }

    /// Tells damage from what a crash tore.
    pub(crate) fn decide(&mut self, checkpoint_durable_lsn: u64) {
        self.durable_up_to(checkpoint_durable_lsn);
        for suspect in std::mem::take(&mut self.suspects) {
            match suspect.lsn_max {
                Some(lsn) if lsn <= self.durable_lsn_max => self.damage(suspect.finding),
                _ => self.torn.push(suspect.finding),
            }
        }
    }

    /// Zones with damage in them.
    pub(crate) fn damaged_zones(&self) -> BTreeSet<u32> {
        self.damage.iter().filter_map(|finding| finding.zone).collect()
    }

    /// Takes a second look at a zone for the first one, going by what was durable at the first.
    pub(crate) fn replace(&mut self, zone: u32, mut again: Findings) {
        self.damage.retain(|finding| finding.zone != Some(zone));
        self.torn.retain(|finding| finding.zone != Some(zone));
        again.durable_lsn_max = self.durable_lsn_max;
        again.decide(0);
        self.torn.append(&mut again.torn);
        again.damage.into_iter().for_each(|finding| self.damage(finding));
    }

    pub(crate) fn damage_count(&self) -> u64 {
        self.damage.len() as u64 + self.omitted_count
    }

    /// Takes over what was found in one zone.
    pub(crate) fn absorb(&mut self, zone: Findings) {
        self.omitted_count += zone.omitted_count;
        self.durable_up_to(zone.durable_lsn_max);
        self.torn.extend(zone.torn);
        zone.damage.into_iter().for_each(|finding| self.damage(finding));
        for suspect in zone.suspects {
            self.suspect(suspect.finding, suspect.lsn_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_durable_is_damage_and_what_was_not_is_torn() {
        let mut findings = Findings::default();
        for lsn_max in [Some(9), Some(10), Some(11), None] {
            findings.suspect(Finding::default(), lsn_max);
        }
        findings.durable_up_to(7);
        findings.decide(10);
        assert_eq!((findings.damage.len(), findings.torn.len()), (2, 2));
        assert_eq!(findings.damage_count(), 2);
    }
}
