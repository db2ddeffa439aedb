//! The records of one zone, from their headers.

use std::fmt::Write as _;

use serde::Serialize;
use tapeloop_format::{RecordHeader, RecordKind};

use crate::error::{Outcome, ToolError};
use crate::output;
use crate::units;
use crate::walk::{Footer, Found, RecordScan, Store, Volume, WINDOW_HEADERS, ZoneReader, ZoneView};

/// One record, or a place that should hold one.
#[derive(Debug, Serialize)]
pub(crate) struct RecordRow {
    pub(crate) offset: u64,
    pub(crate) record_len: u64,
    /// put, tombstone, carry, void or unreadable.
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lsn: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload_len: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stored_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_ms: Option<u64>,
    /// Zone and lap that held the version this one took the place of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) supersedes: Option<(u32, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

#[derive(Serialize)]
struct Report {
    zone: u32,
    volume: u16,
    state: &'static str,
    lap: u64,
    durable_len: u64,
    records: Vec<RecordRow>,
    problems: Vec<String>,
}

pub(crate) fn run(store: &Store, zone: u32, json: bool) -> Result<Outcome, ToolError> {
    let Some(volume) = store.volume_of(zone) else {
        let last = store.zone_count() - 1;
        return Err(ToolError::Flag {
            flag: "--zone",
            value: zone.to_string(),
            allowed: format!("this store has zones 0 to {last}, as far as volumes are given"),
        });
    };
    let view = ZoneView::read(volume, zone);
    let footer = Footer::read(volume, &view);
    let records = records_in(volume, &view, &footer);
    let own = [&view.header_fault, &view.trailer_fault].into_iter().flatten();
    let mut problems: Vec<String> = own.map(ToString::to_string).collect();
    problems.extend(footer.faults.iter().map(|(table, fault)| format!("{table:?}: {fault}")));
    problems.extend(records.iter().filter_map(|record| record.problem.clone()));
    let report = Report {
        zone,
        volume: volume.index(),
        state: view.state.name(),
        lap: view.lap(),
        durable_len: view.durable_len,
        records,
        problems,
    };
    if json {
        output::json(&report)?
    } else {
        output::text(&as_text(&report))?
    }
    Ok(Outcome::of_problem_count(report.problems.len() as u64))
}

/// All records of a zone, payloads unread.
pub(crate) fn records_in(volume: &Volume, view: &ZoneView, footer: &Footer) -> Vec<RecordRow> {
    let mut reader = ZoneReader::new(volume, view.zone, WINDOW_HEADERS);
    let mut rows = Vec::new();
    let Some(mut scan) = RecordScan::new(volume, view, footer) else { return rows };
    while let Some(found) = scan.next(&mut reader) {
        rows.push(match found {
            Found::Record { offset, header } => row(offset, &header, None),
            Found::Mended { offset, mended, fault } => {
                row(offset, &mended.header, Some(fault.to_string()))
            }
            Found::Unreadable(place) => RecordRow {
                offset: place.offset,
                record_len: place.len,
                kind: "unreadable",
                key: place.listed.and_then(|put| put.key).map(|key| key.escape_ascii().to_string()),
                lsn: None,
                payload_len: None,
                stored_ms: None,
                expires_ms: None,
                supersedes: None,
                problem: Some(place.fault.to_string()),
            },
        });
    }
    rows
}

fn row(offset: u64, header: &RecordHeader, problem: Option<String>) -> RecordRow {
    let is_put = header.kind == RecordKind::Put;
    RecordRow {
        offset,
        record_len: header.shape().record_len as u64,
        kind: match header.kind {
            RecordKind::Put => "put",
            RecordKind::Tombstone => "tombstone",
            RecordKind::Carry => "carry",
            RecordKind::Void => "void",
        },
        key: (!header.key.is_empty()).then(|| header.key.escape_ascii().to_string()),
        lsn: Some(header.lsn),
        payload_len: Some(header.payload_len),
        stored_ms: is_put.then_some(header.stored_ms),
        expires_ms: is_put.then_some(header.expires_ms),
        supersedes: header.victim.map(|victim| (victim.zone, victim.lap)),
        problem,
    }
}

fn as_text(report: &Report) -> String {
    let mut text = format!(
        "zone {} {}, lap {}, {} records\n{:>11} {:>11} {:>10} {:<10} {:>12}  key\n",
        report.zone,
        report.state,
        report.lap,
        report.records.len(),
        "offset",
        "bytes",
        "LSN",
        "kind",
        "payload",
    );
    for record in &report.records {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:>11} {:>11} {:>10} {:<10} {:>12}  {}",
            record.offset,
            record.record_len,
            record.lsn.map_or_else(|| "?".to_owned(), |lsn| lsn.to_string()),
            record.kind,
            record.payload_len.map_or_else(String::new, units::size),
            record.key.as_deref().unwrap_or(""),
        );
    }
    for problem in &report.problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    text
}
