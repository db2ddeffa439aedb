//! Record header. A record is header, payload, zero padding; it starts and ends on a block
//! boundary and says where it belongs (zone, lap, position), so that bytes left over from an
//! earlier lap or written to the wrong place are never taken for current ones.

use crate::codec::{Field, Reader, Writer, all_zero, layout_holds};
use crate::shape::{CHUNK_COUNT_MAX, RECORD_FIXED_LEN, RecordShape};
use crate::{
    BLOCK, CHUNK, FormatError, KEY_LEN_MAX, KILL_LEN, KeyHash, Kill, METADATA_LEN_MAX, Salt,
    Structure, ZONE_SIZE_MAX, ZoneLap, round_up,
};

const MAGIC_VALUE: u32 = u32::from_le_bytes(*b"TLRC");

const MAGIC: Field = Field::first("magic", 4);
const HEADER_CRC: Field = MAGIC.then("header_crc", 4);
const HEADER_LEN: Field = HEADER_CRC.then("header_len", 4);
const KIND: Field = HEADER_LEN.then("kind", 1);
const FLAGS: Field = KIND.then("flags", 1);
const KEY_LEN: Field = FLAGS.then("key_len", 2);
const METADATA_LEN: Field = KEY_LEN.then("metadata_len", 2);
const RESERVED_A: Field = METADATA_LEN.then("reserved", 2);
const CHUNK_COUNT: Field = RESERVED_A.then("chunk_count", 4);
const PAYLOAD_LEN: Field = CHUNK_COUNT.then("payload_len", 8);
const RECORD_LEN: Field = PAYLOAD_LEN.then("record_len", 4);
const ZONE: Field = RECORD_LEN.then("zone", 4);
const LAP: Field = ZONE.then("lap", 8);
const POSITION: Field = LAP.then("position", 8);
const LSN: Field = POSITION.then("lsn", 8);
const INCARNATION: Field = LSN.then("incarnation", 8);
const DURABLE_LSN: Field = INCARNATION.then("durable_lsn", 8);
const STORED_MS: Field = DURABLE_LSN.then("stored_ms", 8);
const EXPIRES_MS: Field = STORED_MS.then("expires_ms", 8);
const CREATED_WALL_MS: Field = EXPIRES_MS.then("created_wall_ms", 8);
const CONTENT_HASH: Field = CREATED_WALL_MS.then("content_hash", 16);
const KEY_HASH: Field = CONTENT_HASH.then("key_hash", 16);
const VICTIM_ZONE: Field = KEY_HASH.then("victim_zone", 4);
const RESERVED_B: Field = VICTIM_ZONE.then("reserved", 4);
const VICTIM_LAP: Field = RESERVED_B.then("victim_lap", 8);
const MORE_VICTIM_LAPS: Field = VICTIM_LAP.then("more_victim_laps", MORE_VICTIMS_MAX * 8);
const MORE_VICTIM_ZONES: Field = MORE_VICTIM_LAPS.then("more_victim_zones", MORE_VICTIMS_MAX * 4);
const RESERVED_C: Field = MORE_VICTIM_ZONES.reserved_to(RECORD_FIXED_LEN);

/// Victims that a record can name beside the first one.
pub const MORE_VICTIMS_MAX: usize = 3;

pub(crate) const LAYOUT: &[Field] = &[
    MAGIC,
    HEADER_CRC,
    HEADER_LEN,
    KIND,
    FLAGS,
    KEY_LEN,
    METADATA_LEN,
    RESERVED_A,
    CHUNK_COUNT,
    PAYLOAD_LEN,
    RECORD_LEN,
    ZONE,
    LAP,
    POSITION,
    LSN,
    INCARNATION,
    DURABLE_LSN,
    STORED_MS,
    EXPIRES_MS,
    CREATED_WALL_MS,
    CONTENT_HASH,
    KEY_HASH,
    VICTIM_ZONE,
    RESERVED_B,
    VICTIM_LAP,
    MORE_VICTIM_LAPS,
    MORE_VICTIM_ZONES,
    RESERVED_C,
];
const _: () = assert!(layout_holds(LAYOUT, RECORD_FIXED_LEN));
const _: () = assert!(LSN.offset == 56 && KEY_HASH.offset == 120 && RESERVED_C.offset == 188);

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// An object.
    Put,
    /// The deletion of a key.
    Tombstone,
    /// Kills saved from a zone about to be reused.
    Carry,
    /// Fills a hole that a crash tore, so that the next scan does not stumble over it.
    Void,
}

