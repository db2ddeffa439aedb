//! `tapectl fsck --repair`: mends what can be mended without a guess, and nothing else.
//!
//! Invariants: the store is locked from before the check to after the last write. Nothing is
//! written before the plan was printed and `--yes` given, nor before every byte about to be
//! overwritten is durable in the undo file. No object that could be read before is lost: only bytes
//! that nothing intact refers to are overwritten, and only with what other intact bytes prove.

mod footer;
mod header;
mod plan;
mod tail;

use std::path::{Path, PathBuf};

use serde::Serialize;
use tapeloop_engine::VolumeFile;

use super::report;
use super::undo::UndoFile;
use crate::error::{Outcome, ToolError};
use crate::output;
use crate::walk::Store;
use plan::Plan;

/// One stretch of blocks to be overwritten.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Action {
    pub(crate) volume: u16,
    pub(crate) volume_offset: u64,
    pub(crate) len: u64,
    /// What is done, and what shows that it is safe.
    pub(crate) what: String,
    #[serde(skip)]
    pub(crate) before: Vec<u8>,
    #[serde(skip)]
    pub(crate) after: Vec<u8>,
}

impl Action {
    fn new(
        volume: u16,
        volume_offset: u64,
        what: String,
        before: Vec<u8>,
        after: Vec<u8>,
    ) -> Action {
        assert_eq!(before.len(), after.len());
        Action { volume, volume_offset, len: after.len() as u64, what, before, after }
    }
}

#[derive(Serialize)]
struct Report<'r> {
    plan: &'r [Action],
    /// What is damaged and stays as it is, and why.
    left: &'r [String],
    /// Whether the plan was carried out.
    repaired: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    undo_file: Option<String>,
    /// The store before, or after a repair.
    fsck: serde_json::Value,
}

/// The volumes of a store, locked against everybody else.
pub(super) struct Locked {
    files: Vec<(u16, VolumeFile)>,
}

impl Locked {
    pub(super) fn all_of(store: &Store) -> Result<Locked, ToolError> {
        let open = |path: &Path| VolumeFile::open_direct(path).map_err(ToolError::from);
        let volumes = store.volumes().iter();
        let files = volumes.map(|volume| Ok((volume.index(), open(&volume.path)?)));
        Ok(Locked { files: files.collect::<Result<_, ToolError>>()? })
    }

    pub(super) fn volume(&self, index: u16) -> Option<&VolumeFile> {
        self.files.iter().find(|(own, _)| *own == index).map(|(_, file)| file)
    }

    pub(super) fn sync(&self) -> Result<(), ToolError> {
        for (_, file) in &self.files {
            file.sync().map_err(|error| refused(file.path(), format!("flush failed: {error}")))?;
        }
        Ok(())
    }
}

pub(super) fn run(
    paths: &[PathBuf],
    yes: bool,
    undo_file: Option<&Path>,
    json: bool,
) -> Result<Outcome, ToolError> {
    let locked = Locked::all_of(&Store::open(paths)?)?;
    // Opened again: what was read before the lock may have changed.
    let store = Store::open(paths)?;
    output::plan(&format!("fsck --repair {}: checking first", store.paths()));
    let checked = super::check(&store, None);
    let plan = Plan::of(&store, &checked);
    print_plan(&plan);
    if !yes || plan.actions.is_empty() {
        if !plan.actions.is_empty() {
            output::plan("nothing was changed; to carry out the plan add --yes");
        }
        let problems = checked.findings.damage_count() + plan.actions.len() as u64;
        let fsck = report::value(&store, &checked.findings, &checked.totals);
        print(&plan, false, None, fsck, json, "")?;
        return Ok(Outcome::of_problem_count(problems));
    }
    let undo_path = undo_file.map_or_else(|| default_undo_path(&store), Path::to_path_buf);
    UndoFile::of(store.store_id(), &plan.actions).write(&undo_path)?;
    output::plan(&format!("what is overwritten is kept in {}", undo_path.display()));
    carry_out(&locked, &plan.actions)?;
    let store = Store::open(paths)?;
    let after = super::check(&store, None);
    let undo = undo_path.display().to_string();
    let text = format!(
        "repaired {} places; to take it back: tapectl fsck --undo {undo} {}\n{}",
        plan.actions.len(),
        store.paths(),
        report::as_text(&store, &after.findings, &after.totals),
    );
    let fsck = report::value(&store, &after.findings, &after.totals);
    print(&plan, true, Some(undo), fsck, json, &text)?;
    Ok(Outcome::of_problem_count(after.findings.damage_count()))
}

/// Writes the actions in their order, each durable before the next.
fn carry_out(locked: &Locked, actions: &[Action]) -> Result<(), ToolError> {
    for action in actions {
        let file = locked.volume(action.volume).expect("planned for a volume that is here");
        let failed = |error: std::io::Error| {
            refused(file.path(), format!("at offset {}: {error}", action.volume_offset))
        };
        let mut now = vec![0; action.before.len()];
        file.read_at(&mut now, action.volume_offset).map_err(failed)?;
        if now != action.before {
            let cause = format!("changed at offset {} since it was checked", action.volume_offset);
            return Err(refused(file.path(), cause));
        }
        file.write_at(&action.after, action.volume_offset).map_err(failed)?;
        file.sync().map_err(failed)?;
    }
    Ok(())
}

fn print_plan(plan: &Plan) {
    for action in &plan.actions {
        output::plan(&format!(
            "plan: volume {} offset {}, {} bytes: {}",
            action.volume, action.volume_offset, action.len, action.what,
        ));
    }
    for left in &plan.left {
        output::plan(&format!("left as it is: {left}"));
    }
    if plan.actions.is_empty() {
        output::plan("nothing to repair");
    }
}

fn print(
    plan: &Plan,
    repaired: bool,
    undo_file: Option<String>,
    fsck: serde_json::Value,
    json: bool,
    text: &str,
) -> Result<(), ToolError> {
    if !json {
        return output::text(text);
    }
    output::json(&Report { plan: &plan.actions, left: &plan.left, repaired, undo_file, fsck })
}

/// Beside the first volume; for a device in the current folder.
fn default_undo_path(store: &Store) -> PathBuf {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let wall_ms = now.map_or(0, |now| now.as_millis());
    let first = &store.volumes()[0];
    let mut name = match first.is_device() {
        true => std::ffi::OsString::from("tapeloop-device"),
        false => first.path.clone().into_os_string(),
    };
    name.push(format!(".undo-{wall_ms}"));
    PathBuf::from(name)
}

pub(super) fn refused(path: &Path, cause: String) -> ToolError {
    ToolError::Volume { path: path.to_owned(), cause, advice: "nothing more was written" }
}
