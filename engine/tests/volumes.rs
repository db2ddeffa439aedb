//! A store over several volumes as an embedder sees it, on real files: what is served, what is
//! refused, and what a volume that fails costs.

mod common;

use common::{CAPACITY, Store, collect, get, key, payload, put};
use std::fs;
use std::path::PathBuf;
use tapeloop_engine::{
    CreateError, Engine, Health, OpenError, Options, ReadError, VolumeState, VolumeTrouble,
    block_on,
};

const HOUR_MS: u64 = 3_600_000;

/// Puts objects until both volumes hold sealed or open zones, and the arena holds none of the
/// first. Their names and lengths.
async fn fill(engine: &Engine, prefix: &str, count: usize) -> Vec<(String, usize)> {
    let mut objects = Vec::new();
    for n in 0..count {
        let (name, len) = (format!("{prefix}/{n:03}"), 300_000 + n);
        put(engine, &name, &payload(len, n as u8), HOUR_MS).await.expect("stored");
        objects.push((name, len));
    }
    objects
}

async fn expect_all(engine: &Engine, objects: &[(String, usize)]) {
    for (n, (name, len)) in objects.iter().enumerate() {
        let found = get(engine, name).await;
        assert!(found.as_deref() == Some(&payload(*len, n as u8)[..]), "{name}");
    }
}

fn used_zones(engine: &Engine) -> Vec<u32> {
    engine.volumes().iter().map(|volume| volume.zones_open + volume.zones_sealed).collect()
}

#[test]
fn objects_on_all_volumes_are_served_listed_and_found_after_a_restart() {
    let store = Store::of(2);
    let engine = store.open();
    assert_eq!(engine.health(), Health::Ok);
    let objects = block_on(64, async {
        let objects = fill(&engine, "a", 80).await;
        expect_all(&engine, &objects).await;
        let first = engine.get(&key(&objects[0].0)).await.expect("readable").expect("there");
        assert!(!first.info().in_arena, "read from a drive");
        objects
    })
    .expect("a ring");
    common::until("both volumes are in use", || used_zones(&engine).iter().all(|used| *used > 0));
    let names = |engine: &Engine| {
        let listed = engine.list(b"a/", None, 1000).expect("listed");
        listed.into_iter().map(|entry| entry.key.to_string()).collect::<Vec<_>>()
    };
    let expected: Vec<String> = objects.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names(&engine), expected);
    engine.close();
    // The order in which volumes are named does not matter.
    let reversed = store.paths.iter().rev().cloned().collect();
    let (engine, summary) =
        Engine::open(Options { volumes: reversed, ..store.options() }).expect("opens");
    assert_eq!((summary.report.objects, summary.missing), (80, vec![]));
    block_on(64, expect_all(&engine, &objects)).expect("a ring");
    assert_eq!(names(&engine), expected);
    let paths: Vec<_> = engine.volumes().into_iter().filter_map(|volume| volume.path).collect();
    assert_eq!(paths, store.paths);
    engine.close();
}

#[test]
fn nothing_is_lost_without_a_clean_stop() {
    let store = Store::of(3);
    for round in 0..3 {
        let engine = store.open();
        block_on(64, async {
            for earlier in 0..round {
                assert!(
                    get(&engine, &format!("r/{earlier}")).await == Some(payload(70_000, earlier))
                );
            }
            assert_eq!(get(&engine, "r/gone").await, None);
            put(&engine, &format!("r/{round}"), &payload(70_000, round), HOUR_MS)
                .await
                .expect("stored");
            put(&engine, "r/gone", b"gone", HOUR_MS).await.expect("stored");
            assert!(engine.delete(&key("r/gone")).await.expect("deleted"));
        })
        .expect("a ring");
        drop(engine);
    }
}

#[test]
fn the_same_object_can_be_read_twice_whatever_its_size() {
    let store = Store::of(2);
    let engine = store.open();
    let objects = block_on(64, async {
        put(&engine, "small/1", &payload(100, 1), HOUR_MS).await.expect("stored");
        fill(&engine, "a", 80).await
    });
    assert_eq!(objects.expect("a ring").len(), 80);
    block_on(64, async {
        let object = engine.get(&key("small/1")).await.expect("readable").expect("there");
        assert!(!object.info().in_arena);
        for _ in 0..2 {
            assert_eq!(
                collect(object.read(10..60)).await.expect("verified"),
                payload(100, 1)[10..60]
            );
        }
    })
    .expect("a ring");
    engine.close();
}