impl RecordKind {
    const fn code(self) -> u8 {
        match self {
            RecordKind::Put => 1,
            RecordKind::Tombstone => 2,
            RecordKind::Carry => 3,
            RecordKind::Void => 4,
        }
    }

    const fn of_code(code: u8) -> Option<RecordKind> {
        match code {
            1 => Some(RecordKind::Put),
            2 => Some(RecordKind::Tombstone),
            3 => Some(RecordKind::Carry),
            4 => Some(RecordKind::Void),
            _ => None,
        }
    }
}

/// Everything a record says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Put, tombstone, carry or void.
    pub kind: RecordKind,
    /// Zone the record was written to.
    pub zone: u32,
    /// Lap of that zone.
    pub lap: u64,
    /// Virtual log position: the zone's base position plus the offset within the zone.
    pub position: u64,
    /// Log sequence number, unique in the volume, at least 1.
    pub lsn: u64,
    /// Incarnation of the process that wrote the record.
    pub incarnation: u64,
    /// Every record up to this LSN was durable when this one was written.
    pub durable_lsn: u64,
    /// Store time when the record was written.
    pub stored_ms: u64,
    /// Store time from which the object is gone.
    pub expires_ms: u64,
    /// Wall clock of the upload, for HTTP dates.
    pub created_wall_ms: u64,
    /// Exact payload length.
    pub payload_len: u64,
    /// Void only: bytes the hole takes, a multiple of the block size. 0 for all other kinds.
    pub hole_len: u32,
    /// Put only: XXH3-128 of the payload (seed 0) as a little-endian number, the object's strong
    /// validator. All zero for every other kind.
    pub content_hash: [u8; 16],
    /// Hash of the key; all zero for carry and void.
    pub key_hash: KeyHash,
    /// Where the version that this record supersedes lies, if it lies in a zone still holding it.
    pub victim: Option<ZoneLap>,
    /// Where else a version of the key may lie: places of writes that were never confirmed. At most
    /// [`MORE_VICTIMS_MAX`], and none without `victim`.
    pub more_victims: Box<[ZoneLap]>,
    /// The key; empty for carry and void.
    pub key: Box<[u8]>,
    /// Opaque to the engine; empty unless put.
    pub metadata: Box<[u8]>,
    /// Checksum of every payload chunk.
    pub chunk_crcs: Box<[u32]>,
}

/// The lengths in a fixed part that passed all checks possible without the checksum.
struct Lengths {
    kind: RecordKind,
    key: usize,
    metadata: usize,
    chunks: usize,
    payload: u64,
    record: u32,
    shape: RecordShape,
}

impl RecordHeader {
    /// Layout of the record. For a void record `record_len` is the hole.
    pub fn shape(&self) -> RecordShape {
        let shape = RecordShape::of(self.key.len(), self.metadata.len(), self.payload_len);
        match self.kind {
            RecordKind::Void => RecordShape { record_len: self.hole_len as usize, ..shape },
            _ => shape,
        }
    }

    /// Bytes to read for the whole header of the record that starts with `first_block`; a multiple
    /// of the block size. Nothing is verified yet but what bounds the length.
    pub fn peek_len(first_block: &[u8]) -> Result<usize, FormatError> {
        let reader = Reader::new(Structure::Record, first_block, BLOCK)?;
        Ok(lengths(&reader)?.shape.header_blocks_len())
    }

