//! The three numbers of a CMAF segment that a loop has to know or change.
//!
//! A strict walker over ISO BMFF boxes (ISO/IEC 14496-12): exactly one `moof` with one `traf`, in
//! the order a fragment has them, and nothing that could hide a fourth number (no `sidx`, no
//! `prft`). What it does not know it refuses, so a clip of another shape fails in a test, not in a
//! player.
#![allow(clippy::big_endian_bytes, reason = "ISO BMFF is big-endian")]

use std::ops::Range;

use thiserror::Error;

/// Why some bytes are not the segment or init segment that is expected here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum BoxError {
    #[error("box at byte {at} says {size} bytes, {room} are left")]
    Size { at: usize, size: u64, room: usize },
    #[error("box '{}' at byte {at} is not expected here", name(*.kind))]
    Unexpected { at: usize, kind: [u8; 4] },
    #[error("box '{}' is missing", name(*.kind))]
    Missing { kind: [u8; 4] },
    #[error("box '{}' is shorter than its fields", name(*.kind))]
    Short { kind: [u8; 4] },
    #[error("box '{}' has version {version}, which is not handled", name(*.kind))]
    Version { kind: [u8; 4], version: u8 },
    #[error("the fragment names no sample duration")]
    NoDuration,
}

fn name(kind: [u8; 4]) -> String {
    kind.escape_ascii().to_string()
}

/// A media segment whose times can be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    bytes: Vec<u8>,
    sequence_at: usize,
    decode_time_at: usize,
    /// In the time scale of the init segment.
    pub(super) decode_time: u64,
    /// Sum of its samples, in the time scale of the init segment.
    pub(super) duration: u64,
}

impl Segment {
    /// Reads a segment; every byte of it has to be understood.
    pub(super) fn parse(bytes: &[u8]) -> Result<Segment, BoxError> {
        let mut top = Walk::over(bytes, 0..bytes.len());
        top.skip_if(b"styp")?;
        let moof = top.expect(b"moof")?;
        top.expect(b"mdat")?;
        top.end()?;

        let mut walk = Walk::over(bytes, moof);
        let mfhd = walk.expect(b"mfhd")?;
        let traf = walk.expect(b"traf")?;
        walk.end()?;

        let mut walk = Walk::over(bytes, traf);
        let tfhd = walk.expect(b"tfhd")?;
        let tfdt = walk.expect(b"tfdt")?;
        let trun = walk.expect(b"trun")?;
        walk.end()?;

        let sequence_at = mfhd.start + 4;
        Field::new(bytes, b"mfhd", mfhd).skip(4)?.u32()?;
        let decode_time_at = tfdt.start + 4;
        let decode_time = match bytes.get(tfdt.start) {
            Some(1) => Field::new(bytes, b"tfdt", tfdt).skip(4)?.u64()?,
            Some(&version) => return Err(BoxError::Version { kind: *b"tfdt", version }),
            None => return Err(BoxError::Short { kind: *b"tfdt" }),
        };
        let duration = run_duration(bytes, trun, default_duration(bytes, tfhd)?)?;
        Ok(Segment { bytes: bytes.to_vec(), sequence_at, decode_time_at, decode_time, duration })
    }

    /// The same media at another time, under another fragment number.
    pub(super) fn restamped(&self, sequence: u32, decode_time: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[self.sequence_at..self.sequence_at + 4].copy_from_slice(&sequence.to_be_bytes());
        bytes[self.decode_time_at..self.decode_time_at + 8]
            .copy_from_slice(&decode_time.to_be_bytes());
        bytes
    }
}

/// Ticks per second of the only track of an init segment.
pub(super) fn timescale(init: &[u8]) -> Result<u32, BoxError> {
    let mut at = 0..init.len();
    for kind in [b"moov", b"trak", b"mdia", b"mdhd"] {
        at = Walk::over(init, at).find(kind)?;
    }
    let times = match init.get(at.start) {
        Some(0) => 8,
        Some(1) => 16,
        Some(&version) => return Err(BoxError::Version { kind: *b"mdhd", version }),
        None => return Err(BoxError::Short { kind: *b"mdhd" }),
    };
    Field::new(init, b"mdhd", at).skip(4 + times)?.u32()
}

