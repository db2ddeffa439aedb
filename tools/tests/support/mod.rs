//! Builds small stores byte by byte with the format crate alone, so that the tools are tested
//! against what the format says and not against what the engine happens to do.
#![allow(dead_code, reason = "every test file uses its own part")]

pub(crate) mod origin;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tapeloop_format::{
    BLOCK, CARRY_JOURNAL_OFFSET, Checkpoint, ClassId, ClockMark, FooterBuilder, FooterEntry,
    FooterSummary, Geometry, KeyHasher, Kill, OpenZoneMark, PayloadChecksums, RecordHeader,
    RecordKind, StoreId, VolumeHeader, ZoneHeader, ZoneLap,
};

pub(crate) const STORE_MS: u64 = 1_000_000_000;
/// A life that no test outlasts.
pub(crate) const LONG_MS: u64 = 30 * 86_400_000;

/// A generator with a seed that failing tests print.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Where a record was put.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) key: String,
    pub(crate) lsn: u64,
    pub(crate) zone: u32,
    pub(crate) zone_offset: u64,
    pub(crate) volume_offset: u64,
    pub(crate) record_len: u64,
}

pub(crate) struct OpenZone {
    header: ZoneHeader,
    used: u64,
    footer: FooterBuilder,
    lsns: (u64, u64),
    expires_ms_max: u64,
}

pub(crate) struct StoreBuilder {
    /// Volume 0.
    pub(crate) path: PathBuf,
    /// All volumes.
    pub(crate) paths: Vec<PathBuf>,
    /// Volume 0.
    pub(crate) file: File,
    files: Vec<File>,
    /// Of each volume.
    pub(crate) geometry: Geometry,
    pub(crate) store_id: StoreId,
    pub(crate) incarnation: u64,
    pub(crate) next_lsn: u64,
    pub(crate) next_base: u64,
    pub(crate) written: Vec<Written>,
}

impl StoreBuilder {
    pub(crate) fn new(folder: &Path, zone_size: u64, zone_count: u32) -> StoreBuilder {
        StoreBuilder::over(folder, zone_size, zone_count, 1)
    }

    /// A store over several volumes. Zones are numbered through.
    pub(crate) fn over(
        folder: &Path,
        zone_size: u64,
        zone_count: u32,
        volume_count: u16,
    ) -> StoreBuilder {
        let geometry = Geometry::new(zone_size, zone_count).unwrap();
        let store_id = StoreId(*b"0123456789abcdef");
        let (mut paths, mut files) = (Vec::new(), Vec::new());
        for volume_index in 0..volume_count {
            let name =
                if volume_index == 0 { "volume".into() } else { format!("volume-{volume_index}") };
            let path = folder.join(name);
            let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
            file.set_len(geometry.volume_len()).unwrap();
            let created_wall_ms = 1;
            let header =
                VolumeHeader { store_id, volume_index, volume_count, geometry, created_wall_ms };
            file.write_all_at(&header.encode()[..], 0).unwrap();
            file.write_all_at(&header.encode()[..], geometry.header_b_offset()).unwrap();
            paths.push(path);
            files.push(file);
        }
        StoreBuilder {
            path: paths[0].clone(),
            paths,
            file: files[0].try_clone().unwrap(),
            files,
            geometry,
            store_id,
            incarnation: 1,
            next_lsn: 1,
            next_base: 0,
            written: Vec::new(),
        }
    }

    /// The volume of a zone, and where it starts there.
    fn place(&self, zone: u32) -> (&File, u64) {
        let count = self.geometry.zone_count();
        (&self.files[(zone / count) as usize], self.geometry.zone_offset(zone % count))
    }

    pub(crate) fn open_zone(&mut self, zone: u32, lap: u64) -> OpenZone {
        let header = ZoneHeader {
            zone,
            lap,
            base_position: self.next_base,
            class: ClassId { bucket: ClassId::ttl_bucket(LONG_MS), group: 0 },
            opened_store_ms: STORE_MS,
            incarnation: self.incarnation,
        };
        self.next_base += self.geometry.zone_size();
        let (file, offset) = self.place(zone);
        file.write_all_at(&header.encode(&self.store_id)[..], offset).unwrap();
        OpenZone {
            header,
            used: BLOCK as u64,
            footer: FooterBuilder::new(),
            lsns: (u64::MAX, 0),
            expires_ms_max: 0,
        }
    }

