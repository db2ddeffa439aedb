//! Where results go: one JSON document or plain lines on standard output; plans and notes on
//! standard error, so that `--json` output can always be piped.

use std::io::{self, Write};

use serde::Serialize;

use crate::error::ToolError;

/// Prints one JSON document.
pub(crate) fn json(value: &impl Serialize) -> Result<(), ToolError> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)
        .map_err(|error| ToolError::Output(error.into()))?;
    finish(&mut out, "\n")
}

/// Prints finished text.
pub(crate) fn text(text: &str) -> Result<(), ToolError> {
    finish(&mut io::stdout().lock(), text)
}

/// Says what is about to happen.
pub(crate) fn plan(line: &str) {
    eprintln!("{line}");
}

/// A reader that went away (`tapectl inspect | head`) is not an error.
fn finish(out: &mut impl Write, text: &str) -> Result<(), ToolError> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(ToolError::Output),
    }
}
