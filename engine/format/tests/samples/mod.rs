//! Fixed inputs, one per structure, that golden images and flip tests share.
#![allow(dead_code, unreachable_pub)] // every test crate uses its own part of them

use tapeloop_format::{
    BLOCK, CHUNK, Checkpoint, ClassId, ClockMark, FooterBuilder, FooterEntry, FooterSummary,
    GIVEN_UP_WHOLLY, Geometry, KeyHash, KeyHasher, Kill, OpenZoneMark, PayloadChecksums,
    RecordHeader, RecordKind, StoreId, VolumeHeader, ZoneHeader, ZoneLap,
};
use twox_hash::XxHash3_128;

pub const STORE: StoreId = StoreId(*b"0123456789abcdef");
pub const ZONE_SIZE: u64 = 1 << 20;
pub const LAP: u64 = 7;
pub const BASE: u64 = 19 * ZONE_SIZE;

pub fn volume_header() -> VolumeHeader {
    VolumeHeader {
        store_id: STORE,
        volume_index: 1,
        volume_count: 3,
        geometry: Geometry::new(ZONE_SIZE, 16).unwrap(),
        created_wall_ms: 1_767_225_600_000,
    }
}

pub fn checkpoint() -> Checkpoint {
    let mark =
        |zone, lap, durable_len| OpenZoneMark { zone_lap: ZoneLap { zone, lap }, durable_len };
    Checkpoint {
        sequence: 41,
        incarnation: 5,
        clock: ClockMark {
            boot_id: *b"boot-id-16-bytes",
            boottime_ms: 86_400_123,
            store_ms: 1_767_225_601_000,
            wall_ms: 1_767_225_602_000,
        },
        durable_lsn: 1000,
        next_lsn: 1010,
        next_base_position: 20 * ZONE_SIZE,
        open_zones: vec![mark(3, LAP, 0x9000), mark(11, 6, 0x1000)],
        given_up: [0, GIVEN_UP_WHOLLY, 12 * ZONE_SIZE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    }
}

pub fn zone_header() -> ZoneHeader {
    ZoneHeader {
        zone: 3,
        lap: LAP,
        base_position: BASE,
        class: ClassId { bucket: 6, group: 0 },
        opened_store_ms: 1_767_225_600_500,
        incarnation: 5,
    }
}

/// Bytes that differ from chunk to chunk and have no zero among them.
pub fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251 + i / CHUNK) as u8 | 1).collect()
}

/// A record at `offset` of the sample zone, and its payload.
pub fn record(kind: RecordKind, offset: u64, lsn: u64, payload: &[u8]) -> RecordHeader {
    let keyed = matches!(kind, RecordKind::Put | RecordKind::Tombstone);
    let key: &[u8] = if keyed { b"live/cam1/seg-00042.m4s" } else { b"" };
    let metadata: &[u8] = if kind == RecordKind::Put { b"video/mp4" } else { b"" };
    let mut checksums = PayloadChecksums::new(STORE.salt());
    checksums.update(payload);
    RecordHeader {
        kind,
        zone: 3,
        lap: LAP,
        position: BASE + offset,
        lsn,
        incarnation: 5,
        durable_lsn: 1000,
        stored_ms: 1_767_225_601_100,
        expires_ms: 1_767_225_661_100,
        created_wall_ms: 1_767_225_601_250,
        payload_len: payload.len() as u64,
        hole_len: if kind == RecordKind::Void { 3 * BLOCK as u32 } else { 0 },
        content_hash: match kind {
            RecordKind::Put => XxHash3_128::oneshot(payload).to_le_bytes(),
            _ => [0; 16],
        },
        key_hash: if keyed { KeyHasher::new(&STORE).hash(key) } else { KeyHash([0; 16]) },
        victim: keyed.then_some(ZoneLap { zone: 9, lap: 4 }),
        more_victims: Box::default(),
        key: key.into(),
        metadata: metadata.into(),
        chunk_crcs: checksums.finish(),
    }
}

/// A record as it lies on disk: header, payload, padding.
pub fn record_bytes(header: &RecordHeader, payload: &[u8]) -> Vec<u8> {
    let shape = header.shape();
    let mut bytes = vec![0; shape.record_len];
    header.encode_into(STORE.salt(), &mut bytes[..shape.header_blocks_len()]);
    bytes[shape.payload_offset..][..payload.len()].copy_from_slice(payload);
    bytes
}

/// What the worked example of docs/disk-format.md shows.
pub fn small_put() -> (RecordHeader, Vec<u8>) {
    let payload = b"#EXTM3U\n".to_vec();
    (record(RecordKind::Put, 0x1000, 1001, &payload), payload)
}

/// Three chunks, the last one short: payload on the block behind the header.
pub fn large_put() -> (RecordHeader, Vec<u8>) {
    let payload = payload(2 * CHUNK + 100);
    (record(RecordKind::Put, 0x2000, 1002, &payload), payload)
}

/// A put that was tried in three more places before: every victim that a record can name.
pub fn put_with_all_victims() -> (RecordHeader, Vec<u8>) {
    let (mut header, payload) = small_put();
    let victims = [(10, 5), (11, 6), (40, 1 << 33)].map(|(zone, lap)| ZoneLap { zone, lap });
    header.more_victims = victims.into();
    (header, payload)
}

pub fn kills() -> Vec<Kill> {
    let hash = |key: &[u8]| KeyHasher::new(&STORE).hash(key);
    vec![
        Kill::new(hash(b"live/cam1/index.m3u8"), 900, ZoneLap { zone: 9, lap: 4 }),
        Kill::new(hash(b"live/cam2/index.m3u8"), 901, ZoneLap { zone: 12, lap: 5 << 32 | 2 }),
    ]
}

pub fn carry() -> (RecordHeader, Vec<u8>) {
    let payload = Kill::encode_list(&kills());
    (record(RecordKind::Carry, 0x24000, 1003, &payload), payload)
}

pub fn footer() -> FooterBuilder {
    let mut footer = FooterBuilder::new();
    let zone = zone_header();
    for (header, _) in [small_put(), large_put()] {
        footer.push_put(&FooterEntry::of(&header, &zone), &header.key);
        header.kills().for_each(|kill| footer.push_kill(&kill));
    }
    kills().iter().for_each(|kill| footer.push_kill(kill));
    footer
}

pub fn footer_bytes() -> Vec<u8> {
    let summary = FooterSummary {
        sealed_store_ms: 1_767_225_640_000,
        used_len: 0x25000,
        lsn_first: 1001,
        lsn_last: 1003,
        expires_ms_max: 1_767_225_661_100,
    };
    footer().encode(&STORE, &zone_header(), ZONE_SIZE, &summary)
}
