//! The scrub under an open engine: it names exactly what is damaged and alive, whatever happens
//! around it, and never keeps anybody from closing.

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

#[test]
fn exactly_the_live_objects_with_a_flipped_bit_are_named_by_the_scrub() {
    let store = Store::new();
    let engine = store.open(1000);
    let mut random = Random(7);
    let alive = fill(&engine, &mut random);
    let clean = scrub(&engine);
    assert_eq!(clean.damage_count(), 0, "{:#?}", clean.findings);
    assert_eq!(clean.volumes[0].counts.objects_read, alive.len() as u64, "all that is alive");
    // A full zone is sealed after the last answer from it.
    while engine.stats().log.zones_sealed == 0 {
        std::thread::yield_now();
    }
    let zones = engine.stats().log;
    assert!(zones.zones_open > 0, "{zones:?}");

    let (current, rest) = places(&store.path, &engine);
    let all = records(&store.path, engine.store_id());
    let mut flips = Vec::new();
    for at in &rest {
        flips.push((*at + random.below(BLOCK) as u64, random.below(8)));
    }
    let expired = current.iter().filter(|(name, _)| name.starts_with("short/"));
    flips.extend(expired.map(|(_, at)| (*at + random.below(BLOCK) as u64, random.below(8))));
    let mut damaged = BTreeSet::new();
    for (name, at) in current.iter().filter(|(name, _)| alive.contains(*name)) {
        // One of three; at both ends of a record and anywhere in it.
        let len = all[at].shape().record_len;
        let inside = match random.below(12) {
            0 => 0,
            1 => len - 1,
            2 | 3 => random.below(len),
            _ => continue,
        };
        flips.push((*at + inside as u64, random.below(8)));
        damaged.insert(name.clone());
    }
    assert!(damaged.len() > 10 && rest.len() > 10, "{} and {}", damaged.len(), rest.len());
    flips.iter().for_each(|(at, bit)| flip(&store.path, *at, *bit));
    let report = scrub(&engine);
    assert_eq!(names(&report), damaged);
    assert_eq!(report.damage_count(), damaged.len() as u64, "{:#?}", report.findings);
    assert_eq!(report.volumes[0].counts.objects_damaged, damaged.len() as u64);
    for finding in &report.findings {
        let name = finding.key.as_ref().expect("a name").to_string();
        assert_eq!(finding.volume_offset, current[&name], "{finding:?}");
        let start = geometry().zone_offset(finding.zone);
        assert_eq!((finding.volume, start + finding.offset), (0, current[&name]));
    }
    // Taken back: nothing is wrong any more, and the counter remembers.
    flips.iter().for_each(|(at, bit)| flip(&store.path, *at, *bit));
    let mended = scrub(&engine);
    assert_eq!(mended.damage_count(), 0, "{:#?}", mended.findings);
    assert_eq!(mended.volumes[0].total.objects_damaged, damaged.len() as u64);
    engine.close();
}

#[test]
fn a_damaged_object_leaves_the_list_when_it_is_pushed_again_or_deleted() {
    let store = Store::new();
    let engine = store.open(1000);
    block_on(64, async {
        for name in ["a/again", "a/gone", "a/stays"] {
            put(&engine, name, &[9; 70_000], HOUR_MS).await;
        }
    })
    .expect("a ring");
    let (current, _) = places(&store.path, &engine);
    current.values().for_each(|at| flip(&store.path, *at + 5000, 3));
    assert_eq!(names(&scrub(&engine)).len(), 3);
    block_on(64, async {
        put(&engine, "a/again", b"new", HOUR_MS).await;
        engine.delete(&key("a/gone")).await.expect("deleted");
    })
    .expect("a ring");
    // At once: no cycle has to come by first.
    assert_eq!(names(&engine.scrub_report()), BTreeSet::from(["a/stays".to_owned()]));
    assert_eq!(names(&scrub(&engine)), BTreeSet::from(["a/stays".to_owned()]));
    engine.close();
}

