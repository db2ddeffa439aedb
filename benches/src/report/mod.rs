//! The tables of docs/performance.md, from stored comparisons taken as one run.
//!
//! What stands there is printed by this and pasted: no figure is typed by hand. Sections without a
//! row are left out.

mod curves;
mod mix;
mod rows;

use crate::error::{Context, Result};
use crate::results::{Cell, Run, Sample, read_run};
use crate::text::{NOTHING, median_or_nothing};
use crate::{agree, budgets};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// JSON that `compare` wrote. Of two files it is also told how far they agree.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Runs `report`.
pub(crate) fn run(args: &ReportArgs) -> Result<()> {
    let runs: Result<Vec<Run>> = args.files.iter().map(|file| read_run(file)).collect();
    std::io::stdout().write_all(text(runs?).as_bytes()).context("printing")
}

fn text(runs: Vec<Run>) -> String {
    let mut text = runs.iter().map(head).collect::<String>();
    if let [one, other] = runs.as_slice() {
        text += &format!("\n{}", agree::counts(one, other).markdown());
    }
    let together = runs.into_iter().reduce(|mut whole, run| {
        whole.append(run);
        whole
    });
    let run = together.expect("no report without a file");
    let budgets = budgets::table(&run);
    let has_budgets = !budgets.rows.is_empty();
    let sections = [
        ("Budgets", has_budgets.then(|| budgets.markdown()).into_iter().collect()),
        ("Hot GET", rows::plain(&run, "hot GET ")),
        ("Cold GET", rows::plain(&run, "cold GET ")),
        ("Durable PUT", rows::plain(&run, "PUT ")),
        ("Followers", rows::followers(&run)),
        ("The live mix above the memory", mix::blocks(&run)),
        ("Cost curves, crowds, storms", curves::blocks(&run)),
    ];
    for (title, blocks) in sections {
        if !blocks.is_empty() {
            text += &format!("\n## {title}\n\n{}", blocks.join("\n"));
        }
    }
    text
}

/// What a run was, and on what.
fn head(run: &Run) -> String {
    let programs = [Some(&run.nginx), run.fio.as_ref()].into_iter().flatten().chain(&run.caches);
    let place: Vec<&str> = std::iter::once(&run.machine)
        .chain(programs)
        .map(String::as_str)
        .filter(|name| !name.is_empty())
        .collect();
    format!(
        "- {}: `{}`, {} round(s), {} minutes, median [smallest-largest] of all windows; {}\n",
        run.date,
        run.command,
        run.rounds,
        run.took_s.div_ceil(60),
        place.join("; "),
    )
}

/// The medians of `p50 / p99 / p99.9`, in ms.
fn quantiles(cell: Option<&Cell>) -> String {
    let Some(cell) = cell else { return NOTHING.to_owned() };
    let of: [fn(&Sample) -> f64; 3] = [
        |sample| sample.latency_us_p50,
        |sample| sample.latency_us_p99,
        |sample| sample.latency_us_p999,
    ];
    of.map(|of| median_or_nothing(cell.spread(|sample| Some(of(sample) / 1e3)))).join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::samples::{run, sample};

    #[test]
    fn two_runs_are_compared_and_then_reported_as_one() {
        let row = "hot GET 2 KiB, 64 connections";
        let of = |rate| run(&[(row, "tapeloop", &[sample(rate, 6.0, 400.0)])]);
        let text = text(vec![of(100_000.0), of(110_000.0)]);
        assert!(text.contains("\n| requests/s | 1 | 0 | 1 | 0 | 0 |\n"), "{text}");
        let line = "| tapeloop | 105,000 [100,000-110,000] | 6.00 | 0.40 | 0.40 | 0.40 | 16.4 |\n";
        assert!(text.contains("\n## Hot GET\n\n") && text.ends_with(line), "{text}");
        assert!(!text.contains("Budgets") && !text.contains("Cold GET"), "{text}");
    }
}
