//! What a row is a point of: its name says it.
//!
//! `hot GET 2 KiB, latency against load: 70 %` is a point of a curve over load at 70,
//! `hot GET by size, 8 connections: 64 KiB` and `throughput, 64 KiB objects` are points over
//! object size, `write amplification, 95 % full` is one over fill.

/// What a curve runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    LoadPercent,
    SizeBytes,
    FillPercent,
}

/// A row as a point.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) kind: Kind,
    /// The row's name without the figure: the same for all points of a curve.
    pub(super) title: String,
    pub(super) x: f64,
}

const KINDS: [(&str, Kind); 4] = [
    ("latency against load", Kind::LoadPercent),
    ("write amplification", Kind::FillPercent),
    ("throughput,", Kind::SizeBytes),
    ("by size", Kind::SizeBytes),
];

const SIZES: [(&str, f64); 4] =
    [("B", 1.0), ("KiB", 1024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0)];
const PERCENT: [(&str, f64); 1] = [("%", 1.0)];

/// The curve a row belongs to, if its name says so and has a figure.
pub(super) fn point(row: &str) -> Option<Point> {
    let (_, kind) = KINDS.iter().find(|(words, _)| row.contains(words))?;
    let units: &[(&str, f64)] = match kind {
        Kind::SizeBytes => &SIZES,
        Kind::LoadPercent | Kind::FillPercent => &PERCENT,
    };
    let words: Vec<&str> = row.split_whitespace().collect();
    let quantity = |at: usize| {
        let unit = words[at + 1].trim_end_matches([',', ':', ';']);
        let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
        let value = words[at].parse::<f64>().ok().filter(|value| value.is_finite())?;
        Some(value * factor)
    };
    let found = (0..words.len().saturating_sub(1)).rev();
    let (at, x) = found.filter_map(|at| Some((at, quantity(at)?))).next()?;
    let title = words[..at].join(" ");
    Some(Point { kind: *kind, title: title.trim_end_matches([',', ':']).to_owned(), x })
}

/// A row's name as a file's: lower case letters, digits and single dashes.
pub(super) fn slug(name: &str) -> String {
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { ' ' });
    let plain: String = plain.collect::<String>().to_ascii_lowercase();
    plain.split_whitespace().collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_a_curve_says_where_its_point_lies() {
        let found = |row| point(row).map(|point| (point.kind, point.title, point.x));
        let load = "hot GET 2 KiB, latency against load";
        assert_eq!(
            found("hot GET 2 KiB, latency against load: 70 %"),
            Some((Kind::LoadPercent, load.to_owned(), 70.0)),
        );
        assert_eq!(
            found("latency against load, 2 KiB, 70 %"),
            Some((Kind::LoadPercent, "latency against load, 2 KiB".to_owned(), 70.0)),
        );
        assert_eq!(
            found("throughput, 64 KiB objects"),
            Some((Kind::SizeBytes, "throughput".to_owned(), 65536.0)),
        );
        assert_eq!(
            found("hot GET by size, 8 connections: 16 MiB"),
            Some((
                Kind::SizeBytes,
                "hot GET by size, 8 connections".to_owned(),
                16.0 * 1_048_576.0
            )),
        );
        assert_eq!(
            found("write amplification, 95 % full"),
            Some((Kind::FillPercent, "write amplification".to_owned(), 95.0)),
        );
    }

    #[test]
    fn other_rows_are_no_points() {
        for row in [
            "hot GET 2 KiB, 64 connections",
            "hot GET 2 KiB, latency against load: saturation, closed loop",
            "latency at 70 % of saturation, hot GET 2 KiB",
            "throughput, x KiB",
            "",
        ] {
            assert_eq!(point(row), None, "{row}");
        }
    }

    #[test]
    fn a_slug_is_fit_for_a_file() {
        assert_eq!(slug("PUT 2 MiB, 8 encoders: a/b (x)"), "put-2-mib-8-encoders-a-b-x");
    }
}
