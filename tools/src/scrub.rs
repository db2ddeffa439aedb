//! `tapectl scrub`: what the scrub of a running origin has done and found; with `--now` a cycle at
//! once, followed to its end.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::Value;

use crate::admin::{Admin, AdminUrl};
use crate::error::{Outcome, ToolError};
use crate::output;
use crate::progress;
use crate::units;

const PATH: &str = "/api/v1/scrub";
/// How often a cycle is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// A cycle that is kept from going on for so long is not waited for.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A validated `scrub`.
#[derive(Debug, Clone)]
pub(crate) struct ScrubPlan {
    pub(crate) admin: AdminUrl,
    pub(crate) now: bool,
    pub(crate) json: bool,
}

#[derive(Debug, Deserialize)]
struct Scrub {
    share_percent: f64,
    cycle_s: Option<u64>,
    damage_count: u64,
    omitted_count: u64,
    volumes: Vec<Volume>,
    damage: Vec<Damage>,
}

/// The scrub of one volume.
#[derive(Debug, Deserialize)]
pub(crate) struct Volume {
    pub(crate) volume: u16,
    pub(crate) state: String,
    pub(crate) cause: Option<String>,
    pub(crate) cycle: u64,
    pub(crate) progress: f64,
    bytes_read: u64,
    objects_read: u64,
    pub(crate) last: Option<Last>,
}

/// A cycle that came to its end.
#[derive(Debug, Deserialize)]
pub(crate) struct Last {
    pub(crate) cycle: u64,
    pub(crate) ended_wall_ms: u64,
    duration_ms: u64,
    bytes_read: u64,
    objects_read: u64,
}

#[derive(Debug, Deserialize)]
struct Damage {
    part: String,
    key: Option<String>,
    key_hash: Option<String>,
    volume: u16,
    zone: u32,
    lap: u64,
    offset: u64,
    volume_offset: u64,
    reason: String,
}

#[derive(Debug, Deserialize)]
struct Begun {
    cycles: Vec<BegunCycle>,
}

#[derive(Debug, Deserialize)]
struct BegunCycle {
    volume: u16,
    cycle: u64,
}

/// Runs it and prints the report.
pub(crate) fn run(plan: &ScrubPlan) -> Result<Outcome, ToolError> {
    let mut admin = Admin::new(&plan.admin)?;
    if plan.now {
        output::plan(
            "scrub: reading all live data once, in the place of a cycle under way; nothing is \
             written",
        );
        let begun = admin.post(PATH)?;
        follow(&mut admin, &begun)?;
    }
    let document: Value = admin.get(PATH)?;
    let damage_count = if plan.json {
        output::json(&document)?;
        document["damage_count"].as_u64()
    } else {
        let report = read(document)?;
        output::text(&as_text(&report, wall_ms()))?;
        Some(report.damage_count)
    };
    match damage_count {
        Some(count) => Ok(Outcome::of_problem_count(count)),
        None => Err(strange("it does not say how much is damaged")),
    }
}

fn read(document: Value) -> Result<Scrub, ToolError> {
    serde_json::from_value(document).map_err(strange)
}

fn strange(cause: impl std::fmt::Display) -> ToolError {
    ToolError::Scrub(format!("not an answer of this release: {cause}"))
}

/// Until every volume has come to the end of the cycle that was begun, or cannot.
fn follow(admin: &mut Admin, begun: &Begun) -> Result<(), ToolError> {
    let bar = progress::part("scrubbing");
    let followed = watch(admin, begun, &bar);
    bar.finish_and_clear();
    followed
}

fn watch(admin: &mut Admin, begun: &Begun, bar: &ProgressBar) -> Result<(), ToolError> {
    let mut moving = Instant::now();
    loop {
        let report = read(admin.get(PATH)?)?;
        let wanted = |volume: &Volume| {
            let of = begun.cycles.iter().find(|cycle| cycle.volume == volume.volume);
            of.map_or(0, |cycle| cycle.cycle)
        };
        let is_done =
            |volume: &Volume| volume.last.as_ref().is_some_and(|last| last.cycle >= wanted(volume));
        bar.set_position(progress::PART_WHOLE * share(&report.volumes, is_done) / 1000);
        let mut left = report.volumes.iter().filter(|volume| !is_done(volume)).peekable();
        if left.peek().is_none() {
            return Ok(());
        }
        let stuck: Option<Vec<&Volume>> =
            left.map(|volume| (volume.state != "running").then_some(volume)).collect();
        // A cycle asked for a moment ago may not have begun.
        match stuck.as_deref() {
            Some([volume, ..]) if volume.state == "stopped" => return Err(paused(volume)),
            Some([volume, ..]) if moving.elapsed() > PAUSE_MAX => return Err(paused(volume)),
            Some(_) => {}
            None => moving = Instant::now(),
        }
        std::thread::sleep(LOOK);
    }
}

fn paused(volume: &Volume) -> ToolError {
    let cause = volume.cause.as_deref().unwrap_or("the store is being closed");
    ToolError::Scrub(format!(
        "volume {}: {} and cannot go on: {cause}",
        volume.volume, volume.state
    ))
}

