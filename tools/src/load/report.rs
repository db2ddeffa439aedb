//! The words around a run: what it will do, and what came of it.

use std::fmt::Write as _;

use super::plan::MediaPlan;
use super::stats::Report;
use crate::error::{Outcome, ToolError};
use crate::output;
use crate::units;

/// One line per actor group, before anything is sent.
pub(crate) fn media_plan(plan: &MediaPlan) -> String {
    let playing = plan.stream_count * plan.live_readers_per_stream;
    let ingest_bytes = (plan.stream_count * plan.rendition_count) as f64
        * plan.segment_bytes as f64
        / plan.segment_duration.as_secs_f64();
    let mut text = format!(
        "load {}: {} streams x {} renditions, one segment of {} every {:?}{}\n",
        plan.target.url,
        plan.stream_count,
        plan.rendition_count,
        units::size(plan.segment_bytes),
        plan.segment_duration,
        if plan.ingest { String::new() } else { " (already stored; nothing is pushed)".into() },
    );
    if plan.ingest {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  pushes {:.1} MB/s after {} segments per rendition of prefill; keys below {}/ are \
             overwritten",
            ingest_bytes / 1e6,
            plan.prefill.max(1),
            plan.target.path,
        );
    }
    let _ = write!(
        text,
        "  {playing} live readers poll every {:?}, {} DVR readers read every {:?}\n  \
         {:?} ramp, then {:?} measured",
        plan.poll_interval, plan.dvr_reader_count, plan.dvr_interval, plan.ramp, plan.duration,
    );
    text
}

/// Prints the report; problems found decide the exit code.
pub(crate) fn print(report: Report, json: bool) -> Result<Outcome, ToolError> {
    if json {
        output::json(&report)?;
    } else {
        output::text(&as_text(&report))?;
    }
    Ok(Outcome::of_problem_count(report.problem_count))
}

fn as_text(report: &Report) -> String {
    let mut text = format!(
        "measured {:.1} s, generator CPU {:.1} s; latency in ms from the moment each request was \
         due\n{:<13}{:>9}{:>7}{:>7}{:>10}{:>10}{:>9}{:>9}{:>9}{:>9}{:>9}{:>10}\n",
        report.measured_s,
        report.generator_cpu_s,
        "class",
        "ok",
        "errors",
        "unsent",
        "req/s",
        "MB/s",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "slip p99",
    );
    for class in &report.classes {
        let ms = |us: f64| format!("{:.3}", us / 1000.0);
        let _ = writeln!(
            text,
            "{:<13}{:>9}{:>7}{:>7}{:>10.1}{:>10.2}{:>9}{:>9}{:>9}{:>9}{:>9}{:>10}",
            class.class,
            class.ok_count,
            class.error_count,
            class.unsent_count,
            class.requests_per_s,
            class.bytes_per_s / 1e6,
            ms(class.latency_us_p50),
            ms(class.latency_us_p90),
            ms(class.latency_us_p99),
            ms(class.latency_us_p999),
            ms(class.latency_us_max),
            ms(class.slip_us_p99),
        );
    }
    for class in report.classes.iter().filter(|class| class.error_count > 0) {
        let kinds: Vec<_> =
            class.errors.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let _ = writeln!(text, "errors of {}: {}", class.class, kinds.join(", "));
    }
    for example in &report.examples {
        let _ = writeln!(text, "for example {example}");
    }
    text
}
