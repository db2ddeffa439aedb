//! Cold reads must be carried out by the drive, not handed to kernel worker threads (io-wq).
//!
//! The tracepoint that counts such punts is proved to work first: a flush is always handed over, so
//! a durable PUT must show.

use super::super::peer::Peer;
use super::super::sample::Cells;
use super::super::{Bench, MIB};
use super::reading::only_class;
use super::{tasks, trace};
use crate::client::Client;
use crate::error::{BenchError, Context, Result};
use crate::results::Memory;
use crate::scratch::Scratch;
use crate::tapeloop::{Launch, Tapeloop};
use std::time::Duration;

const EVENT: &str = "io_uring/io_uring_queue_async_work";
/// IORING_OP_READV, READ_FIXED, READ, and the reads of sockets.
const READS: &str = "opcode == 1 || opcode == 4 || opcode == 22 || opcode == 27";
const BYTES: u64 = MIB / 2;
const OBJECTS: u64 = 1_500;
const ARENA_BYTES: u64 = 64 * MIB;
const CAPACITY_BYTES: u64 = 1024 * MIB;
const LIMIT: Duration = Duration::from_secs(120);

pub(super) fn run(bench: &Bench<'_>, peer: Peer, cells: &mut Cells) -> Result<()> {
    assert_eq!(peer, Peer::Tapeloop, "nobody else reads through io_uring");
    let scratch = Scratch::create(&bench.dir, "tapeloop-compare", false)?;
    let mut server = Tapeloop::start(
        &bench.binaries,
        &Launch {
            data: &scratch.path().join("data"),
            capacity_bytes: CAPACITY_BYTES,
            ram_bytes: ARENA_BYTES,
            threads: bench.plan.threads,
            cgroup: None,
            log: scratch.path().join("tapeloop.log"),
        },
    )?;
    server.wait_listening(LIMIT)?;
    let url = format!("http://{}/cold/{{n}}", server.address);
    let load = |words: &str| {
        let words = format!("load {words} --url {url} --bytes {BYTES} --json");
        super::super::load::run(&bench.binaries.tapectl, &words, scratch.path(), LIMIT, &mut || {})
    };
    only_class(load(&format!("put --count {OBJECTS} --connections 4"))?)?;
    let threads = tasks::threads(server.running.id());
    let all = trace::Counted::begin("all", EVENT, &threads, None)?;
    let reads = trace::Counted::begin("reads", EVENT, &threads, Some(READS))?;
    prove(&server, &all)?;
    let (all_before, drive_before) = (all.count()?, drive_reads(&server)?);
    let usage = server.running.usage();
    let time_ms = bench.plan.probe_time.as_millis();
    let words = format!("get --objects {OBJECTS} --connections 8 --duration {time_ms}ms");
    let class = only_class(load(&words)?)?;
    let after = server.running.usage();
    let mut sample = class.sample(after.rss_bytes).with_cost(&usage, &after);
    sample.extra = vec![
        ("io-wq punts of reads", reads.count()? as f64),
        ("io-wq punts, all", (all.count()? - all_before) as f64),
        ("drive reads/request", (drive_reads(&server)? - drive_before) / class.ok_count as f64),
    ];
    let row = "cold GET punts: 512 KiB, 8 connections";
    cells.add(row, peer.name(), sample);
    cells.add_memory(Memory {
        workload: row.to_owned(),
        rss_bytes_max: after.rss_bytes_max,
        printed_bytes: server.admin.memory_printed_bytes()?,
    });
    server.running.stop(LIMIT).map(drop)
}

/// A durable PUT must be seen to hand its flush over.
fn prove(server: &Tapeloop, all: &trace::Counted) -> Result<()> {
    let client = Client::connect(server.address, LIMIT);
    let answer = client.and_then(|mut client| client.put("/cold/proof", b"proof"));
    let status = answer.context("a PUT to prove the tracepoint")?.status;
    match (status, all.count()?) {
        (201 | 204, 1..) => Ok(()),
        (status, count) => Err(BenchError::Answer {
            what: format!("tracepoint {EVENT}"),
            cause: format!("{count} events for the flush of a durable PUT (status {status})"),
        }),
    }
}

fn drive_reads(server: &Tapeloop) -> Result<f64> {
    server.admin.metric("tapeloop_drive_reads_total")
}
