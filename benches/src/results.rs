//! Stored results, as far as anything reads them: plots, budgets, tables, two runs side by side.
//!
//! Fields that are not known are passed over and newer ones may be missing, so that older and newer
//! files can be read as well. The order of rows and peers is that in which they first came.

use crate::error::{BenchError, Context, Result};
use crate::figures::Spread;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Names of peers that others are compared with.
pub(crate) const TAPELOOP: &str = "tapeloop";
pub(crate) const NGINX: &str = "nginx sendfile";

/// What a file holds.
pub(crate) enum Results {
    Rows(Box<Run>),
    Restart(Vec<Restart>),
}

/// A comparison.
#[derive(Deserialize)]
pub(crate) struct Run {
    #[serde(default)]
    pub(crate) command: String,
    pub(crate) machine: String,
    pub(crate) date: String,
    pub(crate) rounds: u32,
    /// Name and version, as those of fio and of the caches.
    #[serde(default)]
    pub(crate) nginx: String,
    pub(crate) fio: Option<String>,
    #[serde(default)]
    pub(crate) caches: Vec<String>,
    #[serde(default)]
    pub(crate) took_s: u64,
    /// What the live mix is made of, in words.
    pub(crate) mix: Option<String>,
    cells: Cells,
}

#[derive(Deserialize)]
struct Cells {
    cells: Vec<Cell>,
    #[serde(default)]
    memory: Vec<Memory>,
}

/// The samples of one peer in one row.
#[derive(Deserialize)]
pub(crate) struct Cell {
    pub(crate) row: String,
    pub(crate) peer: String,
    pub(crate) samples: Vec<Sample>,
}

/// One window of a row.
#[derive(Deserialize)]
pub(crate) struct Sample {
    pub(crate) requests_per_s: Option<f64>,
    pub(crate) bytes_per_s: f64,
    pub(crate) cpu_us_per_request: Option<f64>,
    pub(crate) latency_us_p50: f64,
    pub(crate) latency_us_p99: f64,
    pub(crate) latency_us_p999: f64,
    #[serde(default)]
    pub(crate) request_count: u64,
    #[serde(default)]
    pub(crate) error_count: u64,
    /// 0 where no server was measured.
    #[serde(default)]
    pub(crate) rss_bytes: u64,
    #[serde(default)]
    pub(crate) extra: BTreeMap<String, f64>,
}

/// The most memory that tapeloop held in a workload, beside what it had printed at start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Memory {
    pub(crate) workload: String,
    pub(crate) rss_bytes_max: u64,
    pub(crate) printed_bytes: u64,
}

/// Kills and restarts at one count of objects.
#[derive(Clone, Deserialize)]
pub(crate) struct Restart {
    pub(crate) machine: String,
    pub(crate) date: String,
    pub(crate) objects: u64,
    pub(crate) engine_open_ms: f64,
    pub(crate) index_bytes: f64,
    pub(crate) rounds: Vec<RestartRound>,
}

/// One kill and restart.
#[derive(Clone, Deserialize)]
pub(crate) struct RestartRound {
    pub(crate) kill_to_first_get_ms: f64,
    pub(crate) rss_bytes: f64,
    pub(crate) rss_bytes_max: f64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Rows(Box<Run>),
    Series { sizes: Vec<Restart> },
    Restart(Restart),
}

/// Results of any kind.
pub(crate) fn read(path: &Path) -> Result<Results> {
    parse(&text(path)?).map_err(|error| BenchError::Answer {
        what: path.display().to_string(),
        cause: format!("holds no results of compare or restart: {error}"),
    })
}

/// A comparison, and nothing else.
pub(crate) fn read_run(path: &Path) -> Result<Run> {
    serde_json::from_str(&text(path)?).map_err(|error| BenchError::Answer {
        what: path.display().to_string(),
        cause: format!("not a comparison: {error}"),
    })
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).context(format!("reading {}", path.display()))
}

pub(crate) fn parse(text: &str) -> serde_json::Result<Results> {
    Ok(match serde_json::from_str(text)? {
        Stored::Rows(run) => Results::Rows(run),
        Stored::Series { sizes } => Results::Restart(sizes),
        Stored::Restart(one) => Results::Restart(vec![one]),
    })
}

/// Names in the order they first come.
pub(crate) fn each_once<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut known = Vec::new();
    for name in names {
        if !known.contains(&name) {
            known.push(name);
        }
    }
    known
}

impl Run {
    pub(crate) fn cells(&self) -> &[Cell] {
        &self.cells.cells
    }

    pub(crate) fn memory(&self) -> &[Memory] {
        &self.cells.memory
    }

    /// Each once.
    pub(crate) fn rows(&self) -> Vec<&str> {
        each_once(self.cells().iter().map(|cell| cell.row.as_str()))
    }

    /// Those whose name is the pattern, with what stands in the place of its `*`, if it has one.
    pub(crate) fn rows_like(&self, pattern: &str) -> Vec<(&str, &str)> {
        let like = |row| match pattern.split_once('*') {
            Some((start, end)) => {
                let rest: &str = str::strip_prefix(row, start)?;
                Some((row, rest.strip_suffix(end)?))
            }
            None => (row == pattern).then_some((row, "")),
        };
        self.rows().into_iter().filter_map(like).collect()
    }

    /// Each once.
    pub(crate) fn peers(&self) -> Vec<String> {
        let peers = each_once(self.cells().iter().map(|cell| cell.peer.as_str()));
        peers.into_iter().map(str::to_owned).collect()
    }

