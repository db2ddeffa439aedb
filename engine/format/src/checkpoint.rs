//! Checkpoint: what recovery must know and cannot find in the zones. Two slots on every volume,
//! written in turn; the valid one with the higher sequence counts, so a torn write costs one
//! checkpoint, not both. Each speaks for the whole store, on whichever volume it lies: of several
//! volumes' the newest counts.

use crate::codec::{Field, Reader, Writer, layout_holds};
use crate::{
    BLOCK, CHECKPOINT_SLOTS, FormatError, OPEN_ZONES_MAX, StoreId, Structure, VOLUME_COUNT_MAX,
    ZONE_SIZE_MAX, ZoneLap,
};

const MAGIC_BYTES: &[u8; 8] = b"TLCHECKP";

const MAGIC: Field = Field::first("magic", 8);
const STORE_ID: Field = MAGIC.then("store_id", 16);
const SEQUENCE: Field = STORE_ID.then("sequence", 8);
const INCARNATION: Field = SEQUENCE.then("incarnation", 8);
const BOOT_ID: Field = INCARNATION.then("boot_id", 16);
const BOOTTIME_MS: Field = BOOT_ID.then("boottime_ms", 8);
const STORE_MS: Field = BOOTTIME_MS.then("store_ms", 8);
const WALL_MS: Field = STORE_MS.then("wall_ms", 8);
const DURABLE_LSN: Field = WALL_MS.then("durable_lsn", 8);
const NEXT_LSN: Field = DURABLE_LSN.then("next_lsn", 8);
const NEXT_BASE_POSITION: Field = NEXT_LSN.then("next_base_position", 8);
const OPEN_ZONE_COUNT: Field = NEXT_BASE_POSITION.then("open_zone_count", 2);
const RESERVED_A: Field = OPEN_ZONE_COUNT.then("reserved", 6);
const OPEN_ZONES: Field = RESERVED_A.then("open_zones", OPEN_ZONES_MAX * OPEN_ZONE_LEN);
const GIVEN_UP: Field = OPEN_ZONES.then("given_up", VOLUME_COUNT_MAX as usize * 8);
const RESERVED_B: Field = GIVEN_UP.reserved_to(BLOCK - 4);
const CRC: Field = RESERVED_B.then("crc", 4);

pub(crate) const LAYOUT: &[Field] = &[
    MAGIC,
    STORE_ID,
    SEQUENCE,
    INCARNATION,
    BOOT_ID,
    BOOTTIME_MS,
    STORE_MS,
    WALL_MS,
    DURABLE_LSN,
    NEXT_LSN,
    NEXT_BASE_POSITION,
    OPEN_ZONE_COUNT,
    RESERVED_A,
    OPEN_ZONES,
    GIVEN_UP,
    RESERVED_B,
    CRC,
];
const _: () = assert!(layout_holds(LAYOUT, BLOCK));
const _: () = assert!(OPEN_ZONES.offset == 112 && GIVEN_UP.offset == 1648);

const MARK_ZONE: Field = Field::first("zone", 4);
const MARK_RESERVED: Field = MARK_ZONE.then("reserved", 4);
const MARK_LAP: Field = MARK_RESERVED.then("lap", 8);
const MARK_DURABLE_LEN: Field = MARK_LAP.then("durable_len", 8);
const OPEN_ZONE_LEN: usize = MARK_DURABLE_LEN.end();

pub(crate) const MARK_LAYOUT: &[Field] = &[MARK_ZONE, MARK_RESERVED, MARK_LAP, MARK_DURABLE_LEN];
const _: () = assert!(OPEN_ZONE_LEN == 24 && layout_holds(MARK_LAYOUT, OPEN_ZONE_LEN));

/// In [`Checkpoint::given_up`]: the volume is away, and nothing that lies on it counts.
pub const GIVEN_UP_WHOLLY: u64 = !(BLOCK as u64 - 1);

/// The clocks at one instant, so that store time can go on after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockMark {
    /// The kernel's boot id: tells whether `boottime_ms` can still be compared.
    pub boot_id: [u8; 16],
    /// Milliseconds since boot, suspend included.
    pub boottime_ms: u64,
    /// Store time: never steps back, follows no wall clock step.
    pub store_ms: u64,
    /// Wall clock, used only to bridge a reboot.
    pub wall_ms: u64,
}

/// How much of an open zone is known to be durable and contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenZoneMark {
    /// The zone and the lap it is in.
    pub zone_lap: ZoneLap,
    /// Bytes from the zone's start, a multiple of the block size, zone header included.
    pub durable_len: u64,
}

