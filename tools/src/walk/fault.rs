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
    #[error("no footer where the zone was sealed")]
    NoFooter,
    #[error("the payload's content hash is {found}, the record says {expected}")]
    ContentHash { expected: String, found: String },
}

impl Fault {
    pub(crate) fn read(len: usize, error: &io::Error) -> Fault {
        Fault::Read { len, error: error.to_string() }
    }

    /// Bytes of somebody else: they differ from ours by more than a flipped bit.
    pub(crate) fn is_leftover(&self) -> bool {
        match self {
            Fault::Format(FormatError::Magic { expected, found, .. }) => {
                (expected ^ found).count_ones() > 1
            }
            Fault::Format(FormatError::ForeignStore { expected, found, .. }) => {
                let pairs = expected.0.iter().zip(found.0);
                pairs.map(|(ours, theirs)| (ours ^ theirs).count_ones()).sum::<u32>() > 1
            }
            _ => false,
        }
    }

    /// Nothing was ever written there.
    pub(crate) fn is_blank(&self) -> bool {
        matches!(self, Fault::Format(FormatError::Blank { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapeloop_format::{StoreId, Structure};

    #[test]
    fn one_flipped_bit_is_damage_and_another_store_is_leftover() {
        let what = Structure::ZoneHeader;
        let expected = StoreId([1; 16]);
        let foreign = |found| FormatError::ForeignStore { what, expected, found };
        let mut flipped = expected;
        flipped.0[3] ^= 8;
        assert!(!Fault::Format(foreign(flipped)).is_leftover());
        assert!(Fault::Format(foreign(StoreId([2; 16]))).is_leftover());
        let magic = |found| FormatError::Magic { what, expected: 0xff, found };
        assert!(!Fault::Format(magic(0xfe)).is_leftover());
        assert!(Fault::Format(magic(0x1234_5678)).is_leftover());
    }
}
