//! Whether a damaged object still matters: live, expired or superseded.

use std::collections::HashMap;

use super::finding::Findings;
use crate::walk::{Store, for_each_version};

/// Looks up the newest version of every damaged key. A clean volume costs nothing here.
pub(crate) fn fill_in(store: &Store, findings: &mut Findings) {
    let named = findings.damage.iter().filter_map(|finding| finding.key_hash);
    let mut newest: HashMap<_, u64> = named.map(|key_hash| (key_hash, 0)).collect();
    if newest.is_empty() {
        return;
    }
    for_each_version(store, &mut |version| {
        if let Some(lsn) = newest.get_mut(&version.key_hash) {
            *lsn = version.lsn.max(*lsn);
        }
    });
    let now_ms = store.now_ms();
    for finding in &mut findings.damage {
        let (Some(key_hash), Some(lsn)) = (finding.key_hash, finding.lsn) else { continue };
        let is_superseded = newest.get(&key_hash).is_some_and(|newest| *newest > lsn);
        let is_expired = match (finding.expires_ms, now_ms) {
            (Some(expires_ms), Some(now_ms)) => expires_ms <= now_ms,
            _ => false,
        };
        finding.status = Some(match (is_superseded, is_expired) {
            (true, _) => "superseded",
            (false, true) => "expired",
            (false, false) => "live",
        });
    }
}
