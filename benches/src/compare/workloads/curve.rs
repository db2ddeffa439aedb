//! Latency against load: open loop at shares of what server and generator reach together in closed
//! loop, each on a processor of its own where there are two.

use super::super::peer::{Peer, Server};
use super::super::sample::{Cells, Sample};
use super::super::{Bench, echo};
use super::reading::{HUGE, LARGE, Reading, SMALL};
use super::{Stage, pin};
use crate::error::Result;
use crate::scratch::Scratch;

const STEPS_PERCENT: [u32; 10] = [10, 20, 30, 40, 50, 60, BUDGET_PERCENT, 80, 90, 95];
const QUICK_PERCENT: [u32; 4] = [10, 50, BUDGET_PERCENT, 95];
/// Where the budget of the tail is: it is measured for longer, and of one size more.
const BUDGET_PERCENT: u32 = 70;
/// Each is a window of its own; the tail is the median of theirs.
const BUDGET_SLICES: u32 = 8;
/// Enough that a request which is due finds one free, up to the last steps.
const CONNECTIONS: u32 = 64;

/// All steps.
pub(super) fn run(bench: &Bench<'_>, peer: Peer, cells: &mut Cells) -> Result<()> {
    let steps: &[u32] = if bench.args.quick { &QUICK_PERCENT } else { &STEPS_PERCENT };
    run_steps(bench, peer, steps, cells)
}

/// The step that has a budget, for rounds without the others.
pub(super) fn run_budget(bench: &Bench<'_>, peer: Peer, cells: &mut Cells) -> Result<()> {
    run_steps(bench, peer, &[BUDGET_PERCENT], cells)
}

/// The budget's step of a bare loop that answers 2 KiB: what kernel, generator and machine leave.
pub(super) fn run_floor(bench: &Bench<'_>, _: Peer, cells: &mut Cells) -> Result<()> {
    let scratch = Scratch::create(&bench.dir, "tapeloop-compare", false)?;
    let server = echo::start(&bench.binaries, scratch.path(), SMALL.bytes)?;
    let apart = pin::Apart::put(&server.running, 1)?;
    let reading = Reading {
        objects: 0,
        connections: CONNECTIONS,
        spin: apart.is_some(),
        time: bench.plan.probe_time,
        ..SMALL
    };
    let saturated = reading.run(bench, &server)?;
    let rate = Some(saturated.class.requests_per_s * f64::from(BUDGET_PERCENT) / 100.0);
    let reading = Reading { rate, ..reading };
    let mut sample = step(bench, &server, reading, BUDGET_PERCENT)?;
    sample.bytes_verified = 0;
    cells.add(&budget_row("2 KiB"), echo::NAME, sample);
    drop(apart);
    server.stop("floor", cells)
}

fn budget_row(size: &str) -> String {
    format!("latency at {BUDGET_PERCENT} % of saturation, hot GET {size}")
}

fn run_steps(bench: &Bench<'_>, peer: Peer, steps: &[u32], cells: &mut Cells) -> Result<()> {
    let budget = &[BUDGET_PERCENT][..];
    for (size, reading, steps) in
        [("2 KiB", SMALL, steps), ("512 KiB", LARGE, steps), ("4 MiB", HUGE, budget)]
    {
        let stage = Stage::start(bench, peer, 0)?;
        let apart = pin::Apart::put(&stage.server.running, bench.plan.threads)?;
        let reading = Reading {
            connections: CONNECTIONS,
            spin: apart.is_some(),
            time: bench.plan.probe_time,
            ..reading
        };
        reading.warm(bench, &stage.server)?;
        let saturated = reading.run(bench, &stage.server)?;
        let full_rate = saturated.class.requests_per_s.max(1.0);
        let row = |load: &str| format!("hot GET {size}, latency against load: {load}");
        cells.add(&row("saturation, closed loop"), peer.name(), saturated.sample());
        for percent in steps {
            let is_budget = *percent == BUDGET_PERCENT;
            let rate = Some(full_rate * f64::from(*percent) / 100.0);
            let sample = step(bench, &stage.server, Reading { rate, ..reading }, *percent)?;
            if is_budget {
                cells.add(&budget_row(size), peer.name(), sample.clone());
            }
            cells.add(&row(&format!("{percent} %")), peer.name(), sample);
        }
        drop(apart);
        stage.stop(&format!("hot GET {size}, latency against load"), cells)?;
    }
    Ok(())
}

fn step(bench: &Bench<'_>, server: &Server, reading: Reading, percent: u32) -> Result<Sample> {
    let before = server.first_bytes()?;
    let slices = if percent == BUDGET_PERCENT { BUDGET_SLICES } else { 1 };
    let seen = reading.run_slices(bench, server, slices)?;
    let looks = [before, server.first_bytes()?];
    let mut sample = seen.sample();
    sample.extra = vec![
        ("load, %", f64::from(percent)),
        ("p99.9/p50", sample.latency_us_p999 / sample.latency_us_p50),
        ("generator late p99, ms", seen.class.slip_us_p99 / 1e3),
    ];
    Ok(sample.with_own_clock(looks))
}
