//! Stored results, as far as they are plotted. Fields that are not known are passed over, so that
//! older and newer files can be drawn as well.

use crate::error::{BenchError, Context, Result};
use crate::figures::Spread;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What a file holds.
pub(super) enum Results {
    Rows(Run),
    Restart(Vec<Restart>),
}

/// A comparison.
#[derive(Deserialize)]
pub(super) struct Run {
    pub(super) machine: String,
    pub(super) date: String,
    pub(super) rounds: u32,
    cells: Cells,
}

#[derive(Deserialize)]
struct Cells {
    cells: Vec<Cell>,
}

/// The samples of one peer in one row.
#[derive(Deserialize)]
pub(super) struct Cell {
    pub(super) row: String,
    pub(super) peer: String,
    pub(super) samples: Vec<Sample>,
}

/// One round of a row.
#[derive(Deserialize)]
pub(super) struct Sample {
    pub(super) bytes_per_s: f64,
    pub(super) cpu_us_per_request: Option<f64>,
    pub(super) latency_us_p50: f64,
    pub(super) latency_us_p99: f64,
    pub(super) latency_us_p999: f64,
    #[serde(default)]
    pub(super) extra: BTreeMap<String, f64>,
}

/// Kills and restarts at one count of objects.
#[derive(Clone, Deserialize)]
pub(super) struct Restart {
    pub(super) machine: String,
    pub(super) date: String,
    pub(super) objects: u64,
    pub(super) engine_open_ms: f64,
    pub(super) index_bytes: f64,
    pub(super) rounds: Vec<RestartRound>,
}

/// One kill and restart.
#[derive(Clone, Deserialize)]
pub(super) struct RestartRound {
    pub(super) kill_to_first_get_ms: f64,
    pub(super) rss_bytes: f64,
    pub(super) rss_bytes_max: f64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Rows(Run),
    Series { sizes: Vec<Restart> },
    Restart(Restart),
}

pub(super) fn read(path: &Path) -> Result<Results> {
    let text = std::fs::read_to_string(path).context(format!("reading {}", path.display()))?;
    parse(&text).map_err(|error| BenchError::Answer {
        what: path.display().to_string(),
        cause: format!("holds no results of compare or restart: {error}"),
    })
}

pub(super) fn parse(text: &str) -> serde_json::Result<Results> {
    Ok(match serde_json::from_str(text)? {
        Stored::Rows(run) => Results::Rows(run),
        Stored::Series { sizes } => Results::Restart(sizes),
        Stored::Restart(one) => Results::Restart(vec![one]),
    })
}

impl Run {
    /// In the order they first came.
    pub(super) fn rows(&self) -> Vec<&str> {
        let mut rows = Vec::new();
        for cell in &self.cells.cells {
            if !rows.contains(&cell.row.as_str()) {
                rows.push(cell.row.as_str());
            }
        }
        rows
    }

    /// In the order they first came.
    pub(super) fn peers(&self) -> Vec<String> {
        let mut peers = Vec::new();
        for cell in &self.cells.cells {
            if !peers.contains(&cell.peer) {
                peers.push(cell.peer.clone());
            }
        }
        peers
    }

    pub(super) fn of_row<'a>(&'a self, row: &'a str) -> impl Iterator<Item = &'a Cell> {
        self.cells.cells.iter().filter(move |cell| cell.row == row)
    }

    pub(super) fn foot(&self) -> String {
        let rounds = match self.rounds {
            1 => "1 round".to_owned(),
            count => format!("median and range of {count} rounds"),
        };
        format!("{rounds}; {}; {}", self.machine, self.date)
    }
}

impl Cell {
    pub(super) fn spread(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(of).filter(|value| value.is_finite()))
    }
}
