//! What the scrub names, and what it does not.

use super::*;

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
