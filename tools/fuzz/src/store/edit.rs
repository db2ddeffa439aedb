//! From fuzzer bytes to an edited store: which image, and what happened to its blocks.
//!
//! An edit is a flipped bit, foreign bytes, a field with a telling value, or a block that is
//! elsewhere, older, torn or gone. It may be *forged*: then the checksums around it are made right
//! again, as a bug of ours could have written them, and nothing but P22 can be asked of what
//! follows: no panic, no hang, no memory out of bounds.

use tapeloop_format::{BLOCK, Field, layouts};

use super::disk::Disk;
use super::image::{Image, ZONE_SIZE};
use super::sign::{number, sign};

/// Edits made of one input; what follows is not read.
const EDITS_MAX: usize = 24;
/// Foreign bytes written by one edit.
const LITERAL_MAX: usize = 64;

/// Values at which arithmetic tips over.
const TELLING: [u64; 16] = [
    0,
    1,
    2,
    3,
    BLOCK as u64 - 1,
    BLOCK as u64,
    BLOCK as u64 + 1,
    ZONE_SIZE,
    ZONE_SIZE - BLOCK as u64,
    u32::MAX as u64,
    1 << 32,
    1 << 48,
    (1 << 63) - BLOCK as u64,
    1 << 63,
    u64::MAX - 4095,
    u64::MAX,
];

/// Bytes read from front to back; zeros when they are used up.
#[derive(Clone, Debug)]
pub struct Input<'b> {
    rest: &'b [u8],
}

impl<'b> Input<'b> {
    /// All of `bytes`.
    pub fn new(bytes: &'b [u8]) -> Input<'b> {
        Input { rest: bytes }
    }

    /// True when only zeros follow.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// At most `len` bytes.
    pub fn take(&mut self, len: usize) -> &'b [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}

/// What was done to a store, and what shall be done with it.
#[derive(Clone, Copy, Debug)]
pub struct Edited {
    /// Which image.
    pub image: usize,
    /// For the target: how to go on.
    pub flags: u8,
    /// For the target: how much of it.
    pub count: u8,
    /// Checksums were made right again.
    pub is_forged: bool,
}

/// Edits one of the images as the input says.
pub fn apply(images: &mut [Image], input: &mut Input<'_>) -> Edited {
    let image = usize::from(input.u8()) % images.len();
    let mut edited = Edited { image, flags: input.u8(), count: input.u8(), is_forged: false };
    for _ in 0..EDITS_MAX {
        if input.is_empty() {
            break;
        }
        edited.is_forged |= one(images, image, input);
    }
    edited
}

/// One edit. True when it was forged.
fn one(images: &mut [Image], index: usize, input: &mut Input<'_>) -> bool {
    let op = input.u8();
    let volume = usize::from(op >> 4) % images[index].disks.len();
    let block = place(&images[index], volume, input.u16());
    let at = block * BLOCK;
    // Before the disk is borrowed: where a whole block comes from, when one is put there.
    let other = match op & 7 {
        4 => Some(whole_block(&images[index], volume, input)),
        6 => {
            let other = usize::from(input.u8()) % images.len();
            Some(whole_block(&images[other], 0, input))
        }
        _ => None,
    };
    let Image { disks, geometry, .. } = &mut images[index];
    let disk = &mut disks[volume];
    match op & 7 {
        0 => literal(disk, block, input),
        1 => {
            let bit = usize::from(input.u16()) % (BLOCK * 8);
            disk.edit(at + bit / 8, 1)[0] ^= 1 << (bit % 8);
        }
        2 | 3 => set_field(disk, block, input),
        4 | 6 => disk.edit(at, BLOCK).copy_from_slice(&other.expect("read above")),
        5 => disk.edit(at, BLOCK).fill(0),
        _ => {
            // Torn: the sectors from here on never made it.
            let kept = usize::from(input.u8()) % 8 * 512;
            disk.edit(at + kept, BLOCK - kept).fill(0);
        }
    }
    let is_forged = op & 8 != 0;
    if is_forged {
        sign(disk, geometry.volume(), block);
    }
    is_forged
}

/// A block of a volume: mostly one that holds something.
fn place(image: &Image, volume: usize, number: u16) -> usize {
    let number = usize::from(number);
    if number & 0x8000 == 0 {
        let blocks = &image.blocks[volume];
        return blocks[number % blocks.len()];
    }
    number % (image.disks[volume].bytes().len() / BLOCK)
}

fn whole_block(image: &Image, volume: usize, input: &mut Input<'_>) -> Vec<u8> {
    let block = place(image, volume, input.u16());
    image.disks[volume].bytes()[block * BLOCK..(block + 1) * BLOCK].to_vec()
}

fn literal(disk: &mut Disk, block: usize, input: &mut Input<'_>) {
    let at = usize::from(input.u16()) % BLOCK;
    let len = 1 + usize::from(input.u8()) % LITERAL_MAX;
    let bytes = input.take(len.min(BLOCK - at));
    if !bytes.is_empty() {
        disk.edit(block * BLOCK + at, bytes.len()).copy_from_slice(bytes);
    }
}

/// Puts a number where the structure of this block has one.
fn set_field(disk: &mut Disk, block: usize, input: &mut Input<'_>) {
    let bytes = &disk.bytes()[block * BLOCK..(block + 1) * BLOCK];
    let Field { name, offset, len } = pick_field(bytes, input.u8());
    let field = Field { name, offset, len: len.min(8) };
    let before = number(bytes, field);
    let choice = input.u8();
    let value = match choice {
        0..16 => TELLING[usize::from(choice)],
        16 => before.wrapping_add(1),
        17 => before.wrapping_sub(1),
        18 => before.wrapping_add(BLOCK as u64),
        19 => before.wrapping_sub(BLOCK as u64),
        20 => before ^ 1 << (input.u8() % 64),
        21 => before.wrapping_add(ZONE_SIZE),
        _ => {
            let mut value = [0; 8];
            let literal = input.take(field.len);
            value[..literal.len()].copy_from_slice(literal);
            u64::from_le_bytes(value)
        }
    };
    let at = block * BLOCK + field.offset;
    disk.edit(at, field.len).copy_from_slice(&value.to_le_bytes()[..field.len]);
}

/// A field of the structure that starts with these bytes; of tables and payload, a word.
fn pick_field(bytes: &[u8], choice: u8) -> Field {
    let choice = usize::from(choice);
    let layouts = layouts();
    let [volume, checkpoint, mark, zone, record, _, _, trailer] = &layouts;
    let of = |fields: &'static [Field]| fields[choice % fields.len()];
    match bytes {
        [b'T', b'A', b'P', b'E', ..] => of(volume.fields),
        [b'T', b'L', b'C', b'H', ..] if choice >= 128 => {
            let field = of(mark.fields);
            let marks = super::sign::field(checkpoint.name, "open_zones").offset;
            Field { offset: marks + choice % 3 * mark.len() + field.offset, ..field }
        }
        [b'T', b'L', b'C', b'H', ..] => of(checkpoint.fields),
        [b'T', b'L', b'Z', b'O', ..] => of(zone.fields),
        [b'T', b'L', b'R', b'C', ..] => of(record.fields),
        [b'T', b'L', b'F', b'O', ..] => of(trailer.fields),
        _ => Field { name: "word", offset: choice * 4, len: 8 },
    }
}