/// Refused in one line that has every one of `parts`, and no volume was changed.
fn refused(paths: &[PathBuf], degraded: bool, parts: &[&str]) {
    let before: Vec<Option<Vec<u8>>> = paths.iter().map(|path| fs::read(path).ok()).collect();
    let options = Options { volumes: paths.to_vec(), degraded, ..common::small_options() };
    let Err(error) = Engine::open(options) else { panic!("{paths:?} was opened") };
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    let after: Vec<Option<Vec<u8>>> = paths.iter().map(|path| fs::read(path).ok()).collect();
    assert!(before == after, "{text}: changed all the same");
}

#[test]
fn a_missing_volume_is_refused_and_named() {
    let store = Store::of(3);
    let [first, second, third] = [0, 1, 2].map(|index| store.paths[index].clone());
    refused(&[first.clone(), third.clone()], false, &["volume 1 of 3", "missing", "--degraded"]);
    refused(std::slice::from_ref(&second), false, &["volume 0 of 3", "missing"]);
    fs::remove_file(&second).expect("removed");
    let name = second.to_str().expect("a plain path").to_owned();
    refused(&[first, second, third], false, &["volume 1 of 3", &name, "No such file"]);
    assert!(!store.paths[1].exists(), "nothing is made in its place");
}

#[test]
fn volumes_that_do_not_belong_together_are_refused_and_stay_as_they_are() {
    let (store, other) = (Store::of(2), Store::of(2));
    let [ours, theirs] = [&store, &other].map(|store| store.paths.clone());
    let mixed = [ours[0].clone(), theirs[1].clone()];
    let name = theirs[1].to_str().expect("a plain path").to_owned();
    for degraded in [false, true] {
        refused(&mixed, degraded, &["volume 1", &name, "belongs to store"]);
        refused(&[ours[0].clone(), ours[0].clone()], degraded, &["both volume 0"]);
    }
    let copy = store.dir.path().join("copy");
    fs::copy(&ours[1], &copy).expect("copied");
    refused(&[ours[0].clone(), ours[1].clone(), copy.clone()], false, &["both volume 1", "copy"]);
    // A volume that says another shape: one byte of its zone count and the checksum of that.
    let single = Store::of(1);
    refused(&[single.paths[0].clone(), ours[0].clone()], false, &["belongs to store"]);
    let mut bytes = fs::read(&copy).expect("bytes");
    bytes[..4096].fill(7);
    let last = bytes.len() - 4096;
    bytes[last..].fill(7);
    fs::write(&copy, &bytes).expect("written");
    refused(&[ours[0].clone(), copy.clone()], false, &["copy", "not a tapeloop volume"]);
    refused(&[ours[0].clone(), copy], true, &["copy", "not a tapeloop volume"]);
    let gone = store.dir.path().join("gone");
    refused(&[ours[0].clone(), ours[1].clone(), gone], false, &["3 volumes", "has 2"]);
    refused(&[], false, &["no volume"]);
}

#[test]
fn a_volume_cut_short_is_refused_whichever_it_is() {
    let store = Store::of(2);
    let file = fs::OpenOptions::new().write(true).open(&store.paths[1]).expect("opened");
    file.set_len(CAPACITY).expect("cut");
    let name = store.paths[1].to_str().expect("a plain path").to_owned();
    for degraded in [false, true] {
        refused(&store.paths, degraded, &[&name, "truncated"]);
    }
}

#[test]
fn a_store_is_made_whole_or_not_at_all() {
    let store = Store::of(1);
    let fresh = store.dir.path().join("fresh");
    let taken = store.paths[0].clone();
    let format = |paths: &[PathBuf]| tapeloop_engine::format(paths, CAPACITY, &mut |_, _| {});
    assert!(format(&[fresh.clone(), taken.clone()]).is_err(), "one place is taken");
    assert!(!fresh.exists(), "the first volume is gone again");
    assert!(taken.exists(), "what was there stays");
    let twice = format(&[fresh.clone(), fresh.clone()]);
    assert!(matches!(twice, Err(CreateError::SameVolume { .. })), "{twice:?}");
    let many: Vec<PathBuf> = (0..17).map(|n| store.dir.path().join(n.to_string())).collect();
    assert!(matches!(format(&many), Err(CreateError::Geometry(_))));
    assert!(!fresh.exists() && many.iter().all(|path| !path.exists()));
    let mut told = (0, 0);
    let pair = [fresh, store.dir.path().join("second")];
    tapeloop_engine::format(&pair, CAPACITY, &mut |done, all| {
        assert!(done >= told.0 && done <= all, "{done} after {}", told.0);
        told = (done, all);
    })
    .expect("made");
    assert_eq!(told.0, told.1);
    let lengths: u64 = pair.iter().map(|path| path.metadata().expect("there").len()).sum();
    assert_eq!(told.1, lengths);
}

