//! Everything that can go wrong with a request, and the one place where it becomes a status.

use crate::http::Reject;
use crate::http::chunked::ChunkError;
use crate::origin::cache;
use tapeloop_engine::{AppendError, PutError, ReadError};
use thiserror::Error;

/// Why a request has no good answer. The text is the `detail` of the problem document.
#[derive(Debug, Error)]
pub enum Failure {
    /// Ambiguous or malformed request.
    #[error(transparent)]
    Reject(#[from] Reject),
    /// Malformed chunked body.
    #[error("{0}")]
    Chunk(#[from] ChunkError),
    /// The client ended its side before the body was complete.
    #[error("the body ended after {received} bytes, before its declared end")]
    BodyShort {
        /// Body bytes received.
        received: u64,
    },
    /// The path is well-formed and can name no object.
    #[error("a key is namespace/path: two or more segments, not ending in a slash")]
    NotAnObject {
        /// A write is a mistake of the client; a read simply finds nothing.
        is_write: bool,
    },
    /// `*` with a method other than OPTIONS.
    #[error("the target * is for OPTIONS only")]
    AsteriskTarget,
    /// Namespaces are configured and this is none of them.
    #[error("no such namespace")]
    UnknownNamespace,
    /// Nothing under that key, or its life is over.
    #[error("no such object")]
    NotFound,
    /// PUT with neither a length nor chunks.
    #[error("a PUT needs Content-Length or Transfer-Encoding: chunked")]
    LengthRequired,
    /// PUT with Content-Range: partial writes do not exist.
    #[error("Content-Range on a PUT: partial uploads are not supported")]
    ContentRange,
    /// A precondition is false.
    #[error("a precondition of the request is false")]
    Precondition,
    /// No byte of the object lies in the range.
    #[error("the range lies outside the object of {len} bytes")]
    RangeNotSatisfiable {
        /// Length of the object.
        len: u64,
    },
    /// More body than a request without use for one may have.
    #[error("a body of more than 65536 bytes on a method that uses none")]
    BodyUnused,
    /// The head did not come in time.
    #[error("the request head took longer than its deadline")]
    HeadTimeout,
    /// The body stalled, or came slower than the minimum rate.
    #[error("the body stalled or was slower than the minimum rate")]
    BodyTimeout,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Closing,
    /// The engine refused or failed a write.
    #[error("{0}")]
    Put(#[from] PutError),
    /// The engine failed a read.
    #[error("{0}")]
    Read(#[from] ReadError),
}

/// What a failure looks like on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Seconds after which trying again makes sense.
    pub retry_after_s: Option<u64>,
    /// Cache-Control.
    pub cache_control: &'static str,
    /// Framing is in doubt, or the client is: close the connection.
    pub close: bool,
}

impl Failure {
    /// The status map.
    pub fn answer(&self) -> Answer {
        let (status, close) = match self {
            Failure::Reject(reject) => (reject.status(), true),
            Failure::Chunk(_) | Failure::BodyShort { .. } => (400, true),
            Failure::NotAnObject { is_write: true } | Failure::ContentRange => (400, false),
            Failure::AsteriskTarget => (400, true),
            Failure::NotAnObject { is_write: false } => (404, false),
            Failure::UnknownNamespace | Failure::NotFound => (404, false),
            Failure::HeadTimeout | Failure::BodyTimeout => (408, true),
            Failure::LengthRequired => (411, false),
            Failure::Precondition => (412, false),
            Failure::BodyUnused => (413, true),
            Failure::RangeNotSatisfiable { .. } => (416, false),
            Failure::Closing => (503, true),
            Failure::Put(error) => put_status(error),
            Failure::Read(error) => (read_status(error), false),
        };
        let cache_control = if status == 404 { cache::NOT_FOUND } else { cache::NO_STORE };
        let retry_after_s = (status == 503).then_some(RETRY_AFTER_S);
        Answer { status, retry_after_s, cache_control, close }
    }
}

/// A fenced or closing store is back, or replaced by another node, no sooner than this.
const RETRY_AFTER_S: u64 = 5;

fn put_status(error: &PutError) -> (u16, bool) {
    match error {
        PutError::TooLarge { .. } | PutError::Log(AppendError::TooLarge { .. }) => (413, false),
        PutError::Length { .. } => (400, true),
        PutError::Log(AppendError::NoSpace) => (507, false),
        // The store cannot take anything for now; another node, or a restart, can.
        PutError::Log(
            AppendError::Fenced(_) | AppendError::Closing | AppendError::WriteFailed { .. },
        )
        | PutError::Stalled { .. }
        | PutError::Closed => (503, false),
        PutError::Metadata { .. } => (500, false),
    }
}

fn read_status(error: &ReadError) -> u16 {
    match error {
        // Its life ended, or never began.
        ReadError::Recycled | ReadError::Aborted { .. } => 404,
        ReadError::Damaged { .. } | ReadError::Io { .. } => 500,
        ReadError::Closed | ReadError::Overloaded { .. } => 503,
        ReadError::Stalled { .. } => 504,
    }
}
