//! A scrub beside ingest, expiry, closing and other scrubs.

use super::*;

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
