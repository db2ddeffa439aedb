//! What an operation cost, from /proc: processor time, memory, and bytes that this process had the
//! drive read and write.

use crate::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;

/// The kernel's clock tick in /proc/self/stat: 100 on every Linux in use.
const TICKS_PER_S: f64 = 100.0;

/// One phase of one engine in one round; the names are those of `compare`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Sample {
    pub(crate) requests_per_s: f64,
    pub(crate) bytes_per_s: f64,
    pub(crate) cpu_us_per_request: f64,
    pub(crate) latency_us_p50: f64,
    pub(crate) latency_us_p99: f64,
    pub(crate) latency_us_p999: f64,
    pub(crate) request_count: u64,
    pub(crate) error_count: u64,
    pub(crate) rss_bytes: f64,
    pub(crate) extra: BTreeMap<String, f64>,
}

/// What this process has used.
pub(crate) struct Usage {
    pub(crate) at: Instant,
    pub(crate) cpu_s: f64,
    pub(crate) written: f64,
    pub(crate) read: f64,
    pub(crate) rss_bytes: f64,
}

impl Usage {
    pub(crate) fn now() -> Result<Usage> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let (_, fields) = stat.rsplit_once(") ").ok_or("/proc/self/stat has no name")?;
        let ticks =
            fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
        Ok(Usage {
            at: Instant::now(),
            cpu_s: ticks.sum::<f64>() / TICKS_PER_S,
            written: figure("/proc/self/io", "write_bytes:")?,
            read: figure("/proc/self/io", "read_bytes:")?,
            rss_bytes: figure("/proc/self/status", "VmRSS:")? * 1024.0,
        })
    }
}

fn figure(path: &str, name: &str) -> Result<f64> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let figure = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    figure.ok_or_else(|| format!("{path} has no {name}").into())
}

/// The value below which `share` of the sorted values lie.
pub(crate) fn quantile(sorted: &[u64], share: f64) -> u64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// How busy the machine is.
pub(crate) fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}
