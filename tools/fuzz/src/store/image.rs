//! The images that edits start from: what the real log leaves behind after a few small lives.

use tapeloop_format::{BLOCK, CHECKPOINT_SLOTS, Checkpoint, Geometry, StoreGeometry, VolumeHeader};
use tapeloop_log::{MachineTime, StoreClock};

use super::STORE;
use super::disk::Disk;
use super::session::{Answers, Session};

/// Bytes of a zone: the smallest the format knows.
pub const ZONE_SIZE: u64 = 64 << 10;
/// Zones of a volume.
pub const ZONE_COUNT: u32 = 6;

/// One store to begin with.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its volumes.
    pub disks: Vec<Disk>,
    /// Zones of its volumes.
    pub geometry: StoreGeometry,
    /// The machine's clocks at its end.
    pub machine: MachineTime,
    /// Keys that were ever put.
    pub keys: Vec<Vec<u8>>,
    /// For each volume: its blocks that are not all zero.
    pub blocks: Vec<Vec<usize>>,
}

/// The bytes of one version: no two are alike.
pub fn payload(key: &[u8], version: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![version as u8; len];
    let stamp = [&version.to_le_bytes()[..], key].concat();
    for sector in bytes.chunks_mut(512) {
        let len = stamp.len().min(sector.len());
        sector[..len].copy_from_slice(&stamp[..len]);
    }
    bytes
}

/// All images, the simplest first.
pub fn images() -> Vec<Image> {
    type Life = fn(&mut Session<'_>, &mut Vec<Vec<u8>>);
    let lives: [(Life, bool, u16); 8] = [
        (nothing, false, 1),
        (a_few, true, 1),
        (a_few, false, 1),
        (sealed, false, 1),
        (laps, false, 1),
        (laps, true, 1),
        (a_few, true, 2),
        (laps, false, 2),
    ];
    let mut images = vec![finish(formatted(1), Vec::new())];
    for (life, closes, volume_count) in lives {
        let mut image = formatted(volume_count);
        let mut keys = Vec::new();
        image.machine = {
            let (geometry, machine) = (image.geometry, image.machine);
            let mut session =
                Session::open(&mut image.disks, geometry, machine, Answers::FirstFirst, &[]);
            life(&mut session, &mut keys);
            if closes { session.close() } else { session.kill() }
        };
        images.push(finish(image, keys));
    }
    // Neither checkpoint is there: everything has to be found in the zones.
    let mut blind = images[4].clone();
    for slot in CHECKPOINT_SLOTS {
        blind.disks[0].edit(slot as usize, BLOCK).fill(0);
    }
    let keys = blind.keys.clone();
    images.push(finish(blind, keys));
    images
}

fn formatted(volume_count: u16) -> Image {
    let volume = Geometry::new(ZONE_SIZE, ZONE_COUNT).expect("within the bounds of the format");
    let geometry = StoreGeometry::new(volume, volume_count).expect("within the bounds");
    let machine = MachineTime { boot_id: [1; 16], boottime_ms: 5000, wall_ms: 1_700_000_000_000 };
    let first = Checkpoint {
        sequence: 1,
        incarnation: 1,
        clock: StoreClock::new(machine).mark(machine.boottime_ms, machine.wall_ms),
        durable_lsn: 0,
        next_lsn: 1,
        next_base_position: 0,
        open_zones: Vec::new(),
        given_up: [0; 16],
    };
    let disk = |volume_index| {
        let header = VolumeHeader {
            store_id: STORE,
            volume_index,
            volume_count,
            geometry: volume,
            created_wall_ms: machine.wall_ms,
        };
        let header = header.encode();
        let mut bytes = vec![0; volume.volume_len() as usize];
        bytes[..BLOCK].copy_from_slice(&header[..]);
        bytes[volume.header_b_offset() as usize..].copy_from_slice(&header[..]);
        let at = first.slot_offset() as usize;
        bytes[at..at + BLOCK].copy_from_slice(&first.encode(&STORE)[..]);
        Disk::new(bytes)
    };
    let disks = (0..volume_count).map(disk).collect();
    Image { disks, geometry, machine, keys: Vec::new(), blocks: Vec::new() }
}

/// What the disks hold now is where they go back to.
fn finish(mut image: Image, keys: Vec<Vec<u8>>) -> Image {
    let settled = |disk: &Disk| Disk::new(disk.bytes().to_vec());
    image.disks = image.disks.iter().map(settled).collect();
    image.blocks = image.disks.iter().map(used_blocks).collect();
    image.keys = keys;
    image
}

fn used_blocks(disk: &Disk) -> Vec<usize> {
    let blocks = disk.bytes().chunks(BLOCK).enumerate();
    let used = blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
    used.map(|(index, _)| index).collect()
}

fn nothing(_: &mut Session<'_>, _: &mut Vec<Vec<u8>>) {}

fn put(
    session: &mut Session<'_>,
    keys: &mut Vec<Vec<u8>>,
    name: &str,
    version: u64,
    len: usize,
    ttl_ms: u64,
) {
    let key = name.as_bytes();
    let stored = session.put(key, payload(key, version, len), ttl_ms);
    stored.expect("a drive that refuses nothing and is not full");
    if !keys.iter().any(|known| *known == key) {
        keys.push(key.to_vec());
    }
}

/// Small and large objects, an overwrite, a delete, two classes: no zone is full.
fn a_few(session: &mut Session<'_>, keys: &mut Vec<Vec<u8>>) {
    put(session, keys, "live/a.m3u8", 1, 300, 60_000);
    put(session, keys, "live/1.m4s", 1, 20_000, 60_000);
    put(session, keys, "live/a.m3u8", 2, 500, 60_000);
    put(session, keys, "vod/init.mp4", 1, 0, 86_400_000);
    put(session, keys, "live/2.m4s", 1, 5000, 60_000);
    session.delete(b"live/1.m4s").expect("a drive that refuses nothing");
    session.pass(1500);
    put(session, keys, "live/3.m4s", 1, 9000, 60_000);
}

/// Zones filled and sealed, versions superseded from one zone to the next.
fn sealed(session: &mut Session<'_>, keys: &mut Vec<Vec<u8>>) {
    for version in 1..12 {
        put(session, keys, "live/a.m3u8", version, 400, 3_600_000);
        put(session, keys, &format!("live/{version}.m4s"), version, 14_000, 3_600_000);
        session.pass(700);
    }
    session.delete(b"live/2.m4s").expect("a drive that refuses nothing");
    put(session, keys, "vod/init.mp4", 1, 700, 86_400_000);
}

/// The ring goes round: objects expire, zones are used again, kills are carried.
fn laps(session: &mut Session<'_>, keys: &mut Vec<Vec<u8>>) {
    put(session, keys, "vod/long.mp4", 1, 20_000, 86_400_000);
    for version in 1..40 {
        put(session, keys, "live/a.m3u8", version, 400, 30_000);
        put(session, keys, &format!("live/{}.m4s", version % 7), version, 9000, 20_000);
        if version % 9 == 0 {
            put(session, keys, "vod/long.mp4", version, 3000, 86_400_000);
        }
        if version % 5 == 0 {
            session.delete(b"live/3.m4s").expect("a drive that refuses nothing");
        }
        session.pass(2500);
    }
}
