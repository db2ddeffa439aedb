//! What a server does by object size, by load, beside a crowd or a storm, and to the drive.

use super::quantiles;
use crate::results::{Cell, NGINX, Run, TAPELOOP};
use crate::text::{Table, median_or_nothing, number, range_or_nothing};

/// Sizes with a curve over all loads. Others have their budget's load only.
const LOAD_CURVES: [&str; 2] = ["2 KiB", "512 KiB"];
const PUNTS: &str = "cold GET punts: *";

/// In the order of the document; nothing for what was not measured.
pub(super) fn blocks(run: &Run) -> Vec<String> {
    let mut tables = vec![sizes(run)];
    tables.extend(LOAD_CURVES.map(|size| load_curve(run, size)));
    tables.extend([crowds(run), drive_bytes(run)]);
    let tables = tables.into_iter().filter(|table| !table.rows.is_empty());
    tables.map(|table| table.markdown()).chain(punts(run)).collect()
}

fn sizes(run: &Run) -> Table {
    let mut table = Table::new(&[
        "hot GET over 8 connections",
        &format!("{NGINX}: requests/s"),
        "CPU us",
        &format!("{TAPELOOP}: requests/s"),
        "CPU us",
        "CPU ratio",
    ]);
    for (row, size) in run.rows_like("hot GET by size, 8 connections: *") {
        let mut line = vec![size.to_owned()];
        let cells = [NGINX, TAPELOOP].map(|peer| run.cell(row, peer));
        let cpus = cells.map(|cell| cell?.spread(|sample| sample.cpu_us_per_request));
        for (cell, cpu) in cells.iter().zip(cpus) {
            let rate = cell.and_then(|cell| cell.spread(|sample| sample.requests_per_s));
            line.extend([median_or_nothing(rate), range_or_nothing(cpu)]);
        }
        line.push(match cpus {
            [Some(theirs), Some(ours)] => format!("{}x", number(ours.median / theirs.median)),
            _ => median_or_nothing(None),
        });
        table.rows.push(line);
    }
    table
}

fn load_curve(run: &Run, size: &str) -> Table {
    let curve = format!("hot GET {size}, latency against load");
    let saturation = [NGINX, TAPELOOP].map(|peer| {
        let cell = run.cell(&format!("{curve}: saturation, closed loop"), peer);
        let rate =
            cell.and_then(|cell| cell.spread(|sample| sample.extra("open loop, requests/s")));
        median_or_nothing(rate)
    });
    let load = format!(
        "{size}, open loop, % of own saturation ({} requests/s)",
        saturation.join(" and "),
    );
    let mut table =
        Table::new(&[&load, "nginx p50 / p99 / p99.9 ms", "tapeloop p50 / p99 / p99.9 ms"]);
    for (row, percent) in run.rows_like(&format!("{curve}: * %")) {
        let [nginx, ours] = [NGINX, TAPELOOP].map(|peer| quantiles(run.cell(row, peer)));
        table.rows.push(vec![percent.to_owned(), nginx, ours]);
    }
    table
}

/// All rows that tell a before from a during.
fn crowds(run: &Run) -> Table {
    let head = "hot GET beside a crowd: p50 / p99 / p99.9 in ms";
    let mut table = Table::new(&[head, "before", "during", "p99 during to before"]);
    for cell in run.cells() {
        let extra = |name: &str| cell.spread(|sample| sample.extra(name));
        let ratio = extra("p99 during/before");
        if ratio.is_none() {
            continue;
        }
        let before = ["p50", "p99", "p99.9"]
            .map(|quantile| median_or_nothing(extra(&format!("{quantile} before, ms"))));
        table.rows.push(vec![
            format!("{}: {}", cell.row, cell.peer),
            before.join(" / "),
            quantiles(Some(cell)),
            range_or_nothing(ratio),
        ]);
    }
    table
}

