//! An object that was found, and what is known of it.

use crate::body::{Body, Stored};
use crate::chunks::{Chunks, OnDrive};
use crate::engine::Shared;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

/// What a reader may know of an object before its bytes.
#[derive(Clone, Debug)]
pub struct ObjectInfo {
    /// Payload length in bytes; `None` while it is being uploaded.
    pub len: Option<u64>,
    /// xxh3-128 of the payload; zeros while it is being uploaded.
    pub content_hash: [u8; 16],
    /// Wall clock of the upload, milliseconds since 1970.
    pub created_wall_ms: u64,
    /// Time since it was stored, in milliseconds.
    pub age_ms: u64,
    /// Life left, in milliseconds; 0 while it is being uploaded.
    pub remaining_ms: u64,
    /// As given with the upload.
    pub metadata: Arc<[u8]>,
    /// Served from memory.
    pub in_arena: bool,
}

/// An object, found by its key. Holds no arena memory by itself.
pub struct Object {
    shared: Arc<Shared>,
    info: ObjectInfo,
    place: Place,
}

enum Place {
    Arena(Arc<Body>),
    /// What was read to find it holds a read buffer until the bytes are asked for: then whoever
    /// reads them holds it, and no object keeps a buffer while it waits for the next. What is read
    /// ahead takes another only where it is not missed: see `ahead.rs`.
    Drive(RefCell<OnDrive>),
    Upload(Arc<Body>),
}

impl Object {
    pub(crate) fn in_arena(
        shared: &Arc<Shared>,
        body: Arc<Body>,
        stored: &Stored,
        now_ms: u64,
    ) -> Object {
        let info = ObjectInfo {
            len: Some(body.received()),
            content_hash: stored.content_hash,
            created_wall_ms: body.created_wall_ms,
            age_ms: now_ms.saturating_sub(stored.stored_ms),
            remaining_ms: stored.expires_ms.saturating_sub(now_ms),
            metadata: Arc::clone(&body.metadata),
            in_arena: true,
        };
        Object { shared: Arc::clone(shared), info, place: Place::Arena(body) }
    }

    pub(crate) fn on_drive(shared: &Arc<Shared>, record: OnDrive) -> Object {
        let now_ms = shared.now_ms();
        let header = &record.header;
        let info = ObjectInfo {
            len: Some(header.payload_len),
            content_hash: header.content_hash,
            created_wall_ms: header.created_wall_ms,
            age_ms: now_ms.saturating_sub(header.stored_ms),
            remaining_ms: header.expires_ms.saturating_sub(now_ms),
            metadata: Arc::from(&*header.metadata),
            in_arena: false,
        };
        Object { shared: Arc::clone(shared), info, place: Place::Drive(RefCell::new(record)) }
    }

    pub(crate) fn uploading(shared: &Arc<Shared>, body: Arc<Body>) -> Object {
        let info = ObjectInfo {
            len: None,
            content_hash: [0; 16],
            created_wall_ms: body.created_wall_ms,
            age_ms: 0,
            remaining_ms: 0,
            metadata: Arc::clone(&body.metadata),
            in_arena: true,
        };
        Object { shared: Arc::clone(shared), info, place: Place::Upload(body) }
    }

    /// What is known of it.
    pub fn info(&self) -> &ObjectInfo {
        &self.info
    }

    /// What a reader keeps with the object while it is in the arena, made by the first who asks;
    /// `None` for one that is elsewhere. All readers share it: make it of the object alone.
    pub fn noted(&self, make: impl FnOnce() -> Box<[u8]>) -> Option<&[u8]> {
        match &self.place {
            Place::Arena(body) => Some(body.note.get_or_init(make)),
            Place::Drive(_) | Place::Upload(_) => None,
        }
    }

    /// The bytes of `range`, which must lie within the object. Panics while it is being uploaded: a
    /// length nobody knows has no ranges; see [`Object::follow`].
    pub fn read(&self, range: Range<u64>) -> Chunks {
        let len = self.info.len.expect("an upload is followed, not read");
        assert!(range.start <= range.end && range.end <= len, "{range:?} of {len} bytes");
        let shared = Arc::clone(&self.shared);
        match &self.place {
            Place::Arena(body) => Chunks::arena(shared, Arc::clone(body), range),
            Place::Drive(record) => Chunks::drive(shared, record.borrow_mut().take(), range),
            Place::Upload(_) => unreachable!("an upload has no length"),
        }
    }

    /// All bytes from the first on. Of an upload in progress they come as they arrive, and end when
    /// the object is durable; if it never will be, with an error.
    pub fn follow(&self) -> Chunks {
        match (&self.place, self.info.len) {
            (Place::Upload(body), _) => Chunks::follow(Arc::clone(&self.shared), Arc::clone(body)),
            (_, len) => self.read(0..len.expect("only an upload has no length")),
        }
    }
}
