//! What is encoded decodes to itself, whatever the field values.

use proptest::prelude::*;
use tapeloop_format::{
    BLOCK, CHUNK, COUNTED_MAX, Checkpoint, ClassId, ClockMark, FooterBuilder, FooterEntries,
    FooterEntry, FooterSummary, FooterTable, FooterTrailer, Geometry, KeyHash, Kill, KillList,
    OpenZoneMark, RecordHeader, RecordKind, RecordShape, StoreId, VOLUME_COUNT_MAX, VolumeHeader,
    ZoneHeader, ZoneLap,
};

fn store_id() -> impl Strategy<Value = StoreId> {
    any::<[u8; 16]>().prop_map(StoreId)
}

fn key_hash() -> impl Strategy<Value = KeyHash> {
    any::<[u8; 16]>().prop_map(KeyHash)
}

/// A number that only grows.
fn counted() -> impl Strategy<Value = u64> {
    0..=COUNTED_MAX
}

fn aligned() -> impl Strategy<Value = u64> {
    (0..COUNTED_MAX / BLOCK as u64).prop_map(|blocks| blocks * BLOCK as u64)
}

prop_compose! {
    fn volume_header()(
        store_id in store_id(),
        volume_count in 1..=VOLUME_COUNT_MAX,
        index in any::<prop::sample::Index>(),
        shift in 16..=28,
        zone_count in 4..1_u32 << 22,
        created_wall_ms in any::<u64>(),
    ) -> VolumeHeader {
        let volume_index = index.index(usize::from(volume_count)) as u16;
        let geometry = Geometry::new(1_u64 << shift, zone_count).unwrap();
        VolumeHeader { store_id, volume_index, volume_count, geometry, created_wall_ms }
    }
}

prop_compose! {
    fn clock_mark()(
        boot_id in any::<[u8; 16]>(),
        (boottime_ms, store_ms, wall_ms) in (counted(), counted(), counted()),
    ) -> ClockMark {
        ClockMark { boot_id, boottime_ms, store_ms, wall_ms }
    }
}

prop_compose! {
    fn open_zone()(
        zone in any::<u32>(), lap in 1..=COUNTED_MAX, blocks in 0..=65536_u64,
    ) -> OpenZoneMark {
        OpenZoneMark { zone_lap: ZoneLap { zone, lap }, durable_len: blocks * BLOCK as u64 }
    }
}

prop_compose! {
    fn checkpoint()(
        sequence in 1..=COUNTED_MAX,
        incarnation in counted(),
        clock in clock_mark(),
        lsns in (counted(), counted()),
        next_base_position in aligned(),
        open_zones in prop::collection::vec(open_zone(), 0..=64),
        given_up in prop::array::uniform16(aligned()),
    ) -> Checkpoint {
        let next_lsn = lsns.0.max(lsns.1).max(1);
        let durable_lsn = lsns.0.min(lsns.1).min(next_lsn - 1);
        Checkpoint {
            sequence, incarnation, clock, durable_lsn, next_lsn, next_base_position, open_zones,
            given_up,
        }
    }
}

prop_compose! {
    fn zone_header()(
        zone in any::<u32>(),
        lap in 1..=COUNTED_MAX,
        base_position in aligned(),
        bucket in 0..=31_u8,
        group in any::<u64>(),
        opened_store_ms in counted(),
        incarnation in counted(),
    ) -> ZoneHeader {
        let class = ClassId { bucket, group };
        ZoneHeader { zone, lap, base_position, class, opened_store_ms, incarnation }
    }
}

fn kind() -> impl Strategy<Value = RecordKind> {
    prop::sample::select(vec![
        RecordKind::Put,
        RecordKind::Tombstone,
        RecordKind::Carry,
        RecordKind::Void,
    ])
}

prop_compose! {
    fn record()(
        kind in kind(),
        (zone, lap, position) in (any::<u32>(), 1..=COUNTED_MAX, aligned()),
        (lsn, incarnation, durable_lsn) in (1..=COUNTED_MAX, counted(), counted()),
        stored_ms in counted(),
        (expires_ms, created_wall_ms) in any::<(u64, u64)>(),
        payload_len in prop_oneof![0..2 * BLOCK as u64, 0..40 * CHUNK as u64, 0..=256_u64 << 20],
        hole_blocks in 1..=65536_u32,
        content_hash in any::<[u8; 16]>(),
        key_hash in key_hash(),
        victims in prop::collection::vec((any::<u32>(), 1..=u64::MAX), 0..=4),
        key in prop::collection::vec(any::<u8>(), 1..=1024),
        metadata in prop::collection::vec(any::<u8>(), 0..=1024),
        crc_seed in any::<u32>(),
    ) -> RecordHeader {
        let keyed = matches!(kind, RecordKind::Put | RecordKind::Tombstone);
        let put = kind == RecordKind::Put;
        let payload_len = match kind {
            RecordKind::Put => payload_len,
            RecordKind::Carry => payload_len.max(32) / 32 * 32,
            RecordKind::Tombstone | RecordKind::Void => 0,
        };
        let chunks = payload_len.div_ceil(CHUNK as u64) as u32;
        let victims = victims.into_iter().filter(|_| keyed);
        let mut victims = victims.map(|(zone, lap)| ZoneLap { zone, lap });
        RecordHeader {
            kind, zone, lap, position, lsn, incarnation, durable_lsn, stored_ms, expires_ms,
            created_wall_ms, payload_len,
            hole_len: if kind == RecordKind::Void { hole_blocks * BLOCK as u32 } else { 0 },
            content_hash: if put { content_hash } else { [0; 16] },
            key_hash: if keyed { key_hash } else { KeyHash([0; 16]) },
            victim: victims.next(),
            more_victims: victims.collect(),
            key: if keyed { key.into() } else { [].into() },
            metadata: if put { metadata.into() } else { [].into() },
            chunk_crcs: (0..chunks).map(|i| crc_seed.wrapping_mul(2 * i + 1)).collect(),
        }
    }
}