    /// Writes the header blocks, zero padded; an inline payload is then copied behind the header by
    /// the caller. `out` takes exactly `shape().header_blocks_len()` bytes.
    pub fn encode_into(&self, salt: Salt, out: &mut [u8]) {
        let shape = self.shape();
        assert_eq!(out.len(), shape.header_blocks_len());
        assert_eq!(self.chunk_crcs.len() as u64, self.payload_len.div_ceil(CHUNK as u64));
        assert_eq!(self.hole_len != 0, self.kind == RecordKind::Void);
        out.fill(0);
        assert!(self.more_victims.len() <= MORE_VICTIMS_MAX);
        assert!(self.more_victims.is_empty() || self.victim.is_some());
        let victim = self.victim.unwrap_or(ZoneLap { zone: 0, lap: 0 });
        Writer::new(out)
            .u32(MAGIC, MAGIC_VALUE)
            .u32(HEADER_LEN, shape.header_len as u32)
            .u8(KIND, self.kind.code())
            .u16(KEY_LEN, self.key.len() as u16)
            .u16(METADATA_LEN, self.metadata.len() as u16)
            .u32(CHUNK_COUNT, self.chunk_crcs.len() as u32)
            .u64(PAYLOAD_LEN, self.payload_len)
            .u32(RECORD_LEN, shape.record_len as u32)
            .u32(ZONE, self.zone)
            .u64(LAP, self.lap)
            .u64(POSITION, self.position)
            .u64(LSN, self.lsn)
            .u64(INCARNATION, self.incarnation)
            .u64(DURABLE_LSN, self.durable_lsn)
            .u64(STORED_MS, self.stored_ms)
            .u64(EXPIRES_MS, self.expires_ms)
            .u64(CREATED_WALL_MS, self.created_wall_ms)
            .bytes(CONTENT_HASH, &self.content_hash)
            .bytes(KEY_HASH, &self.key_hash.0)
            .u32(VICTIM_ZONE, victim.zone)
            .u64(VICTIM_LAP, victim.lap);
        for (index, victim) in self.more_victims.iter().enumerate() {
            let (lap, zone) = more_victim(index);
            Writer::new(out).u64(lap, victim.lap).u32(zone, victim.zone);
        }
        let (key, rest) = out[RECORD_FIXED_LEN..shape.header_len].split_at_mut(self.key.len());
        let (metadata, table) = rest.split_at_mut(self.metadata.len());
        key.copy_from_slice(&self.key);
        metadata.copy_from_slice(&self.metadata);
        for (crc, slot) in self.chunk_crcs.iter().zip(table.chunks_exact_mut(4)) {
            slot.copy_from_slice(&crc.to_le_bytes());
        }
        let crc = salt.crc(&out[HEADER_CRC.end()..shape.header_len]);
        Writer::new(out).u32(HEADER_CRC, crc);
        debug_assert_eq!(RecordHeader::decode(out, salt).as_ref(), Ok(self));
    }

    /// The header blocks in memory of their own. See [`RecordHeader::encode_into`].
    pub fn encode(&self, salt: Salt) -> Vec<u8> {
        let mut out = vec![0; self.shape().header_blocks_len()];
        self.encode_into(salt, &mut out);
        out
    }

    /// Reads a record header. `bytes` starts at the record and holds whole blocks; when the header
    /// goes on behind them the answer is [`FormatError::NeedMore`]. Padding within the header
    /// blocks is checked too, so an inline record is verified whole but for its payload checksum.
    pub fn decode(bytes: &[u8], salt: Salt) -> Result<RecordHeader, FormatError> {
        let reader = Reader::new(Structure::Record, bytes, BLOCK)?;
        let lengths = lengths(&reader)?;
        let shape = lengths.shape;
        let needed = shape.header_blocks_len();
        if bytes.len() < needed {
            return Err(FormatError::NeedMore { needed });
        }
        let covered = &bytes[HEADER_CRC.end()..shape.header_len];
        reader.same_crc(reader.u32(HEADER_CRC), salt.crc(covered))?;
        check_padding(&bytes[..needed], &lengths)?;
        let (key, rest) = bytes[RECORD_FIXED_LEN..shape.header_len].split_at(lengths.key);
        let (metadata, table) = rest.split_at(lengths.metadata);
        let (table, odd) = table.as_chunks::<4>();
        assert!(odd.is_empty() && table.len() == lengths.chunks);
        let header = RecordHeader {
            kind: lengths.kind,
            zone: reader.u32(ZONE),
            lap: reader.u64(LAP),
            position: reader.u64(POSITION),
            lsn: reader.u64(LSN),
            incarnation: reader.u64(INCARNATION),
            durable_lsn: reader.u64(DURABLE_LSN),
            stored_ms: reader.u64(STORED_MS),
            expires_ms: reader.u64(EXPIRES_MS),
            created_wall_ms: reader.u64(CREATED_WALL_MS),
            payload_len: lengths.payload,
            hole_len: if lengths.kind == RecordKind::Void { lengths.record } else { 0 },
            content_hash: reader.array(CONTENT_HASH),
            key_hash: KeyHash(reader.array(KEY_HASH)),
            victim: decode_victim(&reader, lengths.kind)?,
            more_victims: decode_more_victims(&reader)?,
            key: key.into(),
            metadata: metadata.into(),
            chunk_crcs: table.iter().map(|crc| u32::from_le_bytes(*crc)).collect(),
        };
        check_fields(&reader, &header)?;
        Ok(header)
    }