/// `default_sample_duration` of a track fragment header, which is optional.
fn default_duration(bytes: &[u8], tfhd: Range<usize>) -> Result<Option<u32>, BoxError> {
    let mut field = Field::new(bytes, b"tfhd", tfhd);
    let flags = field.u32()? & 0x00ff_ffff;
    field = field.skip(4)?; // track id
    if flags & 0x1 != 0 {
        field = field.skip(8)?; // base data offset
    }
    if flags & 0x2 != 0 {
        field = field.skip(4)?; // sample description index
    }
    if flags & 0x8 != 0 { field.u32().map(Some) } else { Ok(None) }
}

/// Sum of the sample durations of a track run.
fn run_duration(bytes: &[u8], trun: Range<usize>, default: Option<u32>) -> Result<u64, BoxError> {
    let mut field = Field::new(bytes, b"trun", trun);
    let flags = field.u32()? & 0x00ff_ffff;
    let samples = field.u32()?;
    let optional_heads = [0x1, 0x4].iter().filter(|&&bit| flags & bit != 0).count();
    field = field.skip(4 * optional_heads)?;
    let rest_of_sample = 4 * [0x200, 0x400, 0x800].iter().filter(|&&bit| flags & bit != 0).count();

    let mut total = 0u64;
    for _ in 0..samples {
        let duration = match (flags & 0x100 != 0, default) {
            (true, _) => field.u32()?,
            (false, Some(default)) => default,
            (false, None) => return Err(BoxError::NoDuration),
        };
        field = field.skip(rest_of_sample)?;
        total += u64::from(duration);
    }
    Ok(total)
}

type KindAndBody = ([u8; 4], Range<usize>);