#[test]
fn a_damaged_footer_or_zone_header_is_told_and_hides_no_damaged_object() {
    let store = Store::new();
    let engine = store.open(1000);
    let mut random = Random(11);
    let alive = fill(&engine, &mut random);
    let (current, _) = places(&store.path, &engine);
    let geometry = geometry();
    let bytes = std::fs::read(&store.path).expect("the volume");
    let trailers: Vec<(u32, FooterTrailer)> = (0..geometry.zone_count())
        .filter_map(|zone| {
            let end = (geometry.zone_offset(zone) + geometry.zone_size()) as usize;
            let trailer = FooterTrailer::decode(&bytes[end - BLOCK..end], &engine.store_id());
            Some((zone, trailer.ok()?))
        })
        .collect();
    let (zone, trailer) = *trailers.first().expect("a sealed zone");
    let start = geometry.zone_offset(zone);
    let in_zone = |at: u64| (start..start + geometry.zone_size()).contains(&at);
    let inside: Vec<_> = current
        .iter()
        .filter(|(name, at)| alive.contains(*name) && in_zone(**at))
        .map(|(name, at)| (name.clone(), *at))
        .collect();
    let (first, last) = (&inside[0], &inside[inside.len() - 1]);
    let big = inside.iter().map(|(_, at)| *at).max().expect("objects");
    assert_ne!(first.1, last.1);
    let tables = [FooterTable::Entries, FooterTable::Keys].map(|table| trailer.table(table).offset);
    for (at, part) in [
        (0, ScrubPart::ZoneHeader),
        (geometry.zone_size() - 4096 + 50, ScrubPart::Footer),
        (tables[0], ScrubPart::Footer),
        (tables[1], ScrubPart::Footer),
    ] {
        flip(&store.path, start + at + 3, 0);
        let report = scrub(&engine);
        assert_eq!(report.damage_count(), 1, "at {at}: {:#?}", report.findings);
        assert_eq!((report.findings[0].part, report.findings[0].zone), (part, zone));
        assert_eq!(report.volumes[0].counts.objects_read, alive.len() as u64, "at {at}");
        assert_eq!(report.volumes[0].counts.structures_damaged, 1);

        // Header and payload of objects in it, too.
        flip(&store.path, first.1 + 130, 4);
        let payload = big + records(&store.path, engine.store_id())[&big].shape().header_len as u64;
        flip(&store.path, payload - 1, 1);
        let report = scrub(&engine);
        let objects: BTreeSet<u64> = report
            .findings
            .iter()
            .filter(|finding| finding.part == ScrubPart::Object)
            .map(|finding| finding.volume_offset)
            .collect();
        assert_eq!(objects, BTreeSet::from([first.1, big]), "at {at}: {:#?}", report.findings);
        flip(&store.path, payload - 1, 1);
        flip(&store.path, first.1 + 130, 4);
        flip(&store.path, start + at + 3, 0);
    }
    // A header that is valid, of another lap: the drive lost the last one.
    let mut header = ZoneHeader::decode(&bytes[start as usize..], &engine.store_id()).expect("one");
    header.lap += 1;
    let file = File::options().write(true).open(&store.path).expect("the volume");
    file.write_all_at(&header.encode(&engine.store_id())[..], start).expect("written");
    file.sync_all().expect("synced");
    let report = scrub(&engine);
    assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
    assert_eq!(report.findings[0].part, ScrubPart::ZoneHeader);
    file.write_all_at(&bytes[start as usize..start as usize + BLOCK], start).expect("written");
    file.sync_all().expect("synced");
    assert_eq!(scrub(&engine).damage_count(), 0);
    engine.close();
}

