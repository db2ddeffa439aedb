//! The read path over one zone in memory.

use super::*;
use crate::directory::entry_of;
use crate::index::Index;
use tapeloop_format::{
    Geometry, KEY_LEN_MAX, KeyHasher, RecordKind, StoreGeometry, StoreId, chunk_crc,
};

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
                for first in [None, Some(First::Header), Some(First::Payload), Some(First::Whole)] {
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

#[test]
fn a_second_read_known_before_the_header_is_exactly_the_one_that_comes_next() {
    for len in [262_151usize, 300_000, 524_288, 524_289, 700_000] {
        let zone = zone(len);
        let known = |first| second_read(&zone.directory, KEY.len(), &zone.location, first);
        let ahead = known(First::Whole).expect("any metadata fits into the block with the key");
        assert_eq!((known(First::Header), known(First::Payload)), (None, None), "not asked for");
        for range in [0..len as u64, 5..262_145, 262_144..len as u64, 262_150..262_151] {
            let reads = PayloadReads::new(Rc::new(zone.header()), zone.location, range.clone());
            assert_eq!(zone.after_the_first(reads).next_read(), Some(ahead), "{range:?} of {len}");
        }
        let reads = PayloadReads::new(Rc::new(zone.header()), zone.location, 0..262_144);
        assert_eq!(zone.after_the_first(reads).next_read(), None, "who needs no more reads none");
    }
    for len in [0usize, 1, 65_537, 262_144] {
        let zone = zone(len);
        let known = second_read(&zone.directory, KEY.len(), &zone.location, First::Whole);
        assert_eq!(known, None, "{len} bytes come with the header");
    }
}

#[test]
fn a_second_read_is_known_only_where_no_metadata_can_move_the_payload() {
    let zone = zone(700_000);
    for key_len in 1..=KEY_LEN_MAX {
        let offsets: Vec<usize> = (0..=METADATA_LEN_MAX)
            .map(|metadata| RecordShape::of(key_len, metadata, 700_000).payload_offset)
            .collect();
        let is_certain = offsets.iter().all(|offset| *offset == offsets[0]);
        let known = second_read(&zone.directory, key_len, &zone.location, First::Whole);
        assert_eq!(known.is_some(), is_certain, "a key of {key_len} bytes");
        if let Some(read) = known {
            assert_eq!(read.at.offset, OFFSET + offsets[0] as u64 + READ_LEN);
        }
    }
}

#[test]
fn a_second_read_never_leaves_the_zone_whatever_the_index_takes_for_the_keys_record() {
    let zone = zone(700_000);
    // The record of a key with the same hash, which ends where the zone does.
    let offset = ZONE_SIZE - RecordShape::of(1, 0, 700_000).record_len as u64;
    let location = Location { offset, ..zone.location };
    let known = |key_len| second_read(&zone.directory, key_len, &location, First::Whole);
    assert!(known(1).is_some(), "its own ends within");
    let longer = (2..=KEY_LEN_MAX).filter_map(known).map(|read| read.at);
    for at in longer {
        assert!(at.offset + at.len as u64 <= ZONE_SIZE, "{at:?}");
    }
}

#[test]
fn what_was_read_ahead_is_verified_like_the_rest() {
    let mut zone = zone(700_000);
    let ahead = second_read(&zone.directory, KEY.len(), &zone.location, First::Whole);
    let ahead = ahead.expect("known");
    let feed = |zone: &Zone, bytes: &[u8]| {
        let reads = PayloadReads::new(Rc::new(zone.header()), zone.location, 0..700_000);
        let mut reads = zone.after_the_first(reads);
        assert_eq!(reads.next_read(), Some(ahead));
        reads.feed(&zone.directory, STORE.salt(), &ahead, bytes)
    };
    let early = zone.read(&ahead.at).to_vec();
    assert_eq!(feed(&zone, &early), Ok(0..262_144));
    let mut flipped = early.clone();
    flipped[CHUNK] ^= 1;
    let refused = feed(&zone, &flipped);
    assert!(
        matches!(refused, Err(Refusal::Damaged(FormatError::ChunkChecksum { index: 5, .. }))),
        "{refused:?}"
    );
    // Read before the zone was reused, they are the object's; read after, they are not.
    zone.directory.set_lap(2, LAP, false);
    assert_eq!(feed_in_old_lap(&zone, &ahead, &early), Ok(0..262_144));
    zone.bytes[ahead.at.offset as usize] ^= 1;
    let late = zone.read(&ahead.at).to_vec();
    assert_eq!(feed_in_old_lap(&zone, &ahead, &late), Err(Refusal::Moved));
}

/// Feeds a reader that had its header and first bytes before the zone was reused.
fn feed_in_old_lap(
    zone: &Zone,
    ahead: &PayloadRead,
    bytes: &[u8],
) -> Result<Range<usize>, Refusal> {
    let header = Rc::new(zone.header_of_old_lap());
    let reads = PayloadReads::new(header, zone.location, 0..700_000);
    let mut reads = zone.after_the_first(reads);
    assert_eq!(reads.next_read(), Some(*ahead));
    reads.feed(&zone.directory, STORE.salt(), ahead, bytes)
}

impl Zone {
    /// `reads` after the record's first bytes have been given out.
    fn after_the_first(&self, mut reads: PayloadReads) -> PayloadReads {
        let read = first_read(&self.directory, KEY.len(), &self.location, First::Whole);
        if let Some(part) = reads.feed_first(&self.directory, STORE.salt(), self.read(&read)) {
            part.expect("undamaged");
        }
        reads
    }
}
