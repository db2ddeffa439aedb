//! What the kernel counts of a process group.

use std::fs;

/// USER_HZ has been 100 on Linux for as long as /proc has shown it.
const TICKS_PER_S: f64 = 100.0;

/// CPU and memory of a process group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time of all its processes and their threads, in seconds.
    pub(crate) cpu_s: f64,
    /// Resident memory now, in bytes.
    pub(crate) rss_bytes: u64,
    /// Most resident memory so far, in bytes.
    pub(crate) rss_bytes_max: u64,
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
        usage.rss_bytes += kib_field(&status, "VmRSS:") * 1024;
        usage.rss_bytes_max += kib_field(&status, "VmHWM:") * 1024;
    }
    usage
}

fn kib_field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
