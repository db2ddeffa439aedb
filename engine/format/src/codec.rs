//! Little-endian fields at fixed offsets. A layout is a list of [`Field`] constants, each derived
//! from the one before it, so that offsets cannot overlap; [`layout_holds`] asserts the rest while
//! compiling.

use crate::{BLOCK, COUNTED_MAX, FormatError, Salt, StoreId, Structure};
use std::ops::Range;

/// One field of an on-disk structure, as docs/disk-format.md lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name in the field table.
    pub name: &'static str,
    /// Byte offset within the structure.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
}

impl Field {
    pub(crate) const fn first(name: &'static str, len: usize) -> Field {
        Field { name, offset: 0, len }
    }

    pub(crate) const fn then(self, name: &'static str, len: usize) -> Field {
        Field { name, offset: self.end(), len }
    }

    /// A reserved field that reaches up to `end`.
    pub(crate) const fn reserved_to(self, end: usize) -> Field {
        assert!(self.end() < end);
        self.then("reserved", end - self.end())
    }

    /// Offset of the first byte behind the field.
    pub const fn end(self) -> usize {
        self.offset + self.len
    }

    const fn range(self) -> Range<usize> {
        self.offset..self.end()
    }
}

/// Compile-time proof that `fields` tile `size` bytes exactly, integers on their natural alignment.
pub(crate) const fn layout_holds(fields: &[Field], size: usize) -> bool {
    let mut at = 0;
    let mut i = 0;
    while i < fields.len() {
        let field = fields[i];
        let integer = field.len == 2 || field.len == 4 || field.len == 8;
        if field.offset != at
            || field.len == 0
            || (integer && !field.offset.is_multiple_of(field.len))
        {
            return false;
        }
        at += field.len;
        i += 1;
    }
    at == size
}

/// Writes fields into a structure. Panics on a length mismatch: that is a bug of the encoder.
pub(crate) struct Writer<'a> {
    bytes: &'a mut [u8],
}

impl<'a> Writer<'a> {
    pub(crate) fn new(bytes: &'a mut [u8]) -> Writer<'a> {
        Writer { bytes }
    }

    pub(crate) fn bytes(&mut self, field: Field, value: &[u8]) -> &mut Self {
        self.bytes[field.range()].copy_from_slice(value);
        self
    }

    pub(crate) fn u8(&mut self, field: Field, value: u8) -> &mut Self {
        self.bytes(field, &[value])
    }

    pub(crate) fn u16(&mut self, field: Field, value: u16) -> &mut Self {
        self.bytes(field, &value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, field: Field, value: u32) -> &mut Self {
        self.bytes(field, &value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, field: Field, value: u64) -> &mut Self {
        self.bytes(field, &value.to_le_bytes())
    }
}

/// Reads fields of a structure whose full length was checked by `new`.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    what: Structure,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        what: Structure,
        bytes: &'a [u8],
        needed: usize,
    ) -> Result<Reader<'a>, FormatError> {
        if bytes.len() < needed {
            return Err(FormatError::Truncated { what, needed, found: bytes.len() });
        }
        Ok(Reader { what, bytes: &bytes[..needed] })
    }

    pub(crate) fn array<const N: usize>(&self, field: Field) -> [u8; N] {
        let mut value = [0; N];
        value.copy_from_slice(&self.bytes[field.range()]);
        value
    }

    pub(crate) fn u8(&self, field: Field) -> u8 {
        self.array::<1>(field)[0]
    }

    pub(crate) fn u16(&self, field: Field) -> u16 {
        u16::from_le_bytes(self.array(field))
    }

    pub(crate) fn u32(&self, field: Field) -> u32 {
        u32::from_le_bytes(self.array(field))
    }

    pub(crate) fn u64(&self, field: Field) -> u64 {
        u64::from_le_bytes(self.array(field))
    }

    /// Blank bytes and a wrong magic are different findings: the first is a place never written.
    pub(crate) fn magic(&self, field: Field, expected: &[u8; 8]) -> Result<(), FormatError> {
        self.same_magic(self.u64(field), u64::from_le_bytes(*expected))
    }

    pub(crate) fn magic32(&self, field: Field, expected: u32) -> Result<(), FormatError> {
        self.same_magic(u64::from(self.u32(field)), u64::from(expected))
    }

    fn same_magic(&self, found: u64, expected: u64) -> Result<(), FormatError> {
        if found == expected {
            return Ok(());
        }
        if found == 0 && first_other_than_zero(self.bytes).is_none() {
            return Err(FormatError::Blank { what: self.what });
        }
        Err(FormatError::Magic { what: self.what, expected, found })
    }

