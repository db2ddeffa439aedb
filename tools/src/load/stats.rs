//! What is counted: per class of request a histogram of latencies, errors by kind, and how late
//! the generator itself was.
//!
//! Latency runs from the moment a request was *due*. A slow answer that holds up the next request
//! is therefore charged to that one as well, and a request that was never sent because the run
//! ended is charged with the time it had waited. Leaving those out would hide the worst stalls.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::client::RequestError;

const EXAMPLES_MAX: usize = 8;
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// The kinds of request of the media workload, in the order they are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    SegmentPut,
    PlaylistPut,
    PlaylistGet,
    LiveGet,
    DvrGet,
    Delete,
    Get,
    Put,
}

impl Class {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Class::SegmentPut => "segment_put",
            Class::PlaylistPut => "playlist_put",
            Class::PlaylistGet => "playlist_get",
            Class::LiveGet => "live_get",
            Class::DvrGet => "dvr_get",
            Class::Delete => "delete",
            Class::Get => "get",
            Class::Put => "put",
        }
    }
}

/// Everything seen of one class.
#[derive(Debug)]
struct ClassRecord {
    latency_ns: Histogram<u64>,
    slip_ns: Histogram<u64>,
    ok_count: u64,
    unsent_count: u64,
    byte_count: u64,
    errors: BTreeMap<&'static str, u64>,
}

/// The measurements of one thread; merged at the end.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    classes: BTreeMap<Class, ClassRecord>,
    examples: Vec<String>,
}

/// When a request was due and when it was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    pub(crate) at: Instant,
    pub(crate) sent: Instant,
}

impl Due {
    pub(crate) fn sent_now(at: Instant) -> Due {
        Due { at, sent: Instant::now() }
    }
}

impl ClassRecord {
    fn new() -> ClassRecord {
        ClassRecord {
            latency_ns: new_histogram(3),
            slip_ns: new_histogram(3),
            ok_count: 0,
            unsent_count: 0,
            byte_count: 0,
            errors: BTreeMap::new(),
        }
    }
}

impl Recorder {
    /// Records the end of a request that was sent.
    pub(crate) fn ended(
        &mut self,
        class: Class,
        due: Due,
        path: &str,
        result: &Result<u64, RequestError>,
    ) {
        let record = self.classes.entry(class).or_insert_with(ClassRecord::new);
        record.latency_ns.saturating_record(nanos(due.at.elapsed()));
        record.slip_ns.saturating_record(nanos(due.sent.saturating_duration_since(due.at)));
        match result {
            Ok(byte_count) => {
                record.ok_count += 1;
                record.byte_count += byte_count;
            }
            Err(error) => {
                *record.errors.entry(kind(error)).or_insert(0) += 1;
                if self.examples.len() < EXAMPLES_MAX {
                    self.examples.push(format!("{} {path}: {error}", class.name()));
                }
            }
        }
    }

    /// Records a request that was due but never sent: the connection was busy until the end.
    pub(crate) fn unsent(&mut self, class: Class, due: Instant, end: Instant) {
        let record = self.classes.entry(class).or_insert_with(ClassRecord::new);
        record.latency_ns.saturating_record(nanos(end.saturating_duration_since(due)));
        record.unsent_count += 1;
    }

    pub(crate) fn merge(&mut self, other: Recorder) {
        for (class, theirs) in other.classes {
            let ours = self.classes.entry(class).or_insert_with(ClassRecord::new);
            let bounds = "histograms of one class have the same bounds";
            ours.latency_ns.add(&theirs.latency_ns).expect(bounds);
            ours.slip_ns.add(&theirs.slip_ns).expect(bounds);
            ours.ok_count += theirs.ok_count;
            ours.unsent_count += theirs.unsent_count;
            ours.byte_count += theirs.byte_count;
            for (kind, count) in theirs.errors {
                *ours.errors.entry(kind).or_insert(0) += count;
            }
        }
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES_MAX);
    }

    /// The finished figures for a measured span.
    pub(crate) fn report(self, measured: Duration, cpu_s: f64) -> Report {
        let seconds = measured.as_secs_f64();
        assert!(seconds > 0.0);
        let classes: BTreeMap<_, _> = self
            .classes
            .iter()
            .map(|(class, record)| (*class, ClassReport::of(class.name(), record, seconds)))
            .collect();
        let classes: Vec<_> = classes.into_values().collect();
        let problem_count =
            classes.iter().map(|class| class.error_count + class.unsent_count).sum();
        Report {
            measured_s: round(seconds),
            generator_cpu_s: round(cpu_s),
            problem_count,
            classes,
            examples: self.examples,
        }
    }
}

/// The result of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) measured_s: f64,
    /// CPU time of this process, all of it: what it took away from the server on a shared machine.
    pub(crate) generator_cpu_s: f64,
    pub(crate) problem_count: u64,
    pub(crate) classes: Vec<ClassReport>,
    pub(crate) examples: Vec<String>,
}