    /// Binds the header to the place it was read from.
    pub fn expect(&self, zone: u32, lap: u64, position: u64) -> Result<(), FormatError> {
        let places = [
            (ZONE.name, u64::from(zone), u64::from(self.zone)),
            (LAP.name, lap, self.lap),
            (POSITION.name, position, self.position),
        ];
        match places.into_iter().find(|(_, expected, found)| expected != found) {
            None => Ok(()),
            Some((field, expected, found)) => {
                let what = Structure::Record;
                Err(FormatError::Misplaced { what, field, expected, found })
            }
        }
    }

    /// Length of payload chunk `index`; the last one may be short.
    pub fn chunk_len(&self, index: usize) -> usize {
        assert!(index < self.chunk_crcs.len());
        let rest = self.payload_len - (index * CHUNK) as u64;
        rest.min(CHUNK as u64) as usize
    }

    /// Checks payload chunk `index`, given exactly its bytes.
    pub fn verify_chunk(&self, salt: Salt, index: usize, chunk: &[u8]) -> Result<(), FormatError> {
        let needed = self.chunk_len(index);
        if chunk.len() != needed {
            let what = Structure::Payload;
            return Err(FormatError::Truncated { what, needed, found: chunk.len() });
        }
        let (stored, computed) = (self.chunk_crcs[index], salt.crc(chunk));
        if stored == computed {
            return Ok(());
        }
        Err(FormatError::ChunkChecksum { index, stored, computed })
    }

    /// Checks the padding behind the payload. `record` is the whole record.
    pub fn verify_padding(&self, record: &[u8]) -> Result<(), FormatError> {
        let shape = self.shape();
        let what = Structure::RecordPadding;
        if record.len() != shape.record_len {
            let (needed, found) = (shape.record_len, record.len());
            return Err(FormatError::Truncated { what, needed, found });
        }
        let end = shape.payload_offset + self.payload_len as usize;
        if self.kind == RecordKind::Void {
            return Ok(()); // the hole keeps whatever the crash left there
        }
        all_zero(what, &record[end..], end)
    }

    /// The kills that this record stands for: one for each place that may hold what it supersedes.
    pub fn kills(&self) -> impl Iterator<Item = Kill> + '_ {
        let victims = self.victim.iter().chain(&self.more_victims);
        victims.map(|victim| Kill::new(self.key_hash, self.lsn, *victim))
    }
}

fn lengths(reader: &Reader<'_>) -> Result<Lengths, FormatError> {
    reader.magic32(MAGIC, MAGIC_VALUE)?;
    let code = reader.u8(KIND);
    let Some(kind) = RecordKind::of_code(code) else {
        let max = RecordKind::Void.code();
        return Err(reader.outside(KIND, u64::from(code), 1..=u64::from(max)));
    };
    let (key, metadata) = (reader.u16(KEY_LEN), reader.u16(METADATA_LEN));
    let payload = reader.u64(PAYLOAD_LEN);
    let (key_len, metadata_len, payload_len) = match kind {
        RecordKind::Put => (1..=KEY_LEN_MAX, 0..=METADATA_LEN_MAX, 0..=ZONE_SIZE_MAX),
        RecordKind::Tombstone => (1..=KEY_LEN_MAX, 0..=0, 0..=0),
        RecordKind::Carry => (0..=0, 0..=0, KILL_LEN as u64..=ZONE_SIZE_MAX),
        RecordKind::Void => (0..=0, 0..=0, 0..=0),
    };
    let wide = |range: std::ops::RangeInclusive<usize>| *range.start() as u64..=*range.end() as u64;
    reader.within(KEY_LEN, u64::from(key), wide(key_len))?;
    reader.within(METADATA_LEN, u64::from(metadata), wide(metadata_len))?;
    reader.within(PAYLOAD_LEN, payload, payload_len)?;
    let (key, metadata) = (usize::from(key), usize::from(metadata));
    let chunks = payload.div_ceil(CHUNK as u64);
    assert!(chunks <= CHUNK_COUNT_MAX as u64);
    reader.exactly(CHUNK_COUNT, u64::from(reader.u32(CHUNK_COUNT)), chunks)?;
    let mut shape = RecordShape::of(key, metadata, payload);
    reader.exactly(HEADER_LEN, u64::from(reader.u32(HEADER_LEN)), shape.header_len as u64)?;
    let record = reader.u32(RECORD_LEN);
    if kind == RecordKind::Void {
        reader.within(RECORD_LEN, u64::from(record), BLOCK as u64..=ZONE_SIZE_MAX)?;
        reader.block_aligned(RECORD_LEN, u64::from(record))?;
        shape.record_len = record as usize;
    } else {
        reader.exactly(RECORD_LEN, u64::from(record), shape.record_len as u64)?;
    }
    Ok(Lengths { kind, key, metadata, chunks: chunks as usize, payload, record, shape })
}

