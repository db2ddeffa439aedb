//! Sizes and durations as people write them.

const SIZE_UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
];

const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A whole number with a unit of bytes, or a plain number of bytes.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    parse(&text.to_ascii_lowercase(), &SIZE_UNITS)
}

/// A whole number with a unit of time. A bare number is refused: seconds or milliseconds?
pub(super) fn parse_duration_ms(text: &str) -> Option<u64> {
    parse(text, &DURATION_UNITS)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// The largest binary unit that leaves a short number.
pub fn format_size(bytes: u64) -> String {
    let units = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, factor)| bytes >= *factor) {
        None => format!("{bytes} B"),
        Some((name, factor)) if bytes.is_multiple_of(*factor) => {
            format!("{} {name}", bytes / factor)
        }
        Some((name, factor)) => format!("{:.1} {name}", bytes as f64 / *factor as f64),
    }
}

/// The largest unit that divides the duration.
pub fn format_duration(duration_ms: u64) -> String {
    let (name, factor) = DURATION_UNITS
        .iter()
        .rev()
        .find(|(_, factor)| duration_ms.is_multiple_of(*factor))
        .expect("one millisecond divides everything");
    format!("{}{name}", duration_ms / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        let table = [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("1GiB", Some(1 << 30)),
            ("1 gib", Some(1 << 30)),
            ("1g", Some(1 << 30)),
            ("2GB", Some(2_000_000_000)),
            ("", None),
            ("GiB", None),
            ("1.5GiB", None),
            ("-1", None),
            ("1GiBs", None),
            ("99999999TiB", None),
        ];
        for (text, wanted) in table {
            assert_eq!(parse_size(text), wanted, "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        let table = [
            ("90s", Some(90_000)),
            ("15m", Some(900_000)),
            ("24h", Some(86_400_000)),
            ("7d", Some(604_800_000)),
            ("250ms", Some(250)),
            ("60", None),
            ("1.5h", None),
            ("1H", None),
        ];
        for (text, wanted) in table {
            assert_eq!(parse_duration_ms(text), wanted, "{text}");
        }
    }

    #[test]
    fn figures_are_written_as_they_would_be_typed() {
        assert_eq!(format_size(256 << 20), "256 MiB");
        assert_eq!(format_size(1500 << 20), "1.5 GiB");
        assert_eq!(format_size(12), "12 B");
        assert_eq!(format_duration(86_400_000), "1d");
        assert_eq!(format_duration(90_000), "90s");
        assert_eq!(format_duration(1), "1ms");
    }
}