/// One checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Number of the checkpoint, from 1; slot = sequence modulo 2.
    pub sequence: u64,
    /// Raised by every open of the store, from 1.
    pub incarnation: u64,
    /// Clocks when the checkpoint was taken.
    pub clock: ClockMark,
    /// Every record up to this LSN is durable. 0: none.
    pub durable_lsn: u64,
    /// LSNs from here on were not used when the checkpoint was taken; at least 1.
    pub next_lsn: u64,
    /// Base position of the next zone to be opened.
    pub next_base_position: u64,
    /// Zones open when the checkpoint was taken, on any volume, at most [`OPEN_ZONES_MAX`].
    pub open_zones: Vec<OpenZoneMark>,
    /// For each volume: what it holds at base positions below does not count. 0 for a volume that
    /// the store was never opened without.
    pub given_up: [u64; VOLUME_COUNT_MAX as usize],
}

impl Checkpoint {
    /// Where this checkpoint goes.
    pub fn slot_offset(&self) -> u64 {
        CHECKPOINT_SLOTS[(self.sequence % 2) as usize]
    }

    /// The block to write at [`Checkpoint::slot_offset`]. Panics on more than [`OPEN_ZONES_MAX`]
    /// open zones.
    pub fn encode(&self, store_id: &StoreId) -> Box<[u8; BLOCK]> {
        assert!(self.open_zones.len() <= OPEN_ZONES_MAX);
        let mut block = Box::new([0; BLOCK]);
        Writer::new(&mut block[..])
            .bytes(MAGIC, MAGIC_BYTES)
            .bytes(STORE_ID, &store_id.0)
            .u64(SEQUENCE, self.sequence)
            .u64(INCARNATION, self.incarnation)
            .bytes(BOOT_ID, &self.clock.boot_id)
            .u64(BOOTTIME_MS, self.clock.boottime_ms)
            .u64(STORE_MS, self.clock.store_ms)
            .u64(WALL_MS, self.clock.wall_ms)
            .u64(DURABLE_LSN, self.durable_lsn)
            .u64(NEXT_LSN, self.next_lsn)
            .u64(NEXT_BASE_POSITION, self.next_base_position)
            .u16(OPEN_ZONE_COUNT, self.open_zones.len() as u16);
        let marks = &mut block[OPEN_ZONES.offset..OPEN_ZONES.end()];
        for (mark, slot) in self.open_zones.iter().zip(marks.chunks_exact_mut(OPEN_ZONE_LEN)) {
            mark.encode_into(slot);
        }
        let (bases, _) = block[GIVEN_UP.offset..GIVEN_UP.end()].as_chunks_mut::<8>();
        for (base, slot) in self.given_up.iter().zip(bases) {
            *slot = base.to_le_bytes();
        }
        let crc = store_id.salt().crc(&block[..CRC.offset]);
        Writer::new(&mut block[..]).u32(CRC, crc);
        debug_assert_eq!(Checkpoint::decode(&block[..], store_id).as_ref(), Ok(self));
        block
    }

    /// Reads one slot; `Blank` means that it was never written.
    pub fn decode(bytes: &[u8], store_id: &StoreId) -> Result<Checkpoint, FormatError> {
        let reader = Reader::new(Structure::Checkpoint, bytes, BLOCK)?;
        reader.magic(MAGIC, MAGIC_BYTES)?;
        reader.store(STORE_ID, store_id)?;
        reader.crc(CRC, store_id.salt())?;
        reader.zero(RESERVED_A)?;
        reader.zero(RESERVED_B)?;
        let count = reader.u16(OPEN_ZONE_COUNT);
        reader.within(OPEN_ZONE_COUNT, u64::from(count), 0..=OPEN_ZONES_MAX as u64)?;
        let checkpoint = Checkpoint {
            sequence: reader.u64(SEQUENCE),
            incarnation: reader.u64(INCARNATION),
            clock: ClockMark {
                boot_id: reader.array(BOOT_ID),
                boottime_ms: reader.u64(BOOTTIME_MS),
                store_ms: reader.u64(STORE_MS),
                wall_ms: reader.u64(WALL_MS),
            },
            durable_lsn: reader.u64(DURABLE_LSN),
            next_lsn: reader.u64(NEXT_LSN),
            next_base_position: reader.u64(NEXT_BASE_POSITION),
            open_zones: decode_marks(&bytes[..BLOCK], usize::from(count))?,
            given_up: decode_given_up(&reader, &bytes[..BLOCK])?,
        };
        reader.counted(SEQUENCE, checkpoint.sequence, 1)?;
        reader.counted(INCARNATION, checkpoint.incarnation, 0)?;
        reader.counted(BOOTTIME_MS, checkpoint.clock.boottime_ms, 0)?;
        reader.counted(STORE_MS, checkpoint.clock.store_ms, 0)?;
        reader.counted(WALL_MS, checkpoint.clock.wall_ms, 0)?;
        reader.counted(NEXT_LSN, checkpoint.next_lsn, 1)?;
        reader.counted(NEXT_BASE_POSITION, checkpoint.next_base_position, 0)?;
        reader.within(DURABLE_LSN, checkpoint.durable_lsn, 0..=checkpoint.next_lsn - 1)?;
        reader.block_aligned(NEXT_BASE_POSITION, checkpoint.next_base_position)?;
        Ok(checkpoint)
    }

