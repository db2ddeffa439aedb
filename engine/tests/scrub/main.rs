//! The scrub under an open engine: it names exactly what is damaged and alive, whatever happens
//! around it, and never keeps anybody from closing.

mod finds;
mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tapeloop_engine::{
    Ack, Engine, Key, Options, PutOptions, ScrubActivity, ScrubFault, ScrubOptions, ScrubPart,
    ScrubReport, block_on,
};
use tapeloop_format::{
    BLOCK, ClassId, FooterTable, FooterTrailer, Geometry, RecordHeader, RecordKind, StoreId,
    ZoneHeader,
};

const CAPACITY: u64 = 32 << 20;
/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
const HOUR_MS: u64 = 3_600_000;

struct Store {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Store {
    fn new() -> Store {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let path = dir.path().join("volume-0.tape");
        tapeloop_engine::format(std::slice::from_ref(&path), CAPACITY, &mut |_, _| {})
            .expect("a new store");
        Store { _dir: dir, path }
    }

    /// Cycles only when asked for, with this share of the drive.
    fn open(&self, share_permille: u16) -> Engine {
        let scrub = ScrubOptions { share_permille, cycle: None, ..ScrubOptions::default() };
        let options = Options { arena_bytes: 20 << 20, scrub, ..Options::new(&self.path) };
        Engine::open(options).expect("a store that opens").0
    }
}

/// Deterministic, and different from one call to the next.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

fn key(name: &str) -> Key {
    Key::new(name.as_bytes()).expect("a valid key")
}

async fn put(engine: &Engine, name: &str, bytes: &[u8], ttl_ms: u64) {
    let options = PutOptions { ttl_ms, metadata: b"video/mp4".to_vec(), ..PutOptions::default() };
    let mut upload = engine.put(&key(name), options).await.expect("admitted");
    upload.write(bytes).await.expect("room");
    upload.commit(Ack::Durable).await.expect("stored");
}

/// A whole cycle from now on.
#[track_caller]
fn scrub(engine: &Engine) -> ScrubReport {
    let numbers = engine.scrub_now();
    until("the end of a cycle", || {
        let report = engine.scrub_report();
        let ended = report.volumes.iter().map(|volume| volume.last.map_or(0, |last| last.number));
        ended.zip(&numbers).all(|(ended, wanted)| ended >= *wanted).then_some(report)
    })
}

#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn names(report: &ScrubReport) -> BTreeSet<String> {
    let named = report.findings.iter().filter(|finding| finding.part == ScrubPart::Object);
    named.map(|finding| finding.key.as_ref().expect("a name").to_string()).collect()
}

/// Objects of all sizes over several zones, the last of them open; some overwritten, deleted or
/// expired. Gives the names that are alive.
fn fill(engine: &Engine, random: &mut Random) -> BTreeSet<String> {
    const SIZES: [usize; 8] = [0, 1, 3_000, 3_900, 65_536, 65_537, 200_000, 700_000];
    let mut alive = BTreeSet::new();
    block_on(64, async {
        for number in 0..120 {
            let name = format!("live/{:03}", number % 97);
            let len = SIZES[random.below(SIZES.len())];
            put(engine, &name, &random.bytes(len), HOUR_MS).await;
            alive.insert(name);
        }
        for number in [3, 17, 50] {
            let name = format!("live/{number:03}");
            assert!(engine.delete(&key(&name)).await.expect("deleted"));
            alive.remove(&name);
        }
        for number in 0..5 {
            put(engine, &format!("short/{number}"), &random.bytes(10_000), 1).await;
        }
        while engine.get(&key("short/4")).await.expect("readable").is_some() {}
    })
    .expect("a ring");
    alive
}

/// Every record on the volume, by its place: volume offset and header.
fn records(path: &Path, store: StoreId) -> BTreeMap<u64, RecordHeader> {
    let bytes = std::fs::read(path).expect("the volume");
    let geometry = geometry();
    let mut found = BTreeMap::new();
    for zone in 0..geometry.zone_count() {
        let start = geometry.zone_offset(zone);
        let mut offset = BLOCK as u64;
        while offset < geometry.zone_size() {
            let at = (start + offset) as usize;
            match RecordHeader::decode(&bytes[at..], store.salt()) {
                Ok(header) => {
                    offset += header.shape().record_len as u64;
                    found.insert(at as u64, header);
                }
                Err(_) => offset += BLOCK as u64,
            }
        }
    }
    found
}

fn geometry() -> Geometry {
    Geometry::for_capacity(CAPACITY).expect("a geometry")
}

/// The places of the newest versions, by name, and those of everything else.
fn places(path: &Path, engine: &Engine) -> (BTreeMap<String, u64>, Vec<u64>) {
    let records = records(path, engine.store_id());
    let name = |header: &RecordHeader| String::from_utf8(header.key.to_vec()).expect("text");
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    for header in records.values() {
        let lsn = newest.entry(name(header)).or_default();
        *lsn = header.lsn.max(*lsn);
    }
    let is_put = |header: &RecordHeader| header.kind == RecordKind::Put;
    let is_newest = |header: &RecordHeader| is_put(header) && newest[&name(header)] == header.lsn;
    let current = records.iter().filter(|(_, header)| is_newest(header));
    let current = current.map(|(at, header)| (name(header), *at)).collect();
    let rest = records.iter().filter(|(_, header)| !is_newest(header)).map(|(at, _)| *at);
    (current, rest.collect())
}

fn flip(path: &Path, at: u64, bit: usize) {
    let file = File::options().read(true).write(true).open(path).expect("the volume");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, at).expect("written");
    file.sync_all().expect("synced");
}
