//! The scrub over the admin plane: its progress and findings, and a cycle at once.

use super::Watched;
use axum::Json;
use axum::extract::State;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use serde::Serialize;
use std::fmt::Error;
use std::sync::Arc;
use tapeloop_engine::{
    Engine, ScrubActivity, ScrubCounts, ScrubCycle, ScrubFinding, ScrubReport, VolumeScrub,
};

/// `GET /api/v1/scrub`.
#[derive(Debug, Serialize)]
struct Scrub {
    share_percent: f64,
    /// What it takes at most to keep to its cycle.
    share_percent_max: f64,
    /// `null`: only when asked.
    cycle_s: Option<u64>,
    #[serde(flatten)]
    summary: Summary,
    /// Damage that is counted but not listed.
    omitted_count: u64,
    damage: Vec<Damage>,
}

/// The part that the status document shows as well.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    damage_count: u64,
    volumes: Vec<Volume>,
}

#[derive(Debug, Serialize)]
struct Volume {
    volume: u16,
    state: &'static str,
    cause: Option<String>,
    cycle: u64,
    progress: f64,
    #[serde(flatten)]
    counts: Counts,
    cycles_completed: u64,
    last: Option<Last>,
    bytes_read_total: u64,
    objects_damaged_total: u64,
}

#[derive(Debug, Serialize)]
struct Counts {
    bytes_read: u64,
    objects_read: u64,
    objects_damaged: u64,
    structures_damaged: u64,
}

#[derive(Debug, Serialize)]
struct Last {
    cycle: u64,
    ended_wall_ms: u64,
    duration_ms: u64,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Debug, Serialize)]
struct Damage {
    part: String,
    key: Option<String>,
    key_hash: Option<String>,
    volume: u16,
    zone: u32,
    lap: u64,
    offset: u64,
    volume_offset: u64,
    bytes: u32,
    reason: String,
    found_wall_ms: u64,
}

/// The answer to `POST /api/v1/scrub`.
#[derive(Debug, Serialize)]
struct Begun {
    cycles: Vec<BegunCycle>,
}

#[derive(Debug, Serialize)]
struct BegunCycle {
    volume: u16,
    cycle: u64,
}

pub(super) async fn show(State(watched): State<Arc<Watched>>) -> Response {
    let report = watched.engine.0.scrub_report();
    let percent = |permille: u16| f64::from(permille) / 10.0;
    Json(Scrub {
        share_percent: percent(report.options.share_permille),
        share_percent_max: percent(report.options.share_permille_max()),
        cycle_s: report.options.cycle.map(|cycle| cycle.as_secs()),
        omitted_count: report.omitted(),
        damage: report.findings.iter().map(Damage::of).collect(),
        summary: Summary::of(&report),
    })
    .into_response()
}

pub(super) async fn begin(State(watched): State<Arc<Watched>>, headers: HeaderMap) -> Response {
    // Browsers send a page's requests to any address they can reach, this one too.
    if is_from_elsewhere(&headers) {
        let text = "a page of another origin may not do this\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let engine = &watched.engine.0;
    let volumes = engine.scrub_report().volumes;
    let cycles = volumes
        .iter()
        .zip(engine.scrub_now())
        .map(|(volume, cycle)| BegunCycle { volume: volume.volume, cycle })
        .collect();
    (StatusCode::ACCEPTED, Json(Begun { cycles })).into_response()
}

fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let host = headers.get(HOST).map_or(&b""[..], |host| host.as_bytes());
    origin.as_bytes().strip_prefix(b"http://") != Some(host)
}

impl Summary {
    pub(super) fn of(report: &ScrubReport) -> Summary {
        Summary {
            damage_count: report.damage_count(),
            volumes: report.volumes.iter().map(Volume::of).collect(),
        }
    }
}

impl Volume {
    fn of(volume: &VolumeScrub) -> Volume {
        let (state, cause) = match &volume.activity {
            ScrubActivity::Waiting => ("waiting", None),
            ScrubActivity::Running => ("running", None),
            ScrubActivity::Paused { cause } => ("paused", Some(cause.clone())),
            ScrubActivity::Stopped => ("stopped", None),
        };
        Volume {
            volume: volume.volume,
            state,
            cause,
            cycle: volume.cycle,
            progress: volume.progress,
            counts: Counts::of(&volume.counts),
            cycles_completed: volume.cycles_completed,
            last: volume.last.as_ref().map(Last::of),
            bytes_read_total: volume.total.bytes_read,
            objects_damaged_total: volume.total.objects_damaged,
        }
    }
}