    pub(crate) fn of_row<'a>(&'a self, row: &'a str) -> impl Iterator<Item = &'a Cell> {
        self.cells().iter().filter(move |cell| cell.row == row)
    }

    pub(crate) fn cell(&self, row: &str, peer: &str) -> Option<&Cell> {
        self.cells().iter().find(|cell| cell.row == row && cell.peer == peer)
    }

    pub(crate) fn foot(&self) -> String {
        let rounds = match self.rounds {
            1 => "1 round".to_owned(),
            count => format!("median and range of {count} rounds"),
        };
        format!("{rounds}; {}; {}", self.machine, self.date)
    }

    /// Takes the samples of another run in, as if both had been one. Of a workload's memory the
    /// figure nearest to its limit stays.
    pub(crate) fn append(&mut self, other: Run) {
        self.rounds += other.rounds;
        for cell in other.cells.cells {
            let mut cells = self.cells.cells.iter_mut();
            match cells.find(|known| known.row == cell.row && known.peer == cell.peer) {
                Some(known) => known.samples.extend(cell.samples),
                None => self.cells.cells.push(cell),
            }
        }
        for memory in other.cells.memory {
            memory.keep_nearest(&mut self.cells.memory);
        }
    }
}

impl Cell {
    /// `None` where no sample has such a figure.
    pub(crate) fn spread(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(of).filter(|value| value.is_finite()))
    }

    pub(crate) fn sum(&self, of: impl Fn(&Sample) -> u64) -> u64 {
        self.samples.iter().map(of).sum()
    }
}

impl Sample {
    pub(crate) fn extra(&self, name: &str) -> Option<f64> {
        self.extra.get(name).copied()
    }
}

impl Memory {
    /// Above 1 the promise is broken.
    pub(crate) fn share(&self) -> f64 {
        self.rss_bytes_max as f64 / self.printed_bytes as f64
    }

    /// Adds it to those of all workloads, of which each stands there once: as the one that came
    /// closest to its limit.
    pub(crate) fn keep_nearest(self, all: &mut Vec<Memory>) {
        match all.iter_mut().find(|known| known.workload == self.workload) {
            Some(known) if known.share() < self.share() => *known = self,
            Some(_) => {}
            None => all.push(self),
        }
    }
}

/// Small comparisons for tests of what reads them.
#[cfg(test)]
pub(crate) mod samples {
    use super::Run;
    use serde_json::{Value, json};

    /// A sample with all latencies `latency_us`; more fields by assignment.
    pub(crate) fn sample(requests_per_s: f64, cpu_us: f64, latency_us: f64) -> Value {
        json!({
            "requests_per_s": requests_per_s, "bytes_per_s": 0.0, "cpu_us_per_request": cpu_us,
            "latency_us_p50": latency_us, "latency_us_p99": latency_us,
            "latency_us_p999": latency_us, "request_count": 10, "error_count": 0,
            "rss_bytes": 16_400_000, "extra": {},
        })
    }

    /// A sample that matters for one extra figure only.
    pub(crate) fn with_extra(name: &str, value: f64) -> Value {
        let mut sample = sample(1.0, 1.0, 1.0);
        sample["extra"][name] = json!(value);
        sample
    }

    /// A run of these rows, peers and samples.
    pub(crate) fn run(cells: &[(&str, &str, &[Value])]) -> Run {
        run_with_memory(cells, &[])
    }

    /// With the memory that workloads held and might have held, in MB.
    pub(crate) fn run_with_memory(
        cells: &[(&str, &str, &[Value])],
        memory: &[(&str, u64, u64)],
    ) -> Run {
        let cells = cells
            .iter()
            .map(|(row, peer, samples)| json!({ "row": row, "peer": peer, "samples": samples }));
        let memory = memory.iter().map(|(workload, held, printed)| {
            json!({
                "workload": workload, "rss_bytes_max": held * 1_000_000,
                "printed_bytes": printed * 1_000_000,
            })
        });
        let run = json!({
            "machine": "a machine", "date": "2026-01-02", "rounds": 1,
            "cells": {
                "cells": cells.collect::<Vec<_>>(), "memory": memory.collect::<Vec<_>>(),
            },
        });
        serde_json::from_value(run).expect("a comparison")
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{run_with_memory, sample};

    #[test]
    fn two_runs_as_one_have_the_samples_of_both_and_the_memory_nearest_to_its_limit() {
        let (one, other) = (sample(1.0, 1.0, 1.0), sample(2.0, 1.0, 1.0));
        let mut whole = run_with_memory(
            &[("row", "tapeloop", &[one.clone(), one.clone()])],
            &[("mix", 5, 10), ("hot", 9, 10)],
        );
        let others =
            [("row", "tapeloop", &[other.clone()][..]), ("row", "nginx", &[other.clone()][..])];
        whole.append(run_with_memory(&others, &[("mix", 7, 10), ("hot", 8, 10), ("cold", 1, 10)]));
        let of = |peer| {
            let cell = whole.cell("row", peer).expect("measured");
            cell.samples.iter().filter_map(|sample| sample.requests_per_s).collect::<Vec<_>>()
        };
        assert_eq!((of("tapeloop"), of("nginx")), (vec![1.0, 1.0, 2.0], vec![2.0]));
        assert_eq!((whole.rounds, whole.rows(), whole.peers().len()), (2, vec!["row"], 2));
        let memory = whole.memory().iter();
        let held =
            memory.map(|memory| (memory.workload.as_str(), memory.rss_bytes_max / 1_000_000));
        assert_eq!(held.collect::<Vec<_>>(), [("mix", 7), ("hot", 9), ("cold", 1)]);
    }
}
