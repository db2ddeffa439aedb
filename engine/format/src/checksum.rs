//! Store identity and checksums. Every checksum but the volume header's is salted with the store
//! id: CRC-32 of (store id, then the bytes). So bytes of another store never verify, and neither
//! does a payload crafted to look like a record by someone who does not know the id.

use crate::CHUNK;
use crc32fast::Hasher;
use std::fmt;
use std::str::FromStr;

/// Identity of a store, random, shared by its volumes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId(pub [u8; 16]);

impl StoreId {
    /// Starting state of every checksum of this store.
    pub fn salt(&self) -> Salt {
        Salt(crc32fast::hash(&self.0))
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

/// The text is not a UUID of the form 8-4-4-4-12 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a store id: expected 32 hex digits grouped 8-4-4-4-12")]
pub struct StoreIdParseError;

impl FromStr for StoreId {
    type Err = StoreIdParseError;

    fn from_str(text: &str) -> Result<StoreId, StoreIdParseError> {
        let text = text.as_bytes();
        if text.len() != 36 {
            return Err(StoreIdParseError);
        }
        let mut id = [0; 16];
        let mut digits = 0;
        for (i, byte) in text.iter().enumerate() {
            if matches!(i, 8 | 13 | 18 | 23) {
                if *byte != b'-' {
                    return Err(StoreIdParseError);
                }
                continue;
            }
            let digit = char::from(*byte).to_digit(16).ok_or(StoreIdParseError)?;
            id[digits / 2] = id[digits / 2] << 4 | digit as u8;
            digits += 1;
        }
        assert_eq!(digits, 32);
        Ok(StoreId(id))
    }
}

/// Initial CRC state of a store. See [`StoreId::salt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(u32);

impl Salt {
    /// No salt: for the volume header alone.
    pub(crate) const NONE: Salt = Salt(0);

    /// Salted CRC-32 of `bytes`.
    pub fn crc(&self, bytes: &[u8]) -> u32 {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finalize()
    }

    fn hasher(&self) -> Hasher {
        Hasher::new_with_initial(self.0)
    }
}

/// Checksum of one payload chunk; all chunks but the last are [`CHUNK`] bytes.
pub fn chunk_crc(salt: Salt, chunk: &[u8]) -> u32 {
    debug_assert!(chunk.len() <= CHUNK);
    salt.crc(chunk)
}

/// Builds the chunk checksum table of a payload that arrives in pieces of any size.
#[derive(Clone, Debug)]
pub struct PayloadChecksums {
    salt: Salt,
    done: Vec<u32>,
    chunk: Hasher,
    chunk_len: usize,
}

impl PayloadChecksums {
    /// Nothing received yet.
    pub fn new(salt: Salt) -> PayloadChecksums {
        PayloadChecksums { salt, done: Vec::new(), chunk: salt.hasher(), chunk_len: 0 }
    }

    /// Takes the next bytes of the payload.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(CHUNK - self.chunk_len));
            self.chunk.update(now);
            self.chunk_len += now.len();
            if self.chunk_len == CHUNK {
                self.close_chunk();
            }
            bytes = rest;
        }
    }

    /// The finished table, one checksum per chunk; empty for an empty payload.
    pub fn finish(mut self) -> Box<[u32]> {
        if self.chunk_len > 0 {
            self.close_chunk();
        }
        self.done.into_boxed_slice()
    }

    fn close_chunk(&mut self) {
        let full = std::mem::replace(&mut self.chunk, self.salt.hasher());
        self.done.push(full.finalize());
        self.chunk_len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId(*b"0123456789abcdef");

    #[test]
    fn a_salted_checksum_is_the_crc_of_store_id_and_bytes() {
        let joined = [&STORE.0[..], b"some bytes"].concat();
        assert_eq!(STORE.salt().crc(b"some bytes"), crc32fast::hash(&joined));
        assert_eq!(Salt::NONE.crc(b"123456789"), 0xcbf4_3926);
        assert_ne!(STORE.salt().crc(b""), StoreId([0; 16]).salt().crc(b""));
    }

    #[test]
    fn the_chunk_table_does_not_depend_on_how_the_payload_arrived() {
        let payload: Vec<u8> = (0..3 * CHUNK + 5).map(|i| (i % 253) as u8).collect();
        let expected: Vec<u32> =
            payload.chunks(CHUNK).map(|chunk| chunk_crc(STORE.salt(), chunk)).collect();
        for piece_len in [1000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, payload.len()] {
            let mut checksums = PayloadChecksums::new(STORE.salt());
            payload.chunks(piece_len).for_each(|piece| checksums.update(piece));
            assert_eq!(checksums.finish()[..], expected, "pieces of {piece_len}");
        }
        assert_eq!(PayloadChecksums::new(STORE.salt()).finish().len(), 0);
    }

    #[test]
    fn a_store_id_reads_back_from_what_it_prints() {
        let text = STORE.to_string();
        assert_eq!(text, "30313233-3435-3637-3839-616263646566");
        assert_eq!(text.parse(), Ok(STORE));
        assert_eq!(text.to_uppercase().parse(), Ok(STORE));
        let long = format!("{text}0");
        let dashed = text.replace('3', "-");
        for bad in ["", "30313233343536373839616263646566", &long, &dashed, &text.replace('6', "g")]
        {
            assert_eq!(bad.parse::<StoreId>(), Err(StoreIdParseError), "{bad:?}");
        }
    }
}
