//! Folders of a run, removed with it.

use crate::error::{BenchError, Context, Result};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder that is removed when this is dropped.
pub(crate) struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// Creates `<parent>/<name>-<pid>`.
    pub(crate) fn create(parent: &Path, name: &str, keep: bool) -> Result<Scratch> {
        let path = parent.join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).context(format!("creating {}", path.display()))?;
        let path = path.canonicalize().context("naming the scratch folder")?;
        if !keep {
            remove_at_end(&path);
        }
        Ok(Scratch { path, keep })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            remove(&self.path);
        }
    }
}

/// Has a folder removed when a signal ends the run.
pub(crate) fn remove_at_end(path: &Path) {
    FOLDERS.lock().expect("no panic while held").push(path.to_path_buf());
}

/// Removes the folders of this run.
pub(crate) fn remove_all() {
    for path in FOLDERS.lock().expect("no panic while held").iter() {
        remove(path);
    }
}

fn remove(path: &Path) {
    // A cgroup is removed as a folder without content, and only when its last process is reaped;
    // any folder may be gone already. Nobody is left to act on a failure.
    let removed = std::fs::remove_dir(path).or_else(|_| std::fs::remove_dir_all(path));
    if removed.is_err() && path.exists() {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let _ = std::fs::remove_dir(path);
    }
}

/// Refuses when the file system of `path` has fewer than `needed` bytes free.
pub(crate) fn require_space(path: &Path, needed: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(path).context(format!("asking for space at {path:?}"))?;
    let free = stat.f_bavail * stat.f_frsize;
    if free < needed {
        return Err(BenchError::NoSpace { path: path.to_path_buf(), free, needed });
    }
    Ok(())
}
