//! Rows that are a table each, a line for every peer.

use crate::results::{Cell, Run, Sample};
use crate::text::{Table, range_or_nothing};

type Column = (&'static str, fn(&Sample) -> Option<f64>);

const COLUMNS: [Column; 6] = [
    ("requests/s", |sample| sample.requests_per_s),
    ("CPU us/request", |sample| sample.cpu_us_per_request),
    ("p50 ms", |sample| Some(sample.latency_us_p50 / 1e3)),
    ("p99 ms", |sample| Some(sample.latency_us_p99 / 1e3)),
    ("p99.9 ms", |sample| Some(sample.latency_us_p999 / 1e3)),
    ("RSS MB", |sample| (sample.rss_bytes > 0).then(|| sample.rss_bytes as f64 / 1e6)),
];

/// The rows whose names begin so. What has a colon in its name is a point of something larger.
pub(super) fn plain(run: &Run, kind: &str) -> Vec<String> {
    let rows = run.rows().into_iter();
    let rows = rows.filter(|row| row.starts_with(kind) && !row.contains(':'));
    rows.map(|row| table(run, row)).collect()
}

/// From a chunk of an upload to those who follow it.
pub(super) fn followers(run: &Run) -> Vec<String> {
    run.rows_like("follower wake-up: *").into_iter().map(|(row, _)| table(run, row)).collect()
}

fn table(run: &Run, row: &str) -> String {
    let mut head = vec![row];
    head.extend(COLUMNS.map(|(name, _)| name));
    let mut table = Table::new(&head);
    let line = |cell: &Cell| {
        let figures = COLUMNS.map(|(_, of)| range_or_nothing(cell.spread(of)));
        std::iter::once(cell.peer.clone()).chain(figures).collect()
    };
    table.rows = run.of_row(row).map(line).collect();
    table.markdown()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::samples::{run, sample};
    use serde_json::json;

    #[test]
    fn a_row_is_a_table_and_the_points_of_a_curve_are_not() {
        let mut drive = sample(3_649.0, 24.6, 4_250.0);
        drive["rss_bytes"] = json!(0);
        let ours = [sample(4_610.0, 99.3, 3_300.0), sample(2_922.0, 79.0, 2_510.0)];
        let row = "cold GET 512 KiB, 16 connections";
        let run = run(&[
            (row, "tapeloop", &ours),
            (row, "fio (the drive)", &[drive]),
            ("cold GET punts: 512 KiB, 8 connections", "tapeloop", &ours),
            ("hot GET 2 KiB, 64 connections", "tapeloop", &ours),
        ]);
        let golden = "\
| cold GET 512 KiB, 16 connections | requests/s | CPU us/request \
| p50 ms | p99 ms | p99.9 ms | RSS MB |
|---|---|---|---|---|---|---|
| tapeloop | 3,766 [2,922-4,610] | 89.2 [79.0-99.3] | 2.90 [2.51-3.30] \
| 2.90 [2.51-3.30] | 2.90 [2.51-3.30] | 16.4 |
| fio (the drive) | 3,649 | 24.6 | 4.25 | 4.25 | 4.25 | - |
";
        assert_eq!(plain(&run, "cold GET "), [golden]);
    }
}
