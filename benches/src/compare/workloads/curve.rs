//! Latency against load: open loop at shares of the most that server and generator keep up with in
//! open loop, each on a processor of its own where there are two.
//!
//! Every share has short windows, each after a ramp under the same load, and each is a sample: one
//! that the machine itself interrupts says nothing about a server. The share with a budget has
//! many, without those in which the kernel looked through memory, and beside it stands what a bare
//! loop makes of the same windows.

use super::super::peer::{Peer, Server};
use super::super::sample::{Cells, LoadClass, Sample};
use super::super::{Bench, echo};
use super::reading::{HUGE, LARGE, Reading, SMALL};
use super::{Stage, pin};
use crate::error::{BenchError, Result};
use crate::scratch::Scratch;
use std::time::Duration;

const STEPS_PERCENT: [u32; 10] = [10, 20, 30, 40, 50, 60, BUDGET_PERCENT, 80, 90, 95];
const QUICK_PERCENT: [u32; 4] = [10, 50, BUDGET_PERCENT, 95];
/// Where the budget of the tail is: it is measured in more windows, and of one size more.
const BUDGET_PERCENT: u32 = 70;
const BUDGET_WINDOWS: u32 = 30;
/// Until one is not disturbed. Where it counts whatever disturbed it, the table says so.
const WINDOW_ATTEMPTS_MAX: u32 = 8;
const WINDOWS: u32 = 5;
/// Processors that were idle need this long to be awake for good.
const RAMP: Duration = Duration::from_millis(500);
/// Thousands of requests, and not many more: what the host takes of a processor now and then is to
/// be in few windows.
const WINDOW_SMALL: Duration = Duration::from_millis(100);
const WINDOW_LARGE: Duration = Duration::from_millis(200);
/// 400 requests of 4 MiB. The kernel looks through memory more often than that.
const WINDOW_HUGE: Duration = Duration::from_secs(1);
/// A closed loop does more than an open one: many answers come at once there. From its rate down by
/// this factor, until server and generator keep up: they do what is due, and nothing waits longer
/// than in the closed loop, where all connections are busy.
const STEP_DOWN: f64 = 0.95;
const STEPS_DOWN_MAX: u32 = 30;
/// Who does so much of what is due keeps up.
const KEPT_UP: f64 = 0.98;
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
    let closed = reading.run(bench, &server)?;
    let full_rate = saturation(bench, &server, reading, &closed.class)?;
    let rate = Some(full_rate * f64::from(BUDGET_PERCENT) / 100.0);
    let paced = Reading { rate, ramp: RAMP, time: WINDOW_SMALL, ..reading };
    for sample in step(bench, &server, paced, BUDGET_PERCENT)? {
        cells.add(&budget_row("2 KiB"), echo::NAME, Sample { bytes_verified: 0, ..sample });
    }
    drop(apart);
    server.stop("floor", cells)
}

fn budget_row(size: &str) -> String {
    format!("latency at {BUDGET_PERCENT} % of saturation, hot GET {size}")
}

fn run_steps(bench: &Bench<'_>, peer: Peer, steps: &[u32], cells: &mut Cells) -> Result<()> {
    let budget = &[BUDGET_PERCENT][..];
    for (size, reading, steps, window) in [
        ("2 KiB", SMALL, steps, WINDOW_SMALL),
        ("512 KiB", LARGE, steps, WINDOW_LARGE),
        ("4 MiB", HUGE, budget, WINDOW_HUGE),
    ] {
        let stage = Stage::start(bench, peer, 0)?;
        let apart = pin::Apart::put(&stage.server.running, bench.plan.threads)?;
        let reading = Reading {
            connections: CONNECTIONS,
            spin: apart.is_some(),
            time: bench.plan.probe_time,
            ..reading
        };
        reading.warm(bench, &stage.server)?;
        let closed = reading.run(bench, &stage.server)?;
        let row = |load: &str| format!("hot GET {size}, latency against load: {load}");
        let full_rate = saturation(bench, &stage.server, reading, &closed.class)?;
        let mut sample = closed.sample();
        sample.extra = vec![("open loop, requests/s", full_rate)];
        cells.add(&row("saturation, closed loop"), peer.name(), sample);
        for percent in steps {
            let rate = Some(full_rate * f64::from(*percent) / 100.0);
            let paced = Reading { rate, ramp: RAMP, time: window, ..reading };
            for sample in step(bench, &stage.server, paced, *percent)? {
                if *percent == BUDGET_PERCENT {
                    cells.add(&budget_row(size), peer.name(), sample.clone());
                }
                cells.add(&row(&format!("{percent} %")), peer.name(), sample);
            }
        }
        drop(apart);
        stage.stop(&format!("hot GET {size}, latency against load"), cells)?;
    }
    Ok(())
}

/// The highest rate that is kept up with.
fn saturation(
    bench: &Bench<'_>,
    server: &Server,
    reading: Reading,
    closed: &LoadClass,
) -> Result<f64> {
    let mut rate = closed.requests_per_s.max(1.0);
    for _ in 0..STEPS_DOWN_MAX {
        let reading = Reading { rate: Some(rate), ramp: RAMP, ..reading };
        let class = reading.run(bench, server)?.class;
        let is_done = class.requests_per_s >= KEPT_UP * rate;
        if is_done && class.latency_us_p50 <= closed.latency_us_p50 {
            return Ok(rate);
        }
        rate *= STEP_DOWN;
    }
    Err(BenchError::Answer {
        what: "looking for saturation".to_owned(),
        cause: format!("not even {rate:.0} requests/s are kept up with"),
    })
}

/// The windows at one share of the load.
fn step(bench: &Bench<'_>, server: &Server, reading: Reading, percent: u32) -> Result<Vec<Sample>> {
    let has_budget = percent == BUDGET_PERCENT && !bench.args.quick;
    let count = if has_budget { BUDGET_WINDOWS } else { WINDOWS };
    let is_short = reading.time < WINDOW_HUGE;
    let attempts_max = if has_budget && is_short { WINDOW_ATTEMPTS_MAX } else { 1 };
    let window = |_| {
        let before = server.first_bytes()?;
        let mut seen = reading.run(bench, server)?;
        let (mut left_out, mut error_count) = (0, 0);
        while seen.was_scanned && left_out + 1 < attempts_max {
            left_out += 1;
            error_count += seen.class.error_count;
            seen = reading.run(bench, server)?;
        }
        let looks = [before, server.first_bytes()?];
        let class = &seen.class;
        let mut sample = class.sample(seen.usage.rss_bytes);
        sample.error_count += error_count;
        sample.extra = vec![
            ("load, %", f64::from(percent)),
            ("p99.9/p50", class.latency_us_p999 / class.latency_us_p50),
            ("generator late p99, ms", class.slip_us_p99 / 1e3),
            ("disturbed, left out", f64::from(left_out)),
            ("disturbed, counts", f64::from(u8::from(seen.was_scanned))),
        ];
        Ok(sample.with_own_clock(looks))
    };
    (0..count).map(window).collect()
}
