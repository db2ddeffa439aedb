//! The disk format as this release knows it: constants, and every field of every structure.

use std::fmt::Write as _;

use serde::Serialize;
use tapeloop_format as format;

use crate::error::{Outcome, ToolError};
use crate::output;

#[derive(Serialize)]
struct Constant {
    name: &'static str,
    value: u64,
}

#[derive(Serialize)]
struct Structure {
    name: &'static str,
    len: usize,
    fields: Vec<FieldRow>,
}

#[derive(Serialize)]
struct FieldRow {
    offset: usize,
    len: usize,
    name: &'static str,
}

#[derive(Serialize)]
struct Report {
    constants: Vec<Constant>,
    structures: Vec<Structure>,
}

pub(crate) fn run(json: bool) -> Result<Outcome, ToolError> {
    let structures = format::layouts().into_iter().map(|layout| Structure {
        name: layout.name,
        len: layout.len(),
        fields: layout
            .fields
            .iter()
            .map(|field| FieldRow { offset: field.offset, len: field.len, name: field.name })
            .collect(),
    });
    let report = Report { constants: constants(), structures: structures.collect() };
    if json {
        output::json(&report)?
    } else {
        output::text(&as_text(&report))?
    }
    Ok(Outcome::Clean)
}

fn constants() -> Vec<Constant> {
    let constant = |name, value| Constant { name, value };
    vec![
        constant("format_version", u64::from(format::FORMAT_VERSION)),
        constant("block", format::BLOCK as u64),
        constant("chunk", format::CHUNK as u64),
        constant("header_a_offset", 0),
        constant("checkpoint_slot_0_offset", format::CHECKPOINT_SLOTS[0]),
        constant("checkpoint_slot_1_offset", format::CHECKPOINT_SLOTS[1]),
        constant("carry_journal_offset", format::CARRY_JOURNAL_OFFSET),
        constant("carry_journal_len", format::CARRY_JOURNAL_LEN),
        constant("data_offset", format::DATA_OFFSET),
        constant("zone_size_min", format::ZONE_SIZE_MIN),
        constant("zone_size_max", format::ZONE_SIZE_MAX),
        constant("zone_count_min", u64::from(format::ZONE_COUNT_MIN)),
        constant("zone_count_max", u64::from(format::ZONE_COUNT_MAX)),
        constant("capacity_min", format::CAPACITY_MIN),
        constant("key_len_max", format::KEY_LEN_MAX as u64),
        constant("metadata_len_max", format::METADATA_LEN_MAX as u64),
        constant("open_zones_max", format::OPEN_ZONES_MAX as u64),
        constant("record_fixed_len", format::RECORD_FIXED_LEN as u64),
        constant("record_header_len_max", format::RECORD_HEADER_LEN_MAX as u64),
    ]
}

fn as_text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for Constant { name, value } in &report.constants {
        let _ = writeln!(text, "{name:<26}{value:>12}");
    }
    for structure in &report.structures {
        let _ = writeln!(text, "\n{} ({} bytes)", structure.name, structure.len);
        for FieldRow { offset, len, name } in &structure.fields {
            let _ = writeln!(text, "{offset:>6} {len:>6}  {name}");
        }
    }
    text
}
