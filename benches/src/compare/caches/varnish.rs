//! Varnish with objects in memory, by its builtin rules: GETs are looked up, PUTs are passed on as
//! they arrive. It does not drop an object that is put anew; only playlists are, and those last a
//! second.

use super::Launch;
use crate::error::{BenchError, Context, Result};
use crate::process::{Running, StartOptions};
use std::net::SocketAddr;
use std::process::Command;

/// Its name in the table.
pub(super) const NAME: &str = "varnish + nginx";
/// What a reader of the table must know of it.
pub(super) const NOTE: &str = "a thread per request, so it uses all cores; CPU and memory of cache \
    and nginx together";
/// Its allocator gives memory of dropped objects back at once. By default it waits ten seconds, and
/// 72 MiB of objects in the mix take 139 MB, more than a cap leaves; so they take 91 MB.
const ALLOCATOR: [(&str, &str); 1] = [("MALLOC_CONF", "dirty_decay_ms:0")];
/// Of the memory it may have; its threads and what the allocator loses take the rest.
const OBJECTS_EIGHTHS: u64 = 7;
const PROGRAM: &str = "varnishd";

/// In each of the two pools that it has by default. A request takes a thread, a miss two, so that
/// 1,000 connections may all miss. The least is what the mix keeps busy; more come as needed.
const POOL_THREADS_MIN: u32 = 50;
const POOL_THREADS_MAX: u32 = 1_000;
/// What may wait for a thread while the pool grows. At the default of 20 it closes connections.
const QUEUE_MAX: u32 = 1_000;
/// What is written to the log in shared memory for every request. No other program reads it here.
const LOGGED: [&str; 46] = [
    "Backend",
    "BackendClose",
    "BackendOpen",
    "BackendReuse",
    "BackendStart",
    "Begin",
    "BereqAcct",
    "BereqHeader",
    "BereqMethod",
    "BereqProtocol",
    "BereqURL",
    "BereqUnset",
    "BerespHeader",
    "BerespProtocol",
    "BerespReason",
    "BerespStatus",
    "BerespUnset",
    "End",
    "ExpBan",
    "Fetch_Body",
    "Filters",
    "Gzip",
    "Hit",
    "HitMiss",
    "HitPass",
    "Length",
    "Link",
    "ReqAcct",
    "ReqHeader",
    "ReqMethod",
    "ReqProtocol",
    "ReqStart",
    "ReqURL",
    "ReqUnset",
    "RespHeader",
    "RespProtocol",
    "RespReason",
    "RespStatus",
    "RespUnset",
    "SessClose",
    "SessOpen",
    "Storage",
    "TTL",
    "Timestamp",
    "VCL_call",
    "VCL_return",
];

/// Its version, and proof that it is installed.
pub(super) fn version() -> Result<String> {
    let output = Command::new(super::program(PROGRAM)).arg("-V").output();
    let output = output.context("starting varnishd (Debian: apt install varnish)")?;
    version_in(&String::from_utf8_lossy(&output.stderr))
}

/// Of `varnishd (varnish-7.1.1 revision 7cee)`.
fn version_in(text: &str) -> Result<String> {
    let inner = text.split_once('(').and_then(|(_, rest)| rest.split([' ', ')']).next());
    inner.map(str::to_owned).ok_or_else(|| BenchError::Answer {
        what: "varnishd -V".to_owned(),
        cause: format!("no version in {text:?}"),
    })
}

pub(super) fn start(
    launch: &Launch<'_>,
    address: SocketAddr,
    origin: SocketAddr,
) -> Result<Running> {
    let hidden: Vec<String> = LOGGED.iter().map(|record| format!("-{record}")).collect();
    let parameters = [
        // As long as nginx says and no longer; nothing said, as of a 404, is not kept.
        "default_ttl=0".to_owned(),
        "default_grace=0".to_owned(),
        "default_keep=0".to_owned(),
        // As nginx: an encoder waits while others fill.
        "timeout_idle=600".to_owned(),
        format!("thread_pool_min={POOL_THREADS_MIN}"),
        format!("thread_pool_max={POOL_THREADS_MAX}"),
        format!("thread_queue_limit={QUEUE_MAX}"),
        // 80 MiB by default, which would count against a memory cap.
        "vsl_space=1M".to_owned(),
        format!("vsl_mask={}", hidden.join(",")),
    ];
    // Without a jail and without a port for administration: a bench needs neither.
    let words = format!(
        "-F -j none -T none -a {address} -b {origin} -s malloc,{} -n {}",
        launch.ram_bytes / 8 * OBJECTS_EIGHTHS,
        launch.folder.join("varnish").display(),
    );
    let mut args: Vec<String> = words.split(' ').map(str::to_owned).collect();
    args.extend(parameters.into_iter().flat_map(|parameter| ["-p".to_owned(), parameter]));
    // A manager that gets TERM ends its child, which does the work.
    let options = StartOptions {
        cgroup: launch.cgroup,
        environment: &ALLOCATOR,
        on_bench_death: Some("TERM"),
        ..StartOptions::default()
    };
    Running::start(&super::program(PROGRAM), &args, launch.folder.join("varnish.log"), &options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_what_stands_first_in_brackets() {
        let text = "varnishd (varnish-7.1.1 revision 7cee1c58)\nCopyright (c) 2006\n";
        assert_eq!(version_in(text).expect("a version"), "varnish-7.1.1");
        assert!(version_in("not found").is_err());
    }
}
