//! The end of an operation. What others may see of the order in which operations end is done while
//! the log is held; telling them, which may wake their threads, comes after.

use crate::admission::Claim;
use crate::body::{Body, Stored};
use crate::door::Reply;
use crate::engine::Shared;
use crate::error::PutError;
use std::sync::Arc;
use tapeloop_format::KeyHash;

/// An operation that the log has.
pub(crate) struct InFlight {
    pub(crate) hash: KeyHash,
    pub(crate) body: Option<(Arc<Body>, Claim)>,
    pub(crate) content_hash: [u8; 16],
    pub(crate) reply: Reply,
}

/// An operation that has ended and whose people have not been told.
pub(crate) struct Ending {
    body: Option<(Arc<Body>, Claim)>,
    is_stored: bool,
    /// What it took out of the live edge.
    superseded: Option<Arc<Body>>,
    result: Result<bool, PutError>,
    reply: Reply,
}

impl InFlight {
    /// An object, durable and published. `shared` is gone when the engine is.
    pub(crate) fn stored(self, shared: Option<&Shared>, stored: Stored, replaced: bool) -> Ending {
        let mut superseded = None;
        if let Some((body, _)) = &self.body {
            body.set_stored(stored);
            superseded = shared.and_then(|shared| shared.live.store(body));
        }
        self.ended(true, superseded, Ok(replaced))
    }

    /// Durably gone.
    pub(crate) fn deleted(self, shared: Option<&Shared>, existed: bool) -> Ending {
        let superseded = shared.and_then(|shared| shared.live.take_stored(&self.hash));
        self.ended(false, superseded, Ok(existed))
    }

    /// Nothing was stored.
    pub(crate) fn failed(self, error: PutError) -> Ending {
        self.ended(false, None, Err(error))
    }

    fn ended(
        self,
        is_stored: bool,
        superseded: Option<Arc<Body>>,
        result: Result<bool, PutError>,
    ) -> Ending {
        let InFlight { body, reply, .. } = self;
        Ending { body, is_stored, superseded, result, reply }
    }
}

impl Ending {
    /// Tells followers, those who wait for memory, and whoever asked.
    pub(crate) fn tell(self, shared: Option<&Shared>) {
        let Ending { body, is_stored, superseded, result, reply } = self;
        if let Some((body, claim)) = body {
            match (is_stored, shared) {
                (true, _) => body.end_stored(),
                (false, Some(shared)) => shared.live.end_upload(&body),
                (false, None) => body.end_failed(),
            }
            if let Some(shared) = shared {
                shared.admission.release(claim);
            }
        }
        if let Some(superseded) = superseded {
            superseded.evict();
        }
        // Whoever asked may be gone; the operation is done all the same.
        let _ = reply.send(result);
    }
}