    pub(crate) fn within(
        &self,
        field: Field,
        found: u64,
        allowed: std::ops::RangeInclusive<u64>,
    ) -> Result<(), FormatError> {
        if allowed.contains(&found) { Ok(()) } else { Err(self.outside(field, found, allowed)) }
    }

    pub(crate) fn outside(
        &self,
        field: Field,
        found: u64,
        allowed: std::ops::RangeInclusive<u64>,
    ) -> FormatError {
        FormatError::Field {
            what: self.what,
            field: field.name,
            offset: field.offset,
            found,
            min: *allowed.start(),
            max: *allowed.end(),
        }
    }

    /// A number that only grows: see [`COUNTED_MAX`].
    pub(crate) fn counted(&self, field: Field, found: u64, min: u64) -> Result<(), FormatError> {
        self.within(field, found, min..=COUNTED_MAX)
    }

    pub(crate) fn exactly(&self, field: Field, found: u64, value: u64) -> Result<(), FormatError> {
        self.within(field, found, value..=value)
    }

    pub(crate) fn block_aligned(&self, field: Field, found: u64) -> Result<(), FormatError> {
        let below = found - found % BLOCK as u64;
        self.within(field, found, below..=below)
    }

    pub(crate) fn store(&self, field: Field, expected: &StoreId) -> Result<(), FormatError> {
        let found = StoreId(self.array(field));
        if found == *expected {
            return Ok(());
        }
        Err(FormatError::ForeignStore { what: self.what, expected: *expected, found })
    }

    /// Checks the checksum at the end of a block over everything before it.
    pub(crate) fn crc(&self, field: Field, salt: Salt) -> Result<(), FormatError> {
        assert_eq!(field.end(), self.bytes.len());
        let computed = salt.crc(&self.bytes[..field.offset]);
        self.same_crc(self.u32(field), computed)
    }

    pub(crate) fn same_crc(&self, stored: u32, computed: u32) -> Result<(), FormatError> {
        if stored == computed {
            return Ok(());
        }
        Err(FormatError::Checksum { what: self.what, stored, computed })
    }

    pub(crate) fn zero(&self, field: Field) -> Result<(), FormatError> {
        all_zero(self.what, &self.bytes[field.range()], field.offset)
    }
}

/// Refuses the first byte of `bytes` that is not zero; `offset` is where `bytes` starts.
pub(crate) fn all_zero(what: Structure, bytes: &[u8], offset: usize) -> Result<(), FormatError> {
    match first_other_than_zero(bytes) {
        None => Ok(()),
        Some(at) => Err(FormatError::Reserved { what, offset: offset + at, found: bytes[at] }),
    }
}

/// Nearly all of a block is padding: it is looked at in vectors, and by bytes where it matters.
fn first_other_than_zero(bytes: &[u8]) -> Option<usize> {
    let (chunks, _) = bytes.as_chunks::<64>();
    let zeros = chunks.iter().position(|chunk| *chunk != [0; 64]).unwrap_or(chunks.len()) * 64;
    let rest = bytes[zeros..].iter().position(|byte| *byte != 0)?;
    Some(zeros + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Field = Field::first("a", 4);
    const B: Field = A.then("b", 4);

    #[test]
    fn the_first_byte_that_is_not_zero_is_named_wherever_it_lies() {
        let what = Structure::Record;
        for len in [0, 1, 63, 64, 65, 200] {
            let mut bytes = vec![0; len];
            assert_eq!(all_zero(what, &bytes, 7), Ok(()));
            for at in (0..len).rev() {
                bytes[at] = 9;
                let refused = FormatError::Reserved { what, offset: 7 + at, found: 9 };
                assert_eq!(all_zero(what, &bytes, 7), Err(refused));
            }
        }
    }

    #[test]
    fn a_layout_with_a_gap_an_overlap_or_a_crooked_integer_does_not_hold() {
        assert!(layout_holds(&[A, B], 8));
        assert!(!layout_holds(&[A, B], 9));
        assert!(!layout_holds(&[B], 8));
        assert!(!layout_holds(&[A, A], 8));
        assert!(!layout_holds(&[A, B.then("c", 0)], 8));
        assert!(!layout_holds(&[A, B.then("c", 1), B.then("c", 1).then("d", 2)], 11));
    }

    #[test]
    fn integers_lie_little_endian() {
        let mut bytes = [0; 8];
        Writer::new(&mut bytes).u32(A, 0x0403_0201).u32(B, 5);
        assert_eq!(bytes, [1, 2, 3, 4, 5, 0, 0, 0]);
        let reader = Reader::new(Structure::Record, &bytes, 8).unwrap();
        assert_eq!((reader.u32(A), reader.u32(B)), (0x0403_0201, 5));
        assert_eq!(
            reader.zero(B),
            Err(FormatError::Reserved { what: Structure::Record, offset: 4, found: 5 })
        );
    }
}
