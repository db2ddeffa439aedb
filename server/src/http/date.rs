//! HTTP dates. The clock is passed in; the text of a second is made once.

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

/// Length of an HTTP date.
pub const DATE_LEN: usize = 29;

/// The text of one second, reused while that second lasts.
#[derive(Clone, Debug)]
pub struct DateCache {
    second: u64,
    text: [u8; DATE_LEN],
}

impl Default for DateCache {
    fn default() -> DateCache {
        DateCache { second: 0, text: format(0) }
    }
}

impl DateCache {
    /// The HTTP date of `wall_ms`.
    pub fn at(&mut self, wall_ms: u64) -> &[u8; DATE_LEN] {
        let second = wall_ms / 1000;
        if second != self.second {
            *self = DateCache { second, text: format(second) };
        }
        &self.text
    }
}

/// The HTTP date of a second since 1970.
pub fn format(second: u64) -> [u8; DATE_LEN] {
    // Year 9999 is the last one an HTTP date can hold.
    let second = second.min(253_402_300_799);
    let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
    let mut text = [b' '; DATE_LEN];
    write!(&mut text[..], "{date}").expect("an HTTP date has 29 bytes");
    text
}

/// Seconds since 1970 of an HTTP date in any of the three forms, `None` if it is none.
pub fn parse(text: &[u8]) -> Option<u64> {
    let date = httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_and_read_back() {
        let text = b"Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(&format(784_111_777), text);
        assert_eq!(parse(text), Some(784_111_777));
        assert_eq!(parse(b"Sunday, 06-Nov-94 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse(b"yesterday"), None);
        assert_eq!(parse(b"\xff"), None);
    }

    #[test]
    fn the_cache_follows_the_clock_both_ways() {
        let mut cache = DateCache::default();
        assert_eq!(cache.at(784_111_777_999), &format(784_111_777));
        assert_eq!(cache.at(784_111_778_000), &format(784_111_778));
        assert_eq!(cache.at(784_111_777_000), &format(784_111_777));
        assert_eq!(cache.at(u64::MAX), &format(u64::MAX));
    }
}