#[test]
fn a_footer_still_on_its_way_to_the_drive_is_no_damage() {
    let store = Store::new();
    let engine = store.open(1000);
    block_on(64, async {
        for name in ["a/1", "a/2", "a/3"] {
            put(&engine, name, &[7; 9000], HOUR_MS).await;
        }
    })
    .expect("a ring");
    let all = records(&store.path, engine.store_id());
    let (at, last) = all.last_key_value().expect("records");
    let geometry = geometry();
    let start = geometry.zone_offset(last.zone);
    // The last block of a footer whose tables have not arrived yet.
    let trailer = FooterTrailer {
        zone: last.zone,
        lap: last.lap,
        base_position: last.position - (at - start),
        class: ClassId { bucket: ClassId::ttl_bucket(HOUR_MS), group: 0 },
        zone_size: geometry.zone_size(),
        opened_store_ms: 0,
        sealed_store_ms: 0,
        used_len: at - start + last.shape().record_len as u64,
        lsn_first: 1,
        lsn_last: last.lsn,
        expires_ms_max: last.expires_ms,
        entry_count: 3,
        kill_count: 0,
        keys_len: 9,
        entries_crc: 1,
        kills_crc: 2,
        keys_crc: 3,
    };
    let file = File::options().write(true).open(&store.path).expect("the volume");
    let end = start + geometry.zone_size() - BLOCK as u64;
    file.write_all_at(&trailer.encode(&engine.store_id())[..], end).expect("written");
    file.sync_all().expect("synced");
    let report = scrub(&engine);
    assert_eq!(report.damage_count(), 0, "{:#?}", report.findings);
    assert_eq!(report.volumes[0].counts.objects_read, 3);
    engine.close();
}

#[test]
fn what_the_drive_cannot_read_is_a_finding_and_ends_no_cycle() {
    let store = Store::new();
    let engine = store.open(1000);
    let mut random = Random(5);
    let alive = fill(&engine, &mut random);
    let (current, _) = places(&store.path, &engine);
    // Whatever lies behind the new end cannot be read.
    let all = records(&store.path, engine.store_id());
    let end = |at: &u64| at + all[at].shape().record_len as u64;
    let alive = || current.iter().filter(|(name, _)| alive.contains(*name));
    let mut ends: Vec<u64> = alive().map(|(_, at)| end(at)).collect();
    ends.sort_unstable();
    let cut = ends[ends.len() - 3] - BLOCK as u64;
    let lost = alive().filter(|(_, at)| end(at) > cut);
    let lost: BTreeSet<String> = lost.map(|(name, _)| name.clone()).collect();
    File::options().write(true).open(&store.path).expect("the volume").set_len(cut).expect("cut");
    let report = scrub(&engine);
    assert_eq!(lost.len(), 3);
    assert_eq!(names(&report), lost);
    let objects = report.findings.iter().filter(|finding| finding.part == ScrubPart::Object);
    for finding in objects {
        assert!(matches!(finding.fault, ScrubFault::Unreadable { .. }), "{finding:?}");
    }
    engine.close();
}

#[test]
fn a_record_of_another_place_or_content_is_damage_although_its_checksums_hold() {
    let store = Store::new();
    let engine = store.open(1000);
    block_on(64, async {
        for name in ["a/1", "a/2", "a/3", "a/4"] {
            put(&engine, name, name.as_bytes(), HOUR_MS).await;
        }
    })
    .expect("a ring");
    let (current, _) = places(&store.path, &engine);
    let all = records(&store.path, engine.store_id());
    let file = File::options().read(true).write(true).open(&store.path).expect("the volume");
    // A write that went to the wrong place.
    let mut block = vec![0; BLOCK];
    file.read_exact_at(&mut block, current["a/1"]).expect("a block");
    file.write_all_at(&block, current["a/2"]).expect("written");
    // Another content hash, and a checksum that covers it.
    let mut header = all[&current["a/3"]].clone();
    header.content_hash[0] ^= 1;
    let mut forged = header.encode(engine.store_id().salt());
    let payload_offset = header.shape().payload_offset;
    forged[payload_offset..payload_offset + 3].copy_from_slice(b"a/3");
    file.write_all_at(&forged, current["a/3"]).expect("written");
    file.sync_all().expect("synced");
    let report = scrub(&engine);
    assert_eq!(names(&report), BTreeSet::from(["a/2".to_owned(), "a/3".to_owned()]));
    let fault = |name: &str| {
        let is_it = |place: u64| place == current[name];
        report.findings.iter().find(|one| is_it(one.volume_offset)).map(|one| one.fault.clone())
    };
    assert!(matches!(fault("a/2"), Some(ScrubFault::Format(_))), "{:?}", fault("a/2"));
    assert!(matches!(fault("a/3"), Some(ScrubFault::ContentHash { .. })), "{:?}", fault("a/3"));
    engine.close();
}

