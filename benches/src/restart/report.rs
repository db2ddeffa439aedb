//! What a restart run prints and keeps.

use crate::error::{Context, Result};
use crate::figures::Spread;
use serde::Serialize;
use std::path::Path;

/// One kill and restart.
#[derive(Debug, Serialize)]
pub(super) struct Round {
    /// SIGKILL to the process being gone: the kernel frees its memory and ends its I/O.
    pub(super) kill_to_dead_ms: f64,
    /// SIGKILL to the first GET whose bytes were right.
    pub(super) kill_to_first_get_ms: f64,
    pub(super) rss_bytes: u64,
    pub(super) rss_bytes_max: u64,
    /// CPU of the server up to its first answer.
    pub(super) cpu_s: f64,
    /// Objects read back and found right.
    pub(super) checked: u64,
}

impl Round {
    pub(super) fn text(&self) -> String {
        format!(
            "kill -9: process gone after {:.0} ms, first good GET after {:.0} ms; RSS {:.0} MB \
             (peak {:.0} MB); server CPU {:.2} s; {} objects read back right",
            self.kill_to_dead_ms,
            self.kill_to_first_get_ms,
            self.rss_bytes as f64 / 1e6,
            self.rss_bytes_max as f64 / 1e6,
            self.cpu_s,
            self.checked,
        )
    }
}

/// The figures of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) command: String,
    pub(super) machine: String,
    pub(super) date: String,
    /// Load of the machine before the run: other work makes figures worse.
    pub(super) load_average: f64,
    pub(super) objects: u64,
    pub(super) volume_bytes: u64,
    pub(super) fill_objects_per_s: f64,
    pub(super) engine_open_ms: f64,
    pub(super) engine_report: String,
    pub(super) index_bytes: f64,
    pub(super) index_entries: f64,
    pub(super) server_log: Vec<String>,
    pub(super) rounds: Vec<Round>,
}

impl Report {
    pub(super) fn print(&self) {
        let spread = |of: fn(&Round) -> f64| self.text(of);
        println!("\n{}; {}; load before {:.1}", self.machine, self.date, self.load_average);
        println!("{} rounds, median [min-max]", self.rounds.len());
        println!("  fill, durable                    {:.0} objects/s", self.fill_objects_per_s);
        println!("  kill -9 to first good GET, ms    {}", spread(|r| r.kill_to_first_get_ms));
        println!("  of which process teardown, ms    {}", spread(|r| r.kill_to_dead_ms));
        println!("  engine open alone, ms            {:.0}", self.engine_open_ms);
        println!(
            "  index bytes per object           {:.2} ({:.0} bytes, {:.0} entries)",
            self.index_bytes / self.index_entries,
            self.index_bytes,
            self.index_entries,
        );
        println!("  server RSS after first GET, MB   {}", spread(|r| r.rss_bytes as f64 / 1e6));
        println!("  server RSS peak, MB              {}", spread(|r| r.rss_bytes_max as f64 / 1e6));
        println!("  recovery report                  {}", self.engine_report);
    }

    /// Median and range of a figure over the rounds.
    fn text(&self, of: impl Fn(&Round) -> f64) -> String {
        Spread::of(self.rounds.iter().map(of)).map_or(String::new(), |spread| spread.text())
    }
}

/// One report for each count of objects.
#[derive(Debug, Default, Serialize)]
pub(super) struct Series {
    pub(super) sizes: Vec<Report>,
}

impl Series {
    /// A row for each count.
    pub(super) fn print(&self) {
        println!(
            "\n{:>11}{:>24}{:>24}{:>22}{:>22}{:>16}",
            "objects",
            "first good GET, ms",
            "engine open alone, ms",
            "RSS then, MB",
            "RSS peak, MB",
            "index B/object",
        );
        for size in &self.sizes {
            println!(
                "{:>11}{:>24}{:>24.0}{:>22}{:>22}{:>16.2}",
                size.objects,
                size.text(|round| round.kill_to_first_get_ms),
                size.engine_open_ms,
                size.text(|round| round.rss_bytes as f64 / 1e6),
                size.text(|round| round.rss_bytes_max as f64 / 1e6),
                size.index_bytes / size.index_entries,
            );
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("writing JSON")?;
        std::fs::write(path, text).context(format!("writing {}", path.display()))?;
        println!("JSON: {}", path.display());
        Ok(())
    }
}
