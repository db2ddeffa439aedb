//! What the kernel counts of a process group, of this thread and of the machine.

use crate::error::{BenchError, Context, Result};
use rustix::fs::{major, minor};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::path::Path;

/// USER_HZ has been 100 on Linux for as long as /proc has shown it.
const TICKS_PER_S: f64 = 100.0;
const SECTOR_BYTES: f64 = 512.0;

/// CPU and memory of a process group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time of all its processes and their threads, in seconds.
    pub(crate) cpu_s: f64,
    /// Resident memory now, in bytes.
    pub(crate) rss_bytes: u64,
    /// Most resident memory so far, in bytes.
    pub(crate) rss_bytes_max: u64,
    /// Context switches, voluntary or not, of the threads that there are now.
    pub(crate) switch_count: u64,
}

/// User and system time of this thread, in seconds.
pub(crate) fn thread_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Adds up the processes of a group.
pub(crate) fn usage_of_group(group: u32) -> Usage {
    let mut usage = Usage::default();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in brackets may hold spaces; fields are counted after it.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split(' ').collect();
        if fields.get(2).and_then(|field| field.parse().ok()) != Some(group) {
            continue;
        }
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        usage.cpu_s += (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / TICKS_PER_S;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        usage.rss_bytes += field(&status, "VmRSS:") * 1024;
        usage.rss_bytes_max += field(&status, "VmHWM:") * 1024;
        usage.switch_count += switch_count(pid);
    }
    usage
}

/// Of all threads of a process; one that ends meanwhile has none.
fn switch_count(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.map(|thread| switch_count_of_thread(&thread.path())).sum()
}

fn switch_count_of_thread(folder: &Path) -> u64 {
    let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
    field(&status, "voluntary_ctxt_switches:") + field(&status, "nonvoluntary_ctxt_switches:")
}

/// A number after a name, in KiB where it is of memory.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// What the kernel has written to the drive of a folder, in bytes.
pub(crate) fn bytes_written_by_drive(folder: &Path) -> Result<f64> {
    let device = rustix::fs::stat(folder).context("looking for the drive of a folder")?.st_dev;
    let path = format!("/sys/dev/block/{}:{}/stat", major(device), minor(device));
    let text = fs::read_to_string(&path).context(format!("reading {path}"))?;
    let sectors = text.split_whitespace().nth(6).and_then(|field| field.parse::<f64>().ok());
    let sectors = sectors.ok_or_else(|| BenchError::Answer {
        what: path,
        cause: "no count of sectors written".to_owned(),
    })?;
    Ok(sectors * SECTOR_BYTES)
}

/// Time of all processors, in ticks since the machine began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessorTimes {
    all: u64,
    stolen: u64,
}

impl ProcessorTimes {
    pub(crate) fn now() -> Result<ProcessorTimes> {
        let path = "/proc/stat";
        let text = fs::read_to_string(path).context(format!("reading {path}"))?;
        ProcessorTimes::of(&text).ok_or_else(|| BenchError::Answer {
            what: path.to_owned(),
            cause: "no times of the processors".to_owned(),
        })
    }

    /// The first line has user, nice, system, idle, iowait, irq, softirq and steal (proc(5)).
    fn of(text: &str) -> Option<ProcessorTimes> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line
            .split_whitespace()
            .take(8)
            .map(|ticks| ticks.parse().ok())
            .collect::<Option<_>>()?;
        Some(ProcessorTimes { all: ticks.iter().sum(), stolen: *ticks.get(7)? })
    }

    /// The share of the processors that the host has given to others since.
    pub(crate) fn stolen_share_until(&self, later: ProcessorTimes) -> f64 {
        let all = later.all.saturating_sub(self.all).max(1);
        later.stolen.saturating_sub(self.stolen) as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_cpu_time_memory_and_switches_and_no_other_group_has_them() {
        let me = usage_of_group(rustix::process::getpgrp().as_raw_nonzero().get() as u32);
        assert!(me.rss_bytes > 0 && me.rss_bytes_max >= me.rss_bytes);
        // Of this thread: others end meanwhile and take theirs along.
        let switches = || switch_count_of_thread(Path::new("/proc/thread-self"));
        let before = switches();
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(switches() > before, "a sleep is a switch");
        assert!(switch_count(std::process::id()) > 0);
        assert_eq!(usage_of_group(u32::MAX).rss_bytes, 0);
    }

    #[test]
    fn stolen_time_is_the_eighth_of_the_processors_times() {
        let of = |text| ProcessorTimes::of(text);
        let before = of("cpu  10 0 10 70 0 0 0 10 5 5\ncpu0 1 1").expect("times");
        let after = of("cpu  20 0 20 130 0 0 0 30 9 9\n").expect("times");
        assert!((before.stolen_share_until(after) - 0.2).abs() < 1e-9);
        assert!(of("cpu  1 2 3\n").is_none() && of("").is_none());
    }
}
