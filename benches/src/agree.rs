//! Two stored comparisons beside each other.
//!
//! A figure agrees when the ranges that the runs state for it overlap. Where they do not, what lies
//! between them is told as a share of the smaller end: a range over few rounds is short, and a gap
//! of a few percent says less than one of half.

use crate::error::{BenchError, Context, Result};
use crate::figures::Spread;
use clap::Args;
use serde::Deserialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct AgreeArgs {
    /// JSON that `compare` wrote.
    one: PathBuf,
    /// And of another run.
    other: PathBuf,
}

/// A comparison, as far as it is looked at.
#[derive(Deserialize)]
struct Run {
    date: String,
    cells: Cells,
}

#[derive(Deserialize)]
struct Cells {
    cells: Vec<Cell>,
}

#[derive(Deserialize)]
struct Cell {
    row: String,
    peer: String,
    samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    requests_per_s: f64,
    cpu_us_per_request: Option<f64>,
    latency_us_p50: f64,
    latency_us_p99: f64,
}

type Figure = (&'static str, fn(&Sample) -> Option<f64>);

const FIGURES: [Figure; 4] = [
    ("requests/s", |sample| Some(sample.requests_per_s)),
    ("server CPU/req", |sample| sample.cpu_us_per_request),
    ("p50", |sample| Some(sample.latency_us_p50)),
    ("p99", |sample| Some(sample.latency_us_p99)),
];
/// Gaps up to here are counted apart from larger ones.
const SMALL_GAPS: [f64; 2] = [0.1, 0.25];

/// One figure of one peer in one row, in both runs.
struct Compared {
    name: String,
    one: Spread,
    other: Spread,
}

/// Runs `agree`.
pub(crate) fn run(args: &AgreeArgs) -> Result<()> {
    let (one, other) = (read(&args.one)?, read(&args.other)?);
    let text = text(&one, &other).expect("a string takes everything");
    std::io::stdout().write_all(text.as_bytes()).context("printing")
}

fn text(one: &Run, other: &Run) -> std::result::Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "{} and {}", one.date, other.date)?;
    write!(text, "  {:<16}{:>9}{:>9}", "figure", "cells", "overlap")?;
    for limit in SMALL_GAPS {
        write!(text, "{:>16}", format!("gap <= {:.0} %", limit * 100.0))?;
    }
    writeln!(text, "{:>9}{:>14}", "larger", "largest gap")?;
    let mut apart: Vec<(f64, String)> = Vec::new();
    for (figure, of) in FIGURES {
        let compared = compare(one, other, of);
        let mut gaps: Vec<f64> = compared.iter().map(Compared::gap).collect();
        gaps.sort_by(f64::total_cmp);
        let within = |limit: f64| gaps.partition_point(|gap| *gap <= limit);
        write!(text, "  {figure:<16}{:>9}{:>9}", gaps.len(), within(0.0))?;
        let mut below = 0.0;
        for limit in SMALL_GAPS {
            write!(text, "{:>16}", within(limit) - within(below))?;
            below = limit;
        }
        let largest = gaps.last().map_or(0.0, |gap| gap * 100.0);
        writeln!(text, "{:>9}{largest:>12.0} %", gaps.len() - within(below))?;
        apart.extend(compared.iter().filter(|both| both.gap() > below).map(|both| {
            let (one, other) = (both.one.text(), both.other.text());
            (both.gap(), format!("{figure}: {}: {one} and {other}", both.name))
        }));
    }
    apart.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    if !apart.is_empty() {
        writeln!(text, "\nfurther apart (latencies in us)")?;
    }
    for (gap, name) in apart {
        writeln!(text, "  {:>4.0} %  {name}", gap * 100.0)?;
    }
    Ok(text)
}

fn read(path: &Path) -> Result<Run> {
    let text = std::fs::read_to_string(path).context(format!("reading {}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| BenchError::Answer {
        what: path.display().to_string(),
        cause: format!("not a comparison: {error}"),
    })
}

/// What both runs have.
fn compare(one: &Run, other: &Run, of: fn(&Sample) -> Option<f64>) -> Vec<Compared> {
    let spread = |cell: &Cell| Spread::of(cell.samples.iter().filter_map(of));
    let in_both = |cell: &Cell| {
        let mut others = other.cells.cells.iter();
        let same = others.find(|other| other.row == cell.row && other.peer == cell.peer)?;
        let name = format!("{}: {}", cell.row, cell.peer);
        Some(Compared { name, one: spread(cell)?, other: spread(same)? })
    };
    one.cells.cells.iter().filter_map(in_both).collect()
}

impl Compared {
    /// What lies between the ranges, as a share of the smaller end; 0 where they overlap.
    fn gap(&self) -> f64 {
        let (low, high) = match self.one.max < self.other.min {
            true => (self.one.max, self.other.min),
            false => (self.other.max, self.one.min),
        };
        if high <= low { 0.0 } else { (high - low) / low }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(one: [f64; 2], other: [f64; 2]) -> f64 {
        let spread = |values: [f64; 2]| Spread::of(values).expect("values");
        Compared { name: String::new(), one: spread(one), other: spread(other) }.gap()
    }

    #[test]
    fn ranges_that_touch_agree_and_a_gap_is_told_the_same_from_both_sides() {
        assert_eq!(gap([1.0, 2.0], [2.0, 3.0]), 0.0);
        assert_eq!(gap([1.0, 9.0], [2.0, 3.0]), 0.0);
        assert_eq!(gap([1.0, 2.0], [3.0, 4.0]), 0.5);
        assert_eq!(gap([3.0, 4.0], [1.0, 2.0]), 0.5);
    }
}