    pub(crate) fn put(
        &mut self,
        zone: &mut OpenZone,
        key: &str,
        payload: &[u8],
        victim: Option<ZoneLap>,
    ) -> Written {
        self.put_living(zone, key, payload, victim, STORE_MS + LONG_MS)
    }

    /// A put whose header names another content than it has.
    pub(crate) fn put_with_hash(
        &mut self,
        zone: &mut OpenZone,
        key: &str,
        payload: &[u8],
        content_hash: [u8; 16],
    ) -> Written {
        self.put_of(zone, key, payload, None, STORE_MS + LONG_MS, content_hash)
    }

    /// Writes the first record of a carry journal: the kill of `key` in `victim`, meant for the
    /// start of `zone`. Gives its offset.
    pub(crate) fn journal_record(&mut self, zone: &OpenZone, key: &str, victim: ZoneLap) -> u64 {
        let key_hash = KeyHasher::new(&self.store_id).hash(key.as_bytes());
        let payload = Kill::encode_list(&[Kill::new(key_hash, self.next_lsn, victim)]);
        let mut header = self.header(zone, RecordKind::Carry, "");
        let mut checksums = PayloadChecksums::new(self.store_id.salt());
        checksums.update(&payload);
        header.chunk_crcs = checksums.finish();
        header.payload_len = payload.len() as u64;
        let mut record = header.encode(self.store_id.salt());
        let at = header.shape().payload_offset;
        record[at..at + payload.len()].copy_from_slice(&payload);
        self.file.write_all_at(&record, CARRY_JOURNAL_OFFSET).unwrap();
        CARRY_JOURNAL_OFFSET
    }

    pub(crate) fn put_living(
        &mut self,
        zone: &mut OpenZone,
        key: &str,
        payload: &[u8],
        victim: Option<ZoneLap>,
        expires_ms: u64,
    ) -> Written {
        let content_hash = twox_hash::XxHash3_128::oneshot(payload).to_le_bytes();
        self.put_of(zone, key, payload, victim, expires_ms, content_hash)
    }

    fn put_of(
        &mut self,
        zone: &mut OpenZone,
        key: &str,
        payload: &[u8],
        victim: Option<ZoneLap>,
        expires_ms: u64,
        content_hash: [u8; 16],
    ) -> Written {
        let mut header = self.header(zone, RecordKind::Put, key);
        let mut checksums = PayloadChecksums::new(self.store_id.salt());
        checksums.update(payload);
        header.chunk_crcs = checksums.finish();
        header.payload_len = payload.len() as u64;
        header.expires_ms = expires_ms;
        header.victim = victim;
        header.content_hash = content_hash;
        // As the server keeps a content type.
        header.metadata = Box::from(&b"\x01\x09video/mp4"[..]);
        zone.footer.push_put(&FooterEntry::of(&header, &zone.header), key.as_bytes());
        zone.expires_ms_max = zone.expires_ms_max.max(expires_ms);
        self.append(zone, &header, payload)
    }

    /// A put whose write the drive refused, and which landed all the same: the footer will not
    /// list it.
    pub(crate) fn put_refused(
        &mut self,
        zone: &mut OpenZone,
        key: &str,
        payload: &[u8],
    ) -> Written {
        let (listed, expires_ms_max) = (zone.footer.clone(), zone.expires_ms_max);
        let written = self.put(zone, key, payload, None);
        (zone.footer, zone.expires_ms_max) = (listed, expires_ms_max);
        self.written.pop();
        written
    }

    pub(crate) fn delete(&mut self, zone: &mut OpenZone, key: &str, victim: ZoneLap) -> Written {
        let mut header = self.header(zone, RecordKind::Tombstone, key);
        header.victim = Some(victim);
        self.append(zone, &header, &[])
    }

    pub(crate) fn void(&mut self, zone: &mut OpenZone, hole_len: u32) -> Written {
        let mut header = self.header(zone, RecordKind::Void, "");
        header.hole_len = hole_len;
        self.append(zone, &header, &[])
    }