#[test]
fn without_a_volume_the_rest_is_served_and_it_comes_back_empty() {
    let store = Store::of(2);
    let engine = store.open();
    let objects = block_on(64, fill(&engine, "a", 60)).expect("a ring");
    common::until("both volumes are in use", || used_zones(&engine).iter().all(|used| *used > 0));
    engine.close();
    let there = |engine: &Engine| {
        block_on(64, async {
            let mut found = 0;
            for (n, (name, len)) in objects.iter().enumerate() {
                if let Some(bytes) = get(engine, name).await {
                    assert!(bytes == payload(*len, n as u8), "{name}");
                    found += 1;
                }
            }
            found
        })
        .expect("a ring")
    };
    let degraded =
        Options { volumes: vec![store.paths[1].clone()], degraded: true, ..store.options() };
    let (engine, summary) = Engine::open(degraded).expect("opens without volume 0");
    assert_eq!(summary.missing, [0]);
    let trouble = VolumeTrouble { volume: 0, state: VolumeState::Missing };
    assert_eq!(engine.health(), Health::Degraded { volumes: vec![trouble] });
    let left = there(&engine);
    assert!(left > 0 && left < objects.len(), "{left} of {}", objects.len());
    block_on(64, async {
        put(&engine, "b/new", b"new", HOUR_MS).await.expect("stored");
        put(&engine, &objects[0].0, b"newer", HOUR_MS).await.expect("stored");
    })
    .expect("a ring");
    engine.close();
    let engine = store.open();
    assert_eq!(engine.health(), Health::Ok);
    block_on(64, async {
        assert_eq!(get(&engine, "b/new").await.as_deref(), Some(&b"new"[..]));
        assert_eq!(get(&engine, &objects[0].0).await.as_deref(), Some(&b"newer"[..]));
        let mut back = 0;
        for (n, (name, len)) in objects.iter().enumerate().skip(1) {
            back += usize::from(get(&engine, name).await == Some(payload(*len, n as u8)));
        }
        assert!(back == left || back + 1 == left, "what was given up stays away: {back}, {left}");
        fill(&engine, "c", 60).await;
    })
    .expect("a ring");
    common::until("both volumes are in use again", || {
        used_zones(&engine).iter().all(|used| *used > 0)
    });
    engine.close();
}

#[test]
fn without_a_volume_the_rest_is_served_also_after_a_crash() {
    for missing in [0, 1] {
        let store = Store::of(2);
        let engine = store.open();
        let objects = block_on(64, fill(&engine, "a", 60)).expect("a ring");
        common::until("both volumes are in use", || {
            used_zones(&engine).iter().all(|used| *used > 0)
        });
        // As the kill of the process would leave them.
        let crashed = store.dir.path().join("crashed");
        fs::copy(&store.paths[1 - missing], &crashed).expect("copied");
        engine.close();
        let options = Options { volumes: vec![crashed], degraded: true, ..store.options() };
        let (engine, summary) = Engine::open(options).expect("opens without it");
        assert_eq!(summary.missing, [missing as u16]);
        block_on(64, async {
            let mut found = 0;
            for (n, (name, len)) in objects.iter().enumerate() {
                if let Some(bytes) = get(&engine, name).await {
                    assert!(bytes == payload(*len, n as u8), "{name}");
                    found += 1;
                }
            }
            assert!(found > 0 && found < objects.len(), "{found}");
            put(&engine, "b/new", b"new", HOUR_MS).await.expect("stored");
        })
        .expect("a ring");
        engine.close();
    }
}

#[test]
fn a_second_opener_of_any_volume_is_refused() {
    let store = Store::of(2);
    let engine = store.open();
    let volumes = vec![store.paths[1].clone()];
    let error = Engine::open(Options { volumes, degraded: true, ..store.options() }).err();
    assert!(matches!(error, Some(OpenError::Volume(_))), "{error:?}");
    engine.close();
    store.open().close();
}

/// A volume in memory that can be told to refuse writes from one moment to the next. Direct I/O on
/// memory takes Linux 6.6.
struct Sealable {
    memory: fs::File,
    path: PathBuf,
}

impl Sealable {
    fn new(bytes: &[u8], path: PathBuf) -> Sealable {
        use rustix::fs::{MemfdFlags, memfd_create};
        use std::os::fd::AsRawFd;
        let memory = memfd_create("volume", MemfdFlags::ALLOW_SEALING).expect("memory");
        let mut memory = fs::File::from(memory);
        std::io::Write::write_all(&mut memory, bytes).expect("written");
        let open = format!("/proc/self/fd/{}", memory.as_raw_fd());
        std::os::unix::fs::symlink(open, &path).expect("a name");
        Sealable { memory, path }
    }

