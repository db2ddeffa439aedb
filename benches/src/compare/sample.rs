//! One measurement, and all of them by row and peer.

use crate::figures::Spread;
use serde::{Deserialize, Serialize};

/// One row of one peer in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) requests_per_s: f64,
    pub(super) bytes_per_s: f64,
    /// User and system time of the server's processes per request; none where requests of several
    /// kinds share it.
    pub(super) cpu_us_per_request: Option<f64>,
    pub(super) latency_us_p50: f64,
    pub(super) latency_us_p99: f64,
    pub(super) latency_us_p999: f64,
    /// Bytes received and compared with what was stored; for PUTs, read back afterwards.
    pub(super) bytes_verified: u64,
    pub(super) request_count: u64,
    pub(super) error_count: u64,
    /// Requests that were due when the run ended and still waited for their connection; they are in
    /// the latencies.
    pub(super) unsent_count: u64,
    /// Resident memory of the server's processes at the end.
    pub(super) rss_bytes: u64,
}

/// All samples, in the order rows and peers first came.
#[derive(Debug, Default, Serialize)]
pub(super) struct Cells {
    pub(super) cells: Vec<Cell>,
}

/// The samples of one peer in one row.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    pub(super) row: String,
    pub(super) peer: String,
    pub(super) samples: Vec<Sample>,
}

impl Cells {
    pub(super) fn add(&mut self, row: &str, peer: &str, sample: Sample) {
        let known = self.cells.iter_mut().find(|cell| cell.row == row && cell.peer == peer);
        match known {
            Some(cell) => cell.samples.push(sample),
            None => self.cells.push(Cell {
                row: row.to_owned(),
                peer: peer.to_owned(),
                samples: vec![sample],
            }),
        }
    }

    pub(super) fn rows(&self) -> Vec<&str> {
        let mut rows: Vec<&str> = Vec::new();
        for cell in &self.cells {
            if !rows.contains(&cell.row.as_str()) {
                rows.push(&cell.row);
            }
        }
        rows
    }

    pub(super) fn of_row<'a>(&'a self, row: &'a str) -> impl Iterator<Item = &'a Cell> {
        self.cells.iter().filter(move |cell| cell.row == row)
    }

    pub(super) fn error_count(&self) -> u64 {
        self.cells.iter().flat_map(|cell| &cell.samples).map(|sample| sample.error_count).sum()
    }
}

impl Cell {
    pub(super) fn spread(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(of))
    }
}

/// What `tapectl load --json` prints, as far as it is used.
#[derive(Debug, Deserialize)]
pub(super) struct LoadReport {
    pub(super) classes: Vec<LoadClass>,
    #[serde(default)]
    pub(super) examples: Vec<String>,
}

/// One class of requests of a load.
#[derive(Debug, Deserialize)]
pub(super) struct LoadClass {
    pub(super) class: String,
    pub(super) ok_count: u64,
    pub(super) error_count: u64,
    pub(super) unsent_count: u64,
    pub(super) bytes: u64,
    pub(super) bytes_per_s: f64,
    pub(super) requests_per_s: f64,
    pub(super) latency_us_p50: f64,
    pub(super) latency_us_p99: f64,
    pub(super) latency_us_p999: f64,
}

impl LoadClass {
    pub(super) fn sample(&self, cpu_us_per_request: Option<f64>, rss_bytes: u64) -> Sample {
        Sample {
            requests_per_s: self.requests_per_s,
            bytes_per_s: self.bytes_per_s,
            cpu_us_per_request,
            latency_us_p50: self.latency_us_p50,
            latency_us_p99: self.latency_us_p99,
            latency_us_p999: self.latency_us_p999,
            bytes_verified: self.bytes,
            request_count: self.ok_count,
            error_count: self.error_count,
            unsent_count: self.unsent_count,
            rss_bytes,
        }
    }
}
