//! Golden images: fixed inputs must give the committed bytes, now and in every later release that
//! calls itself format version 1. Beside each image lie corrupt twins, and each must be refused
//! with exactly the error named here. `TAPELOOP_BLESS=1` rewrites the files; a diff in them is a
//! change of the disk format.

mod samples;

use samples::STORE;
use std::path::PathBuf;
use tapeloop_format::{
    BLOCK, CHUNK, COUNTED_MAX, Checkpoint, FORMAT_VERSION, FooterEntries, FooterTable,
    FooterTrailer, FormatError, KillList, RecordHeader, RecordKind, StoreId, Structure,
    VolumeHeader, ZoneHeader, layouts,
};

fn golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("TAPELOOP_BLESS").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(kept.len(), bytes.len(), "{name}: length differs");
    let differs = kept.iter().zip(bytes).position(|(kept, bytes)| kept != bytes);
    assert_eq!(differs, None, "{name}: first differing byte");
}

/// Changes bytes of a good image, signs it again if told to, and keeps it as a twin.
struct Twin {
    name: &'static str,
    bytes: Vec<u8>,
}

fn twin(name: &'static str, good: &[u8], at: usize, change: &[u8]) -> Twin {
    let mut bytes = good.to_vec();
    bytes[at..at + change.len()].copy_from_slice(change);
    assert_ne!(bytes, good, "{name}");
    Twin { name, bytes }
}

impl Twin {
    /// Makes the checksum at the end of the block right again: the damage is then the encoder's.
    fn signed(self) -> Twin {
        self.signed_by(|bytes| STORE.salt().crc(bytes))
    }

    fn signed_by(mut self, crc: impl Fn(&[u8]) -> u32) -> Twin {
        let (covered, at) = self.bytes.split_at_mut(BLOCK - 4);
        at.copy_from_slice(&crc(covered).to_le_bytes());
        self
    }

    fn record_signed(mut self) -> Twin {
        let header_len = u32::from_le_bytes(self.bytes[8..12].try_into().unwrap()) as usize;
        let crc = STORE.salt().crc(&self.bytes[8..header_len]);
        self.bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        self
    }

    fn gives<T: PartialEq + std::fmt::Debug>(
        self,
        decoded: impl Fn(&[u8]) -> Result<T, FormatError>,
        error: FormatError,
    ) {
        golden(self.name, &self.bytes);
        assert_eq!(decoded(&self.bytes), Err(error), "{}", self.name);
    }
}

fn le_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn field(
    what: Structure,
    field: &'static str,
    offset: usize,
    found: u64,
    allowed: std::ops::RangeInclusive<u64>,
) -> FormatError {
    let (min, max) = allowed.into_inner();
    FormatError::Field { what, field, offset, found, min, max }
}

#[test]
fn the_volume_header_keeps_its_bytes_and_names_what_is_wrong_with_its_twins() {
    let what = Structure::VolumeHeader;
    let good = samples::volume_header().encode();
    golden("volume-header.bin", &good[..]);
    assert_eq!(VolumeHeader::decode(&good[..]), Ok(samples::volume_header()));

    let decode = VolumeHeader::decode;
    let sign = |twin: Twin| twin.signed_by(crc32fast::hash);
    twin("volume-header.foreign.bin", &good[..], 0, b"\x7fELF\x02\x01\x01\x00")
        .gives(decode, FormatError::NotTapeloop { found: *b"\x7fELF\x02\x01\x01\x00" });
    twin("volume-header.newer.bin", &good[..], 8, &[2])
        .gives(decode, FormatError::Newer { found: 2, supported: FORMAT_VERSION });
    let flipped = twin("volume-header.flipped.bin", &good[..], 16, b"X");
    let computed = crc32fast::hash(&flipped.bytes[..BLOCK - 4]);
    let stored = le_u32(&good[..], BLOCK - 4);
    flipped.gives(decode, FormatError::Checksum { what, stored, computed });
    sign(twin("volume-header.version-0.bin", &good[..], 8, &[0]))
        .gives(decode, field(what, "format_version", 8, 0, 1..=1));
    sign(twin("volume-header.index.bin", &good[..], 32, &[3]))
        .gives(decode, field(what, "volume_index", 32, 3, 0..=2));
    sign(twin("volume-header.count.bin", &good[..], 34, &[17]))
        .gives(decode, field(what, "volume_count", 34, 17, 1..=16));
    sign(twin("volume-header.zone-size.bin", &good[..], 40, &[1]))
        .gives(decode, FormatError::ZoneSize { found: 0x10_0001, min: 64 << 10, max: 256 << 20 });
    sign(twin("volume-header.zone-count.bin", &good[..], 36, &[3]))
        .gives(decode, FormatError::ZoneCount { found: 3, min: 4, max: 1 << 22 });
    sign(twin("volume-header.reserved.bin", &good[..], 56, &[1]))
        .gives(decode, FormatError::Reserved { what, offset: 56, found: 1 });
}

