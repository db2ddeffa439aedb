//! The real `tapeloop` server as a child process.

use crate::binaries::Binaries;
use crate::client::{self, Client};
use crate::error::{BenchError, Context, Result};
use crate::process::{Running, StartOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);

/// How the server is started.
pub(crate) struct Launch<'a> {
    pub(crate) data: &'a Path,
    pub(crate) capacity_bytes: u64,
    pub(crate) ram_bytes: u64,
    pub(crate) threads: u32,
    pub(crate) cgroup: Option<&'a Path>,
    pub(crate) log: PathBuf,
}

/// A running server.
pub(crate) struct Tapeloop {
    pub(crate) running: Running,
    pub(crate) address: SocketAddr,
    pub(crate) admin: Admin,
}

/// Its admin plane.
#[derive(Clone, Copy)]
pub(crate) struct Admin(SocketAddr);

/// First bytes of answers to GETs, as the server itself has timed them since the request's head.
#[derive(Clone, Copy)]
pub(crate) struct FirstBytes {
    count: f64,
    within_ms_count: f64,
}

impl Tapeloop {
    /// Starts it; it may not listen yet when this returns.
    pub(crate) fn start(binaries: &Binaries, launch: &Launch<'_>) -> Result<Tapeloop> {
        let address = client::free_address().context("looking for a free port")?;
        let admin = client::free_address().context("looking for a free port")?;
        let args = [
            "--data".to_owned(),
            launch.data.display().to_string(),
            "--capacity".to_owned(),
            launch.capacity_bytes.to_string(),
            "--ram".to_owned(),
            launch.ram_bytes.to_string(),
            "--ttl".to_owned(),
            "30d".to_owned(),
            "--threads".to_owned(),
            launch.threads.to_string(),
            "--listen".to_owned(),
            address.to_string(),
            "--admin-listen".to_owned(),
            admin.to_string(),
        ];
        let options = StartOptions {
            cgroup: launch.cgroup,
            on_bench_death: Some("KILL"),
            ..StartOptions::default()
        };
        let running = Running::start(&binaries.tapeloop, &args, launch.log.clone(), &options)?;
        Ok(Tapeloop { running, address, admin: Admin(admin) })
    }

    /// Waits until it answers on its data plane.
    pub(crate) fn wait_listening(&mut self, limit: Duration) -> Result<()> {
        let address = self.address;
        self.running.wait_ready(limit, || {
            let answer = Client::connect(address, TIMEOUT).and_then(|mut c| c.get("/none/such"));
            answer.ok().map(drop)
        })
    }
}

impl Admin {
    pub(crate) fn first_bytes(self) -> Result<FirstBytes> {
        Ok(FirstBytes {
            count: self.metric("tapeloop_get_first_byte_seconds_count")?,
            within_ms_count: self
                .metric(r#"tapeloop_get_first_byte_seconds_bucket{le="0.001"}"#)?,
        })
    }

    /// The most memory that it said at start it would hold.
    pub(crate) fn memory_printed_bytes(self) -> Result<u64> {
        self.metric("tapeloop_memory_max_bytes").map(|bytes| bytes as u64)
    }

    /// One number of its `/metrics`.
    pub(crate) fn metric(self, name: &str) -> Result<f64> {
        let answer = Client::connect(self.0, TIMEOUT).and_then(|mut c| c.get("/metrics"));
        let body = answer.context("reading /metrics")?.body;
        let text = String::from_utf8_lossy(&body);
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.trim().parse().ok()).ok_or_else(|| BenchError::Answer {
            what: format!("metric {name}"),
            cause: "not among the metrics".into(),
        })
    }
}

impl FirstBytes {
    /// Of those from here to a later look, the share that took at most a millisecond, in percent.
    pub(crate) fn within_ms_percent_until(&self, later: FirstBytes) -> f64 {
        (later.within_ms_count - self.within_ms_count) / (later.count - self.count) * 100.0
    }
}