prop_compose! {
    fn entry_and_key()(
        key_hash in key_hash(),
        lsn in 1..=COUNTED_MAX,
        offset_blocks in 1..200_u32,
        payload_len in 0..100_000_u32,
        expires_after_s in any::<u32>(),
        key in prop::collection::vec(any::<u8>(), 1..=1024),
        metadata_len in 0..=1024_u16,
    ) -> (FooterEntry, Vec<u8>) {
        let key_len = key.len() as u16;
        let entry = FooterEntry {
            key_hash, lsn, offset_blocks, payload_len, expires_after_s, key_len, metadata_len,
        };
        (entry, key)
    }
}

prop_compose! {
    fn kill()(
        key_hash in key_hash(), lsn in any::<u64>(), zone in any::<u32>(), lap in any::<u64>(),
    )
        -> Kill {
        Kill::new(key_hash, lsn, ZoneLap { zone, lap })
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn volume_headers(header in volume_header()) {
        prop_assert_eq!(VolumeHeader::decode(&header.encode()[..]), Ok(header));
    }

    #[test]
    fn checkpoints(checkpoint in checkpoint(), store_id in store_id()) {
        let bytes = checkpoint.encode(&store_id);
        prop_assert_eq!(Checkpoint::decode(&bytes[..], &store_id), Ok(checkpoint));
    }

    #[test]
    fn zone_headers(header in zone_header(), store_id in store_id()) {
        prop_assert_eq!(ZoneHeader::decode(&header.encode(&store_id)[..], &store_id), Ok(header));
    }

    #[test]
    fn record_headers(header in record(), store_id in store_id()) {
        let bytes = header.encode(store_id.salt());
        prop_assert_eq!(RecordHeader::peek_len(&bytes[..BLOCK]), Ok(bytes.len()));
        let decoded = RecordHeader::decode(&bytes, store_id.salt());
        prop_assert_eq!(decoded.as_ref(), Ok(&header));
        prop_assert_eq!(decoded.unwrap().shape(), header.shape());
        prop_assert_eq!(header.expect(header.zone, header.lap, header.position), Ok(()));
    }

    #[test]
    fn kill_lists(kills in prop::collection::vec(kill(), 0..200)) {
        let bytes = Kill::encode_list(&kills);
        prop_assert_eq!(KillList::new(&bytes).unwrap().collect::<Vec<_>>(), kills);
    }

    #[test]
    fn footers(
        puts in prop::collection::vec(entry_and_key(), 0..150),
        kills in prop::collection::vec(kill(), 0..300),
        zone in zone_header(),
        store_id in store_id(),
        lsns in (counted(), counted()),
        times in (counted(), any::<u64>()),
    ) {
        let mut footer = FooterBuilder::new();
        puts.iter().for_each(|(entry, key)| footer.push_put(entry, key));
        kills.iter().for_each(|kill| footer.push_kill(kill));
        let zone_size = 1 << 20;
        let summary = FooterSummary {
            sealed_store_ms: times.0,
            used_len: zone_size - footer.encoded_len(),
            lsn_first: lsns.0.min(lsns.1),
            lsn_last: lsns.0.max(lsns.1),
            expires_ms_max: times.1,
        };
        let bytes = footer.encode(&store_id, &zone, zone_size, &summary);
        let trailer = FooterTrailer::decode(&bytes[bytes.len() - BLOCK..], &store_id).unwrap();
        prop_assert_eq!(trailer.footer_offset(), summary.used_len);
        prop_assert_eq!(trailer.expect(zone.zone, zone.lap, zone_size), Ok(()));
        let table = |table| {
            let span = trailer.table(table);
            let start = (span.offset - trailer.footer_offset()) as usize;
            trailer.verify_table(&store_id, table, &bytes[start..start + span.padded_len]).unwrap()
        };
        let entries = FooterEntries::new(table(FooterTable::Entries)).unwrap();
        let found: Result<Vec<_>, _> = entries
            .with_keys(table(FooterTable::Keys))
            .map(|put| put.map(|(entry, key)| (entry, key.to_vec())))
            .collect();
        prop_assert_eq!(found, Ok(puts));
        let found = KillList::new(table(FooterTable::Kills)).unwrap();
        prop_assert_eq!(found.collect::<Vec<_>>(), kills);
    }

    #[test]
    fn a_footer_entry_says_of_a_record_what_the_record_says(
        header in record().prop_filter("puts", |header| header.kind == RecordKind::Put),
        zone in zone_header(),
        offset_blocks in 1..1000_u64,
        life_ms in 0..10_000_000_000_u64,
    ) {
        let zone = ZoneHeader { opened_store_ms: zone.opened_store_ms >> 8, ..zone };
        let zone = ZoneHeader { base_position: zone.base_position >> 8 << 12, ..zone };
        let header = RecordHeader {
            zone: zone.zone,
            lap: zone.lap,
            position: zone.base_position + offset_blocks * BLOCK as u64,
            expires_ms: zone.opened_store_ms + life_ms,
            ..header
        };
        let entry = FooterEntry::of(&header, &zone);
        prop_assert_eq!(entry.offset(), offset_blocks * BLOCK as u64);
        prop_assert_eq!(entry.shape(), header.shape());
        let late_ms = entry.expires_ms(zone.opened_store_ms) - header.expires_ms;
        prop_assert!(late_ms < 1000);
        let shape = RecordShape::of(header.key.len(), header.metadata.len(), header.payload_len);
        prop_assert_eq!(shape, header.shape());
    }
}
