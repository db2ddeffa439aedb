//! A memory cap for a server: a cgroup of the v1 memory controller.

use crate::error::{BenchError, Result};
use crate::scratch;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CONTROLLER: &str = "/sys/fs/cgroup/memory";
/// A group is busy until the kernel has reaped its last process.
const REAPED_MS_MAX: u64 = 2_000;

/// A memory cgroup; removed when dropped.
pub(crate) struct MemoryCap {
    path: PathBuf,
}

impl MemoryCap {
    /// Creates a group whose processes, page cache included, may hold `limit_bytes`.
    pub(crate) fn create(name: &str, limit_bytes: u64) -> Result<MemoryCap> {
        let controller = Path::new(CONTROLLER);
        let path = controller.join(format!("tapeloop-bench-{}-{name}", std::process::id()));
        let refuse = |cause: std::io::Error| BenchError::Cgroup {
            path: path.clone(),
            cause: cause.to_string(),
        };
        if !controller.join("memory.limit_in_bytes").exists() {
            return Err(refuse(std::io::ErrorKind::NotFound.into()));
        }
        fs::create_dir(&path).map_err(refuse)?;
        scratch::remove_at_end(&path);
        let cap = MemoryCap { path: path.clone() };
        fs::write(path.join("memory.limit_in_bytes"), limit_bytes.to_string()).map_err(refuse)?;
        Ok(cap)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Most memory the group has held, page cache included.
    pub(crate) fn usage_bytes_max(&self) -> u64 {
        let text = fs::read_to_string(self.path.join("memory.max_usage_in_bytes"));
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for MemoryCap {
    fn drop(&mut self) {
        let begun = Instant::now();
        while fs::remove_dir(&self.path).is_err() {
            if begun.elapsed() > Duration::from_millis(REAPED_MS_MAX) {
                eprintln!("could not remove {}", self.path.display());
                return;
            }
            std::thread::yield_now();
        }
    }
}