    fn header(&mut self, zone: &OpenZone, kind: RecordKind, key: &str) -> RecordHeader {
        let lsn = self.next_lsn;
        self.next_lsn += 1;
        let key_hash = match key {
            "" => tapeloop_format::KeyHash([0; 16]),
            key => KeyHasher::new(&self.store_id).hash(key.as_bytes()),
        };
        RecordHeader {
            kind,
            zone: zone.header.zone,
            lap: zone.header.lap,
            position: zone.header.base_position + zone.used,
            lsn,
            incarnation: self.incarnation,
            durable_lsn: lsn - 1,
            stored_ms: if kind == RecordKind::Void { 0 } else { STORE_MS },
            expires_ms: 0,
            created_wall_ms: u64::from(kind == RecordKind::Put),
            payload_len: 0,
            hole_len: 0,
            content_hash: [0; 16],
            key_hash,
            victim: None,
            more_victims: Box::default(),
            key: Box::from(key.as_bytes()),
            metadata: Box::default(),
            chunk_crcs: Box::default(),
        }
    }

    fn append(&mut self, zone: &mut OpenZone, header: &RecordHeader, payload: &[u8]) -> Written {
        let shape = header.shape();
        let mut record = header.encode(self.store_id.salt());
        if header.kind != RecordKind::Void {
            record.resize(shape.record_len, 0);
            record[shape.payload_offset..][..payload.len()].copy_from_slice(payload);
        }
        let zone_offset = zone.used;
        let (file, start) = self.place(zone.header.zone);
        let volume_offset = start + zone_offset;
        file.write_all_at(&record, volume_offset).unwrap();
        zone.used += shape.record_len as u64;
        zone.lsns = (zone.lsns.0.min(header.lsn), zone.lsns.1.max(header.lsn));
        for kill in header.kills() {
            zone.footer.push_kill(&kill);
        }
        let written = Written {
            key: String::from_utf8(header.key.to_vec()).unwrap(),
            lsn: header.lsn,
            zone: header.zone,
            zone_offset,
            volume_offset,
            record_len: shape.record_len as u64,
        };
        if header.kind == RecordKind::Put {
            self.written.push(written.clone());
        }
        written
    }

    pub(crate) fn push_kill(zone: &mut OpenZone, kill: &Kill) {
        zone.footer.push_kill(kill);
    }

    pub(crate) fn seal(&mut self, zone: OpenZone) -> ZoneLap {
        let summary = FooterSummary {
            sealed_store_ms: STORE_MS + 5,
            used_len: zone.used,
            lsn_first: zone.lsns.0.min(zone.lsns.1),
            lsn_last: zone.lsns.1,
            expires_ms_max: zone.expires_ms_max,
        };
        let zone_size = self.geometry.zone_size();
        let footer = zone.footer.encode(&self.store_id, &zone.header, zone_size, &summary);
        let (file, start) = self.place(zone.header.zone);
        file.write_all_at(&footer, start + zone_size - footer.len() as u64).unwrap();
        zone.header.zone_lap()
    }

    /// Writes a checkpoint as at a clean stop: all of the open zones is durable.
    pub(crate) fn checkpoint(&self, sequence: u64, open: &[&OpenZone]) {
        let marks = open.iter().map(|zone| (zone.header.zone_lap(), zone.used)).collect::<Vec<_>>();
        self.checkpoint_marks(sequence, self.next_lsn - 1, &marks);
    }

    pub(crate) fn checkpoint_marks(
        &self,
        sequence: u64,
        durable_lsn: u64,
        marks: &[(ZoneLap, u64)],
    ) {
        let checkpoint = Checkpoint {
            sequence,
            incarnation: self.incarnation,
            clock: clock_mark(),
            durable_lsn,
            next_lsn: self.next_lsn,
            next_base_position: self.next_base,
            open_zones: marks
                .iter()
                .map(|(zone_lap, durable_len)| OpenZoneMark {
                    zone_lap: *zone_lap,
                    durable_len: *durable_len,
                })
                .collect(),
            given_up: [0; 16],
        };
        let block = checkpoint.encode(&self.store_id);
        self.file.write_all_at(&block[..], checkpoint.slot_offset()).unwrap();
    }

    pub(crate) fn flip(&self, volume_offset: u64, bit: u8) {
        flip(&self.file, volume_offset, bit);
    }
}

impl OpenZone {
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Leaves a hole.
    pub(crate) fn skip(&mut self, len: u64) {
        self.used += len;
    }

