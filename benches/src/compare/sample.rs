//! One measurement, and all of them by row and peer.

use crate::figures::Spread;
use crate::proc_fs::Usage;
use crate::results::{Memory, each_once};
use crate::tapeloop::FirstBytes;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;

/// From the head of a request to the first byte of its answer, without wires and clients.
const OWN_CLOCK: &str = "first byte in 1 ms, own clock, %";

/// A figure that only some rows have: its name with the unit last, and its value.
pub(super) type Extra = (&'static str, f64);

/// One row of one peer in one round.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) requests_per_s: f64,
    pub(super) bytes_per_s: f64,
    /// User and system time of the server's processes per request; none where requests of several
    /// kinds share it.
    pub(super) cpu_us_per_request: Option<f64>,
    /// Context switches of the server's threads per request.
    pub(super) switches_per_request: Option<f64>,
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
    /// Shown as columns of their own, in the order they first came.
    #[serde(serialize_with = "as_map", skip_serializing_if = "Vec::is_empty")]
    pub(super) extra: Vec<Extra>,
}

/// JSON has no numbers for what is not finite, and a figure of nothing is none.
fn as_map<S: Serializer>(extra: &[Extra], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(extra.iter().copied().filter(|(_, value)| value.is_finite()))
}

impl Sample {
    /// With what the server spent between two looks at it, for each request.
    pub(super) fn with_cost(mut self, before: &Usage, after: &Usage) -> Sample {
        let per_request = |amount: f64| Some(amount / self.request_count.max(1) as f64);
        self.cpu_us_per_request = per_request((after.cpu_s - before.cpu_s) * 1e6);
        let switches = after.switch_count.saturating_sub(before.switch_count);
        self.switches_per_request = per_request(switches as f64);
        self
    }

    /// With what the server's own clock says of the same time, if it has one.
    pub(super) fn with_own_clock(mut self, looks: [Option<FirstBytes>; 2]) -> Sample {
        if let [Some(before), Some(after)] = looks {
            self.extra.push((OWN_CLOCK, before.within_ms_percent_until(after)));
        }
        self
    }