#[test]
fn a_scrub_under_a_wrapping_ring_of_overwrites_finds_nothing() {
    let store = Store::new();
    let engine = store.open(1000);
    let mut random = Random(3);
    let first = engine.scrub_now()[0];
    let mut cycles = 0;
    block_on(64, async {
        // 32 MiB of zones, 320 MiB written: every zone is reused about ten times.
        for number in 0..800 {
            let len = 1 + random.below(800_000);
            let ttl_ms = [HOUR_MS, 50][number % 2];
            put(&engine, &format!("ring/{:02}", random.below(40)), &random.bytes(len), ttl_ms)
                .await;
            if number % 3 == 0 {
                put(&engine, &format!("small/{}", random.below(9)), b"x", HOUR_MS).await;
            }
            let report = engine.scrub_report();
            assert_eq!(report.damage_count(), 0, "{:#?}", report.findings);
            if report.volumes[0].activity == ScrubActivity::Waiting {
                engine.scrub_now();
                cycles += 1;
            }
        }
    })
    .expect("a ring");
    let stats = engine.stats().log;
    assert!(stats.zones_evicted + stats.zones_expired > 20, "{stats:?}");
    let report = scrub(&engine);
    assert_eq!(report.volumes[0].total.objects_damaged, 0, "{:#?}", report.findings);
    assert_eq!(report.volumes[0].total.structures_damaged, 0, "{:#?}", report.findings);
    assert!(report.volumes[0].cycle > first && report.volumes[0].total.objects_read > 0);
    assert!(cycles > 5, "{cycles} cycles under the writes");
    engine.close();
}

#[test]
fn an_object_whose_zone_is_reused_in_the_middle_of_its_scrub_is_no_damage() {
    let store = Store::new();
    // Slow enough for all zones to be written anew within one object, mostly.
    let engine = store.open(5);
    let mut random = Random(31);
    let bodies: Vec<Vec<u8>> = (0..12).map(|_| random.bytes(7_000_000)).collect();
    let bytes_read = || engine.scrub_report().volumes[0].counts.bytes_read;
    let fill = |bodies: &[Vec<u8>]| {
        block_on(64, async {
            for (number, body) in bodies.iter().enumerate() {
                put(&engine, &format!("big/{number}"), body, HOUR_MS).await;
            }
        })
        .expect("a ring");
    };
    fill(&bodies[..6]);
    engine.scrub_now();
    until("the middle of an object", || (bytes_read() > 600_000).then_some(()));
    fill(&bodies[6..]);
    let before = bytes_read();
    until("reads after that", || (bytes_read() > before + 600_000).then_some(()));
    let report = engine.scrub_report();
    assert_eq!(report.volumes[0].total.objects_damaged, 0, "{:#?}", report.findings);
    engine.close();
}

#[test]
fn closing_or_dropping_a_store_under_scrub_returns_and_lets_the_next_one_in() {
    let store = Store::new();
    for is_closed in [true, false] {
        // So slow that it is in a pause between two reads for nearly all of the time.
        let engine = store.open(1);
        let mut random = Random(1);
        fill(&engine, &mut random);
        engine.scrub_now();
        until("a read", || (engine.scrub_report().volumes[0].counts.bytes_read > 0).then_some(()));
        assert_eq!(engine.scrub_report().volumes[0].activity, ScrubActivity::Running);
        match is_closed {
            true => engine.close(),
            false => drop(engine),
        }
        store.open(1).close();
    }
    let engine = store.open(1);
    let watcher = engine.clone();
    engine.close();
    assert_eq!(watcher.scrub_report().volumes[0].activity, ScrubActivity::Stopped);
}