/// One pass over the boxes that lie side by side in a range.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Walk<'a> {
    fn over(bytes: &'a [u8], range: Range<usize>) -> Walk<'a> {
        assert!(range.start <= range.end && range.end <= bytes.len());
        Walk { bytes, at: range.start, end: range.end }
    }

    /// Kind and body of the next box, which stays the next one.
    fn peek(&self) -> Result<Option<KindAndBody>, BoxError> {
        let room = self.end - self.at;
        if room == 0 {
            return Ok(None);
        }
        let wrong = |size| BoxError::Size { at: self.at, size, room };
        if room < 8 {
            return Err(wrong(8));
        }
        let head = &self.bytes[self.at..self.at + 8];
        let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let size = usize::try_from(size).map_err(|_| wrong(u64::from(size)))?;
        // 0 ("to the end of the file") and 1 ("64-bit size follows") have no place in a segment.
        if size < 8 || size > room {
            return Err(wrong(size as u64));
        }
        Ok(Some(([head[4], head[5], head[6], head[7]], self.at + 8..self.at + size)))
    }

    fn expect(&mut self, kind: &[u8; 4]) -> Result<Range<usize>, BoxError> {
        match self.peek()? {
            Some((found, body)) if found == *kind => {
                self.at = body.end;
                Ok(body)
            }
            Some((found, _)) => Err(BoxError::Unexpected { at: self.at, kind: found }),
            None => Err(BoxError::Missing { kind: *kind }),
        }
    }

    fn skip_if(&mut self, kind: &[u8; 4]) -> Result<(), BoxError> {
        match self.peek()? {
            Some((found, _)) if found == *kind => self.expect(kind).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// The first box of that kind; others before it are passed over.
    fn find(&mut self, kind: &[u8; 4]) -> Result<Range<usize>, BoxError> {
        while let Some((found, body)) = self.peek()? {
            self.at = body.end;
            if found == *kind {
                return Ok(body);
            }
        }
        Err(BoxError::Missing { kind: *kind })
    }

    fn end(&self) -> Result<(), BoxError> {
        match self.peek()? {
            None => Ok(()),
            Some((kind, _)) => Err(BoxError::Unexpected { at: self.at, kind }),
        }
    }
}

/// Reads the fields of one box in order.
struct Field<'a> {
    kind: [u8; 4],
    rest: &'a [u8],
}

impl<'a> Field<'a> {
    fn new(bytes: &'a [u8], kind: &[u8; 4], body: Range<usize>) -> Field<'a> {
        Field { kind: *kind, rest: &bytes[body] }
    }

    fn skip(self, len: usize) -> Result<Field<'a>, BoxError> {
        let rest = self.rest.get(len..).ok_or(BoxError::Short { kind: self.kind })?;
        Ok(Field { rest, ..self })
    }

    fn u32(&mut self) -> Result<u32, BoxError> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, BoxError> {
        self.take().map(u64::from_be_bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], BoxError> {
        let (head, rest) =
            self.rest.split_first_chunk::<N>().ok_or(BoxError::Short { kind: self.kind })?;
        self.rest = rest;
        Ok(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(8 + body.len()).expect("a small box");
        [&len.to_be_bytes()[..], kind, body].concat()
    }

    /// Three samples of 512 ticks, decode time 1000, sequence 7.
    fn sample_segment() -> Vec<u8> {
        segment_with(&boxed(b"tfdt", &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 232]), &[])
    }

    fn segment_with(tfdt: &[u8], before_moof: &[u8]) -> Vec<u8> {
        let tfhd = boxed(b"tfhd", &[0, 2, 0, 8, 0, 0, 0, 1, 0, 0, 2, 0]);
        let trun = boxed(b"trun", &[0, 0, 0, 0, 0, 0, 0, 3]);
        let traf = boxed(b"traf", &[&tfhd[..], tfdt, &trun].concat());
        let mfhd = boxed(b"mfhd", &[0, 0, 0, 0, 0, 0, 0, 7]);
        let moof = boxed(b"moof", &[mfhd, traf].concat());
        [&boxed(b"styp", b"msdh\0\0\0\0")[..], before_moof, &moof, &boxed(b"mdat", b"media")]
            .concat()
    }

    #[test]
    fn times_are_read_from_a_fragment() {
        let segment = Segment::parse(&sample_segment()).expect("a good segment");
        assert_eq!((segment.decode_time, segment.duration), (1000, 3 * 512));
    }

    #[test]
    fn only_the_two_numbers_change() {
        let bytes = sample_segment();
        let segment = Segment::parse(&bytes).expect("a good segment");
        assert_eq!(segment.restamped(7, 1000), bytes, "its own numbers give its own bytes");

        let moved = segment.restamped(0x0102_0304, 0x1112_1314_1516_1718);
        let again = Segment::parse(&moved).expect("still a good segment");
        assert_eq!((again.decode_time, again.duration), (0x1112_1314_1516_1718, 3 * 512));
        let changed = bytes.iter().zip(&moved).filter(|(old, new)| old != new).count();
        assert_eq!((moved.len(), changed), (bytes.len(), 12), "4 bytes of number, 8 of time");
    }

    #[test]
    fn durations_per_sample_win_over_the_default() {
        let mut trun = vec![0, 0, 0x03, 0x05, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 9];
        for (duration, size) in [(100u32, 1u32), (23, 2)] {
            trun.extend_from_slice(&duration.to_be_bytes());
            trun.extend_from_slice(&size.to_be_bytes());
        }
        assert_eq!(run_duration(&trun, 0..trun.len(), Some(512)), Ok(123));
    }

    #[test]
    fn a_fragment_without_any_duration_is_refused() {
        let trun = [0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(run_duration(&trun, 0..8, None), Err(BoxError::NoDuration));
    }

    #[test]
    fn a_segment_cut_at_any_byte_is_refused() {
        let bytes = sample_segment();
        for len in 0..bytes.len() {
            assert!(Segment::parse(&bytes[..len]).is_err(), "accepted with {len} bytes");
        }
    }

    #[test]
    fn a_box_that_could_hold_another_time_is_refused() {
        let tfdt = boxed(b"tfdt", &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 232]);
        let bytes = segment_with(&tfdt, &boxed(b"sidx", &[0; 24]));
        assert_eq!(Segment::parse(&bytes), Err(BoxError::Unexpected { at: 16, kind: *b"sidx" }),);
    }

    #[test]
    fn a_decode_time_of_32_bits_is_refused() {
        let bytes = segment_with(&boxed(b"tfdt", &[0, 0, 0, 0, 0, 0, 3, 232]), &[]);
        assert_eq!(Segment::parse(&bytes), Err(BoxError::Version { kind: *b"tfdt", version: 0 }),);
    }

    #[test]
    fn a_box_longer_than_its_parent_is_refused() {
        let mut bytes = sample_segment();
        let last = bytes.len() - 13; // the size field of mdat
        bytes[last + 3] += 1;
        assert_eq!(Segment::parse(&bytes), Err(BoxError::Size { at: last, size: 14, room: 13 }),);
    }

    #[test]
    fn a_sample_count_beyond_the_box_is_refused_without_reading_past_it() {
        let trun = [0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1];
        assert_eq!(
            run_duration(&trun, 0..trun.len(), None),
            Err(BoxError::Short { kind: *b"trun" }),
        );
    }
}
