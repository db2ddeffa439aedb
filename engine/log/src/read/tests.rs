//! The read path over one zone in memory.

use super::*;
use crate::directory::entry_of;
use crate::index::Index;
use tapeloop_format::{Geometry, KeyHasher, RecordKind, StoreGeometry, StoreId, chunk_crc};

const STORE: StoreId = StoreId(*b"0123456789abcdef");
const ZONE_SIZE: u64 = 2 << 20;
const KEY: &[u8] = b"live/seg-1.m4s";
const OFFSET: u64 = 3 * BLOCK as u64;
const LAP: u64 = 7;
const NOW_MS: u64 = 1000;

struct Zone {
    directory: Directory,
    bytes: Vec<u8>,
    location: Location,
    payload: Vec<u8>,
}

/// Zone 2 in lap 7 with one record of `len` payload bytes, and an index that knows it.
fn zone(len: usize) -> Zone {
    let geometry = Geometry::new(ZONE_SIZE, 4).expect("a geometry");
    let geometry = StoreGeometry::new(geometry, 1).expect("one volume");
    let payload: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_mul(29) ^ (i >> 8) as u8).collect();
    let location = Location { zone: 2, lap: LAP, offset: OFFSET, len: len as u32 };
    let hash = KeyHasher::new(&STORE).hash(KEY);
    let header = RecordHeader {
        kind: RecordKind::Put,
        zone: 2,
        lap: LAP,
        position: 5 * ZONE_SIZE + OFFSET,
        lsn: 9,
        incarnation: 1,
        durable_lsn: 8,
        stored_ms: 1,
        expires_ms: NOW_MS + 1,
        created_wall_ms: 1,
        payload_len: len as u64,
        hole_len: 0,
        content_hash: [1; 16],
        key_hash: hash,
        victim: None,
        more_victims: Box::default(),
        key: KEY.into(),
        metadata: b"video/mp4".to_vec().into(),
        chunk_crcs: payload.chunks(CHUNK).map(|chunk| chunk_crc(STORE.salt(), chunk)).collect(),
    };
    let mut bytes = vec![0; ZONE_SIZE as usize];
    let encoded = header.encode(STORE.salt());
    bytes[OFFSET as usize..][..encoded.len()].copy_from_slice(&encoded);
    let at = OFFSET as usize + header.shape().payload_offset;
    bytes[at..at + len].copy_from_slice(&payload);
    let index = Index::default();
    index.insert(&hash, entry_of(&geometry, &location), |_| true);
    let directory = Directory::new(geometry, index);
    directory.set_lap(2, LAP, true);
    Zone { directory, bytes, location, payload }
}

impl Zone {
    fn read(&self, read: &ZoneRead) -> &[u8] {
        assert_eq!(read.zone, 2);
        &self.bytes[read.offset as usize..][..read.len]
    }

    fn find<'k>(&self, key: &'k [u8], first: First) -> Find<'k> {
        Find::new(&self.directory, KeyHasher::new(&STORE).hash(KEY), key, first)
    }

    fn feed(&self, find: &mut Find<'_>) -> Result<Option<RecordHeader>, FormatError> {
        let FindStep::Read(location, read) = find.step(&self.directory) else { panic!("a read") };
        assert_eq!(location, self.location);
        find.feed(&self.directory, STORE.salt(), NOW_MS, &location, self.read(&read))
    }

    fn header(&self) -> RecordHeader {
        self.feed(&mut self.find(KEY, First::Header)).expect("undamaged").expect("the record")
    }

    /// All bytes of `range`, with the first read used if `first` says so.
    fn collect(&self, range: Range<u64>, first: Option<First>) -> Result<Vec<u8>, Refusal> {
        let mut reads = PayloadReads::new(Rc::new(self.header()), self.location, range);
        let mut out = Vec::new();
        if let Some(first) = first {
            let read = first_read(&self.directory, KEY.len(), &self.location, first);
            let bytes = self.read(&read);
            if let Some(part) = reads.feed_first(&self.directory, STORE.salt(), bytes) {
                out.extend_from_slice(&bytes[part?]);
            }
        }
        while !reads.is_done() {
            let read = reads.next_read().expect("bytes are left");
            assert!(read.at.offset.is_multiple_of(BLOCK as u64) && read.at.len <= 256 << 10);
            let bytes = self.read(&read.at);
            let part = reads.feed(&self.directory, STORE.salt(), &read, bytes)?;
            out.extend_from_slice(&bytes[part]);
        }
        assert_eq!(reads.next_read(), None);
        Ok(out)
    }
}

