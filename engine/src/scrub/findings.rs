//! The damage a volume's scrub knows of: bounded, each place once.
//!
//! Invariants: never more than [`FINDINGS_MAX`] are held, and whatever is beyond is counted. A
//! finding that a whole cycle did not meet again is forgotten.

use super::report::{ScrubFinding, ScrubPart};
use crate::engine::Shared;
use std::collections::BTreeMap;
use tapeloop_log::Location;

/// Findings listed for one volume; more are counted.
pub(super) const FINDINGS_MAX: usize = 1000;

/// Zone, offset in it, what lies there.
type Place = (u32, u64, ScrubPart);

struct Known {
    finding: ScrubFinding,
    cycle: u64,
}

/// The list.
#[derive(Default)]
pub(super) struct Findings {
    known: BTreeMap<Place, Known>,
    /// Not listed, in the cycle under way and in the last whole one.
    omitted: u64,
    omitted_last: u64,
}

impl Findings {
    pub(super) fn begin_cycle(&mut self) {
        self.omitted = 0;
    }

    pub(super) fn add(&mut self, cycle: u64, finding: ScrubFinding) {
        let place = (finding.zone, finding.offset, finding.part);
        if self.known.len() >= FINDINGS_MAX && !self.known.contains_key(&place) {
            self.omitted += 1;
            return;
        }
        self.known.insert(place, Known { finding, cycle });
        assert!(self.known.len() <= FINDINGS_MAX);
    }

    /// All has been read: what was not met again is no more.
    pub(super) fn end_cycle(&mut self, cycle: u64) {
        self.known.retain(|_, known| known.cycle == cycle);
        self.omitted_last = self.omitted;
    }

    pub(super) fn omitted(&self) -> u64 {
        self.omitted.max(self.omitted_last)
    }

    pub(super) fn list(&self) -> Vec<ScrubFinding> {
        self.known.values().map(|known| known.finding.clone()).collect()
    }
}

/// Does the store still hold what was found damaged?
pub(super) fn is_current(shared: &Shared, finding: &ScrubFinding) -> bool {
    let ScrubFinding { zone, lap, offset, len, .. } = *finding;
    if finding.expires_ms <= shared.now_ms() {
        return false;
    }
    match &finding.key_hash {
        Some(hash) => shared.directory.is_current(hash, &Location { zone, lap, offset, len }),
        None => shared.directory.is_servable(zone, lap),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::ScrubFault;
    use super::*;

    fn finding(offset: u64) -> ScrubFinding {
        ScrubFinding {
            part: ScrubPart::Object,
            key: None,
            key_hash: None,
            volume: 0,
            zone: 1,
            lap: 1,
            offset,
            volume_offset: offset,
            len: 0,
            expires_ms: u64::MAX,
            fault: ScrubFault::OtherRecord,
            found_wall_ms: 0,
        }
    }

    #[test]
    fn the_list_is_bounded_and_the_count_is_not() {
        let mut findings = Findings::default();
        findings.begin_cycle();
        for offset in 0..FINDINGS_MAX as u64 + 7 {
            findings.add(1, finding(offset));
        }
        findings.add(1, finding(0));
        assert_eq!((findings.list().len(), findings.omitted()), (FINDINGS_MAX, 7));
        findings.end_cycle(1);
        findings.begin_cycle();
        assert_eq!(findings.omitted(), 7, "known until a cycle says otherwise");
    }

    #[test]
    fn what_a_whole_cycle_did_not_meet_again_is_forgotten() {
        let mut findings = Findings::default();
        for (cycle, offsets) in [(1, &[1, 2, 3][..]), (2, &[2])] {
            findings.begin_cycle();
            offsets.iter().for_each(|offset| findings.add(cycle, finding(*offset)));
            assert_eq!(findings.list().len(), 3, "nothing is forgotten before the end");
            findings.end_cycle(cycle);
        }
        assert_eq!(findings.list(), [finding(2)]);
    }
}