#[test]
fn a_cycle_asked_for_takes_the_place_of_the_one_under_way() {
    let store = Store::new();
    let engine = store.open(1);
    fill(&engine, &mut Random(2));
    let first = engine.scrub_now()[0];
    until("a read", || (engine.scrub_report().volumes[0].counts.bytes_read > 0).then_some(()));
    let second = engine.scrub_now()[0];
    assert_eq!(second, first + 1);
    let begun = until("the second", || {
        let volume = engine.scrub_report().volumes.remove(0);
        (volume.cycle == second).then_some(volume)
    });
    assert_eq!((begun.cycles_completed, begun.last), (0, None), "the first never came to its end");
    engine.close();
}

#[test]
fn without_being_asked_a_cycle_begins_when_its_delay_is_over() {
    let store = Store::new();
    let scrub = ScrubOptions { delay: Duration::ZERO, ..ScrubOptions::default() };
    let options = Options { arena_bytes: 20 << 20, scrub, ..Options::new(&store.path) };
    let engine = Engine::open(options).expect("a store that opens").0;
    until("a whole cycle", || engine.scrub_report().volumes[0].last);
    engine.close();
}

#[test]
fn every_volume_has_its_own_scrub_and_a_missing_one_keeps_no_other_from_it() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let paths = ["one", "two"].map(|name| dir.path().join(name));
    tapeloop_engine::format(&paths, CAPACITY, &mut |_, _| {}).expect("a new store");
    let open = |volumes: &[PathBuf], degraded| {
        let scrub = ScrubOptions { share_permille: 1000, cycle: None, ..ScrubOptions::default() };
        let volumes = volumes.to_vec();
        let options =
            Options { volumes, degraded, arena_bytes: 20 << 20, scrub, ..Options::new("") };
        Engine::open(options).expect("a store that opens").0
    };
    let engine = open(&paths, false);
    let alive = fill(&engine, &mut Random(23));
    let whole = scrub(&engine);
    let read = |report: &ScrubReport| -> u64 {
        report.volumes.iter().map(|volume| volume.counts.objects_read).sum()
    };
    assert_eq!((whole.damage_count(), read(&whole)), (0, alive.len() as u64));
    assert!(whole.volumes.iter().all(|volume| volume.counts.objects_read > 0), "{whole:#?}");

    // One live object on each volume, wherever the log has put it.
    let mut damaged = BTreeMap::new();
    for (volume, path) in (0u16..).zip(&paths) {
        let (current, _) = places(path, &engine);
        let others = places(&paths[1 - usize::from(volume)], &engine).0;
        let all = records(path, engine.store_id());
        let is_only_here = |name: &str| alive.contains(name) && !others.contains_key(name);
        let (name, at) = current
            .iter()
            .find(|(name, at)| is_only_here(name) && all[*at].payload_len > 1000)
            .expect("an object that only this volume has ever had");
        // In the payload: a restart leaves out records without a header.
        flip(path, at + all[at].shape().payload_offset as u64 + 500, 2);
        damaged.insert(name.clone(), (volume, *at));
    }
    let report = scrub(&engine);
    assert_eq!(report.damage_count(), 2, "{:#?}", report.findings);
    for finding in &report.findings {
        let name = finding.key.as_ref().expect("a name").to_string();
        assert_eq!(damaged[&name], (finding.volume, finding.volume_offset));
        assert_eq!(finding.zone / geometry().zone_count(), u32::from(finding.volume));
    }
    engine.close();
    let engine = open(&paths[1..], true);
    let report = scrub(&engine);
    let volumes: Vec<u16> = report.volumes.iter().map(|volume| volume.volume).collect();
    assert_eq!(volumes, [1]);
    assert_eq!(report.damage_count(), 1, "{:#?}", report.findings);
    engine.close();
}