impl Counts {
    fn of(counts: &ScrubCounts) -> Counts {
        let ScrubCounts { bytes_read, objects_read, objects_damaged, structures_damaged } = *counts;
        Counts { bytes_read, objects_read, objects_damaged, structures_damaged }
    }
}

impl Last {
    fn of(cycle: &ScrubCycle) -> Last {
        Last {
            cycle: cycle.number,
            ended_wall_ms: cycle.ended_wall_ms,
            duration_ms: u64::try_from(cycle.duration.as_millis()).unwrap_or(u64::MAX),
            counts: Counts::of(&cycle.counts),
        }
    }
}

impl Damage {
    fn of(finding: &ScrubFinding) -> Damage {
        let text = |key: &tapeloop_engine::Key| String::from_utf8_lossy(key).into_owned();
        Damage {
            part: finding.part.to_string(),
            key: finding.key.as_ref().map(text),
            key_hash: finding.key_hash.map(|hash| hash.to_string()),
            volume: finding.volume,
            zone: finding.zone,
            lap: finding.lap,
            offset: finding.offset,
            volume_offset: finding.volume_offset,
            bytes: finding.len,
            reason: finding.fault.to_string(),
            found_wall_ms: finding.found_wall_ms,
        }
    }
}

/// One counter of one volume.
type Read = fn(&VolumeScrub) -> u64;
/// One gauge of one volume.
type Measure = fn(&VolumeScrub) -> f64;

pub(super) fn metrics(encoder: &mut DescriptorEncoder<'_>, engine: &Engine) -> Result<(), Error> {
    let report = engine.scrub_report();
    let volumes = &report.volumes;
    let counters: [(&str, &str, Read); 5] = [
        ("scrub_bytes_read", "Bytes read by the scrub", |one| one.total.bytes_read),
        ("scrub_objects_read", "Objects verified by the scrub", |one| one.total.objects_read),
        (
            "scrub_objects_damaged",
            "Damaged objects met by the scrub, each once in a cycle",
            |one| one.total.objects_damaged,
        ),
        ("scrub_structures_damaged", "Damaged footers and zone headers met by the scrub", |one| {
            one.total.structures_damaged
        }),
        ("scrub_cycles_completed", "Whole cycles of the scrub", |one| one.cycles_completed),
    ];
    for (name, help, of) in counters {
        family(encoder, (name, help, MetricType::Counter), volumes, |mut metric, one| {
            metric.encode_counter::<NoLabelSet, _, u64>(&of(one), None)
        })?;
    }
    let progress = "Part of the scrub's cycle that is done, 0 to 1";
    let progress = ("scrub_cycle_progress_ratio", progress, MetricType::Gauge);
    family(encoder, progress, volumes, |mut metric, one| metric.encode_gauge(&one.progress))?;
    let gauges: [(&str, &str, Measure); 3] = [
        (
            "scrub_last_cycle_timestamp_seconds",
            "Unix time at which the last whole cycle ended; 0 before the first",
            |one| one.last.map_or(0.0, |last| last.ended_wall_ms as f64 / 1e3),
        ),
        ("scrub_last_cycle_seconds", "What the last whole cycle took", |one| {
            one.last.map_or(0.0, |last| last.duration.as_secs_f64())
        }),
        ("scrub_paused", "1 while something keeps the scrub from its volume", |one| {
            f64::from(u8::from(matches!(one.activity, ScrubActivity::Paused { .. })))
        }),
    ];
    for (name, help, of) in gauges {
        let family_of = (name, help, MetricType::Gauge);
        family(encoder, family_of, volumes, |mut metric, one| metric.encode_gauge(&of(one)))?;
    }
    let known = "Damage that the scrub knows of now";
    let known = encoder.encode_descriptor("scrub_damage_known", known, None, MetricType::Gauge);
    known?.encode_gauge(&report.damage_count())
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, kind): (&str, &str, MetricType),
    volumes: &[VolumeScrub],
    encode: impl Fn(MetricEncoder<'_>, &VolumeScrub) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for one in volumes {
        let labels = [("volume", one.volume.to_string())];
        encode(metric.encode_family(&labels)?, one)?;
    }
    Ok(())
}
