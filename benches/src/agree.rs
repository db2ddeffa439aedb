//! Two stored comparisons beside each other.
//!
//! A figure agrees when the ranges that the runs state for it overlap. Where they do not, what lies
//! between them is told as a share of the smaller end: a range over few rounds is short, and a gap
//! of a few percent says less than one of half.
//!
//! A machine that others share is a different one an hour later, for every server alike. So ours is
//! also compared as a multiple of each peer's, window by window: the two took turns.

use crate::budgets;
use crate::error::{Context, Result};
use crate::figures::Spread;
use crate::results::{Cell, Run, Sample, TAPELOOP, read_run};
use crate::text::Table;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct AgreeArgs {
    /// JSON that `compare` wrote.
    one: PathBuf,
    /// And of another run.
    other: PathBuf,
}

type Figure = (&'static str, fn(&Sample) -> Option<f64>);

const FIGURES: [Figure; 4] = [
    ("requests/s", |sample| sample.requests_per_s),
    ("server CPU per request", |sample| sample.cpu_us_per_request),
    ("p50", |sample| Some(sample.latency_us_p50)),
    ("p99", |sample| Some(sample.latency_us_p99)),
];
/// Gaps up to here are counted apart from larger ones.
const SMALL_GAPS: [f64; 2] = [0.1, 0.25];

/// One figure of one server in one row, in both runs.
struct Compared {
    name: String,
    one: Spread,
    other: Spread,
}

/// Runs `agree`.
pub(crate) fn run(args: &AgreeArgs) -> Result<()> {
    let text = text(&read_run(&args.one)?, &read_run(&args.other)?);
    std::io::stdout().write_all(text.as_bytes()).context("printing")
}

fn text(one: &Run, other: &Run) -> String {
    let all = compare(one, other);
    let mut gaps: Vec<(f64, String)> = Vec::new();
    for (figure, cells) in &all {
        gaps.extend(cells.iter().map(|both| {
            let (one, other) = (both.one.text(), both.other.text());
            (both.gap(), format!("{figure}: {}: {one} and {other}", both.name))
        }));
    }
    gaps.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let mut text = format!("{} and {}\n{}", one.date, other.date, table(&all).aligned());
    let budgets = budgets::beside(one, other);
    if !budgets.rows.is_empty() {
        text += &format!("\nbudgets\n{}", budgets.aligned());
    }
    text += "\nlargest gaps (latencies in us)\n";
    for (at, (gap, name)) in gaps.iter().enumerate() {
        // The largest is told whatever it is.
        if at == 0 || *gap > SMALL_GAPS[SMALL_GAPS.len() - 1] {
            text += &format!("  {:>4.0} %  {name}\n", gap * 100.0);
        }
    }
    text
}

/// For every figure, how many cells of two runs agree, and how far apart the others are.
pub(crate) fn counts(one: &Run, other: &Run) -> Table {
    table(&compare(one, other))
}

fn table(all: &[(String, Vec<Compared>)]) -> Table {
    let limits = SMALL_GAPS.map(|limit| format!("gap <= {:.0} %", limit * 100.0));
    let mut table = Table::new(&["figure", "cells", "overlap", &limits[0], &limits[1], "larger"]);
    for (figure, cells) in all {
        let mut gaps: Vec<f64> = cells.iter().map(Compared::gap).collect();
        gaps.sort_by(f64::total_cmp);
        let within = |limit: f64| gaps.partition_point(|gap| *gap <= limit);
        let [overlap, small, medium] = [0.0, SMALL_GAPS[0], SMALL_GAPS[1]].map(within);
        let all = gaps.len();
        let counts = [all, overlap, small - overlap, medium - small, all - medium];
        let cells = counts.iter().map(usize::to_string);
        table.rows.push(std::iter::once(figure.clone()).chain(cells).collect());
    }
    table
}

/// What both runs have, figure by figure: each server's own, then ours as a multiple of theirs.
fn compare(one: &Run, other: &Run) -> Vec<(String, Vec<Compared>)> {
    let own = FIGURES
        .map(|(figure, of)| (figure.to_owned(), in_both(one, other, |_, cell| cell.spread(of))));
    let multiple = FIGURES.map(|(figure, of)| {
        let name = format!("{figure}, as a multiple");
        (name, in_both(one, other, |run, cell| multiple_of(run, cell, of)))
    });
    own.into_iter().chain(multiple).collect()
}

fn in_both(
    one: &Run,
    other: &Run,
    spread: impl Fn(&Run, &Cell) -> Option<Spread>,
) -> Vec<Compared> {
    let in_both = |cell: &Cell| {
        let same = other.cell(&cell.row, &cell.peer)?;
        let name = format!("{}: {}", cell.row, cell.peer);
        Some(Compared { name, one: spread(one, cell)?, other: spread(other, same)? })
    };
    one.cells().iter().filter_map(in_both).collect()
}

/// Our figure as a multiple of a peer's, window by window; `None` where they did not take turns.
fn multiple_of(run: &Run, peer: &Cell, of: fn(&Sample) -> Option<f64>) -> Option<Spread> {
    let ours = run.cell(&peer.row, TAPELOOP)?;
    if peer.peer == TAPELOOP || ours.samples.len() != peer.samples.len() {
        return None;
    }
    let windows = ours.samples.iter().zip(&peer.samples);
    let multiples = windows.filter_map(|(ours, theirs)| Some(of(ours)? / of(theirs)?));
    Spread::of(multiples.filter(|multiple| multiple.is_finite()))
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
    use crate::results::samples::{run, sample};

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

    #[test]
    fn cells_of_both_runs_are_counted_and_the_largest_gap_is_named() {
        let at = |rate| sample(rate, 1.0, 1.0);
        let one = run(&[("hot", "nginx", &[at(100.0)]), ("only here", "nginx", &[at(1.0)])]);
        let other = run(&[("hot", "nginx", &[at(120.0)])]);
        let rows = counts(&one, &other).rows;
        assert_eq!(rows[0], ["requests/s", "1", "0", "0", "1", "0"]);
        assert_eq!(rows[3], ["p99", "1", "1", "0", "0", "0"]);
        assert_eq!(rows[4][1], "0", "nothing of ours");
        let text = text(&one, &other);
        assert!(
            text.ends_with("  20 %  requests/s: hot: nginx: 100 [100-100] and 120 [120-120]\n"),
            "{text}"
        );
    }

    #[test]
    fn a_machine_that_became_slower_for_all_leaves_the_multiples_as_they_were() {
        let at = |rate| sample(rate, 1.0, 1.0);
        let run_at = |rate: f64| {
            let ours = [at(2.0 * rate), at(6.0 * rate)];
            run(&[("hot", "tapeloop", &ours), ("hot", "nginx", &[at(rate), at(3.0 * rate)])])
        };
        let (one, other) = (run_at(100.0), run_at(10.0));
        let rows = counts(&one, &other).rows;
        assert_eq!(rows[0], ["requests/s", "2", "0", "0", "0", "2"]);
        assert_eq!(rows[4], ["requests/s, as a multiple", "1", "1", "0", "0", "0"]);
        let multiple = multiple_of(&one, one.cell("hot", "nginx").expect("there"), FIGURES[0].1);
        assert_eq!(multiple.expect("two windows").text(), "2.00 [2.00-2.00]");
    }

    #[test]
    fn windows_that_were_not_taken_in_turn_are_no_multiple() {
        let at = |rate| sample(rate, 1.0, 1.0);
        let ours = [at(2.0), at(6.0)];
        let one = run(&[("storm", "tapeloop", &ours), ("storm", "nginx", &[at(1.0)])]);
        let nginx = one.cell("storm", "nginx").expect("there");
        assert!(multiple_of(&one, nginx, FIGURES[0].1).is_none());
    }
}
