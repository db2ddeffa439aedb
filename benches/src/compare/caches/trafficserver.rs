//! Apache Traffic Server, alone and with a layout of its own: a cache in memory over a cache on
//! the drive, which it cannot do without. A PUT goes through as it arrives and drops what is kept
//! of its object.

use super::Launch;
use crate::error::{BenchError, Context, Result};
use crate::process::{Running, StartOptions};
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// Its name in the table.
pub(super) const NAME: &str = "trafficserver + nginx";
/// What a reader of the table must know of it.
pub(super) const NOTE: &str = "what it keeps in memory it keeps on the drive too; CPU and memory \
    of cache and nginx together";
const PROGRAM: &str = "traffic_server";

/// The cache on the drive is a ring that drops what is oldest, and with it what memory has of it.
/// At twice the memory, objects in use are dropped rarely, and the drive's share of hits stays
/// small.
const DISK_PER_RAM: u64 = 2;
/// Less makes a ring that goes round within seconds of a load.
const DISK_BYTES_MIN: u64 = 256 << 20;

/// Its version, and proof that it is installed.
pub(super) fn version() -> Result<String> {
    let output = Command::new(super::program(PROGRAM)).arg("-V").output();
    let output = output.context("starting traffic_server (Debian: apt install trafficserver)")?;
    version_in(&String::from_utf8_lossy(&output.stdout))
}

/// Of `Traffic Server 9.2.9 Apr  4 2026`, on a line of its own.
fn version_in(text: &str) -> Result<String> {
    let number = text.lines().find_map(|line| line.strip_prefix("Traffic Server "));
    let number = number.and_then(|rest| rest.split(' ').next());
    number.map(|number| format!("trafficserver/{number}")).ok_or_else(|| BenchError::Answer {
        what: "traffic_server -V".to_owned(),
        cause: format!("no version in {text:?}"),
    })
}

pub(super) fn start(
    launch: &Launch<'_>,
    address: SocketAddr,
    origin: SocketAddr,
) -> Result<Running> {
    let root = launch.folder.join("trafficserver");
    for folder in ["etc", "run", "log", "disk"] {
        let folder = root.join(folder);
        std::fs::create_dir_all(&folder).context(format!("creating {}", folder.display()))?;
    }
    let run_root = root.join("runroot.yaml");
    let at = root.display();
    let disk_bytes = (DISK_PER_RAM * launch.ram_bytes).max(DISK_BYTES_MIN);
    let files = [
        (
            "runroot.yaml",
            format!("prefix: {at}\nsysconfdir: {at}/etc\nruntimedir: {at}/run\nlogdir: {at}/log\n"),
        ),
        ("etc/records.config", records(launch, address)),
        ("etc/remap.config", format!("map / http://{origin}/\n")),
        ("etc/storage.config", format!("{at}/disk {disk_bytes}\n")),
        // Without this file it lets nobody in.
        (
            "etc/ip_allow.yaml",
            "ip_allow:\n  - {apply: in, ip_addrs: 127.0.0.1, action: allow, methods: ALL}\n".into(),
        ),
    ];
    for (name, text) in files {
        write(&root.join(name), &text)?;
    }
    write_zeros(&root.join("disk/cache.db"), disk_bytes)?;
    let args = [format!("--run-root={}", run_root.display())];
    let options = StartOptions {
        cgroup: launch.cgroup,
        on_bench_death: Some("KILL"),
        ..StartOptions::default()
    };
    let log = launch.folder.join("trafficserver.log");
    Running::start(&super::program(PROGRAM), &args, log, &options)
}

/// What differs from its defaults.
fn records(launch: &Launch<'_>, address: SocketAddr) -> String {
    let settings = [
        ("http.server_ports", format!("STRING {}:ip-in={}", address.port(), address.ip())),
        // As many threads as the others have; those accept connections too.
        ("exec_thread.autoconfig", "INT 0".to_owned()),
        ("exec_thread.limit", format!("INT {}", launch.threads)),
        ("accept_threads", "INT 0".to_owned()),
        ("task_threads", "INT 1".to_owned()),
        ("cache.ram_cache.size", format!("INT {}", launch.ram_bytes)),
        // By default 4 MiB are too large for memory, and what is read once does not count.
        ("cache.ram_cache_cutoff", "INT 67108864".to_owned()),
        ("cache.ram_cache.use_seen_filter", "INT 0".to_owned()),
        // It ends when there is no cache rather than pass everything on.
        ("http.wait_for_cache", "INT 3".to_owned()),
        // As nginx: an encoder waits while others fill.
        ("http.keep_alive_no_activity_timeout_in", "INT 600".to_owned()),
        ("log.logging_enabled", "INT 0".to_owned()),
        // No second process, no change of user, no word to the system's log.
        ("crash_log_helper", "STRING NULL".to_owned()),
        ("admin.user_id", "STRING #-1".to_owned()),
        ("diags.output.error", "STRING E".to_owned()),
        ("diags.output.fatal", "STRING E".to_owned()),
        ("diags.output.alert", "STRING E".to_owned()),
        ("diags.output.emergency", "STRING E".to_owned()),
    ];
    settings.map(|(name, value)| format!("CONFIG proxy.config.{name} {value}\n")).concat()
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).context(format!("writing {}", path.display()))
}

/// It writes past the page cache and waits for the drive each time (O_DSYNC). Where the file system
/// has yet to give it blocks, each of its writes would wait for all that nginx has left to be
/// written.
fn write_zeros(path: &Path, bytes: u64) -> Result<()> {
    let written = File::create(path).and_then(|mut file| {
        io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
        file.sync_all()
    });
    written.context(format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_number_after_the_name() {
        let text = "traffic_server: using root directory '/usr'\nTraffic Server 9.2.9 Apr  4 2026";
        assert_eq!(version_in(text).expect("a version"), "trafficserver/9.2.9");
        assert!(version_in("not found").is_err());
    }
}
