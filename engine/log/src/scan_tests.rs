//! The scan of a zone on its own: reads answered in any order, records that are refused late, and
//! blocks that cannot be read.

use crate::scan::{Scan, ScanRead};
use tapeloop_format::{
    BLOCK, CHUNK, ClassId, KeyHasher, RecordHeader, RecordKind, StoreId, ZoneHeader, chunk_crc,
};

const STORE: StoreId = StoreId([9; 16]);
const ZONE_SIZE: u64 = 1 << 20;
const BASE: u64 = 7 * ZONE_SIZE;

fn zone_header() -> ZoneHeader {
    ZoneHeader {
        zone: 3,
        lap: 5,
        base_position: BASE,
        class: ClassId { bucket: 12, group: 0 },
        opened_store_ms: 1000,
        incarnation: 2,
    }
}

/// A zone as it lies on the drive.
struct Image(Vec<u8>);

impl Image {
    fn new() -> Image {
        Image(vec![0; ZONE_SIZE as usize])
    }

    /// Writes a record; where it ends.
    fn put(&mut self, offset: u64, payload_len: usize) -> u64 {
        let payload: Vec<u8> =
            (0..payload_len).map(|at| (at as u64 * 7 + offset / 512) as u8).collect();
        let key = format!("live/{offset}.m4s").into_bytes();
        let header = RecordHeader {
            kind: RecordKind::Put,
            zone: 3,
            lap: 5,
            position: BASE + offset,
            lsn: offset / BLOCK as u64,
            incarnation: 2,
            durable_lsn: 0,
            stored_ms: 2000,
            expires_ms: 9000,
            created_wall_ms: 2000,
            payload_len: payload_len as u64,
            hole_len: 0,
            content_hash: [1; 16],
            key_hash: KeyHasher::new(&STORE).hash(&key),
            victim: None,
            more_victims: Box::default(),
            key: key.into(),
            metadata: Box::default(),
            chunk_crcs: payload.chunks(CHUNK).map(|chunk| chunk_crc(STORE.salt(), chunk)).collect(),
        };
        let (shape, encoded) = (header.shape(), header.encode(STORE.salt()));
        self.0[offset as usize..][..encoded.len()].copy_from_slice(&encoded);
        let at = offset as usize + shape.payload_offset;
        self.0[at..at + payload_len].copy_from_slice(&payload);
        offset + shape.record_len as u64
    }

    /// Scans with reads answered in an order that `seed` gives. A read that touches a block of
    /// `unreadable` fails. Offsets of records, and holes.
    fn scan(&self, seed: u64, durable_len: u64, unreadable: &[u64]) -> (Vec<u64>, Vec<(u64, u64)>) {
        let mut scan = Scan::new(zone_header(), ZONE_SIZE, STORE.salt(), durable_len, 2);
        let mut reads: Vec<ScanRead> = Vec::new();
        let mut turns = 0u64;
        loop {
            reads.extend(std::iter::from_fn(|| scan.next_read()));
            if reads.is_empty() {
                break;
            }
            turns += 1;
            assert!(turns < 10_000, "the scan comes to an end");
            let order = seed.wrapping_mul(turns).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
            let read = reads.swap_remove(order as usize % reads.len());
            let (from, to) = (read.offset, read.offset + read.len as u64);
            let is_bad = unreadable.iter().any(|at| (from..to).contains(at));
            let bytes = &self.0[from as usize..to as usize];
            scan.feed(read, (!is_bad).then_some(bytes));
        }
        assert!(scan.is_over());
        let found = scan.found.iter().map(|found| found.offset).collect();
        let holes = scan.holes.iter().map(|hole| (hole.from, hole.to)).collect();
        (found, holes)
    }
}

const SEEDS: std::ops::Range<u64> = 0..40;

#[test]
fn records_of_all_sizes_are_found_in_whatever_order_reads_are_answered() {
    let mut image = Image::new();
    let mut offsets = Vec::new();
    let mut end = BLOCK as u64;
    for len in [10, 300_000, 3000, 5000, 70_000, 200_000, 10, 65_536, 0, 120_000] {
        offsets.push(end);
        end = image.put(end, len);
    }
    for seed in SEEDS {
        for durable_len in [0, offsets[5], ZONE_SIZE] {
            let (found, holes) = image.scan(seed, durable_len, &[]);
            assert_eq!(found, offsets, "seed {seed}");
            assert_eq!(holes, [(end, ZONE_SIZE)], "seed {seed}");
        }
    }
}

#[test]
fn what_lies_where_a_refused_record_would_have_been_is_found() {
    let mut image = Image::new();
    let torn = image.put(BLOCK as u64, 100);
    let end = image.put(torn, 600_000);
    let behind = image.put(end, 100);
    // Its first chunks are right; what became of the rest, and of what was written there?
    let inner = (torn + 400_000).next_multiple_of(BLOCK as u64);
    let inner_end = image.put(inner, 9000);
    for seed in SEEDS {
        let (found, holes) = image.scan(seed, 0, &[]);
        assert_eq!(found, [BLOCK as u64, inner, end], "seed {seed}");
        let holes_before = [(torn, inner), (inner_end, end), (behind, ZONE_SIZE)];
        assert_eq!(holes, holes_before, "seed {seed}");
    }
}

#[test]
fn a_block_that_cannot_be_read_costs_the_records_that_touch_it_and_no_others() {
    let mut image = Image::new();
    let mut records = Vec::new();
    let mut end = BLOCK as u64;
    for len in [100, 200_000, 100, 100, 150_000, 100] {
        let from = end;
        end = image.put(from, len);
        records.push((from, end));
    }
    for durable_len in [0, ZONE_SIZE] {
        for bad in (BLOCK as u64..end + 4 * BLOCK as u64).step_by(11 * BLOCK) {
            let (found, holes) = image.scan(bad, durable_len, &[bad]);
            // Of a durable record only the header is read.
            let touches = |(from, to): (u64, u64)| {
                let to = if durable_len == 0 { to } else { from + BLOCK as u64 };
                (from..to).contains(&bad)
            };
            let expected: Vec<u64> =
                records.iter().filter(|record| !touches(**record)).map(|(from, _)| *from).collect();
            assert_eq!(found, expected, "block at {bad}");
            assert!(holes.last().is_some_and(|hole| hole.1 == ZONE_SIZE));
        }
    }
}
