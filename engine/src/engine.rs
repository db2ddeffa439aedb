//! The engine's handle: what an embedder holds.

use crate::admission::Admission;
use crate::appender::{Command, Door};
use crate::body::Body;
use crate::error::{OpenError, PutError, ReadError};
use crate::live::Live;
use crate::object::Object;
use crate::open::{self, RecoverySummary};
use crate::options::Options;
use crate::read;
use crate::scrub::Scrub;
use crate::upload::{PutOptions, Upload};
use parking_lot::Mutex;
use std::sync::Arc;
use std::thread::JoinHandle;
use tapeloop_format::{Geometry, Key, KeyHasher, METADATA_LEN_MAX, StoreId};
use tapeloop_io::{VolumeFile, clock};
use tapeloop_log::read::First;
use tapeloop_log::{Append, Directory, LogStats, Op, StoreClock};
use tokio::sync::oneshot;

/// What all threads share.
pub(crate) struct Shared {
    pub(crate) store_id: StoreId,
    pub(crate) geometry: Geometry,
    pub(crate) hasher: KeyHasher,
    pub(crate) clock: StoreClock,
    pub(crate) directory: Arc<Directory>,
    pub(crate) volume: Arc<VolumeFile>,
    pub(crate) read_buffers: usize,
    pub(crate) live: Live,
    pub(crate) admission: Admission,
    pub(crate) appender: Door,
    pub(crate) object_len_max: u64,
}

impl Shared {
    /// Store time: the clock of TTLs.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.at(clock::boottime_ms())
    }
}

/// A store that is open. Clones are the same store.
#[derive(Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    appender: Arc<Mutex<Option<JoinHandle<()>>>>,
    pub(crate) scrub: Arc<Scrub>,
}

/// Counters and gauges of a store.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// Of the log.
    pub log: LogStats,
    /// Objects in the index, expired ones of living zones included.
    pub index_entries: u64,
    /// Memory of the index, in bytes.
    pub index_bytes: u64,
    /// Stored objects served from memory.
    pub arena_objects: u64,
    /// Arena blocks held by uploads.
    pub arena_blocks_uploading: u64,
    /// Arena blocks.
    pub arena_blocks: u64,
    /// Bytes of one arena block.
    pub arena_block_bytes: u64,
    /// Zones of the store.
    pub zones: u32,
    /// Bytes of a zone.
    pub zone_bytes: u64,
}

/// Can the store do its work?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Reads and writes.
    Ok,
    /// A flush failed: reads only, until the store is opened again.
    Fenced {
        /// The drive's answer to the flush.
        cause: String,
    },
    /// The drive does not answer.
    Stalled {
        /// For how long.
        waited_ms: u64,
    },
    /// Closed.
    Closed,
}

impl Engine {
    /// Opens a store: recovers what a crash left, or refuses and touches nothing.
    pub fn open(options: Options) -> Result<(Engine, RecoverySummary), OpenError> {
        let scrub = options.scrub;
        let (shared, appender, summary) = open::open(options)?;
        let scrub = Arc::new(Scrub::start(&shared, scrub)?);
        Ok((Engine { shared, appender: Arc::new(Mutex::new(Some(appender))), scrub }, summary))
    }

    /// Begins an upload. It can be followed at once, and becomes the key's object with its commit.
    pub async fn put(&self, key: &Key, options: PutOptions) -> Result<Upload, PutError> {
        let shared = &self.shared;
        let max = shared.object_len_max;
        if let Some(len) = options.len.filter(|len| *len > max) {
            return Err(PutError::TooLarge { len, max });
        }
        if options.metadata.len() > METADATA_LEN_MAX {
            let (len, max) = (options.metadata.len(), METADATA_LEN_MAX);
            return Err(PutError::Metadata { len, max });
        }
        self.check_writable()?;
        let hash = shared.hasher.hash(key.as_bytes());
        let metadata = Arc::from(&*options.metadata);
        let body = Arc::new(Body::new(key.clone(), hash, metadata, options.created_wall_ms));
        Ok(Upload::new(Arc::clone(shared), body, options))
    }

