//! The media workload: who runs, and when each begins.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{getpriority_process, setpriority_process};
use tokio::task::JoinHandle;

use super::client::{Client, RequestError};
use super::content::mix;
use super::plan::MediaPlan;
use super::playlist::Rendition;
use super::reader::{DvrReader, LiveReader};
use super::report;
use super::run::{Shared, Span, cpu_seconds, on_threads};
use super::writer::{Newest, Writer};
use crate::error::{Outcome, ToolError};
use crate::output;
use crate::progress;

/// Nice levels between the players and everybody else.
const STEPS_BACK: i32 = 10;

/// Runs the workload and prints its report.
pub(crate) fn run(plan: &MediaPlan) -> Result<Outcome, ToolError> {
    output::plan(&report::media_plan(plan));
    let threads = plan.threads + 1;
    let start = Start { barrier: Barrier::new(threads), has_failed: AtomicBool::new(false) };
    let bar =
        progress::clock(format!("loading, {:?} after the prefill", plan.ramp + plan.duration));
    let recorder = on_threads(threads, |thread, shared| run_thread(plan, thread, &start, shared))?;
    bar.finish_and_clear();
    report::print(recorder.report(plan.duration, cpu_seconds()), plan.json)
}

/// Where all threads meet before the load begins.
struct Start {
    barrier: Barrier,
    has_failed: AtomicBool,
}

/// The plan's threads have the encoders and the viewers who look back. One more has the players at
/// the live edge: what is small is not to wait, within the generator, for what is large.
async fn run_thread(
    plan: &MediaPlan,
    thread: usize,
    start: &Start,
    shared: Shared,
) -> Result<(), ToolError> {
    let has_players = thread == plan.threads;
    let mut writers = if has_players { Vec::new() } else { thread_writers(plan, thread) };
    let prepared = prepare(plan, &mut writers).await;
    // Every thread passes here even if its preparation failed, or the others would wait for ever.
    start.has_failed.fetch_or(prepared.is_err(), Ordering::Relaxed);
    start.barrier.wait();
    prepared.map_err(|error| ToolError::Unreachable {
        url: plan.target.url.clone(),
        cause: format!("the first objects could not be stored or read: {error}"),
    })?;
    if start.has_failed.load(Ordering::Relaxed) {
        // The one whose preparation failed tells.
        return Ok(());
    }
    let start = Instant::now();
    let measure = start + plan.ramp;
    let span = Span { start, measure, end: measure + plan.duration };
    let actors = if has_players {
        // Without it they are only later, as the report says.
        let _ = tapeloop_engine::ask_for_short_turns();
        spawn_players(plan, span, &shared)
    } else {
        step_back();
        let mut actors = spawn_viewers(plan, thread, &writers, span, &shared);
        if plan.ingest {
            actors.extend(spawn_writers(plan, writers, span, &shared));
        }
        actors
    };
    for actor in actors {
        actor.await.map_err(|error| ToolError::Runtime(std::io::Error::other(error)))??;
    }
    Ok(())
}

/// What moves most bytes leaves the processors to the players, and to a server on this machine.
fn step_back() {
    let lower = |priority: i32| setpriority_process(None, priority + STEPS_BACK);
    // The report says how late the generator was, with this or without it.
    let _ = getpriority_process(None).and_then(lower);
}

fn thread_streams(plan: &MediaPlan, thread: usize) -> impl Iterator<Item = usize> + use<> {
    (thread..plan.stream_count).step_by(plan.threads)
}

fn new_client(plan: &MediaPlan) -> Client {
    Client::new(plan.target.address, &plan.target.host, plan.timeout)
}

fn rendition(plan: &MediaPlan, stream: usize, index: usize) -> Rendition {
    let target_ms = u64::try_from(plan.segment_duration.as_millis()).unwrap_or(u64::MAX);
    Rendition::new(&plan.target.path, stream, index, target_ms, plan.playlist_segments)
}

