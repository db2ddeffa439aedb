//! The engine's handle: what an embedder holds.

use crate::admission::Admission;
use crate::body::Body;
use crate::door::{Command, Door};
use crate::drive;
use crate::error::{OpenError, PutError, ReadError};
use crate::hub::Hub;
use crate::live::Live;
use crate::object::Object;
use crate::open::{self, RecoverySummary};
use crate::options::Options;
use crate::read;
use crate::scrub::Scrub;
use crate::upload::{PutOptions, Upload};
use std::sync::Arc;
use std::time::Duration;
use tapeloop_format::{Key, KeyHasher, METADATA_LEN_MAX, StoreGeometry, StoreId};
use tapeloop_io::clock;
use tapeloop_log::read::First;
use tapeloop_log::{Append, Directory, Op, StoreClock};
use tokio::sync::oneshot;

/// How often closing looks whether there is still somebody to wait for.
const CLOSE_LOOK: Duration = Duration::from_millis(100);
/// How long appenders that have ended their work may take to let go of their drives.
const CLOSE_HUNG_MAX: Duration = Duration::from_millis(1_000);

/// What all threads share.
pub(crate) struct Shared {
    pub(crate) store_id: StoreId,
    pub(crate) geometry: StoreGeometry,
    pub(crate) hasher: KeyHasher,
    pub(crate) clock: StoreClock,
    pub(crate) directory: Arc<Directory>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) read_buffers: usize,
    pub(crate) live: Live,
    pub(crate) admission: Admission,
    pub(crate) door: Door,
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
    pub(crate) scrub: Arc<Scrub>,
}

impl Engine {
    /// Opens a store: recovers what a crash left, or refuses and touches nothing.
    pub fn open(options: Options) -> Result<(Engine, RecoverySummary), OpenError> {
        let scrub = options.scrub;
        let (shared, summary) = open::open(options)?;
        let scrub = Arc::new(Scrub::start(&shared, scrub)?);
        Ok((Engine { shared, scrub }, summary))
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
        shared.door.check_writable()?;
        let hash = shared.hasher.hash(key.as_bytes());
        let metadata = Arc::from(&*options.metadata);
        let body = Arc::new(Body::new(key.clone(), hash, metadata, options.created_wall_ms));
        Ok(Upload::new(Arc::clone(shared), body, options))
    }

    /// Finds an object to read it from its first byte to its last: with its first bytes when it is
    /// on the drive, and the next on their way. Both keep read buffers until its bytes are asked
    /// for. An upload in progress is found only if no older version can be served.
    /// Call inside [`crate::block_on`].
    pub async fn get(&self, key: &Key) -> Result<Option<Object>, ReadError> {
        self.find(key, First::Whole).await
    }

    /// Finds an object with its first bytes, for a range near its start.
    /// Call inside [`crate::block_on`].
    pub async fn get_start(&self, key: &Key) -> Result<Option<Object>, ReadError> {
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
            let now_ms = shared.now_ms();
            if stored.expires_ms > now_ms {
                return Ok(Some(Object::in_arena(shared, body, &stored, now_ms)));
            }
        } else if let Some(record) = read::find(shared, key.as_bytes(), hash, first).await? {
            return Ok(Some(Object::on_drive(shared, record)));
        }
        let upload = shared.live.upload(&hash).filter(|body| body.key == *key);
        Ok(upload.map(|body| Object::uploading(shared, body)))
    }

    /// Deletes a key, durably. True if it existed.
    pub async fn delete(&self, key: &Key) -> Result<bool, PutError> {
        let shared = &self.shared;
        shared.door.check_writable()?;
        let hash = shared.hasher.hash(key.as_bytes());
        let append = Append { ticket: 0, hash, key: key.as_bytes().into(), op: Op::Delete };
        let (reply, answer) = oneshot::channel();
        shared.door.reserve().await?.send(Command::Delete { append, reply });
        shared.door.answer(answer).await
    }

    /// Identity of the store.
    pub fn store_id(&self) -> StoreId {
        self.shared.store_id
    }

    /// Largest object, in bytes.
    pub fn object_len_max(&self) -> u64 {
        self.shared.object_len_max
    }

    /// Finishes what was accepted, writes the last checkpoints and ends the appenders. Blocking;
    /// operations on other clones fail from now on, and the volumes stay locked until the last of
    /// them is gone. A crash instead loses nothing that was acknowledged.
    ///
    /// Drives that hang are not waited for: about five seconds after the last one has stopped
    /// answering this returns. What is under way then may be stored or not, and the kernel keeps
    /// their volumes until they answer or the process ends.
    pub fn close(self) {
        self.scrub.close();
        let hub = &self.shared.hub;
        hub.close();
        while !hub.wait_for_threads(CLOSE_LOOK) {
            if drive::all_stalled_ms(&hub.drives).is_some() {
                tracing::error!("no drive answers; closing without them");
                hub.abandon();
                hub.wait_for_threads(CLOSE_HUNG_MAX);
                break;
            }
            if hub.is_closed() {
                // What is left are drives that hang.
                hub.wait_for_threads(CLOSE_HUNG_MAX);
                break;
            }
        }
    }
}
