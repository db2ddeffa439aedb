//! The inner loops: index, record decode, chunk checksum, request head.
//!
//! `cargo bench -p tapeloop-benches`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tapeloop_format::{CHUNK, KeyHash, KeyHasher, RecordHeader, RecordKind, StoreId, chunk_crc};
use tapeloop_log::{Batch, Index, IndexBuilder, IndexEntry};
use tapeloop_server::http::head::{HeadParser, Step};

const STORE: StoreId = StoreId([7; 16]);
const OBJECTS: u64 = 1_000_000;

fn hashes() -> Vec<KeyHash> {
    let hasher = KeyHasher::new(&STORE);
    (0..OBJECTS).map(|number| hasher.hash(format!("live/{number}.m4s").as_bytes())).collect()
}

fn entry(number: u64) -> IndexEntry {
    IndexEntry { block: number + 1, len: 524_288, lap_low: 1 }
}

fn index(criterion: &mut Criterion) {
    let hashes = hashes();
    let absent = KeyHasher::new(&STORE).hash(b"live/none");
    let full = || {
        let builder = IndexBuilder::new();
        builder.announce(OBJECTS);
        let mut batch = Batch::default();
        // As many as a zone may list.
        for (zone, hashes) in (0..).zip(hashes.chunks(65_536)) {
            for (number, hash) in (zone * 65_536..).zip(hashes) {
                let IndexEntry { block, len, .. } = entry(number);
                batch.add_version(hash, number + 1, block, len);
            }
            builder.add_all(&mut batch);
        }
        builder.build(1, |_| 1)
    };
    let index = full();
    let mut at = 0;
    let mut next = || {
        at = (at + 7919) % hashes.len();
        &hashes[at]
    };
    criterion.bench_function("index/lookup of one in 1M", |bench| {
        bench.iter(|| index.lookup(next(), |entry| black_box(entry).len > 0));
    });
    criterion.bench_function("index/lookup of an absent key", |bench| {
        bench.iter(|| index.lookup(black_box(&absent), |_| true));
    });
    let mut group = criterion.benchmark_group("index/1M objects");
    group.throughput(Throughput::Elements(OBJECTS)).sample_size(10);
    group.bench_function("insert one by one", |bench| {
        bench.iter(|| {
            let index = Index::default();
            for (number, hash) in (0..).zip(&hashes) {
                index.insert(hash, entry(number), |_| true);
            }
            index
        });
    });
    group.bench_function("collect and build, as recovery does", |bench| {
        bench.iter(full);
    });
    group.finish();
}

fn record(payload_len: u64) -> RecordHeader {
    let chunks = payload_len.div_ceil(CHUNK as u64);
    RecordHeader {
        kind: RecordKind::Put,
        zone: 3,
        lap: 1,
        position: 3 << 26 | 4096,
        lsn: 9,
        incarnation: 1,
        durable_lsn: 8,
        stored_ms: 1000,
        expires_ms: 61_000,
        created_wall_ms: 1,
        payload_len,
        hole_len: 0,
        content_hash: [1; 16],
        key_hash: KeyHash([2; 16]),
        victim: None,
        more_victims: Box::default(),
        key: Box::from(&b"live/stream/1080p/segment-000001.m4s"[..]),
        metadata: Box::default(),
        chunk_crcs: (0..chunks).map(|chunk| chunk as u32).collect(),
    }
}

fn decode(criterion: &mut Criterion) {
    let salt = STORE.salt();
    for (name, len) in [("2 KiB", 2048), ("512 KiB", 512 << 10)] {
        let bytes = record(len).encode(salt);
        criterion.bench_function(&format!("record/decode header of {name}"), |bench| {
            bench.iter(|| RecordHeader::decode(black_box(&bytes), salt).expect("just encoded"));
        });
    }
    let chunk = vec![0x5a; CHUNK];
    let mut group = criterion.benchmark_group("chunk");
    group.throughput(Throughput::Bytes(CHUNK as u64));
    group.bench_function("crc of 64 KiB", |bench| {
        bench.iter(|| chunk_crc(salt, black_box(&chunk)));
    });
    group.finish();
}

fn head(criterion: &mut Criterion) {
    let player = b"GET /live/stream/1080p/segment-000001.m4s HTTP/1.1\r\nHost: origin.example\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nAccept: */*\r\n\
        Accept-Encoding: identity\r\nRange: bytes=0-\r\nOrigin: https://player.example\r\n\r\n";
    let plain = b"GET /hot/2k-17 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
    for (name, bytes) in [("a player's", &player[..]), ("the shortest", &plain[..])] {
        let mut parser = HeadParser::new();
        criterion.bench_function(&format!("http/parse {name} head"), |bench| {
            bench.iter(|| {
                parser.reset();
                let step = parser.parse(black_box(bytes));
                assert!(matches!(step, Step::Head(_)));
            });
        });
    }
}

criterion_group!(inner_loops, index, decode, head);
criterion_main!(inner_loops);
