//! What has been written where on one drive, seen from outside: so that the oracle can say whose
//! objects a damaged sector may cost, and whose it may not.

use std::collections::{BTreeMap, BTreeSet};
use tapeloop_format::{
    CARRY_JOURNAL_OFFSET, DATA_OFFSET, FooterTrailer, Geometry, KeyHash, KillList, RecordHeader,
    RecordKind, StoreId, ZoneHeader,
};

/// What a stretch of the drive was written with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Record {
        key: usize,
    },
    /// Kills of these keys: a carry, in its zone or in the journal.
    Kills(Vec<usize>),
    ZoneHeader,
    Footer,
    Checkpoint,
    Other,
}

struct Region {
    len: u64,
    what: What,
}

/// The regions of one drive.
#[derive(Default)]
pub(crate) struct Ledger {
    regions: BTreeMap<u64, Region>,
    /// Keys that had a record in the lap of a zone before the present one.
    before: BTreeMap<u32, BTreeSet<usize>>,
    /// Keys that had a record in this lap of a zone where something else was written since: the
    /// later write may not last.
    covered: BTreeMap<u32, BTreeSet<usize>>,
}

/// The damage on one drive, as far as it matters to the oracle.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    /// Keys of which any version, or none, may be found after a recovery.
    pub(crate) keys: BTreeSet<usize>,
    /// Zones that may be reported, by local number.
    pub(crate) zones: BTreeSet<u32>,
    pub(crate) checkpoint: bool,
    pub(crate) journal: bool,
}

impl Damage {
    pub(crate) fn is_some(&self) -> bool {
        self.checkpoint || self.journal || !self.zones.is_empty()
    }
}

impl Ledger {
    /// A write has been asked for. `key_of` knows the keys by their hashes. Says what it is.
    pub(crate) fn wrote(
        &mut self,
        geometry: &Geometry,
        offset: u64,
        bytes: &[u8],
        record_key: Option<usize>,
        store_id: &StoreId,
        key_of: impl Fn(&KeyHash) -> Option<usize>,
    ) -> What {
        let what = match record_key {
            Some(key) => What::Record { key },
            None => classify(geometry, offset, bytes, store_id, key_of),
        };
        if what == What::ZoneHeader {
            let zone = zone_at(geometry, offset);
            let keys = self.keys_in(geometry, zone);
            self.before.insert(zone, keys);
            self.covered.remove(&zone);
        }
        let end = offset + bytes.len() as u64;
        let covered: Vec<u64> = self
            .regions
            .range(offset..end)
            .filter(|(at, region)| **at == offset || *at + region.len <= end)
            .map(|(at, _)| *at)
            .collect();
        for at in covered {
            let region = self.regions.remove(&at).expect("just seen");
            if at >= DATA_OFFSET {
                let keys = self.covered.entry(zone_at(geometry, at)).or_default();
                region.what.add_keys(keys);
            }
        }
        self.regions.insert(offset, Region { len: bytes.len() as u64, what: what.clone() });
        what
    }

    /// Where something lies: an offset and a length, by number.
    pub(crate) fn nth(&self, number: u64) -> Option<(u64, u64)> {
        let count = self.regions.len() as u64;
        let (at, region) = self.regions.iter().nth((number % count.max(1)) as usize)?;
        Some((*at, region.len))
    }

    /// Bytes of what begins at `offset`.
    pub(crate) fn region_len(&self, offset: u64) -> Option<u64> {
        self.regions.get(&offset).map(|region| region.len)
    }

    /// Every key of which the drive holds a record or a kill.
    pub(crate) fn keys(&self) -> BTreeSet<usize> {
        let gone = self.before.values().chain(self.covered.values());
        let mut keys: BTreeSet<usize> = gone.flatten().copied().collect();
        self.regions.values().for_each(|region| region.what.add_keys(&mut keys));
        keys
    }

    fn keys_in(&self, geometry: &Geometry, zone: u32) -> BTreeSet<usize> {
        let start = geometry.zone_offset(zone);
        let mut keys = self.covered.get(&zone).cloned().unwrap_or_default();
        let inside = self.regions.range(start..start + geometry.zone_size());
        inside.for_each(|(_, region)| region.what.add_keys(&mut keys));
        keys
    }

    /// Does the sector belong to a record of the key?
    pub(crate) fn is_record_of(&self, geometry: &Geometry, sector: u64, key: usize) -> bool {
        if sector < DATA_OFFSET {
            return false;
        }
        let start = geometry.zone_offset(zone_at(geometry, sector));
        self.touching(sector, start).any(|(_, region)| region.what == What::Record { key })
    }

