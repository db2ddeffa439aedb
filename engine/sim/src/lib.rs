//! The simulator: the real log, recovery, format and read path of tapeloop under a world that a
//! seed decides. Drives tear, reorder, lose, flip, misdirect, delay and fail; clocks step; power
//! goes at any moment. An oracle outside the log knows what was acknowledged.
//!
//! One seed replays one world exactly: nothing here asks a clock, a thread or a hash table's order.
#![forbid(unsafe_code)]

mod clients;
mod command;
mod crash;
mod drive;
mod faults;
mod ledger;
mod observe;
mod oracle;
mod overlay;
mod payload;
#[cfg(tapeloop_planted)]
mod planted;
mod reader;
mod rig;
mod rng;
mod rot;
mod run;
mod swarm;
mod world;

#[cfg(test)]
mod tests;

pub use command::main;
pub use run::{Failure, run_many, run_seed};
pub use world::Totals;
