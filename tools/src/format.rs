//! `tapectl format`: makes a store, after saying what it will make. Replaces nothing.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tapeloop_engine::{Geometry, VolumeFile, volume_path};
use tapeloop_format::{BLOCK, FormatError, VolumeHeader};

use crate::error::{Outcome, ToolError};
use crate::output;
use crate::progress;
use crate::units;

/// A validated `format`.
#[derive(Debug, Clone)]
pub(crate) struct FormatPlan {
    pub(crate) path: PathBuf,
    pub(crate) capacity: u64,
    /// Do not ask.
    pub(crate) yes: bool,
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Report {
    path: String,
    store_id: String,
    volume_len: u64,
    zone_size: u64,
    zone_count: u32,
    object_len_max: u64,
}

/// Runs it.
pub(crate) fn run(plan: &FormatPlan) -> Result<Outcome, ToolError> {
    // A directory is what `tapeloop --data` takes too: the volume is a file in it.
    let path = if plan.path.is_dir() { volume_path(&plan.path) } else { plan.path.clone() };
    let geometry = Geometry::for_capacity(plan.capacity).map_err(|error| ToolError::Flag {
        flag: "--capacity",
        value: units::size(plan.capacity),
        allowed: error.to_string(),
    })?;
    refuse_existing(&path)?;
    output::plan(&format!(
        "format {}: {} in {} zones of {}, all of it written out; objects up to {}",
        path.display(),
        units::size(geometry.volume_len()),
        geometry.zone_count(),
        units::size(geometry.zone_size()),
        units::size(tapeloop_engine::object_len_max(&geometry)),
    ));
    if !plan.yes {
        confirm(&path)?;
    }
    let bar = progress::bytes(geometry.volume_len(), "formatting");
    let store_id =
        tapeloop_engine::format(&path, plan.capacity, &mut |done, _| bar.set_position(done))
            .map_err(|error| ToolError::Create(error.to_string()))?;
    bar.finish_and_clear();
    let report = Report {
        path: path.display().to_string(),
        store_id: store_id.to_string(),
        volume_len: geometry.volume_len(),
        zone_size: geometry.zone_size(),
        zone_count: geometry.zone_count(),
        object_len_max: tapeloop_engine::object_len_max(&geometry),
    };
    if plan.json {
        output::json(&report)?;
    } else {
        output::text(&format!(
            "made store {store_id}; serve it with: tapeloop --data {}\n",
            path.display()
        ))?;
    }
    Ok(Outcome::Clean)
}

/// A file is refused whatever it holds; a device only if it holds a store.
fn refuse_existing(path: &Path) -> Result<(), ToolError> {
    if !path.exists() {
        return Ok(());
    }
    let volume = VolumeFile::open_read_only(path)?;
    let exists = |what: &str, advice: &str| {
        ToolError::Create(format!("{}: {what}; {advice}", path.display()))
    };
    let mut block = [0; BLOCK];
    let holds_store = volume.read_at(&mut block, 0).is_ok()
        && !matches!(VolumeHeader::decode(&block), Err(FormatError::NotTapeloop { .. }));
    match (holds_store, volume.is_device()) {
        (true, true) => Err(exists("holds a store", "wipe it first if it may go (wipefs, dd)")),
        (true, false) => Err(exists("holds a store", "remove it first if it may go")),
        (false, false) => Err(exists("exists already", "remove it first or choose another path")),
        (false, true) => Ok(()),
    }
}

fn confirm(path: &Path) -> Result<(), ToolError> {
    let declined =
        |why: &str| ToolError::Create(format!("{}: {why}; nothing was changed", path.display()));
    if !io::stdin().is_terminal() {
        return Err(declined("not confirmed: pass --yes when there is no terminal to ask on"));
    }
    eprint!("go ahead? [y/N] ");
    io::stderr().flush().map_err(ToolError::Output)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(ToolError::Output)?;
    if answer.trim().eq_ignore_ascii_case("y") { Ok(()) } else { Err(declined("not confirmed")) }
}
