//! A tracepoint, counted by the kernel in a trace instance of its own.

use crate::error::{BenchError, Result};
use crate::scratch;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Where the kernel can be asked for tracepoints.
pub(super) fn place() -> Result<&'static Path> {
    let found = PLACES.iter().map(Path::new).find(|place| place.join("instances").exists());
    found.ok_or_else(|| unusable(PLACES[0], "not mounted"))
}

/// Events of one tracepoint caused by some threads, from now on. The instance goes away with this.
pub(super) struct Counted {
    instance: PathBuf,
}

impl Counted {
    /// Counts `event` (`system/name`) of `threads`, as far as `filter` lets it pass.
    pub(super) fn begin(
        name: &str,
        event: &str,
        threads: &[u32],
        filter: Option<&str>,
    ) -> Result<Counted> {
        let instance = place()?.join(format!("instances/tapeloop-{}-{name}", std::process::id()));
        let told = instance.display().to_string();
        let refuse = |error: io::Error| unusable(&told, &error.to_string());
        fs::create_dir(&instance).map_err(refuse)?;
        scratch::remove_at_end(&instance);
        let counted = Counted { instance };
        let write =
            |file: &str, text: &str| fs::write(counted.instance.join(file), text).map_err(refuse);
        let pids: Vec<String> = threads.iter().map(u32::to_string).collect();
        write("set_event_pid", &pids.join(" "))?;
        if let Some(filter) = filter {
            write(&format!("events/{event}/filter"), filter)?;
        }
        write(&format!("events/{event}/enable"), "1")?;
        Ok(counted)
    }

    /// Events so far.
    pub(super) fn count(&self) -> Result<u64> {
        let told = self.instance.display().to_string();
        let refuse = |error: io::Error| unusable(&told, &error.to_string());
        let mut count = 0;
        for entry in fs::read_dir(self.instance.join("per_cpu")).map_err(refuse)? {
            let stats = entry.and_then(|entry| fs::read_to_string(entry.path().join("stats")));
            count += events(&stats.map_err(refuse)?);
        }
        Ok(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.instance) {
            eprintln!("could not remove {}: {error}", self.instance.display());
        }
    }
}

/// Events that a processor's buffer holds, and those that had to make way in it.
fn events(stats: &str) -> u64 {
    let field = |name: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    ["entries", "overrun", "commit overrun", "dropped events"].map(field).iter().sum()
}

fn unusable(what: &str, cause: &str) -> BenchError {
    BenchError::Answer {
        what: format!("tracepoints at {what}"),
        cause: format!("{cause}; as root: mount -t tracefs tracefs {}", PLACES[0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_made_way_count_too() {
        let stats = "entries: 12\noverrun: 30\ncommit overrun: 0\nbytes: 999\nread events: 5\n";
        assert_eq!(events(stats), 42);
        assert_eq!(events(""), 0);
    }
}