#[test]
fn the_checkpoint_keeps_its_bytes_and_names_what_is_wrong_with_its_twins() {
    let what = Structure::Checkpoint;
    let good = samples::checkpoint().encode(&STORE);
    golden("checkpoint.bin", &good[..]);
    assert_eq!(Checkpoint::decode(&good[..], &STORE), Ok(samples::checkpoint()));

    let decode = |bytes: &[u8]| Checkpoint::decode(bytes, &STORE);
    let found = StoreId(*b"another store id");
    twin("checkpoint.foreign.bin", &good[..], 8, &found.0)
        .gives(decode, FormatError::ForeignStore { what, expected: STORE, found });
    let flipped = twin("checkpoint.flipped.bin", &good[..], 24, &[43]);
    let computed = STORE.salt().crc(&flipped.bytes[..BLOCK - 4]);
    let stored = le_u32(&good[..], BLOCK - 4);
    flipped.gives(decode, FormatError::Checksum { what, stored, computed });
    twin("checkpoint.open-zones.bin", &good[..], 104, &[65])
        .signed()
        .gives(decode, field(what, "open_zone_count", 104, 65, 0..=64));
    twin("checkpoint.unused-mark.bin", &good[..], 112 + 2 * 24, &[9])
        .signed()
        .gives(decode, FormatError::Reserved { what, offset: 160, found: 9 });
    twin("checkpoint.durable-len.bin", &good[..], 112 + 16, &[1])
        .signed()
        .gives(decode, field(what, "durable_len", 16, 0x9001, 0x9000..=0x9000));
    twin("checkpoint.lsn.bin", &good[..], 80, &1010_u64.to_le_bytes())
        .signed()
        .gives(decode, field(what, "durable_lsn", 80, 1010, 0..=1009));
    let base = 12 * samples::ZONE_SIZE;
    twin("checkpoint.given-up.bin", &good[..], 1648 + 2 * 8, &[1])
        .signed()
        .gives(decode, field(what, "given_up", 1648, base + 1, base..=base));
    let zeros = [0; BLOCK];
    assert_eq!(decode(&zeros), Err(FormatError::Blank { what }));
    assert_eq!(
        decode(&zeros[..100]),
        Err(FormatError::Truncated { what, needed: BLOCK, found: 100 })
    );
}

#[test]
fn the_zone_header_keeps_its_bytes_and_names_what_is_wrong_with_its_twins() {
    let what = Structure::ZoneHeader;
    let good = samples::zone_header().encode(&STORE);
    golden("zone-header.bin", &good[..]);
    assert_eq!(ZoneHeader::decode(&good[..], &STORE), Ok(samples::zone_header()));

    let decode = |bytes: &[u8]| ZoneHeader::decode(bytes, &STORE);
    let expected = u64::from_le_bytes(*b"TLZONEHD");
    let found = u64::from_le_bytes(*b"TLCHECKP");
    twin("zone-header.magic.bin", &good[..], 0, b"TLCHECKP")
        .gives(decode, FormatError::Magic { what, expected, found });
    twin("zone-header.lap-0.bin", &good[..], 40, &[0])
        .signed()
        .gives(decode, field(what, "lap", 40, 0, 1..=COUNTED_MAX));
    twin("zone-header.bucket.bin", &good[..], 28, &[32])
        .signed()
        .gives(decode, field(what, "class_bucket", 28, 32, 0..=31));
    twin("zone-header.base.bin", &good[..], 48, &[8]).signed().gives(
        decode,
        field(what, "base_position", 48, samples::BASE + 8, samples::BASE..=samples::BASE),
    );
    let misplaced = samples::zone_header().expect(4);
    let error = FormatError::Misplaced { what, field: "zone", expected: 4, found: 3 };
    assert_eq!(misplaced, Err(error));
}

#[test]
fn records_keep_their_bytes() {
    let (small, payload) = samples::small_put();
    golden("record-put-small.bin", &samples::record_bytes(&small, &payload));
    golden("record-put-large-header.bin", &samples::large_put().0.encode(STORE.salt()));
    let (carry, payload) = samples::carry();
    golden("record-carry.bin", &samples::record_bytes(&carry, &payload));
    let tombstone = samples::record(RecordKind::Tombstone, 0x1000, 1001, b"");
    golden("record-tombstone.bin", &tombstone.encode(STORE.salt()));
    let void = samples::record(RecordKind::Void, 0x1000, 1001, b"");
    golden("record-void.bin", &void.encode(STORE.salt()));
    let (victims, payload) = samples::put_with_all_victims();
    golden("record-put-victims.bin", &samples::record_bytes(&victims, &payload));
    for header in [small, samples::large_put().0, carry, tombstone, void, victims] {
        assert_eq!(
            RecordHeader::decode(&header.encode(STORE.salt()), STORE.salt()).as_ref(),
            Ok(&header)
        );
    }
}