    /// Finds an object, with its first bytes when it is on the drive. An upload in progress is
    /// found only if no older version can be served. Call inside [`crate::block_on`].
    pub async fn get(&self, key: &Key) -> Result<Option<Object>, ReadError> {
        self.find(key, First::Payload).await
    }

    /// Finds an object without reading its payload: for its `info`, or a range far from its start.
    /// Call inside [`crate::block_on`].
    pub async fn head(&self, key: &Key) -> Result<Option<Object>, ReadError> {
        self.find(key, First::Header).await
    }

    async fn find(&self, key: &Key, first: First) -> Result<Option<Object>, ReadError> {
        let shared = &self.shared;
        let hash = shared.hasher.hash(key.as_bytes());
        if let Some(body) = shared.live.stored(&hash).filter(|body| body.key == *key) {
            let stored = *body.stored().expect("stored bodies know their place");
            if stored.expires_ms > shared.now_ms() {
                return Ok(Some(Object::in_arena(shared, body, &stored)));
            }
        } else if let Some(record) = read::find(shared, key.as_bytes(), hash, first).await? {
            return Ok(Some(Object::on_drive(shared, record)));
        }
        let upload = shared.live.upload(&hash).filter(|body| body.key == *key);
        Ok(upload.map(|body| Object::uploading(shared, body)))
    }

    /// Deletes a key, durably. True if it existed.
    pub async fn delete(&self, key: &Key) -> Result<bool, PutError> {
        self.check_writable()?;
        let shared = &self.shared;
        let hash = shared.hasher.hash(key.as_bytes());
        let append = Append { ticket: 0, hash, key: key.as_bytes().into(), op: Op::Delete };
        let (reply, answer) = oneshot::channel();
        shared.appender.reserve().await?.send(Command::Delete { append, reply });
        shared.answer(answer).await
    }

    fn check_writable(&self) -> Result<(), PutError> {
        let door = &self.shared.appender;
        if let Some(failure) = door.fenced() {
            return Err(tapeloop_log::AppendError::Fenced(failure).into());
        }
        if door.is_closed() {
            return Err(PutError::Closed);
        }
        match door.stalled_ms() {
            Some(waited_ms) => Err(PutError::Stalled { waited_ms }),
            None => Ok(()),
        }
    }

    /// Identity of the store.
    pub fn store_id(&self) -> StoreId {
        self.shared.store_id
    }

    /// Largest object, in bytes.
    pub fn object_len_max(&self) -> u64 {
        self.shared.object_len_max
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let (index_entries, index_bytes) = shared.directory.index_size();
        let (held, all) = shared.admission.usage();
        Stats {
            log: shared.appender.stats(),
            index_entries: index_entries as u64,
            index_bytes: index_bytes as u64,
            arena_objects: shared.live.stored_count() as u64,
            arena_blocks_uploading: held as u64,
            arena_blocks: all as u64,
            arena_block_bytes: tapeloop_io::ARENA_BLOCK as u64,
            zones: shared.geometry.zone_count(),
            zone_bytes: shared.geometry.zone_size(),
        }
    }

    /// Can the store do its work?
    pub fn health(&self) -> Health {
        let door = &self.shared.appender;
        if let Some(failure) = door.fenced() {
            return Health::Fenced { cause: failure.to_string() };
        }
        if door.is_closed() {
            return Health::Closed;
        }
        match door.stalled_ms() {
            Some(waited_ms) => Health::Stalled { waited_ms },
            None => Health::Ok,
        }
    }

    /// Finishes what was accepted, writes the last checkpoint and ends the appender. Blocking;
    /// operations on other clones fail from now on, and the volume stays locked until the last of
    /// them is gone. A crash instead loses nothing that was acknowledged.
    pub fn close(self) {
        self.scrub.close();
        let (reply, answer) = oneshot::channel();
        if self.shared.appender.send_blocking(Command::Close { reply }) {
            let _ = answer.blocking_recv();
        }
        if let Some(appender) = self.appender.lock().take() {
            // A panic of the appender has been printed; there is nothing to add.
            let _ = appender.join();
        }
    }
}
