//! The live mix: a table with the classes as lines and the peers as columns, and what belongs to
//! it in words.

use super::quantiles;
use crate::results::{Cell, Run, Sample, TAPELOOP, each_once};
use crate::text::{NOTHING, Table, median_or_nothing, range_or_nothing};

const CLASSES: [(&str, &str); 5] = [
    ("playlist GET", "playlist_get"),
    ("live edge GET", "live_get"),
    ("DVR GET", "dvr_get"),
    ("segment PUT", "segment_put"),
    ("playlist PUT", "playlist_put"),
];
/// Classes whose tails are told with their ranges.
const READ: [(&str, &str); 3] =
    [("playlist", "playlist_get"), ("live edge", "live_get"), ("DVR", "dvr_get")];
const ALL: &str = "mix under the cap: all (worst latency; memory of the group)";
const WAKE_UP: &str = "the machine: a sleeping thread's wake-up, every ms";

/// Nothing without the mix.
pub(super) fn blocks(run: &Run) -> Vec<String> {
    let peers = peers(run);
    if peers.is_empty() {
        return Vec::new();
    }
    let mut blocks: Vec<String> = run.mix.iter().map(|mix| format!("{mix}.\n")).collect();
    blocks.push(table(run, &peers));
    let mut words: String = READ.iter().filter_map(|read| tail(run, *read)).collect();
    words += &wake_up(run).unwrap_or_default();
    words += &failed(run, &peers);
    blocks.push(words);
    blocks
}

fn under_the_cap(class: &str) -> String {
    format!("mix under the cap: {class}")
}

/// Each once.
fn peers(run: &Run) -> Vec<&str> {
    let is_mix = |cell: &&Cell| cell.row.starts_with(&under_the_cap(""));
    each_once(run.cells().iter().filter(is_mix).map(|cell| cell.peer.as_str()))
}

fn table(run: &Run, peers: &[&str]) -> String {
    let alone = format!("{TAPELOOP} without ingest");
    let mut table = Table::new(&[&["p50 / p99 / p99.9 in ms"], peers, &[alone.as_str()]].concat());
    for (name, class) in CLASSES {
        let mut line = vec![name.to_owned()];
        let row = under_the_cap(class);
        line.extend(peers.iter().map(|peer| quantiles(run.cell(&row, peer))));
        line.push(quantiles(run.cell(&format!("mix without ingest: {class}"), TAPELOOP)));
        table.rows.push(line);
    }
    let all = |name: &str, of: fn(&Sample) -> Option<f64>| {
        let mut line = vec![name.to_owned()];
        let spread = |peer: &&str| run.cell(ALL, peer)?.spread(of);
        line.extend(peers.iter().map(|peer| median_or_nothing(spread(peer))));
        line.push(NOTHING.to_owned());
        line
    };
    table.rows.push(all("CPU us/request, all classes", |sample| sample.cpu_us_per_request));
    table.rows.push(all("memory of the group, MB", |sample| Some(sample.rss_bytes as f64 / 1e6)));
    table.markdown()
}

fn p99(cell: &Cell) -> String {
    range_or_nothing(cell.spread(|sample| Some(sample.latency_us_p99 / 1e3)))
}

fn p999(cell: &Cell) -> String {
    range_or_nothing(cell.spread(|sample| Some(sample.latency_us_p999 / 1e3)))
}

fn tail(run: &Run, (name, class): (&str, &str)) -> Option<String> {
    let cell = run.cell(&under_the_cap(class), TAPELOOP)?;
    Some(format!("{TAPELOOP}'s {name}: p99 {}, p99.9 {} ms.\n", p99(cell), p999(cell)))
}

/// What nobody's latency can be below.
fn wake_up(run: &Run) -> Option<String> {
    let cell = run.of_row(WAKE_UP).next()?;
    let p50 = range_or_nothing(cell.spread(|sample| Some(sample.latency_us_p50 / 1e3)));
    Some(format!(
        "The machine itself, {}: a thread that sleeps a millisecond wakes up late by\n\
         p50 {p50}, p99 {}, p99.9 {} ms.\n",
        cell.peer,
        p99(cell),
        p999(cell),
    ))
}

/// With and without ingest.
fn failed(run: &Run, peers: &[&str]) -> String {
    let of = |peer: &&str| {
        let cells = run.cells().iter();
        let cells = cells.filter(|cell| cell.row.starts_with("mix ") && cell.peer == *peer);
        let count: u64 = cells.map(|cell| cell.sum(|sample| sample.error_count)).sum();
        format!("{peer} {count}")
    };
    format!("Failed requests: {}.\n", peers.iter().map(of).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::samples::{run, sample};
    use serde_json::json;

    #[test]
    fn classes_are_lines_and_peers_are_columns_and_what_failed_is_told() {
        let ms = |ms: f64| sample(1.0, 102.0, ms * 1e3);
        let mut failed = ms(0.6);
        failed["error_count"] = json!(2);
        let run = run(&[
            ("mix under the cap: playlist_get", "nginx sendfile", &[ms(82.4)]),
            (ALL, "nginx sendfile", &[ms(82.4)]),
            ("mix under the cap: playlist_get", TAPELOOP, &[ms(0.5), failed]),
            ("mix without ingest: playlist_get", TAPELOOP, &[ms(0.4)]),
            (WAKE_UP, "no server, no load", &[ms(0.1)]),
        ]);
        let blocks = blocks(&run);
        let lines: Vec<&str> = blocks[0].lines().collect();
        let head =
            "| p50 / p99 / p99.9 in ms | nginx sendfile | tapeloop | tapeloop without ingest |";
        assert_eq!(lines[0], head);
        let playlist = "82.4 / 82.4 / 82.4 | 0.55 / 0.55 / 0.55 | 0.40 / 0.40 / 0.40 |";
        assert_eq!(lines[2], format!("| playlist GET | {playlist}"));
        assert_eq!(lines[3], "| live edge GET | - | - | - |");
        assert_eq!(lines[7], "| CPU us/request, all classes | 102 | - | - |");
        let words = "\
tapeloop's playlist: p99 0.55 [0.50-0.60], p99.9 0.55 [0.50-0.60] ms.
The machine itself, no server, no load: a thread that sleeps a millisecond wakes up late by
p50 0.10, p99 0.10, p99.9 0.10 ms.
Failed requests: nginx sendfile 0, tapeloop 2.
";
        assert_eq!(blocks[1], words);
    }
}
