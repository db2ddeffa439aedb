//! 2 MiB PUTs over N connections, then every object read back and compared.
//!
//! nginx answers a PUT without any flush. To compare like with like there is a second nginx row in
//! which the client, on the same machine, flushes file and folder after the 201 as nginx would have
//! to; that time is part of the latency, and its CPU is counted as the server's.

use super::Bench;
use super::encoders::{self, Body};
use super::peer::{Peer, Server};
use super::sample::{Cells, Sample};
use crate::client::Client;
use crate::error::{BenchError, Context, Result};
use crate::figures::quantile;
use crate::proc_fs::{Usage, bytes_written_by_drive};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) const BODY_LEN: usize = 2 << 20;
pub(super) const ENCODERS: [u64; 3] = [1, 8, 32];
const TIMEOUT: Duration = Duration::from_secs(30);

/// Who makes a PUT durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    /// The server, if it does.
    Server,
    /// The client, after the answer.
    Client,
}

/// The name of a row.
pub(super) fn row(encoders: u64) -> String {
    match encoders {
        1 => "PUT 2 MiB, 1 encoder".to_owned(),
        encoders => format!("PUT 2 MiB, {encoders} encoders"),
    }
}

/// All rows of a server.
pub(super) fn run_rows(
    bench: &Bench<'_>,
    server: &Server,
    peer: Peer,
    cells: &mut Cells,
) -> Result<()> {
    // Every page of the arena, and those of the page cache that a row takes, are touched once
    // before anything is measured: a machine gives memory out slowly the first time.
    let count = bench.plan.put_count;
    run(server, 4, count.max(bench.plan.ram_bytes * 5 / 4 / BODY_LEN as u64), Sync::Server)?;
    for encoders in ENCODERS {
        let row = row(encoders);
        let mut measure = |name: &str, sync: Sync| {
            bench.add_windows(&row, name, cells, || run(server, encoders, count, sync))
        };
        if peer == Peer::Nginx {
            measure("nginx (no fsync)", Sync::Server)?;
            measure("nginx + fsync", Sync::Client)?;
        } else {
            measure(peer.name(), Sync::Server)?;
        }
    }
    Ok(())
}

/// Stores `count` objects over `connections` connections.
fn run(server: &Server, connections: u64, count: u64, sync: Sync) -> Result<Sample> {
    let folder = format!("/put/{connections}-{count}-{sync:?}");
    let body = Body::new(BODY_LEN);
    // Nobody pays for what others have left to be written.
    rustix::fs::sync();
    let drive_before = bytes_written_by_drive(server.folder())?;
    let before = server.usage();
    let begun = Instant::now();
    let flush = |path: &str| flush(&server.file_of(path));
    let pushed = encoders::push(&encoders::Push {
        address: server.address,
        connections,
        count,
        body: &body,
        path_of: &|number| object_path(&folder, number),
        afterwards: match sync {
            Sync::Server => None,
            Sync::Client => Some(&flush),
        },
    });
    let pushed = pushed.context(format!("PUT below {folder}"))?;
    let seconds = begun.elapsed().as_secs_f64();
    let after = server.usage();
    // What was promised to nobody is written too.
    rustix::fs::sync();
    let drive_bytes = bytes_written_by_drive(server.folder())? - drive_before;
    let mut latencies_ns = pushed.latencies_ns;
    latencies_ns.sort_unstable();
    assert_eq!(latencies_ns.len() as u64, count);
    let bytes_verified = read_back(server.address, &folder, count, &body)?;
    forget(&server.file_of(&folder))?;
    let us = |share| quantile(&latencies_ns, share) as f64 / 1e3;
    let bytes = (count * BODY_LEN as u64) as f64;
    let after = Usage { cpu_s: after.cpu_s + pushed.afterwards_cpu_s, ..after };
    let sample = Sample {
        requests_per_s: count as f64 / seconds,
        bytes_per_s: bytes / seconds,
        cpu_us_per_request: None,
        switches_per_request: None,
        latency_us_p50: us(0.5),
        latency_us_p99: us(0.99),
        latency_us_p999: us(0.999),
        bytes_verified,
        request_count: count,
        error_count: 0,
        unsent_count: 0,
        rss_bytes: after.rss_bytes,
        extra: vec![("drive bytes per byte", drive_bytes / bytes)],
    };
    Ok(sample.with_cost(&before, &after))
}

/// What a server must do before it may promise a new file: flush it, and the folder that names it.
fn flush(file: &Path) -> io::Result<()> {
    File::open(file)?.sync_all()?;
    File::open(file.parent().expect("a file lies in a folder"))?.sync_all()
}

/// Removes the files of a server that keeps files, so that the next row finds the same memory and
/// the same room on the drive.
fn forget(files: &Path) -> Result<()> {
    match files.exists() {
        true => std::fs::remove_dir_all(files).context("removing what was put"),
        false => Ok(()),
    }
}

fn read_back(address: SocketAddr, folder: &str, count: u64, body: &Body) -> Result<u64> {
    let mut client = Client::connect(address, TIMEOUT).context("connecting to read back")?;
    let mut verified = 0;
    for number in 0..count {
        let path = object_path(folder, number);
        let answer = client.get(&path).context(format!("reading {path} back"))?;
        if answer.status != 200 || !body.is(number, &answer.body) {
            let cause = format!("acknowledged, and now status {} or wrong bytes", answer.status);
            return Err(BenchError::Answer { what: path, cause });
        }
        verified += answer.body.len() as u64;
    }
    Ok(verified)
}

fn object_path(folder: &str, number: u64) -> String {
    format!("{folder}/{number}.m4s")
}
