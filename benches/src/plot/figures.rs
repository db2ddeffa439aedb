//! Which plots a run has: bars for every row that stands alone, a curve for rows that differ in one
//! quantity, two curves over object count for restarts.

use super::Plot;
use super::axis::Axis;
use super::bars::{self, Panel};
use super::canvas::colour;
use super::curve::{self, Line};
use super::rows::{self, Kind, Point};
use crate::figures::Spread;
use crate::results::{Restart, RestartRound, Run, Sample};

/// Name, dashes, figure.
type Quantile = (&'static str, &'static str, fn(&Sample) -> f64);

const QUANTILES: [Quantile; 3] = [
    ("p50", "", |sample| sample.latency_us_p50),
    ("p99", "7 3", |sample| sample.latency_us_p99),
    ("p99.9", "2 3", |sample| sample.latency_us_p999),
];

/// The plots of a comparison.
pub(super) fn of_rows(run: &Run) -> Vec<Plot> {
    let peers = run.peers();
    let mut plots = Vec::new();
    let mut curves: Vec<(Point, Vec<(f64, &str)>)> = Vec::new();
    for row in run.rows() {
        let Some(point) = rows::point(row) else {
            plots.push(Plot { name: rows::slug(row), svg: bars_of(run, row, &peers) });
            continue;
        };
        let known = curves
            .iter_mut()
            .find(|(first, _)| first.kind == point.kind && first.title == point.title);
        match known {
            Some((_, points)) => points.push((point.x, row)),
            None => curves.push((point.clone(), vec![(point.x, row)])),
        }
    }
    for (first, points) in curves {
        let lines = lines_of(run, first.kind, &points, &peers);
        let xs: Vec<f64> = points.iter().map(|(x, _)| *x).collect();
        if let Some(svg) = curve_of(&first, &run.foot(), &xs, &lines) {
            plots.push(Plot { name: rows::slug(&first.title), svg });
        }
    }
    plots
}

fn bars_of(run: &Run, row: &str, peers: &[String]) -> String {
    let names = run.of_row(row).map(|cell| (cell.peer.clone(), colour(peers, &cell.peer)));
    let panel = |label, of: fn(&Sample) -> Option<f64>| Panel {
        label,
        spreads: run.of_row(row).map(|cell| cell.spread(of)).collect(),
    };
    let latency = panel("latency p99, ms", |sample| Some(sample.latency_us_p99 / 1e3));
    let cpu = panel("server CPU, us/request", |sample| sample.cpu_us_per_request);
    let mut panels = vec![latency];
    // Classes of one mix share a server: none of them has a CPU figure of its own.
    if cpu.spreads.iter().any(Option::is_some) {
        panels.push(cpu);
    }
    bars::draw(row, &run.foot(), &names.collect::<Vec<_>>(), &panels)
}

/// A line for each peer and figure that has any points.
fn lines_of(run: &Run, kind: Kind, points: &[(f64, &str)], peers: &[String]) -> Vec<Line> {
    let mut lines = Vec::new();
    for peer in peers {
        let line = |name: String, of: &dyn Fn(&Sample) -> Option<f64>| {
            let spread = |row| run.cell(row, peer)?.spread(of);
            let points = points.iter().filter_map(|(x, row)| Some((*x, spread(row)?)));
            Line::new(name, colour(peers, peer), points.collect())
        };
        match kind {
            Kind::LoadPercent => lines.extend(QUANTILES.map(|(quantile, dashes, of)| {
                let ms = |sample: &Sample| Some(of(sample) / 1e3);
                line(format!("{peer} {quantile}"), &ms).dashed(dashes)
            })),
            Kind::SizeBytes => {
                lines.push(line(peer.clone(), &|sample| Some(sample.bytes_per_s / 1e6)));
            }
            Kind::FillPercent => {
                for (of, dashes) in [("drive", ""), ("server", "7 3")] {
                    let extra = format!("{of} bytes per byte");
                    let name = format!("{peer}, by the {of}");
                    let line = line(name, &|sample| sample.extra(&extra));
                    lines.push(line.dashed(dashes));
                }
            }
        }
    }
    lines.retain(|line| !line.points.is_empty());
    lines
}

/// `None` without anything to show.
fn curve_of(point: &Point, foot: &str, xs: &[f64], lines: &[Line]) -> Option<String> {
    let (min, max) = curve::ends(lines)?;
    let (x, y) = match point.kind {
        Kind::LoadPercent => (
            Axis::linear("load, % of saturation", 100.0),
            Axis::log("latency from the scheduled time, ms", min, max),
        ),
        Kind::SizeBytes => (Axis::sizes("object size", xs), Axis::log("MB/s", min, max)),
        Kind::FillPercent => (
            Axis::linear("fill of the volume, %", 100.0),
            Axis::linear("bytes written per byte ingested", max),
        ),
    };
    Some(curve::draw(&point.title, foot, (&x, &y), lines))
}

/// Time and memory against object count.
pub(super) fn of_restarts(mut sizes: Vec<Restart>) -> Vec<Plot> {
    sizes.sort_by_key(|size| size.objects);
    let Some(last) = sizes.last() else { return Vec::new() };
    let foot = format!("median and range; {}; {}", last.machine, last.date);
    let line = |name: &str, at: usize, of: &dyn Fn(&Restart) -> Option<Spread>| {
        let points = sizes.iter().filter_map(|size| Some((size.objects as f64, of(size)?)));
        // Colours as if they were peers.
        let names = ["tapeloop", "a", "b"].map(str::to_owned);
        Line::new(name.to_owned(), colour(&names, &names[at]), points.collect())
    };
    let rounds =
        |size: &Restart, of: fn(&RestartRound) -> f64| Spread::of(size.rounds.iter().map(of));
    let time = [
        line("kill -9 to first good GET", 0, &|size| {
            rounds(size, |round| round.kill_to_first_get_ms)
        }),
        line("engine open alone", 1, &|size| Spread::of([size.engine_open_ms])),
    ];
    let memory = [
        line("RSS after the first GET", 0, &|size| rounds(size, |round| round.rss_bytes / 1e6)),
        line("RSS peak", 1, &|size| rounds(size, |round| round.rss_bytes_max / 1e6)).dashed("7 3"),
        line("index alone", 2, &|size| Spread::of([size.index_bytes / 1e6])),
    ];
    let plot = |name: &str, title: &str, unit: &str, lines: &[Line]| {
        let (min, max) = curve::ends(lines)?;
        let (first, last) = (sizes.first()?.objects, sizes.last()?.objects);
        let x = Axis::log("objects stored, 1 KiB each", first as f64, last as f64);
        let y = Axis::log(unit, min, max);
        let svg = curve::draw(title, &foot, (&x, &y), lines);
        Some(Plot { name: name.to_owned(), svg })
    };
    let plots = [
        plot("restart-time", "restart after kill -9", "ms", &time),
        plot("restart-memory", "memory after a restart", "MB", &memory),
    ];
    plots.into_iter().flatten().collect()
}
