//! GETs of objects of one size, as `tapectl load get` makes them.

use super::super::load;
use super::super::peer::Server;
use super::super::quiet::{self, Measured};
use super::super::sample::{LoadClass, LoadReport, Sample};
use super::super::scanners::{Scanners, Watch};
use super::super::{Bench, MIB};
use crate::error::{BenchError, Result};
use crate::proc_fs::Usage;
use std::path::Path;
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(60);
const WARM: Duration = Duration::from_millis(300);

/// What is read, over how many connections, how fast and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) name: &'static str,
    pub(super) bytes: u64,
    /// How many are stored; none: whatever comes is right, if it is always the same.
    pub(super) objects: u64,
    pub(super) connections: u32,
    /// Requests per second by the clock; none: the next when the last has ended.
    pub(super) rate: Option<f64>,
    /// The generator has a processor of its own and never lets it sleep.
    pub(super) spin: bool,
    /// Under the same load before the time that is measured.
    pub(super) ramp: Duration,
    pub(super) time: Duration,
}

/// What a reading came to.
pub(super) struct Seen {
    pub(super) class: LoadClass,
    before: Usage,
    pub(super) usage: Usage,
    /// Whether a kernel thread that looks through memory had a turn while it was measured.
    pub(super) was_scanned: bool,
}

/// 2 KiB, as playlists are, over 64 connections.
pub(super) const SMALL: Reading = Reading {
    name: "2k",
    bytes: 2048,
    objects: 100,
    connections: 64,
    rate: None,
    spin: false,
    ramp: Duration::ZERO,
    time: WARM,
};

/// 512 KiB, as segments are, over 8 connections.
pub(super) const LARGE: Reading = Reading {
    name: "512k",
    bytes: MIB / 2,
    objects: 64,
    connections: 8,
    rate: None,
    spin: false,
    ramp: Duration::ZERO,
    time: WARM,
};

/// 4 MiB, as segments of a high rendition are.
pub(super) const HUGE: Reading =
    Reading { name: "4m", bytes: 4 * MIB, objects: 16, connections: 8, ..LARGE };

impl Reading {
    fn url(&self, server: &Server) -> String {
        format!("http://{}/hot/{}-{{n}}", server.address, self.name)
    }

    /// Stores the objects.
    pub(super) fn fill(&self, bench: &Bench<'_>, server: &Server) -> Result<()> {
        let (tapectl, url) = (&bench.binaries.tapectl, self.url(server));
        load::fill(tapectl, &url, self.bytes, self.objects, server.folder())
    }

    /// Stores the objects and reads them for a moment.
    pub(super) fn warm(&self, bench: &Bench<'_>, server: &Server) -> Result<()> {
        self.fill(bench, server)?;
        Reading { time: WARM, ..*self }.run_once(bench, server).map(drop)
    }

    /// Reads, again where the host disturbs it.
    pub(super) fn run(&self, bench: &Bench<'_>, server: &Server) -> Result<Seen> {
        let pace = self.rate.map_or(String::new(), |rate| format!(" at {rate:.0}/s"));
        let what = format!("{} B over {} connections{pace}", self.bytes, self.connections);
        bench.quiet.measured(&what, quiet::ATTEMPTS_MAX, || self.run_once(bench, server))
    }

    fn run_once(&self, bench: &Bench<'_>, server: &Server) -> Result<Seen> {
        let before = server.usage();
        let (tapectl, url) = (&bench.binaries.tapectl, self.url(server));
        let (class, was_scanned) = self.load(tapectl, &url, server.folder(), &bench.scanners)?;
        Ok(Seen { class, before, usage: server.usage(), was_scanned })
    }

    /// Reads beside another reading, with logs in a folder of its own, and tells whether a kernel
    /// thread looked through memory meanwhile. Of the CPU nobody knows whose it was.
    pub(super) fn beside(
        &self,
        tapectl: &Path,
        server: (&str, &Path),
        scanners: &Scanners,
    ) -> Result<(LoadClass, bool)> {
        let (address, folder) = server;
        let logs = folder.join(format!("load-{}", self.name));
        super::create_folder(&logs)?;
        let url = format!("http://{address}/hot/{}-{{n}}", self.name);
        self.load(tapectl, &url, &logs, scanners)
    }

    fn load(
        &self,
        tapectl: &Path,
        url: &str,
        logs: &Path,
        scanners: &Scanners,
    ) -> Result<(LoadClass, bool)> {
        let pace = match self.rate {
            Some(rate) if self.spin => format!("--rate {rate} --spin"),
            Some(rate) => format!("--rate {rate}"),
            None => String::new(),
        };
        let what = match self.objects {
            0 => String::new(),
            objects => format!("--bytes {} --objects {objects}", self.bytes),
        };
        let words = format!(
            "load get --url {url} {what} --connections {} --ramp {}ms --duration {}ms {pace} \
             --json",
            self.connections,
            self.ramp.as_millis(),
            self.time.as_millis(),
        );
        let limit = self.ramp + self.time + GRACE;
        let mut watch = Watch::new(scanners);
        let report = load::run(tapectl, &words, logs, limit, &mut || watch.look())?;
        let was_scanned = watch.has_seen_any(self.time);
        Ok((only_class(report)?, was_scanned))
    }
}

impl Measured for Seen {
    fn error_count(&self) -> u64 {
        self.class.error_count
    }
}

impl Seen {
    pub(super) fn cpu_s(&self) -> f64 {
        self.usage.cpu_s - self.before.cpu_s
    }

    pub(super) fn sample(&self) -> Sample {
        self.class.sample(self.usage.rss_bytes).with_cost(&self.before, &self.usage)
    }
}

/// The class of a load that has one.
pub(super) fn only_class(mut report: LoadReport) -> Result<LoadClass> {
    for example in &report.examples {
        eprintln!("  {example}");
    }
    report.classes.pop().ok_or_else(|| BenchError::Answer {
        what: "tapectl load".to_owned(),
        cause: "a report without a class".to_owned(),
    })
}