    pub(crate) fn zone_lap(&self) -> ZoneLap {
        self.header.zone_lap()
    }
}

fn clock_mark() -> ClockMark {
    // Another boot, and a wall clock of this moment: store time goes on from STORE_MS.
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    ClockMark {
        boot_id: [9; 16],
        boottime_ms: 5,
        store_ms: STORE_MS,
        wall_ms: wall.as_millis() as u64,
    }
}

pub(crate) fn flip(file: &File, volume_offset: u64, bit: u8) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, volume_offset).unwrap();
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, volume_offset).unwrap();
}

pub(crate) fn bytes(random: &mut Random, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for chunk in bytes.chunks_mut(8) {
        let word = random.next().to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    bytes
}

pub(crate) fn tapectl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tapectl")).args(args).output().unwrap()
}

pub(crate) fn json(args: &[&str]) -> (i32, serde_json::Value) {
    let output = tapectl(args);
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{args:?}: {error}: {}", String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code().unwrap(), value)
}

/// Live objects of a store by key, each with its content hash, as `tapectl dump` tells; and its
/// exit code.
pub(crate) fn dump(path: &Path) -> (BTreeMap<String, String>, i32) {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("dump");
    let output = tapectl(&["dump", path.to_str().unwrap(), "--to", to.to_str().unwrap()]);
    let objects = match std::fs::read_to_string(to.join("manifest.jsonl")) {
        Ok(text) => text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|line| line["key"].is_string())
            .map(|line| {
                let text = |name: &str| line[name].as_str().unwrap().to_owned();
                (text("key"), text("content_hash"))
            })
            .collect(),
        Err(_) => BTreeMap::new(),
    };
    (objects, output.status.code().unwrap())
}

pub(crate) fn fsck(path: &Path) -> (i32, serde_json::Value) {
    json(&["fsck", path.to_str().unwrap(), "--json"])
}

pub(crate) fn seed() -> u64 {
    let given = std::env::var("TAPELOOP_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_nanos() as u64
    });
    println!("TAPELOOP_SEED={seed}");
    seed
}

/// Two sealed zones, two open ones, overwrites, deletes, a void, stale blocks of an earlier lap.
pub(crate) fn mixed_store(folder: &Path, random: &mut Random) -> (StoreBuilder, Vec<OpenZone>) {
    let mut store = StoreBuilder::new(folder, 1 << 20, 6);
    // What an earlier lap of zone 1 left behind must not bother anybody.
    let mut stale = store.open_zone(1, 1);
    for index in 0..8 {
        store.put(&mut stale, &format!("old/{index}"), &bytes(random, 60_000), None);
    }
    store.seal(stale);
    store.written.clear();
    let mut first = store.open_zone(0, 1);
    for index in 0..12 {
        let len = [0, 1, 700, 3_000, 5_000, 65_536, 70_000, 131_072][index % 8];
        store.put(&mut first, &format!("live/a{index}.ts"), &bytes(random, len), None);
    }
    store.void(&mut first, 3 * BLOCK as u32);
    store.put(&mut first, "live/after-void.ts", &bytes(random, 900), None);
    let first = store.seal(first);
    let mut second = store.open_zone(1, 2);
    store.put(&mut second, "live/a0.ts", &bytes(random, 9_000), Some(first));
    store.delete(&mut second, "live/a1.ts", first);
    store.put(&mut second, "live/b.ts", &bytes(random, 300_000), None);
    store.seal(second);
    // Nor what lies behind the records of an open zone: the footer of its last lap.
    let mut stale = store.open_zone(3, 6);
    for index in 0..12 {
        store.put(&mut stale, &format!("old/{index}"), &bytes(random, 70_000), None);
    }
    store.seal(stale);
    store.written.retain(|put| !put.key.starts_with("old/"));
    let mut open = vec![store.open_zone(2, 1), store.open_zone(3, 7)];
    for index in 0..10 {
        let len = random.below(90_000) as usize;
        let key = format!("live/c{index}.ts");
        store.put(&mut open[index % 2], &key, &bytes(random, len), None);
    }
    store.delete(&mut open[1], "live/a2.ts", first);
    store.checkpoint(1, &[]);
    store.checkpoint(2, &[&open[0], &open[1]]);
    (store, open)
}
