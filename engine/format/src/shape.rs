//! How a record's parts are laid out, from lengths alone. Log, engine and fsck share this.

use crate::{BLOCK, CHUNK, KEY_LEN_MAX, METADATA_LEN_MAX, ZONE_SIZE_MAX, round_up};

/// Bytes of a record header before the key.
pub const RECORD_FIXED_LEN: usize = 192;
/// Most chunks of one payload.
pub const CHUNK_COUNT_MAX: usize = ZONE_SIZE_MAX as usize / CHUNK;
/// Longest record header, unpadded: what a reader must be ready to buffer.
pub const RECORD_HEADER_LEN_MAX: usize =
    RECORD_FIXED_LEN + KEY_LEN_MAX + METADATA_LEN_MAX + 4 * CHUNK_COUNT_MAX;

/// Offsets and lengths of a record, counted from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordShape {
    /// Bytes up to the end of the chunk checksum table, unpadded.
    pub header_len: usize,
    /// Where the payload starts: directly behind the header when all fits in one block, else at
    /// the next block boundary.
    pub payload_offset: usize,
    /// Bytes the record takes in the zone, a multiple of the block size.
    pub record_len: usize,
}

impl RecordShape {
    /// The shape of a record with these lengths, which must be within the format's bounds.
    pub const fn of(key_len: usize, metadata_len: usize, payload_len: u64) -> RecordShape {
        assert!(key_len <= KEY_LEN_MAX && metadata_len <= METADATA_LEN_MAX);
        assert!(payload_len <= ZONE_SIZE_MAX);
        let payload_len = payload_len as usize;
        let table_len = 4 * payload_len.div_ceil(CHUNK);
        let header_len = RECORD_FIXED_LEN + key_len + metadata_len + table_len;
        let inline = header_len + payload_len <= BLOCK;
        let payload_offset = if inline { header_len } else { round_up(header_len, BLOCK) };
        let record_len = round_up(payload_offset + payload_len, BLOCK);
        assert!(header_len <= payload_offset && payload_offset <= record_len);
        RecordShape { header_len, payload_offset, record_len }
    }

    /// Bytes to read for the whole header, a multiple of the block size.
    pub const fn header_blocks_len(&self) -> usize {
        round_up(self.header_len, BLOCK)
    }

    /// Whether the payload shares the header's only block.
    pub const fn is_inline(&self) -> bool {
        self.payload_offset == self.header_len && self.record_len == BLOCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_fits_behind_the_header_shares_its_block() {
        let room = BLOCK - RECORD_FIXED_LEN - 10 - 4;
        let inline = RecordShape::of(10, 0, room as u64);
        assert_eq!((inline.payload_offset, inline.record_len), (206, BLOCK));
        assert!(inline.is_inline());
        let apart = RecordShape::of(10, 0, room as u64 + 1);
        assert_eq!((apart.payload_offset, apart.record_len), (BLOCK, 2 * BLOCK));
        assert!(!apart.is_inline());
    }

    #[test]
    fn the_longest_header_stays_within_its_bound() {
        let longest = RecordShape::of(KEY_LEN_MAX, METADATA_LEN_MAX, ZONE_SIZE_MAX);
        assert_eq!(longest.header_len, RECORD_HEADER_LEN_MAX);
        assert_eq!(longest.header_blocks_len(), 5 * BLOCK);
    }

    #[test]
    fn every_payload_length_around_a_boundary_is_laid_out_without_overlap() {
        for payload_len in (0..2 * BLOCK).chain(CHUNK - 5000..CHUNK + 5000) {
            for (key_len, metadata_len) in [(0, 0), (1, 0), (KEY_LEN_MAX, METADATA_LEN_MAX)] {
                let shape = RecordShape::of(key_len, metadata_len, payload_len as u64);
                assert!(shape.header_len <= shape.payload_offset);
                assert!(shape.payload_offset + payload_len <= shape.record_len);
                assert!(shape.record_len - shape.payload_offset - payload_len < BLOCK);
                assert!(shape.is_inline() || shape.payload_offset.is_multiple_of(BLOCK));
                assert!(shape.is_inline() || shape.header_len + payload_len > BLOCK);
            }
        }
    }
}
