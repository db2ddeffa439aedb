//! 2 MiB PUTs over N connections, then every object read back and compared.
//!
//! nginx answers a PUT without any flush. To compare like with like there is a second nginx row in
//! which the client, on the same machine, flushes file and folder after the 201 as nginx would have
//! to; that time is part of the latency, and its CPU is counted as the server's.

use super::peer::{Peer, Server};
use super::sample::{Cells, Sample};
use super::{Bench, quiet};
use crate::client::Client;
use crate::error::{BenchError, Context, Result};
use crate::figures::quantile;
use crate::proc_fs::{Usage, bytes_written_by_drive};
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(super) const BODY_LEN: usize = 2 << 20;
pub(super) const ENCODERS: [u64; 3] = [1, 8, 32];
const STAMP_LEN: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Who makes a PUT durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    /// The server, if it does.
    Server,
    /// The client, after the answer.
    Client,
}

/// What one connection measured.
#[derive(Default)]
struct Encoder {
    latencies_ns: Vec<u64>,
    flush_cpu_s: f64,
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
        let mut measure = |name: &str, sync: Sync| -> Result<()> {
            let what = format!("{row}: {name}");
            let sample = bench
                .quiet
                .measured(&what, quiet::ATTEMPTS_MAX, || run(server, encoders, count, sync))?;
            cells.add(&row, name, sample);
            Ok(())
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
    let next = AtomicU64::new(0);
    // Nobody pays for what others have left to be written.
    rustix::fs::sync();
    let drive_before = bytes_written_by_drive(server.folder())?;
    let before = server.usage();
    let begun = Instant::now();
    let encoders: Vec<io::Result<Encoder>> = std::thread::scope(|scope| {
        let encode = |_| {
            scope.spawn(|| {
                encode(server.address, &folder, &next, count, &|path| match sync {
                    Sync::Server => Ok(()),
                    Sync::Client => flush(&server.file_of(path)),
                })
            })
        };
        let threads: Vec<_> = (0..connections).map(encode).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("an encoder does not panic"))
            .collect()
    });
    let seconds = begun.elapsed().as_secs_f64();
    let after = server.usage();
    // What was promised to nobody is written too.
    rustix::fs::sync();
    let drive_bytes = bytes_written_by_drive(server.folder())? - drive_before;
    let (mut latencies_ns, mut flush_cpu_s) = (Vec::new(), 0.0);
    for encoder in encoders {
        let encoder = encoder.context(format!("PUT below {folder}"))?;
        latencies_ns.extend(encoder.latencies_ns);
        flush_cpu_s += encoder.flush_cpu_s;
    }
    latencies_ns.sort_unstable();
    assert_eq!(latencies_ns.len() as u64, count);
    let bytes_verified = read_back(server.address, &folder, count)?;
    forget(&server.file_of(&folder))?;
    let us = |share| quantile(&latencies_ns, share) as f64 / 1e3;
    let bytes = (count * BODY_LEN as u64) as f64;
    let after = Usage { cpu_s: after.cpu_s + flush_cpu_s, ..after };
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

fn encode(
    address: SocketAddr,
    folder: &str,
    next: &AtomicU64,
    count: u64,
    flush: &dyn Fn(&str) -> io::Result<()>,
) -> io::Result<Encoder> {
    let mut client = Client::connect(address, TIMEOUT)?;
    let mut encoder = Encoder::default();
    let mut body = body();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return Ok(encoder);
        }
        stamp(&mut body, number);
        let path = object_path(folder, number);
        let begun = Instant::now();
        let status = client.put(&path, &body)?.status;
        if !matches!(status, 201 | 204) {
            return Err(io::Error::other(format!("status {status} for {path}")));
        }
        let cpu = thread_cpu_s();
        flush(&path)?;
        encoder.flush_cpu_s += thread_cpu_s() - cpu;
        encoder.latencies_ns.push(begun.elapsed().as_nanos() as u64);
    }
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

pub(super) fn thread_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn read_back(address: SocketAddr, folder: &str, count: u64) -> Result<u64> {
    let mut client = Client::connect(address, TIMEOUT).context("connecting to read back")?;
    let (mut expected, mut verified) = (body(), 0);
    for number in 0..count {
        let path = object_path(folder, number);
        let answer = client.get(&path).context(format!("reading {path} back"))?;
        stamp(&mut expected, number);
        if answer.status != 200 || answer.body != expected {
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

/// Bytes that do not compress; the number of an object is stamped into each 64 KiB.
fn body() -> Vec<u8> {
    let mut state = 1u64;
    let words = (0..BODY_LEN / 8).flat_map(|_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ state >> 29).to_le_bytes()
    });
    words.collect()
}

fn stamp(body: &mut [u8], number: u64) {
    for (at, part) in body.chunks_mut(64 * 1024).enumerate() {
        part[..8].copy_from_slice(&number.to_le_bytes());
        part[8..STAMP_LEN].copy_from_slice(&(at as u64).to_le_bytes());
    }
}
