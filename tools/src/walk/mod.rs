//! Reading a volume without the engine: what `inspect` and `fsck` share.
//!
//! Invariants: nothing here writes, and nothing takes a lock: a store may be looked at while it is
//! served. Memory is bounded by one zone's tables and one read window. Nothing read is trusted
//! before its checksum and its place (store, zone, lap, position) agree.

mod fault;
mod footer;
mod lookup;
mod mend;
mod now;
mod payload;
mod reader;
mod scan;
mod volume;
mod zone;

pub(crate) use footer::{Footer, ListedPut};
pub(crate) use lookup::{Version, VersionKind, for_each_version};
pub(crate) use now::store_now_ms;
pub(crate) use payload::{check_payload, payload};
pub(crate) use reader::{WINDOW_ALL, WINDOW_HEADERS, ZoneReader};
pub(crate) use scan::{Found, RecordScan, Unreadable};
pub(crate) use volume::Volume;
pub(crate) use zone::{ZoneState, ZoneView};
