//! Reading a store without the engine: what `inspect`, `fsck` and `dump` share.
//!
//! Invariants: nothing here writes, and nothing takes a lock: a store may be looked at while it is
//! served. Memory is bounded by one zone's tables and one read window. Nothing read is trusted
//! before its checksum and its place (store, zone, lap, position) agree. Zones go by their numbers
//! in the store, whichever volume they lie on.

mod fault;
mod footer;
mod journal;
mod lookup;
mod mend;
mod payload;
mod reader;
mod scan;
mod store;
mod volume;
mod zone;

pub(crate) use fault::Fault;
pub(crate) use footer::{Footer, ListedPut};
pub(crate) use lookup::{Version, VersionKind, for_each_version};
pub(crate) use payload::{check_payload, check_record, hex, payload};
pub(crate) use reader::{WINDOW_ALL, WINDOW_HEADERS, ZoneReader};
pub(crate) use scan::{Found, RecordScan, Unreadable};
pub(crate) use store::Store;
pub(crate) use volume::Volume;
pub(crate) use zone::{ZoneState, ZoneView};