#[test]
fn every_range_is_exactly_its_bytes_whether_or_not_they_came_with_the_header() {
    for len in [1usize, 2048, 4096, 65_535, 65_536, 65_537, 262_144, 262_145, 700_000] {
        let zone = zone(len);
        let len = len as u64;
        let ends = [0, 1, len / 2, 65_536.min(len), 262_144.min(len), len - 1, len];
        for start in ends {
            for end in ends.into_iter().filter(|end| *end >= start) {
                let expected = &zone.payload[start as usize..end as usize];
                for first in [None, Some(First::Header), Some(First::Payload)] {
                    let found = zone.collect(start..end, first).expect("undamaged");
                    assert!(found == expected, "{start}..{end} of {len}, {first:?}");
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_refuses_the_chunk_it_is_in_and_no_other() {
    let mut zone = zone(700_000);
    let payload_at = OFFSET as usize + zone.header().shape().payload_offset;
    zone.bytes[payload_at + 3 * CHUNK + 17] ^= 1;
    for first in [None, Some(First::Payload)] {
        let damaged = zone.collect(3 * CHUNK as u64..3 * CHUNK as u64 + 1, first);
        let Err(Refusal::Damaged(FormatError::ChunkChecksum { index, .. })) = damaged else {
            panic!("{damaged:?}")
        };
        assert_eq!(index, 3);
    }
    let behind = zone.collect(4 * CHUNK as u64..700_000, None).expect("undamaged");
    assert!(behind == zone.payload[4 * CHUNK..]);
    zone.directory.set_lap(2, LAP, false);
    let reused = PayloadReads::new(Rc::new(zone.header_of_old_lap()), zone.location, 0..1);
    assert_eq!(zone.refusal(reused), Refusal::Moved, "reused under the reader, not damaged");
}

impl Zone {
    /// The header as a reader holds it that began before the zone was reused.
    fn header_of_old_lap(&self) -> RecordHeader {
        RecordHeader::decode(&self.bytes[OFFSET as usize..], STORE.salt()).expect("a header")
    }

    fn refusal(&self, mut reads: PayloadReads) -> Refusal {
        let read = reads.next_read().expect("a read");
        let bytes = self.read(&read.at);
        reads.feed(&self.directory, STORE.salt(), &read, bytes).expect_err("refused")
    }
}

#[test]
fn a_find_tells_its_key_from_another_and_expired_from_alive() {
    let zone = zone(10);
    let mut other = zone.find(b"live/other", First::Payload);
    assert_eq!(zone.feed(&mut other), Ok(None), "the hash is the key's, the key is not");
    assert_eq!(other.step(&zone.directory), FindStep::Absent);
    let mut late = zone.find(KEY, First::Header);
    let FindStep::Read(location, read) = late.step(&zone.directory) else { panic!("a read") };
    let fed = late.feed(&zone.directory, STORE.salt(), NOW_MS + 1, &location, zone.read(&read));
    assert_eq!(fed, Ok(None), "its life is over");
    assert_eq!(late.step(&zone.directory), FindStep::Absent);
}

#[test]
fn a_zone_reused_between_look_and_read_is_looked_up_again_a_bounded_number_of_times() {
    let mut zone = zone(10);
    let mut find = zone.find(KEY, First::Payload);
    zone.bytes[OFFSET as usize] ^= 1;
    for _ in 0..LOOKS_MAX {
        zone.directory.set_lap(2, LAP, true);
        let FindStep::Read(location, read) = find.step(&zone.directory) else { panic!("a read") };
        zone.directory.set_lap(2, LAP, false);
        let fed = find.feed(&zone.directory, STORE.salt(), NOW_MS, &location, zone.read(&read));
        assert_eq!(fed, Ok(None));
        zone.directory.set_lap(2, LAP, true);
    }
    assert_eq!(find.step(&zone.directory), FindStep::Recycled);
}

#[test]
fn a_record_from_another_place_or_lap_is_damage_where_the_index_points() {
    let mut zone = zone(10);
    let read = first_read(&zone.directory, KEY.len(), &zone.location, First::Payload);
    let elsewhere = Location { offset: OFFSET + BLOCK as u64, ..zone.location };
    let verdict = judge(&zone.directory, STORE.salt(), KEY, &elsewhere, zone.read(&read));
    let Verdict::Damaged(FormatError::Misplaced { field, .. }) = verdict else {
        panic!("{verdict:?}")
    };
    assert_eq!(field, "position");
    zone.directory.set_lap(2, LAP + 1, true);
    let newer = Location { lap: LAP + 1, ..zone.location };
    let verdict = judge(&zone.directory, STORE.salt(), KEY, &newer, zone.read(&read));
    assert!(matches!(verdict, Verdict::Damaged(FormatError::Misplaced { field: "lap", .. })));
    zone.directory.set_lap(2, LAP, true);
    // What a crash tore off here in this very lap, and a lost write did not cover.
    let longer = Location { len: 11, ..zone.location };
    let verdict = judge(&zone.directory, STORE.salt(), KEY, &longer, zone.read(&read));
    let field = "payload_len";
    let expected =
        FormatError::Misplaced { what: Structure::Record, field, expected: 11, found: 10 };
    assert_eq!(verdict, Verdict::Damaged(expected));
    zone.bytes[OFFSET as usize + 8] ^= 0x10;
    let damaged = zone.feed(&mut zone.find(KEY, First::Header));
    assert!(damaged.is_err(), "{damaged:?}");
}
