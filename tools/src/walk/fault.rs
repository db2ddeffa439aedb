//! Why a place on a volume could not be read as what it should be.

use std::io;

use tapeloop_format::FormatError;

/// A structure that is not there, or not right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error("read of {len} bytes failed: {error}")]
    Read { len: usize, error: String },
    #[error("incarnation {found} where {least} or later belongs: left over from before a crash")]
    Incarnation { found: u64, least: u64 },
    #[error("the two copies of the volume header differ")]
    CopiesDiffer,
    #[error("record of {len} bytes runs past the end of its zone's data")]
    Overruns { len: u64 },
}

impl Fault {
    pub(crate) fn read(len: usize, error: &io::Error) -> Fault {
        Fault::Read { len, error: error.to_string() }
    }

    /// Nothing was ever written there.
    pub(crate) fn is_blank(&self) -> bool {
        matches!(self, Fault::Format(FormatError::Blank { .. }))
    }
}
