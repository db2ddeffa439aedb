//! In the place of tapectl's output: everything is made, nothing is shown.

use std::io::sink;

use serde::Serialize;

use crate::error::ToolError;

pub(crate) fn json(value: &impl Serialize) -> Result<(), ToolError> {
    serde_json::to_writer_pretty(sink(), value).map_err(|error| ToolError::Output(error.into()))
}

pub(crate) fn text(text: &str) -> Result<(), ToolError> {
    assert!(text.is_empty() || text.ends_with('\n'), "a report ends its last line");
    Ok(())
}

pub(crate) fn plan(line: &str) {
    assert!(!line.is_empty(), "a plan says something");
}
