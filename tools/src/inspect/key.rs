//! One key: every version in the store, which one is served, and why.

use std::fmt::Write as _;

use serde::Serialize;
use tapeloop_format::{KeyHash, RecordHeader};

use crate::error::{Outcome, ToolError};
use crate::output;
use crate::units;
use crate::walk::{
    Store, Version, VersionKind, WINDOW_ALL, WINDOW_HEADERS, ZoneReader, check_payload,
    for_each_version, hex,
};

#[derive(Serialize)]
struct Report {
    key: String,
    key_hash: String,
    live: bool,
    why: String,
    /// Newest first.
    versions: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    lsn: u64,
    /// put or kill.
    kind: &'static str,
    zone: u32,
    lap: u64,
    zone_offset: u64,
    verdict: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<ObjectRow>,
}

#[derive(Serialize)]
struct ObjectRow {
    payload_len: u64,
    record_len: usize,
    chunk_count: usize,
    incarnation: u64,
    stored_ms: u64,
    expires_ms: u64,
    created_wall_ms: u64,
    content_hash: String,
    metadata: String,
}

pub(crate) fn run(store: &Store, key: &[u8], json: bool) -> Result<Outcome, ToolError> {
    let key_hash = store.hasher().hash(key);
    let mut versions = Vec::new();
    for_each_version(store, &mut |version| {
        if version.key_hash == key_hash {
            versions.push(version);
        }
    });
    versions
        .sort_by_key(|version| std::cmp::Reverse((version.lsn, version.kind == VersionKind::Put)));
    let report = judge(store, key, key_hash, &versions);
    if json {
        output::json(&report)?
    } else {
        output::text(&as_text(&report))?
    }
    Ok(Outcome::of_problem_count(u64::from(!report.live)))
}

/// The highest LSN decides. A version below it is dead even if the newer one has expired.
fn judge(store: &Store, key: &[u8], key_hash: KeyHash, versions: &[Version]) -> Report {
    let newest = versions.first().map_or(0, |version| version.lsn);
    let now_ms = store.now_ms();
    let mut rows = Vec::new();
    let mut live = None;
    for version in versions {
        let header = match version.kind {
            VersionKind::Put => Some(read_header(store, version)),
            VersionKind::Kill => None,
        };
        let verdict = match &header {
            None => "every older version is dead".to_owned(),
            Some(_) if version.lsn < newest => format!("superseded by LSN {newest}"),
            Some(Err(fault)) => format!("damaged: {fault}"),
            Some(Ok(header)) => verdict_on(store, version, header, now_ms),
        };
        if verdict == LIVE {
            live = Some(version.lsn);
        }
        rows.push(Row {
            lsn: version.lsn,
            kind: if header.is_some() { "put" } else { "kill" },
            zone: version.zone,
            lap: version.lap,
            zone_offset: version.offset,
            verdict,
            object: header.and_then(Result::ok).map(|header| object_row(&header)),
        });
    }
    let why = match (live, rows.iter().find(|row| row.kind == "put")) {
        (Some(lsn), _) => format!("LSN {lsn} is the newest version and has not expired"),
        (None, Some(row)) if row.lsn < newest => format!("deleted at LSN {newest}"),
        (None, Some(row)) => format!("the newest version, LSN {}, is {}", row.lsn, row.verdict),
        (None, None) => "the store holds no version of it".to_owned(),
    };
    Report {
        key: key.escape_ascii().to_string(),
        key_hash: key_hash.to_string(),
        live: live.is_some(),
        why,
        versions: rows,
    }
}

const LIVE: &str = "live";

fn verdict_on(
    store: &Store,
    version: &Version,
    header: &RecordHeader,
    now_ms: Option<u64>,
) -> String {
    let volume = store.volume_of(version.zone).expect("its header was read from there");
    let mut reader = ZoneReader::new(volume, version.zone, WINDOW_ALL);
    if let Some((fault, _)) = check_payload(&mut reader, volume.salt(), version.offset, header) {
        return format!("damaged: {fault}");
    }
    match now_ms {
        Some(now_ms) if header.expires_ms <= now_ms => {
            format!("expired {} ago", units::duration_ms(now_ms - header.expires_ms))
        }
        _ => LIVE.to_owned(),
    }
}

fn read_header(store: &Store, version: &Version) -> Result<RecordHeader, String> {
    let volume = store.volume_of(version.zone).ok_or("its volume is missing")?;
    let mut reader = ZoneReader::new(volume, version.zone, WINDOW_HEADERS);
    let block = reader.block(version.offset).map_err(|fault| fault.to_string())?;
    let len = RecordHeader::peek_len(block).map_err(|error| error.to_string())?;
    let room = volume.zone_size() - version.offset;
    if len as u64 > room {
        return Err(format!("a header of {len} bytes runs past the zone"));
    }
    let bytes = reader.bytes(version.offset, len).map_err(|fault| fault.to_string())?;
    let header = RecordHeader::decode(bytes, volume.salt()).map_err(|error| error.to_string())?;
    if header.lap != version.lap || header.lsn != version.lsn {
        return Err(format!("LSN {} of lap {} lies there", header.lsn, header.lap));
    }
    Ok(header)
}

fn object_row(header: &RecordHeader) -> ObjectRow {
    ObjectRow {
        payload_len: header.payload_len,
        record_len: header.shape().record_len,
        chunk_count: header.chunk_crcs.len(),
        incarnation: header.incarnation,
        stored_ms: header.stored_ms,
        expires_ms: header.expires_ms,
        created_wall_ms: header.created_wall_ms,
        content_hash: hex(&header.content_hash),
        metadata: header.metadata.escape_ascii().to_string(),
    }
}

fn as_text(report: &Report) -> String {
    let verdict = if report.live { "live" } else { "not live" };
    let mut text = format!("{} ({}): {verdict}: {}\n", report.key, report.key_hash, report.why);
    for row in &report.versions {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  LSN {} {} in zone {} lap {} at offset {}: {}",
            row.lsn, row.kind, row.zone, row.lap, row.zone_offset, row.verdict,
        );
        let Some(object) = &row.object else { continue };
        let _ = writeln!(
            text,
            "    {} bytes in {} chunks, stored at {}, expires at {} (store time, ms), content {}",
            object.payload_len,
            object.chunk_count,
            object.stored_ms,
            object.expires_ms,
            object.content_hash,
        );
    }
    text
}