/// Zero bytes between header and payload, or behind an inline payload.
fn check_padding(header_blocks: &[u8], lengths: &Lengths) -> Result<(), FormatError> {
    let shape = lengths.shape;
    let header_inline = shape.payload_offset < round_up(shape.header_len, BLOCK);
    let used = shape.header_len + if header_inline { lengths.payload as usize } else { 0 };
    all_zero(Structure::Record, &header_blocks[used..], used)
}

fn decode_victim(reader: &Reader<'_>, kind: RecordKind) -> Result<Option<ZoneLap>, FormatError> {
    let (zone, lap) = (reader.u32(VICTIM_ZONE), reader.u64(VICTIM_LAP));
    if !matches!(kind, RecordKind::Put | RecordKind::Tombstone) {
        reader.exactly(VICTIM_LAP, lap, 0)?;
    }
    if lap == 0 {
        reader.exactly(VICTIM_ZONE, u64::from(zone), 0)?;
        return Ok(None);
    }
    Ok(Some(ZoneLap { zone, lap }))
}

/// Fields of one of the further victims.
const fn more_victim(index: usize) -> (Field, Field) {
    let lap = Field { offset: MORE_VICTIM_LAPS.offset + 8 * index, len: 8, ..MORE_VICTIM_LAPS };
    let zone = Field { offset: MORE_VICTIM_ZONES.offset + 4 * index, len: 4, ..MORE_VICTIM_ZONES };
    (lap, zone)
}

/// They are named from the front, and only behind a first victim.
fn decode_more_victims(reader: &Reader<'_>) -> Result<Box<[ZoneLap]>, FormatError> {
    let mut goes_on = reader.u64(VICTIM_LAP) != 0;
    let mut victims = Vec::new();
    for index in 0..MORE_VICTIMS_MAX {
        let (lap_at, zone_at) = more_victim(index);
        let (lap, zone) = (reader.u64(lap_at), reader.u32(zone_at));
        if !goes_on {
            reader.exactly(lap_at, lap, 0)?;
        }
        goes_on = lap != 0;
        match goes_on {
            true => victims.push(ZoneLap { zone, lap }),
            false => reader.exactly(zone_at, u64::from(zone), 0)?,
        }
    }
    Ok(victims.into())
}

fn check_fields(reader: &Reader<'_>, header: &RecordHeader) -> Result<(), FormatError> {
    reader.zero(FLAGS)?;
    reader.zero(RESERVED_A)?;
    reader.zero(RESERVED_B)?;
    reader.zero(RESERVED_C)?;
    reader.counted(LAP, header.lap, 1)?;
    reader.counted(POSITION, header.position, 0)?;
    reader.counted(LSN, header.lsn, 1)?;
    reader.counted(INCARNATION, header.incarnation, 0)?;
    reader.counted(DURABLE_LSN, header.durable_lsn, 0)?;
    reader.counted(STORED_MS, header.stored_ms, 0)?;
    reader.block_aligned(POSITION, header.position)?;
    if header.kind == RecordKind::Carry {
        let whole = header.payload_len - header.payload_len % KILL_LEN as u64;
        reader.exactly(PAYLOAD_LEN, header.payload_len, whole)?;
    }
    if header.kind != RecordKind::Put {
        reader.zero(CONTENT_HASH)?;
    }
    if header.key.is_empty() {
        reader.zero(KEY_HASH)?;
    }
    Ok(())
}