#[test]
fn a_records_twins_are_refused_by_name() {
    let what = Structure::Record;
    let (header, payload) = samples::small_put();
    let good = samples::record_bytes(&header, &payload);
    let decode = |bytes: &[u8]| RecordHeader::decode(bytes, STORE.salt());
    let flipped = twin("record.flipped.bin", &good, 56, &[0]);
    let computed = STORE.salt().crc(&flipped.bytes[8..header.shape().header_len]);
    let stored = le_u32(&good, 4);
    flipped.gives(decode, FormatError::Checksum { what, stored, computed });
    twin("record.pin.bin", &good, 12, &[5])
        .record_signed()
        .gives(decode, field(what, "kind", 12, 5, 1..=4));
    twin("record.flags.bin", &good, 13, &[0x80])
        .record_signed()
        .gives(decode, FormatError::Reserved { what, offset: 13, found: 0x80 });
    twin("record.key-len.bin", &good, 14, &1025_u16.to_le_bytes())
        .record_signed()
        .gives(decode, field(what, "key_len", 14, 1025, 1..=1024));
    twin("record.chunk-count.bin", &good, 20, &u32::MAX.to_le_bytes())
        .record_signed()
        .gives(decode, field(what, "chunk_count", 20, u64::from(u32::MAX), 1..=1));
    twin("record.record-len.bin", &good, 32, &8192_u32.to_le_bytes())
        .record_signed()
        .gives(decode, field(what, "record_len", 32, 8192, 4096..=4096));
    twin("record.victim-zone.bin", &good, 144, &0_u64.to_le_bytes())
        .record_signed()
        .gives(decode, field(what, "victim_zone", 136, 9, 0..=0));
    let (all, payload) = samples::put_with_all_victims();
    let all = samples::record_bytes(&all, &payload);
    twin("record.victims-gap.bin", &all, 160, &0_u64.to_le_bytes())
        .record_signed()
        .gives(decode, field(what, "more_victim_zones", 180, 11, 0..=0));
    twin("record.victims-first.bin", &all, 136, &[0; 16])
        .record_signed()
        .gives(decode, field(what, "more_victim_laps", 152, 5, 0..=0));
    twin("record.padding.bin", &good, BLOCK - 1, &[1])
        .gives(decode, FormatError::Reserved { what, offset: BLOCK - 1, found: 1 });
}

#[test]
fn a_record_from_elsewhere_or_with_a_damaged_payload_is_refused_by_name() {
    let (header, payload) = samples::small_put();
    let what = Structure::Record;
    let misplaced =
        |field, expected, found| Err(FormatError::Misplaced { what, field, expected, found });
    let at = header.position;
    assert_eq!(header.expect(3, 7, at), Ok(()));
    assert_eq!(header.expect(2, 7, at), misplaced("zone", 2, 3));
    assert_eq!(header.expect(3, 8, at), misplaced("lap", 8, 7));
    assert_eq!(header.expect(3, 7, at + 4096), misplaced("position", at + 4096, at));

    let mut damaged = payload.clone();
    damaged[3] ^= 4;
    let (stored, computed) = (header.chunk_crcs[0], STORE.salt().crc(&damaged));
    assert_eq!(header.verify_chunk(STORE.salt(), 0, &payload), Ok(()));
    assert_eq!(
        header.verify_chunk(STORE.salt(), 0, &damaged),
        Err(FormatError::ChunkChecksum { index: 0, stored, computed })
    );
    let short = FormatError::Truncated { what: Structure::Payload, needed: 8, found: 7 };
    assert_eq!(header.verify_chunk(STORE.salt(), 0, &payload[..7]), Err(short));
}

#[test]
fn a_long_header_asks_for_the_bytes_it_needs() {
    let mut header = samples::large_put().0;
    header.payload_len = 2000 * CHUNK as u64;
    header.chunk_crcs = vec![7; 2000].into();
    let bytes = header.encode(STORE.salt());
    assert_eq!(bytes.len(), 3 * BLOCK);
    assert_eq!(RecordHeader::peek_len(&bytes[..BLOCK]), Ok(3 * BLOCK));
    let more = Err(FormatError::NeedMore { needed: 3 * BLOCK });
    assert_eq!(RecordHeader::decode(&bytes[..BLOCK], STORE.salt()), more);
    assert_eq!(RecordHeader::decode(&bytes[..3 * BLOCK - 1], STORE.salt()), more);
    assert_eq!(RecordHeader::decode(&bytes, STORE.salt()), Ok(header));
}