    fn refuse_writes(&self) {
        rustix::fs::fcntl_add_seals(&self.memory, rustix::fs::SealFlags::WRITE).expect("sealed");
    }
}

#[test]
fn a_volume_that_refuses_writes_is_fenced_within_the_put_and_the_other_goes_on() {
    let store = Store::of(2);
    let bytes = fs::read(&store.paths[1]).expect("bytes");
    let sealable = Sealable::new(&bytes, store.dir.path().join("sealable"));
    let volumes = vec![store.paths[0].clone(), sealable.path.clone()];
    let engine = Engine::open(Options { volumes, ..store.options() }).expect("opens").0;
    let objects = block_on(64, async {
        let before = fill(&engine, "a", 30).await;
        common::until("both volumes are in use", || {
            used_zones(&engine).iter().all(|used| *used > 0)
        });
        sealable.refuse_writes();
        // Every one of these is acknowledged, although some had their place on the sealed volume.
        let after = fill(&engine, "b", 20).await;
        for set in [&before, &after] {
            expect_all(&engine, set).await;
        }
        assert!(engine.stats().log.records_replaced > 0, "placed again");
        [before, after]
    })
    .expect("a ring");
    // It takes some zones that refuse to be sure that it is not a bad sector.
    block_on(64, async {
        for round in 0..100 {
            if !engine.volumes()[1].state.works() {
                return;
            }
            fill(&engine, &format!("flood-{round}"), 20).await;
        }
        panic!("never fenced: {:?}", engine.volumes());
    })
    .expect("a ring");
    assert!(matches!(engine.volumes()[1].state, VolumeState::Fenced { .. }));
    assert_eq!(engine.volumes()[0].state, VolumeState::Ok);
    let Health::Degraded { volumes } = engine.health() else { panic!("{:?}", engine.health()) };
    assert_eq!((volumes.len(), volumes[0].volume), (1, 1));
    let gone = &objects[0][0].0;
    let changed = &objects[0][1].0;
    block_on(64, async {
        engine.delete(&key(gone)).await.expect("deleted, or evicted by now");
        put(&engine, changed, b"again", HOUR_MS).await.expect("stored");
    })
    .expect("a ring");
    drop(engine);
    common::until("the first volume is let go", || {
        tapeloop_engine::VolumeFile::open_direct(&store.paths[0]).is_ok()
    });
    // A copy of the sealed memory is the drive after it was mended.
    let mended = store.dir.path().join("mended");
    fs::write(&mended, fs::read(&sealable.path).expect("bytes")).expect("written");
    let volumes = vec![store.paths[0].clone(), mended];
    let engine = Engine::open(Options { volumes, ..store.options() }).expect("opens").0;
    assert_eq!(engine.health(), Health::Ok);
    block_on(64, async {
        assert_eq!(get(&engine, gone).await, None, "deleted stays deleted");
        assert_eq!(get(&engine, changed).await.as_deref(), Some(&b"again"[..]));
    })
    .expect("a ring");
    engine.close();
}

#[test]
fn a_record_that_is_damaged_costs_its_object_and_names_its_volume() {
    let store = Store::of(2);
    let engine = store.open();
    let objects = block_on(64, fill(&engine, "a", 60)).expect("a ring");
    engine.close();
    // The first payload byte of one object, wherever it is.
    let (name, len) = &objects[7];
    let needle = &payload(*len, 7)[..4096];
    let (volume, at) = (0..2)
        .find_map(|volume| {
            let bytes = fs::read(&store.paths[volume]).expect("bytes");
            let blocks = bytes.chunks(4096);
            Some((volume, blocks.into_iter().position(|block| block == needle)? * 4096))
        })
        .expect("it was stored");
    let file = fs::OpenOptions::new().write(true).open(&store.paths[volume]).expect("opened");
    std::os::unix::fs::FileExt::write_all_at(&file, &[!needle[0]], at as u64).expect("flipped");
    let engine = store.open();
    block_on(64, async {
        let object = engine.get(&key(name)).await.expect("a header").expect("there");
        let error = collect(object.read(0..*len as u64)).await.expect_err("damaged");
        let ReadError::Damaged { volume: named, .. } = &error else { panic!("{error}") };
        assert_eq!(usize::from(*named), volume);
        assert!(error.to_string().contains(&format!("volume {volume}")), "{error}");
        let others = |n: &usize| *n != 7;
        for n in (0..objects.len()).filter(others) {
            let (name, len) = &objects[n];
            assert!(get(&engine, name).await == Some(payload(*len, n as u8)), "{name}");
        }
    })
    .expect("a ring");
    engine.close();
}