    fn touching(&self, sector: u64, from: u64) -> impl Iterator<Item = (u64, &Region)> {
        let range = self.regions.range(from..=sector);
        range
            .filter(move |(at, region)| *at + region.len > sector)
            .map(|(at, region)| (*at, region))
    }

    /// What damaged sectors may cost. `durable` reads what the drive holds beneath.
    pub(crate) fn damage<'a>(
        &self,
        geometry: &Geometry,
        store_id: &StoreId,
        sectors: impl Iterator<Item = (u64, bool)>,
        durable: impl Fn(u64, usize) -> &'a [u8],
    ) -> Damage {
        let mut damage = Damage::default();
        let mut headers: BTreeMap<u32, bool> = BTreeMap::new();
        let mut others: BTreeSet<u32> = BTreeSet::new();
        for (sector, shows_other) in sectors {
            if sector < CARRY_JOURNAL_OFFSET {
                damage.checkpoint = true;
                continue;
            }
            if sector < DATA_OFFSET {
                damage.journal = true;
                self.touching(sector, CARRY_JOURNAL_OFFSET)
                    .for_each(|(_, region)| region.what.add_keys(&mut damage.keys));
                continue;
            }
            let zone = zone_at(geometry, sector);
            damage.zones.insert(zone);
            let start = geometry.zone_offset(zone);
            if sector < start + 4096 {
                *headers.entry(zone).or_default() |= shows_other;
                continue;
            }
            others.insert(zone);
            self.touching(sector, start)
                .for_each(|(_, region)| region.what.add_keys(&mut damage.keys));
            if shows_other {
                // It may show the header of a record that a crash had torn, in the same lap: a scan
                // believes it, and misses what has been written behind it since.
                damage.keys.extend(self.covered.get(&zone).into_iter().flatten());
                let behind = self.regions.range(sector..start + geometry.zone_size());
                behind.for_each(|(_, region)| region.what.add_keys(&mut damage.keys));
            }
        }
        for (zone, shows_other) in headers {
            // A sealed zone says everything twice; the records of an open one hang on its header.
            let alone = !shows_other && !others.contains(&zone);
            if alone && is_sealed(geometry, store_id, zone, &durable) {
                continue;
            }
            damage.keys.extend(self.keys_in(geometry, zone));
            damage.keys.extend(self.before.get(&zone).into_iter().flatten());
            let journal = self.regions.range(CARRY_JOURNAL_OFFSET..DATA_OFFSET);
            journal.for_each(|(_, region)| region.what.add_keys(&mut damage.keys));
        }
        damage
    }
}

impl What {
    fn add_keys(&self, keys: &mut BTreeSet<usize>) {
        match self {
            What::Record { key } => drop(keys.insert(*key)),
            What::Kills(killed) => keys.extend(killed),
            What::ZoneHeader | What::Footer | What::Checkpoint | What::Other => {}
        }
    }
}

fn zone_at(geometry: &Geometry, offset: u64) -> u32 {
    ((offset - DATA_OFFSET) / geometry.zone_size()) as u32
}

fn is_sealed<'a>(
    geometry: &Geometry,
    store_id: &StoreId,
    zone: u32,
    durable: impl Fn(u64, usize) -> &'a [u8],
) -> bool {
    let start = geometry.zone_offset(zone);
    let header = ZoneHeader::decode(durable(start, 4096), store_id);
    let last = start + geometry.zone_size() - 4096;
    let trailer = FooterTrailer::decode(durable(last, 4096), store_id);
    matches!((header, trailer), (Ok(header), Ok(trailer)) if header.lap == trailer.lap)
}

fn classify(
    geometry: &Geometry,
    offset: u64,
    bytes: &[u8],
    store_id: &StoreId,
    key_of: impl Fn(&KeyHash) -> Option<usize>,
) -> What {
    if offset < CARRY_JOURNAL_OFFSET {
        return What::Checkpoint;
    }
    let in_zone = |at: u64| (at - DATA_OFFSET) % geometry.zone_size();
    if offset >= DATA_OFFSET && in_zone(offset) == 0 {
        return What::ZoneHeader;
    }
    if offset >= DATA_OFFSET && in_zone(offset + bytes.len() as u64) == 0 {
        return What::Footer;
    }
    let Ok(header) = RecordHeader::decode(bytes, store_id.salt()) else { return What::Other };
    if header.kind != RecordKind::Carry {
        return What::Other;
    }
    let payload = &bytes[header.shape().payload_offset..][..header.payload_len as usize];
    let kills = KillList::new(payload).expect("the log writes whole kills");
    What::Kills(kills.filter_map(|kill| key_of(&kill.key_hash)).collect())
}
