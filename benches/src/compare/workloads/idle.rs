//! 10,000 connections that did one GET each and are kept, beside a client that goes on.

use super::super::Bench;
use super::super::peer::{Peer, Server};
use super::super::sample::Cells;
use super::Stage;
use super::pair::compared;
use super::reading::{Reading, SMALL};
use crate::client::Client;
use crate::error::{BenchError, Context, Result};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);
const PATH: &str = "/hot/2k-0";

pub(super) fn run(bench: &Bench<'_>, peer: Peer, cells: &mut Cells) -> Result<()> {
    let count = bench.plan.idle_connections;
    let stage = Stage::start(bench, peer, count + 1_000)?;
    let server = &stage.server;
    SMALL.warm(bench, server)?;
    let reading = Reading { time: bench.plan.window_time, ..SMALL };
    let before = reading.run(bench, server)?;
    let mut idle = connect(server, count)?;
    let during = reading.run(bench, server)?;
    // Had one been closed meanwhile, the figures would be of fewer.
    idle.iter_mut().try_for_each(get)?;
    let typical_us = [before.class.latency_us_p99, before.class.latency_us_p999];
    let mut sample = compared(&before.class, typical_us, &during.class, during.usage.rss_bytes);
    let before = before.sample();
    let spent = during.sample();
    sample.cpu_us_per_request = spent.cpu_us_per_request;
    sample.switches_per_request = spent.switches_per_request;
    sample.extra.extend([
        ("server CPU us/req before", before.cpu_us_per_request.unwrap_or(0.0)),
        ("requests/s before", before.requests_per_s),
        ("RSS before, MB", before.rss_bytes as f64 / 1e6),
    ]);
    let row = format!("{count} idle connections: 2 KiB GET over 64 others");
    cells.add(&row, peer.name(), sample);
    drop(idle);
    stage.stop(&row, cells)
}

fn connect(server: &Server, count: u32) -> Result<Vec<Client>> {
    let one = |number| {
        let client = Client::connect(server.address, TIMEOUT);
        let mut client = client.context(format!("opening connection {number} of {count}"))?;
        get(&mut client).map(|()| client)
    };
    (1..=count).map(one).collect()
}

fn get(client: &mut Client) -> Result<()> {
    match client.get(PATH).context("reading over a kept connection")? {
        answer if answer.status == 200 && answer.body.len() as u64 == SMALL.bytes => Ok(()),
        answer => Err(BenchError::Answer {
            what: PATH.to_owned(),
            cause: format!("status {}, {} bytes", answer.status, answer.body.len()),
        }),
    }
}
