//! What counts as durable in a zone that has no footer yet.

use crate::walk::{ZoneState, ZoneView};

/// A sealed zone was durable before its footer was written; of an open one the checkpoint knows a
/// part. Behind that the LSNs decide, once all of them have been seen.
pub(crate) fn was_surely_durable(view: &ZoneView, offset: u64) -> bool {
    view.state == ZoneState::Sealed || offset < view.durable_len
}
