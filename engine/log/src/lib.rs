//! The log of tapeloop as a pure state machine: append, group commit, seal, overwrite, delete,
//! expiry of whole zones, eviction under pressure, and recovery.
//!
//! No I/O, no clock, no thread of its own, no unsafe: times and I/O results are arguments, so that
//! a simulator can drive the very code that runs on drives. See docs/architecture.md.
#![forbid(unsafe_code)]

// Before the modules that have sites in them.
#[macro_use]
mod planted;

mod adopt;
mod append;
mod build;
mod class;
mod clock;
mod directory;
mod fence;
mod ghost;
mod index;
#[cfg(test)]
mod index_tests;
mod judge;
mod log;
mod phase;
mod prepare;
pub mod read;
mod recent;
mod reclaim;
mod recover;
mod report;
mod scan;
#[cfg(test)]
mod scan_tests;
mod seal;
mod sync;
mod tables;
mod types;
mod volume;
mod zone;

pub use build::{Batch, IndexBuilder};
pub use clock::{AWAY_MS_MAX, MachineTime, StoreClock};
pub use directory::{Candidates, Directory, Location};
pub use index::{INDEXED_BLOCKS_MAX, INDEXED_LEN_MAX, Index, IndexEntry};
pub use log::Log;
#[cfg(tapeloop_planted)]
pub use planted::{Bug, plant};
pub use prepare::object_len_max;
pub use recover::{Recovery, RecoveryRead};
pub use report::{Finding, RecoveryReport};
pub use tables::{TableFault, TableWork};
pub use types::{
    Append, AppendError, Event, GroupPolicy, Io, IoFailure, IoOp, LogStats, Op, Put, Ticket,
    VolumeStats,
};
