//! Expiry storm: thousands of objects end their life within a minute while others are read.
//!
//! tapeloop's objects have lifetimes, staggered by the second, that end within the window; nginx
//! expires nothing, so the bench unlinks as many files in the same window, evenly, and its CPU
//! counts as the server's. Afterwards every one of them must be gone.

use super::super::Bench;
use super::super::load;
use super::super::peer::{Peer, Server};
use super::super::quiet::ATTEMPTS_MAX;
use super::super::sample::Cells;
use super::Stage;
use super::pair::{self, Pair, Windows};
use crate::client::Client;
use crate::error::{BenchError, Context, Result};
use crate::proc_fs::thread_cpu_s;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const BYTES: u64 = 16 * 1024;
const TIMEOUT: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(30);
/// One in so many is asked for before the storm.
const SAMPLED: usize = 97;
/// Lifetimes are whole seconds, and begin at the commit.
const SLACK: Duration = Duration::from_millis(2_500);

/// How many objects end within how long.
pub(in super::super) struct Storm {
    pub(in super::super) count: u64,
    pub(in super::super) window: Duration,
    /// Time to store them in, to find the rates of the readers, and between their slices.
    pub(in super::super) ahead: Duration,
}

pub(super) fn run(bench: &Bench<'_>, peer: Peer, cells: &mut Cells) -> Result<()> {
    let storm = &bench.plan.storm;
    let title = format!("expiry of {} objects in {} s", storm.count, storm.window.as_secs());
    let what = format!("{title}: {}", peer.name());
    let windows = bench.quiet.measured_by_share(&what, ATTEMPTS_MAX, || {
        let windows = measure(bench, peer, &title, cells)?;
        let share = windows.stolen_share();
        Ok((windows, share))
    })?;
    pair::add_rows(cells, &title, peer.name(), &windows, &[]);
    Ok(())
}

/// Both windows, on a server of their own.
fn measure(bench: &Bench<'_>, peer: Peer, title: &str, cells: &mut Cells) -> Result<Windows> {
    let storm = &bench.plan.storm;
    let stage = Stage::start(bench, peer, 0)?;
    let server = &stage.server;
    // The window before the storm lies between the filling and the first end of a life.
    let begins = Instant::now() + storm.ahead + storm.window;
    storm.fill(bench, server, begins)?;
    let pair = Pair::prepare(bench, server, storm.window)?;
    storm.require_there(server)?;
    let before = pair.run(bench, server)?;
    let late = Instant::now().saturating_duration_since(begins);
    if !late.is_zero() {
        let cause = format!("reached {late:?} into the storm");
        return Err(BenchError::Answer { what: "the window before the storm".to_owned(), cause });
    }
    wait_until(begins);
    let (during, unlinking_cpu_s) = std::thread::scope(|scope| {
        let unlinks = peer != Peer::Tapeloop;
        let unlinking = unlinks.then(|| scope.spawn(|| storm.unlink(server, begins)));
        let during = pair.run(bench, server);
        let cpu_s = unlinking.map(|thread| thread.join().expect("unlinking does not panic"));
        (during, cpu_s.unwrap_or(Ok(0.0)))
    });
    let mut during = during?;
    during.cpu_s += unlinking_cpu_s?;
    wait_until(begins + storm.window + SLACK);
    storm.require_gone(server)?;
    stage.stop(title, cells)?;
    Ok(Windows { before, during })
}

impl Storm {
    pub(in super::super) fn full() -> Storm {
        let ahead = Duration::from_secs(25);
        Storm { count: 20_000, window: Duration::from_secs(60), ahead }
    }

    pub(in super::super) fn quick() -> Storm {
        let ahead = Duration::from_secs(5);
        Storm { count: 1_000, window: Duration::from_secs(3), ahead }
    }

    /// Each second of the window ends the lives of one batch.
    fn batches(&self) -> u64 {
        self.window.as_secs()
    }

    fn batch_count(&self, batch: u64) -> u64 {
        let first = |batch: u64| batch * self.count / self.batches();
        first(batch + 1) - first(batch)
    }

    fn paths(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.batches()).flat_map(|batch| {
            (0..self.batch_count(batch)).map(move |number| format!("/storm/{batch}-{number}"))
        })
    }

    /// Stores all objects with lives that end between `begins` and the end of the window.
    fn fill(&self, bench: &Bench<'_>, server: &Server, begins: Instant) -> Result<()> {
        for batch in 0..self.batches() {
            let ends = begins + Duration::from_secs(batch + 1);
            let ttl = ends.saturating_duration_since(Instant::now()).as_secs();
            let words = format!(
                "load put --url http://{}/storm/{batch}-{{n}} --bytes {BYTES} --count {} \
                 --connections 32 --ttl {}s --json",
                server.address,
                self.batch_count(batch),
                ttl.max(1),
            );
            let tapectl = &bench.binaries.tapectl;
            let report = load::run(tapectl, &words, server.folder(), GRACE, &mut || {})?;
            if report.classes.iter().any(|class| class.error_count > 0) {
                let cause = report.examples.join("; ");
                return Err(BenchError::Answer { what: "filling for the storm".into(), cause });
            }
        }
        Ok(())
    }

    /// Unlinks every file in its turn; the CPU time that took.
    fn unlink(&self, server: &Server, begins: Instant) -> Result<f64> {
        let files: Vec<PathBuf> = self.paths().map(|path| server.file_of(&path)).collect();
        let between = self.window / self.count as u32;
        let before = thread_cpu_s();
        for (file, number) in files.iter().zip(0..) {
            wait_until(begins + between * number);
            std::fs::remove_file(file).context(format!("unlinking {}", file.display()))?;
        }
        Ok(thread_cpu_s() - before)
    }

    fn require_there(&self, server: &Server) -> Result<()> {
        let sampled = self.paths().step_by(SAMPLED);
        require(server, sampled, |status| status == 200)
    }

    fn require_gone(&self, server: &Server) -> Result<()> {
        require(server, self.paths(), |status| matches!(status, 404 | 410))
    }
}

fn require(
    server: &Server,
    paths: impl Iterator<Item = String>,
    is_right: fn(u16) -> bool,
) -> Result<()> {
    let mut client = Client::connect(server.address, TIMEOUT).context("connecting to look")?;
    for path in paths {
        let status = client.get(&path).context(format!("asking for {path}"))?.status;
        if !is_right(status) {
            let cause = format!("status {status} where its life says otherwise");
            return Err(BenchError::Answer { what: path, cause });
        }
    }
    Ok(())
}

fn wait_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}
