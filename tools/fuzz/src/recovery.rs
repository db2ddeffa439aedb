//! Volumes of any bytes into recovery, its repairs written, and every key read as a GET reads it.
//! One input in `WORK_ONE_IN` then puts the recovered log to work: it takes objects, goes round its
//! ring over whatever it found, closes or dies, and is recovered again.
//!
//! After mere damage (`is_forged` false) no byte may ever come back that nobody wrote, and what was
//! acknowledged after it must be there, unchanged, after the next start.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tapeloop_format::BLOCK;
use tapeloop_log::AppendError;

use crate::splits::Splits;
use crate::store::edit::{self, Edited, Input};
use crate::store::image::{Image, images, payload};
use crate::store::session::{Answers, Session};

thread_local! {
    static IMAGES: RefCell<Vec<Image>> = RefCell::new(images());
}

/// Objects put into a recovered log at most: enough to go round its ring.
const PUTS_MAX: usize = 12;
const LENGTHS: [usize; 8] = [0, 1, 300, 4000, 9000, 14_000, 30_000, 36_000];
/// Work after recovery costs several recoveries. All bytes of an input decide, so that a fuzzer
/// that keeps what brings it far does not come to keep only those that work.
const WORK_ONE_IN: usize = 32;

/// Makes the images: what is allocated later belongs to an execution.
pub fn prepare() {
    IMAGES.with_borrow(|images| assert!(!images.is_empty()));
}

/// A volume edited as `bytes` say.
pub fn recovery(bytes: &[u8]) {
    run(bytes, Splits::of(bytes).below(WORK_ONE_IN) == 0);
}

/// As `recovery`, with work after it whatever the bytes are.
pub fn recovery_and_work(bytes: &[u8]) {
    run(bytes, true);
}

fn run(bytes: &[u8], works: bool) {
    IMAGES.with_borrow_mut(|images| {
        let edited = edit::apply(images, &mut Input::new(bytes));
        live(&mut images[edited.image], &edited, works);
        images.iter_mut().flat_map(|image| &mut image.disks).for_each(|disk| disk.restore());
    });
}

/// What a key gave at one time.
type Seen = Vec<Option<Vec<u8>>>;

fn live(image: &mut Image, edited: &Edited, works: bool) {
    let Image { disks, geometry, machine, keys, .. } = image;
    let mut machine = *machine;
    machine.boottime_ms += 500;
    let (first, second) = match edited.flags & 1 {
        0 => (Answers::FirstFirst, Answers::LastFirst),
        _ => (Answers::LastFirst, Answers::FirstFirst),
    };
    // A volume may be away for one life.
    let is_degraded = edited.flags & 4 != 0 && disks.len() > 1;
    let missing: &[u16] = if is_degraded { &[1] } else { &[] };
    let mut session = Session::open(disks, *geometry, machine, first, missing);
    let blocks = geometry.zone_count() as usize * (geometry.zone_size() as usize / BLOCK);
    assert!(session.open_object_count() <= blocks);
    let has_damage = session.report.findings_count > 0;
    let found = look(&session, &*keys);
    if !edited.is_forged {
        keys.iter().zip(&found).for_each(|(key, bytes)| assert_written(key, bytes.as_deref()));
    }
    if !works {
        return;
    }
    let names = work(&mut session, edited, keys);
    let before = look(&session, names.keys());
    let machine = if edited.flags & 2 == 0 { session.close() } else { session.kill() };
    let mut session = Session::open(disks, *geometry, machine, second, &[]);
    let after = look(&session, names.keys());
    if !edited.is_forged {
        for ((name, is_ours), (before, after)) in names.iter().zip(before.iter().zip(&after)) {
            // Where damage or a volume that was away hid something, an older version may show
            // later. What this life stored and served may not change, and without damage nothing.
            let may_show = before.is_none() && (has_damage || !is_ours);
            let name = name.escape_ascii();
            assert!(before == after || may_show, "{name} changed with a restart");
        }
    }
    put(&mut session, b"fuzz/last", 99, 100, edited);
    session.close();
}

fn look<'k>(session: &Session<'_>, keys: impl IntoIterator<Item = &'k Vec<u8>>) -> Seen {
    keys.into_iter().map(|key| session.get(key)).collect()
}

/// Keys to look at, and whether this life put or deleted them.
type Names = BTreeMap<Vec<u8>, bool>;

/// What a life of a log is made of.
fn work(session: &mut Session<'_>, edited: &Edited, keys: &[Vec<u8>]) -> Names {
    let mut names: Names = keys.iter().map(|key| (key.clone(), false)).collect();
    for step in 0..=usize::from(edited.count) % PUTS_MAX {
        let len = LENGTHS[(step + usize::from(edited.flags >> 3)) % LENGTHS.len()];
        let name = match keys.get(step) {
            Some(known) if step % 2 == 1 => known.clone(),
            _ => format!("fuzz/{step}").into_bytes(),
        };
        put(session, &name, 1000 + step as u64, len, edited);
        names.insert(name, true);
        if step % 4 == 3 {
            let name = keys.get(step / 2).cloned().unwrap_or_else(|| b"fuzz/0".to_vec());
            allow(session.delete(&name), edited);
            assert!(edited.is_forged || session.get(&name).is_none(), "deleted and still there");
            names.insert(name, true);
        }
        session.pass(if step % 5 == 4 { 40_000 } else { 900 });
    }
    names
}

fn put(session: &mut Session<'_>, name: &[u8], version: u64, len: usize, edited: &Edited) {
    let bytes = payload(name, version, len);
    if allow(session.put(name, bytes.clone(), 30_000), edited) && !edited.is_forged {
        assert!(session.get(name) == Some(bytes), "acknowledged and not there");
    }
}

/// A drive that refuses nothing lets every operation succeed, unless the volume was forged.
fn allow(result: Result<(), AppendError>, edited: &Edited) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            assert!(edited.is_forged, "{error}");
            false
        }
    }
}

/// The bytes are a version of this key that was really put.
fn assert_written(key: &[u8], bytes: Option<&[u8]>) {
    let Some((stamp, _)) = bytes.and_then(<[u8]>::split_first_chunk::<8>) else { return };
    let bytes = bytes.unwrap_or_default();
    let written = payload(key, u64::from_le_bytes(*stamp), bytes.len());
    assert!(bytes == written, "{}: bytes that nobody wrote", key.escape_ascii());
}