fn drive_bytes(run: &Run) -> Table {
    let mut table = Table::new(&["drive bytes per byte ingested", ""]);
    for (row, fill) in run.rows_like("write amplification, *") {
        let cell = run.cell(row, TAPELOOP);
        let bytes =
            cell.and_then(|cell| cell.spread(|sample| sample.extra("drive bytes per byte")));
        table.rows.push(vec![fill.to_owned(), range_or_nothing(bytes)]);
    }
    table
}

/// Sums over all windows.
fn punts(run: &Run) -> Option<String> {
    let rows = run.rows_like(PUNTS);
    let cell: &Cell = rows.first().and_then(|(row, _)| run.cell(row, TAPELOOP))?;
    let reads = cell.sum(|sample| sample.request_count) as f64;
    let punts = cell.samples.iter().filter_map(|sample| sample.extra("io-wq punts of reads"));
    let punts = punts.sum::<f64>();
    Some(format!("Reads handed to a kernel worker in {} cold GETs: {punts:.0}.\n", number(reads),))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::samples::{run, sample, with_extra};
    use serde_json::json;

    #[test]
    fn a_size_and_a_load_are_lines_with_both_servers() {
        let curve = |load: &str| format!("hot GET 2 KiB, latency against load: {load}");
        let saturation = |rate: f64| [with_extra("open loop, requests/s", rate)];
        let run = run(&[
            ("hot GET by size, 8 connections: 4 MiB", NGINX, &[sample(802.0, 1_220.0, 1.0)]),
            ("hot GET by size, 8 connections: 4 MiB", TAPELOOP, &[sample(1_253.0, 734.0, 1.0)]),
            (&curve("saturation, closed loop"), NGINX, &saturation(79_685.0)),
            (&curve("saturation, closed loop"), TAPELOOP, &saturation(132_310.0)),
            (&curve("70 %"), NGINX, &[sample(1.0, 1.0, 320.0)]),
            (&curve("70 %"), TAPELOOP, &[sample(1.0, 1.0, 220.0)]),
        ]);
        let expected = [
            "\
| hot GET over 8 connections | nginx sendfile: requests/s | CPU us \
| tapeloop: requests/s | CPU us | CPU ratio |
|---|---|---|---|---|---|
| 4 MiB | 802 | 1,220 | 1,253 | 734 | 0.60x |
",
            "\
| 2 KiB, open loop, % of own saturation (79,685 and 132,310 requests/s) \
| nginx p50 / p99 / p99.9 ms | tapeloop p50 / p99 / p99.9 ms |
|---|---|---|
| 70 | 0.32 / 0.32 / 0.32 | 0.22 / 0.22 / 0.22 |
",
        ];
        assert_eq!(blocks(&run), expected);
    }

    #[test]
    fn a_crowd_has_a_before_and_a_during_and_the_drive_its_bytes() {
        let mut beside = sample(1.0, 1.0, 400.0);
        beside["extra"] = json!({
            "p50 before, ms": 0.1, "p99 before, ms": 0.2, "p99.9 before, ms": 0.3,
            "p99 during/before": 2.0,
        });
        let mut cold = with_extra("io-wq punts of reads", 1.0);
        cold["request_count"] = json!(20_957);
        let run = run(&[
            ("1000 slow readers: 2 KiB GET beside it", TAPELOOP, &[beside]),
            (
                "write amplification, 95 % full",
                TAPELOOP,
                &[with_extra("drive bytes per byte", 1.03)],
            ),
            ("cold GET punts: 512 KiB, 8 connections", TAPELOOP, &[cold]),
        ]);
        let expected = [
            "\
| hot GET beside a crowd: p50 / p99 / p99.9 in ms | before | during | p99 during to before |
|---|---|---|---|
| 1000 slow readers: 2 KiB GET beside it: tapeloop | 0.10 / 0.20 / 0.30 \
| 0.40 / 0.40 / 0.40 | 2.00 |
",
            "\
| drive bytes per byte ingested | |
|---|---|
| 95 % full | 1.03 |
",
            "Reads handed to a kernel worker in 20,957 cold GETs: 1.\n",
        ];
        assert_eq!(blocks(&run), expected);
    }
}