fn thread_writers(plan: &MediaPlan, thread: usize) -> Vec<(usize, Writer)> {
    let mut writers = Vec::new();
    for stream in thread_streams(plan, thread) {
        for index in 0..plan.rendition_count {
            let writer = Writer {
                client: new_client(plan),
                rendition: rendition(plan, stream, index),
                newest: Rc::new(Cell::new(0)),
                segment_bytes: plan.segment_bytes,
                segment_duration: plan.segment_duration,
                query: plan.ttl_seconds.map_or(String::new(), |ttl| format!("?ttl_seconds={ttl}")),
                delete_behind: plan.delete_old.then_some(plan.dvr_window.saturating_add(2)),
            };
            writers.push((stream, writer));
        }
    }
    writers
}

async fn prepare(plan: &MediaPlan, writers: &mut [(usize, Writer)]) -> Result<(), RequestError> {
    for (_, writer) in writers {
        if plan.ingest {
            writer.prefill(plan.prefill.max(1) - 1).await?;
        } else {
            writer.learn().await?;
        }
    }
    Ok(())
}

/// All renditions of a stream are pushed at the same moment, as encoders do; streams are spread
/// evenly over the segment duration.
fn spawn_writers(
    plan: &MediaPlan,
    writers: Vec<(usize, Writer)>,
    span: Span,
    shared: &Shared,
) -> Vec<Actor> {
    let spawn = |(stream, writer): (usize, Writer)| {
        let due = span.start + fraction(plan.segment_duration, stream, plan.stream_count);
        tokio::task::spawn_local(writer.run(due, span, Rc::clone(shared)))
    };
    writers.into_iter().map(spawn).collect()
}

type Actor = JoinHandle<Result<(), ToolError>>;

fn spawn_players(plan: &MediaPlan, span: Span, shared: &Shared) -> Vec<Actor> {
    let live_count = plan.stream_count * plan.live_readers_per_stream;
    let spawn = |number: usize| {
        let stream = number / plan.live_readers_per_stream;
        let index = number % plan.live_readers_per_stream % plan.rendition_count;
        let reader = LiveReader {
            client: new_client(plan),
            rendition: rendition(plan, stream, index),
            segment_bytes: plan.segment_bytes,
            poll_interval: plan.poll_interval,
            repeat_interval: (!plan.ingest).then_some(plan.segment_duration),
        };
        let due = begin(plan, span, number, live_count, plan.poll_interval);
        tokio::task::spawn_local(reader.run(due, span, Rc::clone(shared)))
    };
    (0..live_count).map(spawn).collect()
}

fn spawn_viewers(
    plan: &MediaPlan,
    thread: usize,
    writers: &[(usize, Writer)],
    span: Span,
    shared: &Shared,
) -> Vec<Actor> {
    let renditions: Vec<(Rendition, Newest)> = writers
        .iter()
        .map(|(_, writer)| (writer.rendition.clone(), Rc::clone(&writer.newest)))
        .collect();
    if renditions.is_empty() {
        return Vec::new();
    }
    let spawn = |number: usize| {
        let reader = DvrReader {
            client: new_client(plan),
            renditions: renditions.clone(),
            segment_bytes: plan.segment_bytes,
            interval: plan.dvr_interval,
            window: plan.dvr_window,
            random: mix(plan.seed ^ number as u64),
        };
        let due = begin(plan, span, number, plan.dvr_reader_count, plan.dvr_interval);
        tokio::task::spawn_local(reader.run(due, span, Rc::clone(shared)))
    };
    (thread..plan.dvr_reader_count).step_by(plan.threads).map(spawn).collect()
}

/// Readers arrive evenly over the ramp, each at its own phase of its interval.
fn begin(plan: &MediaPlan, span: Span, number: usize, count: usize, interval: Duration) -> Instant {
    let phase = mix(plan.seed ^ mix(number as u64)) % 10_000;
    span.start + fraction(plan.ramp, number, count) + interval.mul_f64(phase as f64 / 10_000.0)
}

fn fraction(whole: Duration, part: usize, count: usize) -> Duration {
    whole.mul_f64(part as f64 / count.max(1) as f64)
}
