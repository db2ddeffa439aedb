//! The tapeloop storage engine: an append-only ring of preallocated zones on a drive, an index and
//! the live edge in memory.
//!
//! ```no_run
//! use tapeloop_engine::{Ack, Engine, Key, Options, PutOptions, block_on};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (engine, _recovery) = Engine::open(Options::new("tapeloop-data/volume-0.tape"))?;
//! block_on(256, async {
//!     let key = Key::new(*b"live/seg-1.m4s")?;
//!     let options = PutOptions { ttl_ms: 60_000, ..PutOptions::default() };
//!     let mut upload = engine.put(&key, options).await?;
//!     upload.write(b"moof and mdat").await?;
//!     upload.commit(Ack::Durable).await?; // on stable storage now
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })??;
//! engine.close();
//! # Ok(())
//! # }
//! ```
//!
//! `examples/embed.rs` is a whole program. Threads: one appender per volume belongs to the engine;
//! everything else runs on the caller's threads, inside [`block_on`].
#![forbid(unsafe_code)]

#[cfg(tapeloop_planted)]
compile_error!("bugs can be planted for the simulator only: no engine is built with them");

mod admission;
mod ahead;
mod appender;
mod body;
mod chunks;
mod create;
mod door;
mod drive;
mod ending;
mod engine;
mod error;
mod health;
mod hub;
mod joined;
mod list;
mod live;
mod members;
mod object;
mod open;
mod options;
mod patience;
mod read;
mod recovery;
mod scrub;
mod upload;
mod watch;

pub use chunks::Chunks;
pub use create::format;
pub use engine::Engine;
pub use error::{CreateError, OpenError, PutError, ReadError};
pub use health::{Health, Stats, VolumeState, VolumeStatus, VolumeTrouble};
pub use list::ListEntry;
pub use object::{Object, ObjectInfo};
pub use open::{RecoverySummary, store_now_ms};
pub use options::{MemoryMax, Options, volume_path, volume_paths};
pub use read::block_on;
pub use scrub::{
    ScrubActivity, ScrubCounts, ScrubCycle, ScrubFault, ScrubFinding, ScrubOptions, ScrubPart,
    ScrubReport, VolumeScrub,
};
pub use tapeloop_format::{Geometry, Key, KeyError, StoreId};
pub use tapeloop_io::runtime::{Elapsed, Task, sleep, spawn, timeout, timeout_at, yield_now};
pub use tapeloop_io::{
    Chunk, Listener, Spare, Stream, VolumeError, VolumeFile, ask_for_short_turns, clock, probe,
    socket,
};
pub use tapeloop_log::{
    AppendError, Finding, GroupPolicy, LogStats, RecoveryReport, object_len_max,
};
pub use upload::{Ack, Committed, PutOptions, Upload};