/// The figures of one class. Latencies run from the due time.
#[derive(Debug, Serialize)]
pub(crate) struct ClassReport {
    pub(crate) class: &'static str,
    pub(crate) ok_count: u64,
    pub(crate) error_count: u64,
    pub(crate) unsent_count: u64,
    pub(crate) errors: BTreeMap<&'static str, u64>,
    pub(crate) bytes: u64,
    pub(crate) bytes_per_s: f64,
    pub(crate) requests_per_s: f64,
    pub(crate) latency_us_p50: f64,
    pub(crate) latency_us_p90: f64,
    pub(crate) latency_us_p99: f64,
    pub(crate) latency_us_p999: f64,
    pub(crate) latency_us_max: f64,
    /// How many took so long, to 1 %. Percentiles of several loads cannot be added up; these can.
    pub(crate) latency_us_counts: BTreeMap<u64, u64>,
    pub(crate) slip_us_p99: f64,
    pub(crate) slip_us_max: f64,
}

impl ClassReport {
    fn of(class: &'static str, record: &ClassRecord, seconds: f64) -> ClassReport {
        let us = |quantile: f64| round(record.latency_ns.value_at_quantile(quantile) as f64 / 1e3);
        ClassReport {
            class,
            ok_count: record.ok_count,
            error_count: record.errors.values().sum(),
            unsent_count: record.unsent_count,
            errors: record.errors.clone(),
            bytes: record.byte_count,
            bytes_per_s: round(record.byte_count as f64 / seconds),
            requests_per_s: round(record.ok_count as f64 / seconds),
            latency_us_p50: us(0.5),
            latency_us_p90: us(0.9),
            latency_us_p99: us(0.99),
            latency_us_p999: us(0.999),
            latency_us_max: round(record.latency_ns.max() as f64 / 1e3),
            latency_us_counts: counts_us(&record.latency_ns),
            slip_us_p99: round(record.slip_ns.value_at_quantile(0.99) as f64 / 1e3),
            slip_us_max: round(record.slip_ns.max() as f64 / 1e3),
        }
    }
}

/// Each value and how many there were, two digits of it and whole microseconds.
fn counts_us(latency_ns: &Histogram<u64>) -> BTreeMap<u64, u64> {
    let mut rough = new_histogram(2);
    for value in latency_ns.iter_recorded() {
        let latency_us = value.value_iterated_to().div_ceil(1_000);
        rough.saturating_record_n(latency_us, value.count_at_value());
    }
    rough.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value())).collect()
}

fn new_histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, digits)
        .unwrap_or_else(|error| panic!("fixed histogram bounds: {error}"))
}

fn kind(error: &RequestError) -> &'static str {
    match error {
        RequestError::Status(400..500) => "status_4xx",
        RequestError::Status(500..) => "status_5xx",
        RequestError::Status(_) => "status_other",
        RequestError::WrongBytes(_) | RequestError::WrongPlaylist(_) => "wrong_bytes",
        RequestError::Length { .. } => "wrong_length",
        RequestError::WentBack { .. } => "went_back",
        RequestError::Io(_) | RequestError::Closed { .. } => "connection",
        RequestError::Head(_) => "malformed_answer",
        RequestError::TimedOut(_) => "timed_out",
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_the_due_time_and_unsent_requests_count_too() {
        let mut recorder = Recorder::default();
        let now = Instant::now();
        let late = Due { at: now - Duration::from_millis(50), sent: now };
        recorder.ended(Class::DvrGet, late, "/x", &Ok(10));
        recorder.unsent(Class::DvrGet, now - Duration::from_millis(900), now);
        recorder.ended(Class::DvrGet, late, "/x", &Err(RequestError::Status(404)));
        let report = recorder.report(Duration::from_secs(1), 0.0);
        let class = &report.classes[0];
        assert!(class.latency_us_p50 >= 50_000.0 && class.latency_us_max >= 899_000.0);
        assert!(class.slip_us_max >= 49_900.0);
        assert_eq!((class.ok_count, class.error_count, class.unsent_count), (1, 1, 1));
        assert_eq!(report.problem_count, 2);
        assert_eq!(report.examples.len(), 1);
    }

    #[test]
    fn merging_adds_up() {
        let due = Due::sent_now(Instant::now());
        let mut one = Recorder::default();
        one.ended(Class::Get, due, "/x", &Ok(3));
        let mut two = Recorder::default();
        two.ended(Class::Get, due, "/x", &Ok(4));
        one.merge(two);
        let report = one.report(Duration::from_secs(1), 0.0);
        assert_eq!((report.classes[0].ok_count, report.classes[0].bytes), (2, 7));
    }

    #[test]
    fn counts_tell_every_request_within_a_hundredth_of_its_latency() {
        let mut latency_ns = new_histogram(3);
        for value in [1, 40_900, 40_100, 1_234_000, 600_000_000_000] {
            latency_ns.record(value).expect("within its bounds");
        }
        let counts = counts_us(&latency_ns);
        let found: Vec<_> = counts.into_iter().collect();
        let [(1, 1), (41, 2), (ms, 1), (limit, 1)] = found[..] else { panic!("{found:?}") };
        assert!((1_234..=1_246).contains(&ms), "{ms}");
        assert!((600_000_000..=606_000_000).contains(&limit), "{limit}");
    }
}
