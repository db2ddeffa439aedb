//! `tapectl load-from-dump`: what a dump holds, pushed to an origin.
//!
//! A file is hashed before it is pushed, and the origin's ETag, which is a hash of what it has
//! received, must be the manifest's. So an object is whole at the other end or named as not.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use indicatif::ProgressBar;
use serde::Serialize;

use super::manifest::{Entry, read};
use super::origin::Client;
use super::write::hash_file;
use super::{LEFT_OUT_MAX, LeftOut, LoadFromDumpPlan};
use crate::error::{Outcome, ToolError};
use crate::output;
use crate::progress;
use crate::units;
use crate::walk::hex;

/// The longest life that an origin takes.
const TTL_SECONDS_MAX: u64 = 315_360_000;

#[derive(Debug, Default, Serialize)]
struct Report {
    url: String,
    object_count: u64,
    payload_bytes: u64,
    /// With --deduct-age: their life was over.
    expired_count: u64,
    left_out_count: u64,
    left_out: Vec<LeftOut>,
}

pub(crate) fn run(plan: &LoadFromDumpPlan) -> Result<Outcome, ToolError> {
    let folder = &plan.folder;
    let (head, entries) = read(folder).map_err(|cause| ToolError::Volume {
        path: folder.clone(),
        cause,
        advice: "give a folder that `tapectl dump` has made; nothing was pushed",
    })?;
    let bytes: u64 = entries.iter().map(|entry| entry.len).sum();
    output::plan(&format!(
        "load-from-dump {}: {} objects, {}, of store {} to {}; keys that exist are replaced",
        folder.display(),
        entries.len(),
        units::size(bytes),
        head.store_id,
        plan.origin.url,
    ));
    let unreachable = |error: std::io::Error| ToolError::Unreachable {
        url: plan.origin.url.clone(),
        cause: error.to_string(),
    };
    Client::new(plan.origin.clone(), plan.timeout).connect().map_err(unreachable)?;
    let age_ms = if plan.deduct_age { age_ms(head.dumped_wall_ms) } else { 0 };
    let bar = progress::bytes(bytes, "loading");
    let work = Work {
        plan,
        entries: &entries,
        age_ms,
        next: AtomicUsize::new(0),
        report: Mutex::new(Report { url: plan.origin.url.clone(), ..Report::default() }),
        bar: &bar,
    };
    std::thread::scope(|scope| {
        for _ in 0..plan.connections.min(entries.len()) {
            scope.spawn(|| work.run());
        }
    });
    bar.finish_and_clear();
    let report = work.report.into_inner().expect("no worker has panicked");
    print(&report, plan.json)?;
    Ok(Outcome::of_problem_count(report.left_out_count))
}

/// What the workers share.
struct Work<'w> {
    plan: &'w LoadFromDumpPlan,
    entries: &'w [Entry],
    age_ms: u64,
    next: AtomicUsize,
    report: Mutex<Report>,
    bar: &'w ProgressBar,
}

/// How the push of one object ended.
enum Pushed {
    Stored,
    Expired,
    LeftOut(String),
}

impl Work<'_> {
    fn run(&self) {
        let mut client = Client::new(self.plan.origin.clone(), self.plan.timeout);
        while let Some(entry) = self.entries.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let pushed = self.push(&mut client, entry);
            self.bar.inc(entry.len);
            let mut report = self.report.lock().expect("no worker has panicked");
            match pushed {
                Pushed::Stored => {
                    report.object_count += 1;
                    report.payload_bytes += entry.len;
                }
                Pushed::Expired => report.expired_count += 1,
                Pushed::LeftOut(why) => {
                    output::plan(&format!("left out {}: {why}", entry.key));
                    report.left_out_count += 1;
                    if report.left_out.len() < LEFT_OUT_MAX {
                        report.left_out.push(LeftOut { key: entry.key.clone(), why });
                    }
                }
            }
        }
    }

    fn push(&self, client: &mut Client, entry: &Entry) -> Pushed {
        let ttl_seconds = match entry.life_ms {
            None => Some(TTL_SECONDS_MAX),
            Some(life_ms) => match life_ms.checked_sub(self.age_ms).filter(|left| *left > 0) {
                Some(left_ms) => Some(left_ms.div_ceil(1000).min(TTL_SECONDS_MAX)),
                None => return Pushed::Expired,
            },
        };
        let path = self.plan.folder.join(&entry.file);
        match hash_file(&path) {
            Err(error) => return Pushed::LeftOut(format!("{}: {error}", entry.file)),
            Ok((len, _)) if len != entry.len => {
                let why = format!("{} is {len} bytes long, not {}", entry.file, entry.len);
                return Pushed::LeftOut(why);
            }
            Ok((_, hash)) if hex(&hash.to_le_bytes()) != entry.content_hash => {
                return Pushed::LeftOut(format!("{} is damaged: its hash differs", entry.file));
            }
            Ok(_) => {}
        }
        match client.put(entry, ttl_seconds, &path) {
            Err(error) => Pushed::LeftOut(error.to_string()),
            Ok(answer) if !(200..300).contains(&answer.status) => {
                Pushed::LeftOut(format!("status {}: {}", answer.status, answer.detail))
            }
            Ok(answer) if answer.etag.as_deref() != Some(&entry.content_hash) => {
                let etag = answer.etag.unwrap_or_else(|| "none".to_owned());
                Pushed::LeftOut(format!("the origin's ETag is {etag}, not {}", entry.content_hash))
            }
            Ok(_) => Pushed::Stored,
        }
    }
}

fn age_ms(dumped_wall_ms: u64) -> u64 {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let wall_ms = wall.map_or(0, |wall: Duration| wall.as_millis() as u64);
    wall_ms.saturating_sub(dumped_wall_ms)
}

fn print(report: &Report, json: bool) -> Result<(), ToolError> {
    if json {
        return output::json(report);
    }
    output::text(&format!(
        "{}: {} objects, {} of payload; {} expired, {} left out\n",
        report.url,
        report.object_count,
        units::size(report.payload_bytes),
        report.expired_count,
        report.left_out_count,
    ))
}