/// What is done, in thousandths.
fn share(volumes: &[Volume], is_done: impl Fn(&Volume) -> bool) -> u64 {
    let done = |volume: &Volume| if is_done(volume) { 1.0 } else { volume.progress };
    let sum: f64 = volumes.iter().map(done).sum();
    (sum * 1000.0 / volumes.len().max(1) as f64) as u64
}

fn wall_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

fn as_text(report: &Scrub, now_ms: u64) -> String {
    let mut text = String::new();
    for damage in &report.damage {
        line(&mut text, damage);
    }
    // Writing to a String cannot fail.
    let _ = match report.cycle_s {
        Some(cycle_s) => writeln!(
            text,
            "all live data within {}, with {} % of each drive's time",
            units::duration_ms(cycle_s * 1000),
            report.share_percent,
        ),
        None => writeln!(
            text,
            "only when asked (`tapectl scrub --now`), with {} % of each drive's time",
            report.share_percent,
        ),
    };
    for volume in &report.volumes {
        let _ = writeln!(text, "volume {}: {}", volume.volume, volume_line(volume, now_ms));
    }
    if report.omitted_count > 0 {
        let _ = writeln!(text, "{} more are damaged and not listed", report.omitted_count);
    }
    let has_whole = report.volumes.iter().all(|volume| volume.last.is_some());
    let _ = match (report.damage_count, has_whole) {
        (0, true) => writeln!(text, "clean"),
        (0, false) => writeln!(text, "clean so far: not everything has been read yet"),
        (count, _) => writeln!(text, "{count} damaged"),
    };
    text
}

/// What one volume's scrub does, and when it last came to its end.
fn volume_line(volume: &Volume, now_ms: u64) -> String {
    let mut text = match (volume.state.as_str(), &volume.last) {
        ("waiting", Some(_)) => "waiting for its next cycle".to_owned(),
        ("waiting", None) => "waiting for its first cycle".to_owned(),
        (state, _) => format!(
            "cycle {} {state}, {:.1} % done, {} and {} objects read",
            volume.cycle,
            volume.progress * 100.0,
            units::size(volume.bytes_read),
            volume.objects_read,
        ),
    };
    if let Some(cause) = &volume.cause {
        let _ = write!(text, " ({cause})");
    }
    if let Some(last) = &volume.last {
        let _ = write!(
            text,
            "; cycle {} ended {} ago after {}: {} and {} objects",
            last.cycle,
            units::duration_ms(now_ms.saturating_sub(last.ended_wall_ms)),
            units::duration_ms(last.duration_ms),
            units::size(last.bytes_read),
            last.objects_read,
        );
    }
    text
}

fn line(text: &mut String, damage: &Damage) {
    let Damage { part, volume, zone, lap, offset, volume_offset, reason, .. } = damage;
    let _ = write!(
        text,
        "damaged {part}, volume {volume} zone {zone} lap {lap} offset {offset}, volume offset \
         {volume_offset}",
    );
    let _ = match (&damage.key, &damage.key_hash) {
        (Some(key), _) => write!(text, ", key {key}"),
        (None, Some(hash)) => write!(text, ", key hash {hash}"),
        (None, None) => Ok(()),
    };
    let _ = writeln!(text, ": {reason}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(damage_count: u64, last: Value) -> Value {
        let counts = serde_json::json!({
            "volume": 0, "state": "waiting", "cause": null, "cycle": 2, "progress": 0.5,
            "bytes_read": 1048576, "objects_read": 7, "last": last,
        });
        serde_json::json!({
            "share_percent": 5.0, "cycle_s": 604_800, "damage_count": damage_count,
            "omitted_count": 0, "volumes": [counts], "damage": [],
        })
    }

    #[test]
    fn nothing_found_is_called_clean_only_after_a_whole_cycle() {
        let report = read(document(0, Value::Null)).unwrap();
        assert!(as_text(&report, 0).contains("clean so far"));
        let last = serde_json::json!({
            "cycle": 1, "ended_wall_ms": 1000, "duration_ms": 2000, "bytes_read": 5,
            "objects_read": 1,
        });
        let text = as_text(&read(document(0, last.clone())).unwrap(), 61_000);
        assert!(text.ends_with("\nclean\n") && text.contains("ended 60.0s ago"), "{text}");
        let text = as_text(&read(document(3, last)).unwrap(), 61_000);
        assert!(text.ends_with("\n3 damaged\n"), "{text}");
    }

    #[test]
    fn a_finding_is_one_line_with_its_key_and_place() {
        let mut text = String::new();
        let damage = serde_json::json!({
            "part": "object", "key": "live/a b", "key_hash": "00", "volume": 1, "zone": 17,
            "lap": 3, "offset": 8192, "volume_offset": 9_000_000, "reason": "bad",
        });
        line(&mut text, &serde_json::from_value(damage).unwrap());
        assert_eq!(
            text,
            "damaged object, volume 1 zone 17 lap 3 offset 8192, volume offset 9000000, key \
             live/a b: bad\n"
        );
    }
}
