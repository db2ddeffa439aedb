//! `tapectl format`: makes a store, after saying what it will make. Replaces nothing.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tapeloop_engine::{Geometry, VolumeFile, volume_path};
use tapeloop_format::{BLOCK, FormatError, StoreGeometry, VolumeHeader};

use crate::error::{Outcome, ToolError};
use crate::output;
use crate::progress;
use crate::units;

/// A validated `format`.
#[derive(Debug, Clone)]
pub(crate) struct FormatPlan {
    /// One volume each.
    pub(crate) paths: Vec<PathBuf>,
    /// Of each volume.
    pub(crate) capacity: u64,
    /// Do not ask.
    pub(crate) yes: bool,
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Report {
    paths: Vec<String>,
    store_id: String,
    /// Of each volume.
    volume_len: u64,
    zone_size: u64,
    zone_count: u32,
    object_len_max: u64,
}

/// Runs it.
pub(crate) fn run(plan: &FormatPlan) -> Result<Outcome, ToolError> {
    // A directory is what `tapeloop --data` takes too: the volume is a file in it.
    let in_folder = |path: &PathBuf| if path.is_dir() { volume_path(path) } else { path.clone() };
    let paths: Vec<PathBuf> = plan.paths.iter().map(in_folder).collect();
    let count = u16::try_from(paths.len()).unwrap_or(u16::MAX);
    let geometry = Geometry::for_capacity(plan.capacity)
        .and_then(|geometry| StoreGeometry::new(geometry, count).map(|_| geometry));
    let geometry = geometry.map_err(|error| ToolError::Flag {
        flag: "--capacity",
        value: units::size(plan.capacity),
        allowed: error.to_string(),
    })?;
    paths.iter().try_for_each(|path| refuse_existing(path))?;
    let named = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    let each = if paths.len() > 1 { " each" } else { "" };
    output::plan(&format!(
        "format {}: {}{each} in {} zones of {}, all of it written out; objects up to {}",
        named.join(" "),
        units::size(geometry.volume_len()),
        geometry.zone_count(),
        units::size(geometry.zone_size()),
        units::size(tapeloop_engine::object_len_max(&geometry)),
    ));
    if !plan.yes {
        confirm(&named.join(" "))?;
    }
    let bar = progress::bytes(geometry.volume_len() * paths.len() as u64, "formatting");
    let store_id =
        tapeloop_engine::format(&paths, plan.capacity, &mut |done, _| bar.set_position(done))
            .map_err(|error| ToolError::Create(error.to_string()))?;
    bar.finish_and_clear();
    if plan.json {
        output::json(&Report {
            paths: named,
            store_id: store_id.to_string(),
            volume_len: geometry.volume_len(),
            zone_size: geometry.zone_size(),
            zone_count: geometry.zone_count() * paths.len() as u32,
            object_len_max: tapeloop_engine::object_len_max(&geometry),
        })?;
    } else {
        let flags = named.iter().map(|path| format!("--data {path}")).collect::<Vec<_>>();
        output::text(&format!(
            "made store {store_id}; serve it with: tapeloop {}\n",
            flags.join(" ")
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

fn confirm(paths: &str) -> Result<(), ToolError> {
    let declined = |why: &str| ToolError::Create(format!("{paths}: {why}; nothing was changed"));
    if !io::stdin().is_terminal() {
        return Err(declined("not confirmed: pass --yes when there is no terminal to ask on"));
    }
    eprint!("go ahead? [y/N] ");
    io::stderr().flush().map_err(ToolError::Output)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(ToolError::Output)?;
    if answer.trim().eq_ignore_ascii_case("y") { Ok(()) } else { Err(declined("not confirmed")) }
}
