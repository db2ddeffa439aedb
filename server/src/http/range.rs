//! The Range header: one range of bytes, or none.
//!
//! What is malformed, of another unit or more than one range is ignored, which RFC 9110 section
//! 14.2 allows and which costs no memory per range.

use super::fields::trim;
use std::ops::Range;

/// What a Range header asks of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// Answer 200 with all of it.
    Whole,
    /// Answer 206 with these bytes, at least one.
    Part(Range<u64>),
    /// Answer 416.
    Unsatisfiable,
}

/// Applies a Range header to an object of `len` bytes.
pub fn select(header: Option<&[u8]>, len: u64) -> Selected {
    let Some(spec) = header.and_then(parse) else { return Selected::Whole };
    let range = match spec {
        Spec::From(first) => first..len,
        Spec::Between(first, last) => first..last.saturating_add(1).min(len),
        Spec::Suffix(count) => len.saturating_sub(count)..len,
    };
    if range.start < range.end { Selected::Part(range) } else { Selected::Unsatisfiable }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    From(u64),
    Between(u64, u64),
    Suffix(u64),
}

fn parse(header: &[u8]) -> Option<Spec> {
    let mut sides = header.splitn(2, |&byte| byte == b'=');
    let unit = sides.next()?;
    let set = trim(sides.next()?);
    if !unit.eq_ignore_ascii_case(b"bytes") || set.contains(&b',') {
        return None;
    }
    let dash = set.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (&set[..dash], &set[dash + 1..]);
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => Some(Spec::Suffix(number(last)?)),
        (false, true) => Some(Spec::From(number(first)?)),
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::Between(first, last))
        }
    }
}

/// A decimal number; one too large for a u64 is as good as the largest.
fn number(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let step =
        |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, step))
}

#[cfg(test)]
mod tests {
    use super::Selected::*;
    use super::*;

    fn of(header: &str, len: u64) -> Selected {
        select(Some(header.as_bytes()), len)
    }

    #[test]
    fn every_single_form_selects_its_bytes() {
        let table = [
            ("bytes=0-", 10, Part(0..10)),
            ("bytes=3-", 10, Part(3..10)),
            ("bytes=0-0", 10, Part(0..1)),
            ("bytes=3-5", 10, Part(3..6)),
            ("bytes=3-99", 10, Part(3..10)),
            ("bytes=9-9", 10, Part(9..10)),
            ("bytes=-3", 10, Part(7..10)),
            ("bytes=-99", 10, Part(0..10)),
            ("Bytes= 1-2 ", 10, Part(1..3)),
            ("bytes=2-18446744073709551615", 10, Part(2..10)),
            ("bytes=0-99999999999999999999999", 10, Part(0..10)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-11", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-1", 0, Unsatisfiable),
        ];
        for (header, len, wanted) in table {
            assert_eq!(of(header, len), wanted, "{header} of {len}");
        }
    }

    #[test]
    fn what_is_malformed_or_plural_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-3",
            "bytes=+1-2",
            "lines=1-2",
            "bytes=0-1,3-4",
            "bytes=0-,",
            "bytes 0-1",
            "bytes=1-2-3",
            "bytes=0x1-2",
        ] {
            assert_eq!(of(header, 10), Whole, "{header}");
        }
        assert_eq!(select(None, 10), Whole);
    }
}
