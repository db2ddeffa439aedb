//! Kills: what makes an older version of a key dead for good. They lie in footers (kill table) and
//! in the payload of carry records.

use crate::codec::{Field, Reader, Writer, layout_holds};
use crate::{FormatError, KeyHash, Structure, ZoneLap};

const KEY_HASH: Field = Field::first("key_hash", 16);
const LSN: Field = KEY_HASH.then("lsn", 8);
const VICTIM_ZONE: Field = LSN.then("victim_zone", 4);
const VICTIM_LAP_LOW: Field = VICTIM_ZONE.then("victim_lap_low", 4);

pub(crate) const LAYOUT: &[Field] = &[KEY_HASH, LSN, VICTIM_ZONE, VICTIM_LAP_LOW];

/// Bytes of one kill on disk.
pub const KILL_LEN: usize = VICTIM_LAP_LOW.end();
const _: () = assert!(KILL_LEN == 32 && layout_holds(LAYOUT, KILL_LEN));

/// Every version of `key_hash` with an LSN below `lsn` is dead. It must be kept as long as the
/// victim zone still holds the victim lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kill {
    /// Hash of the key.
    pub key_hash: KeyHash,
    /// LSN of the overwrite or tombstone: versions below it are dead.
    pub lsn: u64,
    /// Zone that holds the dead version.
    pub victim_zone: u32,
    /// Low 32 bits of that zone's lap: a zone is not reused 4 billion times while a kill waits.
    pub victim_lap_low: u32,
}

impl Kill {
    /// The kill of versions of `key_hash` below `lsn`, the newest of which lies in `victim`.
    pub fn new(key_hash: KeyHash, lsn: u64, victim: ZoneLap) -> Kill {
        Kill { key_hash, lsn, victim_zone: victim.zone, victim_lap_low: victim.lap as u32 }
    }

    /// Whether the victim lies in this zone at this lap.
    pub fn names(&self, zone: u32, lap: u64) -> bool {
        self.victim_zone == zone && self.victim_lap_low == lap as u32
    }

    /// Writes the kill into exactly [`KILL_LEN`] bytes.
    pub fn encode_into(&self, out: &mut [u8]) {
        assert_eq!(out.len(), KILL_LEN);
        Writer::new(out)
            .bytes(KEY_HASH, &self.key_hash.0)
            .u64(LSN, self.lsn)
            .u32(VICTIM_ZONE, self.victim_zone)
            .u32(VICTIM_LAP_LOW, self.victim_lap_low);
    }

    /// The payload of a carry record, or the kill table of a footer.
    pub fn encode_list(kills: &[Kill]) -> Vec<u8> {
        let mut out = vec![0; kills.len() * KILL_LEN];
        for (kill, slot) in kills.iter().zip(out.chunks_exact_mut(KILL_LEN)) {
            kill.encode_into(slot);
        }
        out
    }

    fn decode(bytes: &[u8; KILL_LEN]) -> Kill {
        let reader = Reader::new(Structure::KillList, bytes, KILL_LEN).expect("length is a type");
        Kill {
            key_hash: KeyHash(reader.array(KEY_HASH)),
            lsn: reader.u64(LSN),
            victim_zone: reader.u32(VICTIM_ZONE),
            victim_lap_low: reader.u32(VICTIM_LAP_LOW),
        }
    }
}

/// Reads kills one by one from a table whose checksum was verified before.
#[derive(Clone, Debug)]
pub struct KillList<'a> {
    rest: &'a [[u8; KILL_LEN]],
}

impl<'a> KillList<'a> {
    /// Refuses a table that is not a whole number of kills.
    pub fn new(bytes: &'a [u8]) -> Result<KillList<'a>, FormatError> {
        let (rest, odd) = bytes.as_chunks::<KILL_LEN>();
        if !odd.is_empty() {
            let needed = bytes.len() - odd.len() + KILL_LEN;
            let what = Structure::KillList;
            return Err(FormatError::Truncated { what, needed, found: bytes.len() });
        }
        Ok(KillList { rest })
    }
}

impl Iterator for KillList<'_> {
    type Item = Kill;

    fn next(&mut self) -> Option<Kill> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(Kill::decode(first))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.rest.len(), Some(self.rest.len()))
    }
}

impl ExactSizeIterator for KillList<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_names_its_victims_lap_and_no_other() {
        let victim = ZoneLap { zone: 4, lap: (1 << 32) | 9 };
        let kill = Kill::new(KeyHash([1; 16]), 77, victim);
        assert!(kill.names(4, victim.lap));
        assert!(!kill.names(4, victim.lap - 1));
        assert!(!kill.names(5, victim.lap));
    }

    #[test]
    fn half_a_kill_is_refused() {
        let kill = Kill::new(KeyHash([1; 16]), 77, ZoneLap { zone: 4, lap: 9 });
        let bytes = Kill::encode_list(&[kill, kill]);
        assert_eq!(KillList::new(&bytes).unwrap().collect::<Vec<_>>(), [kill, kill]);
        let what = Structure::KillList;
        assert_eq!(
            KillList::new(&bytes[..63]).map(|kills| kills.len()),
            Err(FormatError::Truncated { what, needed: 64, found: 63 })
        );
    }
}
