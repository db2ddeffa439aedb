//! The inner loops, each a given number of times, to be counted by callgrind.
//!
//! `cargo xtask instructions` runs every loop N and 2N times: the difference is N times the loop
//! and nothing else. So a loop takes the same path every time, whatever it did before, and what it
//! prepares does not depend on the number of times.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::process::ExitCode;
use std::rc::Rc;
use tapeloop_format::{CHUNK, KeyHash, KeyHasher, RecordHeader, RecordKind, StoreId, chunk_crc};
use tapeloop_log::read::PayloadReads;
use tapeloop_log::{Index, IndexEntry, Location};
use tapeloop_server::http::date;
use tapeloop_server::http::head::{HeadParser, Step};
use tapeloop_server::http::range::{Selected, select};
use tapeloop_server::origin::respond::{Stamp, View, description, object};

const STORE: StoreId = StoreId([7; 16]);
const OBJECTS: u64 = 4_096;
const KEY: &[u8] = b"live/stream/1080p/segment-000001.m4s";
const PLAYER: &[u8] =
    b"GET /live/stream/1080p/segment-000001.m4s HTTP/1.1\r\nHost: origin.example\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nAccept: */*\r\n\
    Accept-Encoding: identity\r\nRange: bytes=0-\r\nOrigin: https://player.example\r\n\r\n";
const SHORTEST: &[u8] = b"GET /hot/2k-17 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

/// A loop and its name.
type Loop = (&'static str, fn(u64));

const LOOPS: [Loop; 10] = [
    ("request-head-player", |times| parse_head(PLAYER, times)),
    ("request-head-shortest", |times| parse_head(SHORTEST, times)),
    ("index-lookup-present", |times| look_up(b"live/1234.m4s", 1, times)),
    ("index-lookup-absent", |times| look_up(b"live/none", 0, times)),
    ("record-decode-2k", |times| decode(2 << 10, times)),
    ("record-decode-512k", |times| decode(512 << 10, times)),
    ("checksum-64k", checksum),
    ("range-plan-1m", plan_range),
    ("response-head-200", |times| respond(200, 0..2048, times)),
    ("response-head-206", |times| respond(206, 100..1100, times)),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["list"] => LOOPS.iter().for_each(|(name, _)| println!("{name}")),
        // What a library takes another path without.
        ["features"] => println!("{}", features()),
        [name, times] => {
            let found = LOOPS.iter().find(|(known, _)| *known == name);
            let (Some((_, run)), Ok(times)) = (found, times.parse()) else {
                eprintln!("no loop {name}, or {times} is no number");
                return ExitCode::from(2);
            };
            run(times);
        }
        _ => {
            eprintln!("usage: instructions list | features | LOOP TIMES");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

#[cfg(target_arch = "x86_64")]
fn features() -> String {
    let has = |has: bool, name: &str| if has { format!(" {name}") } else { String::new() };
    let avx2 = has(is_x86_feature_detected!("avx2"), "avx2");
    let pclmulqdq = has(is_x86_feature_detected!("pclmulqdq"), "pclmulqdq");
    let vpclmulqdq = has(is_x86_feature_detected!("vpclmulqdq"), "vpclmulqdq");
    format!("x86_64{avx2}{pclmulqdq}{vpclmulqdq}")
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> String {
    std::env::consts::ARCH.to_owned()
}

fn parse_head(bytes: &[u8], times: u64) {
    let mut parser = HeadParser::new();
    for _ in 0..times {
        parser.reset();
        assert!(matches!(parser.parse(black_box(bytes)), Step::Head(_)));
    }
}

/// One key again and again: how far a probe goes depends on the key.
fn look_up(key: &[u8], want: u64, times: u64) {
    let hasher = KeyHasher::new(&STORE);
    let index = Index::default();
    for number in 0..OBJECTS {
        let entry = IndexEntry { block: number + 1, len: 524_288, lap_low: 1 };
        index.insert(&hasher.hash(format!("live/{number}.m4s").as_bytes()), entry, |_| true);
    }
    for _ in 0..times {
        // As a request does: the key comes as bytes.
        let hash = hasher.hash(black_box(key));
        let mut found = 0;
        index.lookup(&hash, |entry| {
            found += 1;
            black_box(entry).len > 0
        });
        assert_eq!(found, want);
    }
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
        key: Box::from(KEY),
        metadata: Box::default(),
        chunk_crcs: (0..chunks).map(|chunk| chunk as u32).collect(),
    }
}

fn decode(payload_len: u64, times: u64) {
    let salt = STORE.salt();
    let bytes = record(payload_len).encode(salt);
    for _ in 0..times {
        black_box(RecordHeader::decode(black_box(&bytes), salt).expect("just encoded"));
    }
}

fn checksum(times: u64) {
    let salt = STORE.salt();
    let chunk = vec![0x5a; CHUNK];
    for _ in 0..times {
        black_box(chunk_crc(salt, black_box(&chunk)));
    }
}

/// A Range header over 4 MiB, and the drive reads that bring its last MiB.
fn plan_range(times: u64) {
    let header = Rc::new(record(4 << 20));
    let location = Location { zone: 3, lap: 1, offset: 4096, len: 4 << 20 };
    for _ in 0..times {
        let selected = select(black_box(Some(b"bytes=3145728-")), header.payload_len);
        let Selected::Part(range) = selected else { panic!("within the object") };
        let mut reads = PayloadReads::new(Rc::clone(&header), location, range);
        while let Some(read) = reads.next_read() {
            black_box(read);
        }
    }
}

fn respond(status: u16, range: std::ops::Range<u64>, times: u64) {
    let stamp = Stamp { date: date::format(1_700_000_000), keep_alive: true, is_http10: false };
    let view = View {
        key: KEY,
        len: Some(2048),
        content_hash: [1; 16],
        created_wall_ms: 1_700_000_000_000,
        remaining_ms: 61_000,
        metadata: &[],
    };
    let lines = description(&view);
    let mut out = Vec::with_capacity(1024);
    for _ in 0..times {
        out.clear();
        object(&mut out, &stamp, black_box(&view), &lines, status, range.clone());
        assert!(black_box(&out).ends_with(b"\r\n\r\n"));
    }
}