    /// The one of two slots to go by: the valid one with the higher sequence.
    pub fn newest<E>(slots: [Result<Checkpoint, E>; 2]) -> Option<Checkpoint> {
        slots.into_iter().flatten().max_by_key(|checkpoint| checkpoint.sequence)
    }
}

fn decode_given_up(
    reader: &Reader<'_>,
    block: &[u8],
) -> Result<[u64; VOLUME_COUNT_MAX as usize], FormatError> {
    let mut given_up = [0; VOLUME_COUNT_MAX as usize];
    let (bases, _) = block[GIVEN_UP.offset..GIVEN_UP.end()].as_chunks::<8>();
    for (slot, base) in given_up.iter_mut().zip(bases) {
        *slot = u64::from_le_bytes(*base);
        reader.block_aligned(GIVEN_UP, *slot)?;
    }
    Ok(given_up)
}

fn decode_marks(block: &[u8], count: usize) -> Result<Vec<OpenZoneMark>, FormatError> {
    let (used, unused) = block[OPEN_ZONES.offset..OPEN_ZONES.end()].split_at(count * OPEN_ZONE_LEN);
    let unused_offset = OPEN_ZONES.offset + used.len();
    crate::codec::all_zero(Structure::Checkpoint, unused, unused_offset)?;
    used.chunks_exact(OPEN_ZONE_LEN).map(OpenZoneMark::decode).collect()
}

impl OpenZoneMark {
    fn encode_into(&self, out: &mut [u8]) {
        Writer::new(out)
            .u32(MARK_ZONE, self.zone_lap.zone)
            .u64(MARK_LAP, self.zone_lap.lap)
            .u64(MARK_DURABLE_LEN, self.durable_len);
    }

    fn decode(bytes: &[u8]) -> Result<OpenZoneMark, FormatError> {
        let reader = Reader::new(Structure::Checkpoint, bytes, OPEN_ZONE_LEN)?;
        reader.zero(MARK_RESERVED)?;
        let (zone, lap) = (reader.u32(MARK_ZONE), reader.u64(MARK_LAP));
        let durable_len = reader.u64(MARK_DURABLE_LEN);
        reader.counted(MARK_LAP, lap, 1)?;
        reader.within(MARK_DURABLE_LEN, durable_len, 0..=ZONE_SIZE_MAX)?;
        reader.block_aligned(MARK_DURABLE_LEN, durable_len)?;
        Ok(OpenZoneMark { zone_lap: ZoneLap { zone, lap }, durable_len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(sequence: u64) -> Checkpoint {
        Checkpoint {
            sequence,
            incarnation: 1,
            clock: ClockMark::default(),
            durable_lsn: 0,
            next_lsn: 1,
            next_base_position: 0,
            open_zones: Vec::new(),
            given_up: [0; 16],
        }
    }

    #[test]
    fn the_newest_valid_slot_counts() {
        let newest = |a, b| Checkpoint::newest([a, b]).map(|checkpoint| checkpoint.sequence);
        let torn = || Err(FormatError::Blank { what: Structure::Checkpoint });
        assert_eq!(newest(Ok(numbered(4)), Ok(numbered(5))), Some(5));
        assert_eq!(newest(Ok(numbered(6)), Ok(numbered(5))), Some(6));
        assert_eq!(newest(torn(), Ok(numbered(5))), Some(5));
        assert_eq!(newest(Ok(numbered(4)), torn()), Some(4));
        assert_eq!(newest(torn(), torn()), None);
    }

    #[test]
    fn a_checkpoint_never_overwrites_the_one_before_it() {
        for sequence in 1..10 {
            assert_ne!(numbered(sequence).slot_offset(), numbered(sequence + 1).slot_offset());
        }
    }

    #[test]
    fn as_many_open_zones_as_the_format_allows_are_kept() {
        let store_id = StoreId([3; 16]);
        let mark = |zone| OpenZoneMark {
            zone_lap: ZoneLap { zone, lap: 9 },
            durable_len: u64::from(zone) * BLOCK as u64,
        };
        let full = Checkpoint { open_zones: (0..64).map(mark).collect(), ..numbered(2) };
        assert_eq!(Checkpoint::decode(&full.encode(&store_id)[..], &store_id), Ok(full));
    }

    #[test]
    fn what_is_given_up_on_each_volume_is_kept() {
        let store_id = StoreId([3; 16]);
        let mut given_up = [0; 16];
        (given_up[1], given_up[15]) = (GIVEN_UP_WHOLLY, 5 << 20);
        let marked = Checkpoint { given_up, ..numbered(2) };
        assert_eq!(Checkpoint::decode(&marked.encode(&store_id)[..], &store_id), Ok(marked));
    }
}
