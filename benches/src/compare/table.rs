//! The table of a comparison, and the same as JSON.

use super::quiet::Stolen;
use super::sample::{Cell, Cells, Sample};
use super::{caches, echo, fio};
use crate::error::{BenchError, Context, Result};
use crate::figures::short;
use serde::Serialize;
use std::path::Path;

/// A finished comparison.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) command: String,
    pub(super) machine: String,
    pub(super) date: String,
    pub(super) nginx: String,
    pub(super) fio: Option<String>,
    pub(super) caches: Vec<String>,
    /// Load of the machine before the run: other work makes figures worse.
    pub(super) load_average: f64,
    pub(super) took_s: u64,
    pub(super) rounds: u32,
    pub(super) threads: u32,
    pub(super) mix: Option<String>,
    pub(super) stolen: Vec<Stolen>,
    pub(super) cells: Cells,
}

type Figure = (&'static str, Box<dyn Fn(&Sample) -> Option<f64>>);

/// The columns of a row: what all have, and what it has of its own.
fn figures(extras: Vec<&'static str>) -> Vec<Figure> {
    let mut figures: Vec<Figure> = vec![
        ("requests/s", Box::new(|sample| Some(sample.requests_per_s))),
        ("MB/s", Box::new(|sample| Some(sample.bytes_per_s / 1e6))),
        ("server CPU us/req", Box::new(|sample| sample.cpu_us_per_request)),
        ("switches/req", Box::new(|sample| sample.switches_per_request)),
        ("p50 ms", Box::new(|sample| Some(sample.latency_us_p50 / 1e3))),
        ("p99 ms", Box::new(|sample| Some(sample.latency_us_p99 / 1e3))),
        ("p99.9 ms", Box::new(|sample| Some(sample.latency_us_p999 / 1e3))),
        (
            "RSS MB",
            Box::new(|sample| (sample.rss_bytes > 0).then(|| sample.rss_bytes as f64 / 1e6)),
        ),
    ];
    for name in extras {
        figures.push((name, Box::new(|sample| sample.extra(name))));
    }
    figures
}

/// Wide enough for three figures, or for the name.
fn width(name: &str) -> usize {
    name.len().max(19) + 2
}

impl Report {
    pub(super) fn print(&self) {
        let fio = self.fio.as_ref().map_or(String::new(), |fio| format!("; {fio}"));
        let caches: String = self.caches.iter().map(|cache| format!("; {cache}")).collect();
        println!("\n{}; {}{fio}{caches}; {}", self.machine, self.nginx, self.date);
        println!(
            "{} rounds, A B A B; median [min-max] of all windows; {} server thread(s), 1 generator \
             thread; load before {:.1}; {} s",
            self.rounds, self.threads, self.load_average, self.took_s,
        );
        if let Some(mix) = &self.mix {
            println!("mix: {mix}");
        }
        for row in self.cells.rows() {
            self.print_row(row);
        }
        self.print_memory();
        self.print_stolen();
        println!();
    }

    fn print_memory(&self) {
        if self.cells.memory.is_empty() {
            return;
        }
        println!("\nmost resident memory of tapeloop, and what it printed at start, MB");
        for memory in &self.cells.memory {
            println!(
                "  {:<68}{:>8.0} of {:>6.0}",
                memory.workload,
                memory.rss_bytes_max as f64 / 1e6,
                memory.printed_bytes as f64 / 1e6,
            );
        }
    }

    fn print_stolen(&self) {
        if self.stolen.is_empty() {
            return;
        }
        println!(
            "\nmeasured while the host had processors stolen, so more than once where possible"
        );
        for stolen in &self.stolen {
            println!("  {}", stolen.text());
        }
    }

    /// Failed when a request failed anywhere, or tapeloop held more memory than it had said.
    pub(super) fn verdict(&self) -> Result<()> {
        let left_out = self.stolen.iter().map(Stolen::left_out_error_count).sum::<u64>();
        let error_count = self.cells.error_count() + left_out;
        if error_count > 0 {
            return Err(BenchError::Answer {
                what: "requests".into(),
                cause: format!("{error_count} failed or had wrong bytes: see the table"),
            });
        }
        match self.cells.memory.iter().find(|memory| memory.share() > 1.0) {
            None => Ok(()),
            Some(memory) => Err(BenchError::Answer {
                what: format!("memory in {}", memory.workload),
                cause: format!(
                    "{} bytes were resident, {} were printed at start",
                    memory.rss_bytes_max, memory.printed_bytes,
                ),
            }),
        }
    }

    fn print_row(&self, row: &str) {
        let figures = figures(self.cells.extras_of_row(row));
        println!("\n{row}");
        print!("  {:<34}", "");
        for (name, _) in &figures {
            print!("{name:>width$}", width = width(name));
        }
        println!("{:>10}{:>13}{:>8}{:>8}", "requests", "verified MB", "errors", "unsent");
        for cell in self.cells.of_row(row) {
            print!("  {:<34}", cell.peer);
            for (name, of) in &figures {
                let text = cell.spread(of).map_or("-".to_owned(), |spread| spread.text());
                print!("{text:>width$}", width = width(name));
            }
            let sum = |of: fn(&Sample) -> u64| cell.samples.iter().map(of).sum::<u64>();
            println!(
                "{:>10}{:>13.0}{:>8}{:>8}",
                sum(|sample| sample.request_count),
                sum(|sample| sample.bytes_verified) as f64 / 1e6,
                sum(|sample| sample.error_count),
                sum(|sample| sample.unsent_count),
            );
        }
        let notes = [(echo::NAME, echo::NOTE), (fio::NAME, fio::NOTE)];
        for (name, note) in notes.into_iter().chain(caches::NOTES) {
            if self.cells.of_row(row).any(|cell| cell.peer == name) {
                println!("  {name}: {note}");
            }
        }
        let Some(ours) = self.cells.of_row(row).find(|cell| cell.peer == "tapeloop") else {
            return;
        };
        for peer in self.cells.of_row(row).filter(|cell| cell.peer != "tapeloop") {
            print!("  {:<34}", format!("tapeloop / {}", peer.peer));
            for (name, of) in &figures {
                print!("{:>width$}", ratio(ours, peer, of), width = width(name));
            }
            println!();
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("writing JSON")?;
        std::fs::write(path, text).context(format!("writing {}", path.display()))?;
        println!("JSON: {}", path.display());
        Ok(())
    }
}

fn ratio(ours: &Cell, peer: &Cell, of: &dyn Fn(&Sample) -> Option<f64>) -> String {
    match (ours.spread(of), peer.spread(of)) {
        (Some(ours), Some(peer)) if peer.median > 0.0 => {
            format!("{}x", short(ours.median / peer.median))
        }
        _ => "-".to_owned(),
    }
}
