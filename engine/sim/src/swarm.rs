//! What kind of world a seed makes: geometry, load, and which things go wrong how often. Each seed
//! draws its own mixture, so that faults also come alone and in rare company.

use crate::faults::Faults;
use crate::rng::Rng;
use tapeloop_format::{Geometry, StoreGeometry};
use tapeloop_log::GroupPolicy;

/// Group whose unexpired objects never give.
pub(crate) const GUARANTEED: u64 = 11;
/// Group with a quota.
pub(crate) const LIMITED: u64 = 22;

/// Bounds of a payload's length, exclusive: small objects, all kinds, large ones.
const LENS: [&[u64]; 4] = [
    &[100, 3000, 3000, 9000],
    &[3000, 3000, 20_000, 150_000],
    &[500, 3000, 20_000, 60_000],
    &[20_000, 60_000, 60_000, 1 << 20],
];
/// Lives in milliseconds, about: mixed, short, and far apart.
const TTLS: [&[u64]; 4] = [
    &[500, 3000, 20_000, 20_000, 120_000, 600_000, 3_600_000, 20_000_000],
    &[500, 20_000, 120_000, 3_600_000],
    &[300, 1000, 3000, 10_000],
    &[2000, 20_000_000],
];

/// The world of one seed.
pub(crate) struct Swarm {
    pub(crate) geometry: StoreGeometry,
    pub(crate) sector: usize,
    pub(crate) with_checkpoint: bool,
    pub(crate) groups: Vec<GroupPolicy>,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) steps: u64,
    pub(crate) faults: Faults,
    /// Overlays over what drives hold, in permille of steps.
    pub(crate) rot: u64,
    /// Drives that are slow, hang or vanish, in permille of steps.
    pub(crate) trouble: u64,
    /// A volume is missing at a start, in permille of starts.
    pub(crate) missing: u64,
    /// Writes of a dead process may still land.
    pub(crate) late: bool,
    /// Power cuts and process deaths, in permille of steps.
    pub(crate) crashes: u64,
    /// The same in the steps after something was refused: troubles come together.
    pub(crate) crashes_in_trouble: u64,
    /// Deaths at a read of recovery, in permille.
    pub(crate) recovery_crashes: u64,
    /// Deaths right after recovery, before anything was written, in permille.
    pub(crate) early_crashes: u64,
    pub(crate) deletes: u64,
    /// Encoders that push segments in turn and a playlist after each, instead of any key.
    pub(crate) is_stream: bool,
    /// Uploads that take their time.
    pub(crate) slow_uploads: u64,
    pub(crate) lens: &'static [u64],
    /// All objects are equally long, as from an encoder with a constant bit rate.
    pub(crate) is_constant: bool,
    pub(crate) ttls: &'static [u64],
    /// Completions for one operation of a client.
    pub(crate) eagerness: u64,
    /// Longest leap of time, in milliseconds.
    pub(crate) leap_ms: u64,
}

impl Swarm {
    pub(crate) fn new(rng: &mut Rng) -> Swarm {
        let volumes = *rng.pick(&[1u16, 1, 2, 2, 3]);
        let zone_size = 64 << (10 + rng.pick(&[0u64, 0, 0, 0, 1, 2]));
        let zone_count = rng.within(4, if volumes == 1 { 21 } else { 11 }) as u32;
        let geometry = Geometry::new(zone_size, zone_count).expect("within the format's bounds");
        let geometry = StoreGeometry::new(geometry, volumes).expect("a few small volumes");
        let mut groups = Vec::new();
        if rng.permille(350) {
            let quota_bytes = Some(zone_size * 2);
            groups.push(GroupPolicy { group: LIMITED, quota_bytes, guaranteed: false });
            groups.push(GroupPolicy { group: GUARANTEED, quota_bytes: None, guaranteed: true });
        }
        let refusing = rng.permille(450);
        let lying = rng.permille(250);
        let mut faults = match refusing {
            true => Faults::refusing(rng, usize::from(volumes)),
            false => Faults::default(),
        };
        if lying {
            faults = faults.lying(rng);
        }
        let rot = if lying { *rng.pick(&[0, 2, 8]) } else { 0 };
        Swarm {
            geometry,
            sector: *rng.pick(&[512, 4096]),
            with_checkpoint: rng.permille(850),
            groups,
            keys: keys(rng),
            steps: rng.within(100, 1500),
            faults,
            rot,
            trouble: if rng.permille(350) { *rng.pick(&[2, 10]) } else { 0 },
            missing: if volumes > 1 && rng.permille(400) { 150 } else { 0 },
            late: !lying && rng.permille(500),
            crashes: *rng.pick(&[3, 8, 20, 40]),
            crashes_in_trouble: *rng.pick(&[0, 0, 100]),
            recovery_crashes: *rng.pick(&[0, 1, 8]),
            early_crashes: *rng.pick(&[0, 100, 300]),
            deletes: *rng.pick(&[0, 100, 150, 400]),
            is_stream: rng.permille(300),
            slow_uploads: *rng.pick(&[0, 200, 600]),
            lens: LENS[rng.index(LENS.len())],
            is_constant: rng.permille(300),
            ttls: TTLS[rng.index(TTLS.len())],
            eagerness: *rng.pick(&[400, 1500, 1500, 6000]),
            leap_ms: *rng.pick(&[120_000, 7_200_000]),
        }
    }
}

fn keys(rng: &mut Rng) -> Vec<Vec<u8>> {
    let most = *rng.pick(&[3, 12, 30]);
    let count = 2 + rng.below(most);
    let long = rng.permille(100);
    let key = |n: u64| match long {
        true => vec![b'a' + n as u8 % 26; 1024 - n as usize],
        false => format!("live/{n}.m4s").into_bytes(),
    };
    (0..count).map(key).collect()
}
