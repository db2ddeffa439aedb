//! The media workload: who runs, and when each begins.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

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

/// Runs the workload and prints its report.
pub(crate) fn run(plan: &MediaPlan) -> Result<Outcome, ToolError> {
    output::plan(&report::media_plan(plan));
    let barrier = std::sync::Barrier::new(plan.threads);
    let bar =
        progress::clock(format!("loading, {:?} after the prefill", plan.ramp + plan.duration));
    let recorder =
        on_threads(plan.threads, |thread, shared| run_thread(plan, thread, &barrier, shared))?;
    bar.finish_and_clear();
    report::print(recorder.report(plan.duration, cpu_seconds()), plan.json)
}

async fn run_thread(
    plan: &MediaPlan,
    thread: usize,
    barrier: &std::sync::Barrier,
    shared: Shared,
) -> Result<(), ToolError> {
    let mut writers = thread_writers(plan, thread);
    let prepared = prepare(plan, &mut writers).await;
    // Every thread passes here even if its preparation failed, or the others would wait for ever.
    barrier.wait();
    prepared.map_err(|error| ToolError::Unreachable {
        url: plan.target.url.clone(),
        cause: format!("the first objects could not be stored or read: {error}"),
    })?;
    let start = Instant::now();
    let measure = start + plan.ramp;
    let span = Span { start, measure, end: measure + plan.duration };
    let mut actors = spawn_readers(plan, thread, &writers, span, &shared)?;
    if plan.ingest {
        actors.extend(spawn_writers(plan, writers, span, &shared));
    }
    for actor in actors {
        actor.await.map_err(|error| ToolError::Runtime(std::io::Error::other(error)))??;
    }
    Ok(())
}

fn thread_streams(plan: &MediaPlan, thread: usize) -> impl Iterator<Item = usize> + use<> {
    (thread..plan.stream_count).step_by(plan.threads)
}

fn new_client(plan: &MediaPlan) -> Client {
    Client::new(plan.target.address, &plan.target.host, plan.timeout)
}

fn thread_writers(plan: &MediaPlan, thread: usize) -> Vec<(usize, Writer)> {
    let mut writers = Vec::new();
    for stream in thread_streams(plan, thread) {
        for index in 0..plan.rendition_count {
            let target_ms = u64::try_from(plan.segment_duration.as_millis()).unwrap_or(u64::MAX);
            let rendition =
                Rendition::new(&plan.target.path, stream, index, target_ms, plan.playlist_segments);
            let writer = Writer {
                client: new_client(plan),
                rendition,
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
) -> Vec<JoinHandle<Result<(), ToolError>>> {
    let spawn = |(stream, writer): (usize, Writer)| {
        let due = span.start + fraction(plan.segment_duration, stream, plan.stream_count);
        tokio::task::spawn_local(writer.run(due, span, Rc::clone(shared)))
    };
    writers.into_iter().map(spawn).collect()
}

fn spawn_readers(
    plan: &MediaPlan,
    thread: usize,
    writers: &[(usize, Writer)],
    span: Span,
    shared: &Shared,
) -> Result<Vec<JoinHandle<Result<(), ToolError>>>, ToolError> {
    let mut actors = Vec::new();
    let live_count = plan.stream_count * plan.live_readers_per_stream;
    for stream in thread_streams(plan, thread) {
        let own: Vec<_> = writers.iter().filter(|(of, _)| *of == stream).collect();
        for index in 0..plan.live_readers_per_stream {
            let reader = LiveReader {
                client: new_client(plan),
                rendition: own[index % own.len()].1.rendition.clone(),
                segment_bytes: plan.segment_bytes,
                poll_interval: plan.poll_interval,
                repeat_interval: (!plan.ingest).then_some(plan.segment_duration),
            };
            let number = stream * plan.live_readers_per_stream + index;
            let due = begin(plan, span, number, live_count, plan.poll_interval);
            actors.push(tokio::task::spawn_local(reader.run(due, span, Rc::clone(shared))));
        }
    }
    let renditions: Vec<(Rendition, Newest)> = writers
        .iter()
        .map(|(_, writer)| (writer.rendition.clone(), Rc::clone(&writer.newest)))
        .collect();
    if renditions.is_empty() {
        return Ok(actors);
    }
    for number in (thread..plan.dvr_reader_count).step_by(plan.threads) {
        let reader = DvrReader {
            client: new_client(plan),
            renditions: renditions.clone(),
            segment_bytes: plan.segment_bytes,
            interval: plan.dvr_interval,
            window: plan.dvr_window,
            random: mix(plan.seed ^ number as u64),
        };
        let due = begin(plan, span, number, plan.dvr_reader_count, plan.dvr_interval);
        actors.push(tokio::task::spawn_local(reader.run(due, span, Rc::clone(shared))));
    }
    Ok(actors)
}

/// Readers arrive evenly over the ramp, each at its own phase of its interval.
fn begin(plan: &MediaPlan, span: Span, number: usize, count: usize, interval: Duration) -> Instant {
    let phase = mix(plan.seed ^ mix(number as u64)) % 10_000;
    span.start + fraction(plan.ramp, number, count) + interval.mul_f64(phase as f64 / 10_000.0)
}

fn fraction(whole: Duration, part: usize, count: usize) -> Duration {
    whole.mul_f64(part as f64 / count.max(1) as f64)
}