    pub(super) fn extra(&self, name: &str) -> Option<f64> {
        self.extra.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

/// All samples, in the order rows and peers first came.
#[derive(Debug, Default, Serialize)]
pub(super) struct Cells {
    pub(super) cells: Vec<Cell>,
    pub(super) memory: Vec<Memory>,
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

    /// Of a workload in several rounds, the one that came closest to the limit is kept.
    pub(super) fn add_memory(&mut self, memory: Memory) {
        memory.keep_nearest(&mut self.memory);
    }

    pub(super) fn rows(&self) -> Vec<&str> {
        each_once(self.cells.iter().map(|cell| cell.row.as_str()))
    }

    pub(super) fn of_row<'a>(&'a self, row: &'a str) -> impl Iterator<Item = &'a Cell> {
        self.cells.iter().filter(move |cell| cell.row == row)
    }

    /// Names of the extra figures of a row.
    pub(super) fn extras_of_row(&self, row: &str) -> Vec<&'static str> {
        let samples = self.of_row(row).flat_map(|cell| &cell.samples);
        each_once(samples.flat_map(|sample| &sample.extra).map(|(name, _)| *name))
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
#[derive(Clone, Debug, Deserialize)]
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
    /// How many took so long.
    pub(super) latency_us_counts: BTreeMap<u64, u64>,
    /// How late the generator itself was.
    pub(super) slip_us_p99: f64,
}

impl LoadClass {
    /// Loads one after the other as one: percentiles are those of all their requests together.
    pub(super) fn of_slices<'a>(
        slices: impl Iterator<Item = &'a LoadClass> + Clone,
    ) -> Option<LoadClass> {
        let mut latency_us_counts = BTreeMap::new();
        for (latency_us, count) in slices.clone().flat_map(|slice| &slice.latency_us_counts) {
            *latency_us_counts.entry(*latency_us).or_insert(0) += count;
        }
        let median = |of: fn(&LoadClass) -> f64| {
            Spread::of(slices.clone().map(of)).map(|spread| spread.median)
        };
        let sum = |of: fn(&LoadClass) -> u64| slices.clone().map(of).sum();
        Some(LoadClass {
            class: slices.clone().next()?.class.clone(),
            ok_count: sum(|slice| slice.ok_count),
            error_count: sum(|slice| slice.error_count),
            unsent_count: sum(|slice| slice.unsent_count),
            bytes: sum(|slice| slice.bytes),
            bytes_per_s: median(|slice| slice.bytes_per_s)?,
            requests_per_s: median(|slice| slice.requests_per_s)?,
            latency_us_p50: quantile_of(&latency_us_counts, 0.5)? as f64,
            latency_us_p99: quantile_of(&latency_us_counts, 0.99)? as f64,
            latency_us_p999: quantile_of(&latency_us_counts, 0.999)? as f64,
            latency_us_counts,
            slip_us_p99: median(|slice| slice.slip_us_p99)?,
        })
    }

    pub(super) fn sample(&self, rss_bytes: u64) -> Sample {
        Sample {
            requests_per_s: self.requests_per_s,
            bytes_per_s: self.bytes_per_s,
            cpu_us_per_request: None,
            switches_per_request: None,
            latency_us_p50: self.latency_us_p50,
            latency_us_p99: self.latency_us_p99,
            latency_us_p999: self.latency_us_p999,
            bytes_verified: self.bytes,
            request_count: self.ok_count,
            error_count: self.error_count,
            unsent_count: self.unsent_count,
            rss_bytes,
            extra: Vec::new(),
        }
    }
}

/// The value that `quantile` of all those counted do not exceed; none of none.
fn quantile_of(counts: &BTreeMap<u64, u64>, quantile: f64) -> Option<u64> {
    let rank = (quantile * counts.values().sum::<u64>() as f64).ceil() as u64;
    let mut seen = 0;
    let found = counts.iter().find(|(_, count)| {
        seen += **count;
        seen >= rank.max(1)
    });
    found.map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class() -> LoadClass {
        LoadClass {
            class: "get".to_owned(),
            ok_count: 1,
            error_count: 0,
            unsent_count: 0,
            bytes: 1,
            bytes_per_s: 1.0,
            requests_per_s: 1.0,
            latency_us_p50: 1.0,
            latency_us_p99: 1.0,
            latency_us_p999: 1.0,
            latency_us_counts: BTreeMap::new(),
            slip_us_p99: 0.0,
        }
    }

    fn sample(extra: Vec<Extra>) -> Sample {
        Sample { extra, ..class().sample(0) }
    }

    #[test]
    fn percentiles_of_several_slices_are_those_of_all_their_requests() {
        let slice = |counts: &[(u64, u64)]| LoadClass {
            latency_us_counts: counts.iter().copied().collect(),
            ..class()
        };
        // One slow request in 2,000 is not in the p99.9 of all, though it is in its slice's.
        let slices = [slice(&[(80, 1_000), (90, 499)]), slice(&[(80, 500), (7_000, 1)])];
        let whole = LoadClass::of_slices(slices.iter()).expect("two slices");
        assert_eq!((whole.latency_us_p50, whole.latency_us_p999), (80.0, 90.0));
        let alone = LoadClass::of_slices(slices[1..].iter()).expect("one slice");
        assert_eq!((alone.latency_us_p50, alone.latency_us_p999), (80.0, 7_000.0));
        assert_eq!(whole.ok_count, 2);
        assert!(LoadClass::of_slices([].iter()).is_none());
    }

    #[test]
    fn of_the_memory_of_a_workload_the_round_nearest_to_the_limit_is_kept() {
        let mut cells = Cells::default();
        let held =
            |rss_bytes_max| Memory { workload: "mix".to_owned(), rss_bytes_max, printed_bytes: 10 };
        [5, 11, 7].into_iter().for_each(|bytes| cells.add_memory(held(bytes)));
        assert_eq!(cells.memory, [held(11)]);
        assert!(cells.memory[0].share() > 1.0);
    }

    #[test]
    fn a_row_has_each_extra_figure_of_its_peers_once_and_no_other_row_has_them() {
        let mut cells = Cells::default();
        cells.add("one", "a", sample(vec![("x, ms", 1.0)]));
        cells.add("one", "b", sample(vec![("y, s", f64::INFINITY), ("x, ms", 3.0)]));
        cells.add("two", "a", sample(Vec::new()));
        assert_eq!(cells.extras_of_row("one"), ["x, ms", "y, s"]);
        assert!(cells.extras_of_row("two").is_empty());
        let json = serde_json::to_value(&cells).expect("numbers and names");
        let extra = &json["cells"][1]["samples"][0]["extra"];
        assert_eq!(extra, &serde_json::json!({ "x, ms": 3.0 }));
    }
}
