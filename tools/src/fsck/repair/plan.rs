//! What a repair will do, and what it leaves alone and why.

use std::collections::BTreeSet;

use super::super::Checked;
use super::super::finding::Finding;
use super::{Action, footer, header, tail};
use crate::walk::Store;

/// Overwrites in the order they are done, and what stays damaged.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) left: Vec<String>,
}

impl Plan {
    pub(crate) fn of(store: &Store, checked: &Checked) -> Plan {
        let mut plan = Plan::default();
        if !store.missing.is_empty() {
            plan.left.push(format!(
                "everything: volumes {:?} are missing, and what they say of the others is unknown",
                store.missing,
            ));
            return plan;
        }
        for volume in store.volumes() {
            header::plan(volume, &mut plan);
        }
        let zones =
            |found: &[Finding]| found.iter().filter_map(|f| f.zone).collect::<BTreeSet<_>>();
        for zone in zones(&checked.findings.damage) {
            if let Some(volume) = store.volume_of(zone) {
                footer::plan(volume, zone, &mut plan);
            }
        }
        tail::plan(store, &checked.findings.torn, &mut plan);
        plan.explain(checked);
        plan
    }

    /// Says why the rest is not touched, once for each kind.
    fn explain(&mut self, checked: &Checked) {
        let damage = &checked.findings.damage;
        let count = |names: &[&str]| damage.iter().filter(|f| names.contains(&f.structure)).count();
        let objects = count(&["record", "record header", "record payload"]);
        if objects > 0 {
            self.left.push(format!(
                "{objects} damaged records: payload is kept once; who pushed them has the only copy"
            ));
        }
        let checkpoints = count(&["checkpoint"]);
        if checkpoints > 0 {
            self.left.push(format!(
                "{checkpoints} checkpoint slots: the other slot is older or newer, never the same, \
                 so there is nothing to copy; the next start writes it anew"
            ));
        }
        if count(&["zone header"]) > 0 {
            let why = "zone headers: the footer or the first record stands in for them";
            self.left.push(why.to_owned());
        }
        if count(&["carry journal"]) > 0 {
            self.left.push("carry journal: its records are kept nowhere else".to_owned());
        }
        if count(&["volume length"]) > 0 {
            self.left.push("volume length: restore the file whole".to_owned());
        }
    }
}