#[test]
fn the_footer_keeps_its_bytes_and_gives_back_what_went_in() {
    let bytes = samples::footer_bytes();
    golden("footer.bin", &bytes);
    assert_eq!(bytes.len() as u64, samples::footer().encoded_len());
    let trailer = FooterTrailer::decode(&bytes[bytes.len() - BLOCK..], &STORE).unwrap();
    assert_eq!(trailer.footer_offset(), samples::ZONE_SIZE - bytes.len() as u64);
    assert_eq!(trailer.expect(3, 7, samples::ZONE_SIZE), Ok(()));
    let table = |table| {
        let span = trailer.table(table);
        let start = (span.offset - trailer.footer_offset()) as usize;
        trailer.verify_table(&STORE, table, &bytes[start..start + span.padded_len]).unwrap()
    };
    let entries = FooterEntries::new(table(FooterTable::Entries)).unwrap();
    let found: Vec<_> = entries.with_keys(table(FooterTable::Keys)).map(Result::unwrap).collect();
    for ((entry, key), (header, _)) in
        found.iter().zip([samples::small_put(), samples::large_put()])
    {
        assert_eq!(*key, &*header.key);
        assert_eq!((entry.key_hash, entry.lsn), (header.key_hash, header.lsn));
        assert_eq!(samples::BASE + entry.offset(), header.position);
        assert_eq!(entry.shape(), header.shape());
        let late_ms = entry.expires_ms(trailer.opened_store_ms) - header.expires_ms;
        assert!(late_ms < 1000);
    }
    assert_eq!(found.len(), 2);
    let kills: Vec<_> = KillList::new(table(FooterTable::Kills)).unwrap().collect();
    assert_eq!(kills[2..], samples::kills());
    assert_eq!(Some(kills[0]), samples::small_put().0.kills().next());
}

#[test]
fn a_footers_twins_are_refused_by_name() {
    let what = Structure::FooterTrailer;
    let bytes = samples::footer_bytes();
    let good = &bytes[bytes.len() - BLOCK..];
    let decode = |bytes: &[u8]| FooterTrailer::decode(bytes, &STORE);
    let size = samples::ZONE_SIZE;
    twin("footer-trailer.zone-size.bin", good, 56, &[1])
        .signed()
        .gives(decode, field(what, "zone_size", 56, size + 1, size..=size));
    twin("footer-trailer.entry-count.bin", good, 112, &1000_u32.to_le_bytes())
        .signed()
        .gives(decode, field(what, "entry_count", 112, 1000, 0..=0x24));
    twin("footer-trailer.keys-len.bin", good, 120, &1_u32.to_le_bytes())
        .signed()
        .gives(decode, field(what, "keys_len", 120, 1, 2..=2048));
    twin("footer-trailer.used-len.bin", good, 80, &(size - 8192).to_le_bytes())
        .signed()
        .gives(decode, field(what, "used_len", 80, size - 8192, 0..=size - 16384));
    twin("footer-trailer.offset.bin", good, 128, &(size as u32 - 8192).to_le_bytes())
        .signed()
        .gives(decode, field(what, "kills_offset", 128, size - 8192, size - 12288..=size - 12288));

    let trailer = FooterTrailer::decode(good, &STORE).unwrap();
    let misplaced =
        |field, expected, found| Err(FormatError::Misplaced { what, field, expected, found });
    assert_eq!(trailer.expect(3, 8, size), misplaced("lap", 8, 7));
    let entries = twin("footer-entries.flipped.bin", &bytes[..BLOCK], 0, b"x");
    let what = Structure::FooterEntries;
    let (stored, computed) = (trailer.entries_crc, STORE.salt().crc(&entries.bytes));
    entries.gives(
        |bytes| trailer.verify_table(&STORE, FooterTable::Entries, bytes).map(<[u8]>::len),
        FormatError::Checksum { what, stored, computed },
    );
}

#[test]
fn bytes_of_another_store_never_verify() {
    let other = StoreId(*b"another store id");
    let (header, _) = samples::small_put();
    let record = header.encode(other.salt());
    let refused = RecordHeader::decode(&record, STORE.salt());
    assert!(matches!(refused, Err(FormatError::Checksum { what: Structure::Record, .. })));
    let zone = samples::zone_header().encode(&other);
    let refused = ZoneHeader::decode(&zone[..], &STORE);
    let what = Structure::ZoneHeader;
    assert_eq!(refused, Err(FormatError::ForeignStore { what, expected: STORE, found: other }));
}

#[test]
fn no_layout_moves_unnoticed() {
    let mut text = String::new();
    for layout in layouts() {
        text += &format!("{} {}\n", layout.name, layout.len());
        for field in layout.fields {
            text += &format!("  {:4} {:4} {}\n", field.offset, field.len, field.name);
        }
    }
    golden("layouts.txt", text.as_bytes());
}
