//! The budgets of DESIGN section 10 and whether results keep them.
//!
//! A figure is a median over all windows of its row; a ratio is one of medians of the same row, so
//! of servers that took turns on one machine. A line whose row or other side was not measured is
//! left out: nothing is judged by what is not there.

use crate::results::{Cell, NGINX, Run, Sample, TAPELOOP};
use crate::text::{NOTHING, Table, number, range};
use std::fmt;

/// A figure of a sample, and the unit that follows it.
#[derive(Clone, Copy)]
struct Figure {
    of: fn(&Sample) -> Option<f64>,
    unit: &'static str,
}

const CPU: Figure = Figure { of: |sample| sample.cpu_us_per_request, unit: " us" };
const REQUESTS: Figure = Figure { of: |sample| sample.requests_per_s, unit: "/s" };
const P99: Figure = Figure { of: |sample| Some(sample.latency_us_p99 / 1e3), unit: " ms" };
const P999: Figure = Figure { of: |sample| Some(sample.latency_us_p999 / 1e3), unit: " ms" };
const TO_P50: Figure = Figure { of: |sample| sample.extra("p99.9/p50"), unit: "" };
const TO_BEFORE: Figure = Figure { of: |sample| sample.extra("p99.9 during/before"), unit: "" };
const TO_NO_INGEST: Figure =
    Figure { of: |sample| sample.extra("p99.9 with/without ingest"), unit: "" };
const DRIVE_BYTES: Figure = Figure { of: |sample| sample.extra("drive bytes per byte"), unit: "" };

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    Below(f64),
    AtLeast(f64),
}

/// What is asked of our figure.
#[derive(Clone, Copy)]
enum Rule {
    /// A bound on our median as a multiple of another's in the same row; without one it is only
    /// told.
    Times(&'static str, Option<Bound>),
    /// A bound on the median itself; others, by what they are called here, are shown beside it.
    Itself(Bound, &'static [(&'static str, &'static str)]),
    /// A bound on the median itself, and at most one part in so many of the best nginx's.
    PartOfBestNginx(Option<Bound>, u32),
}

/// One line of the table.
struct Budget {
    /// With a `*` for what stands there in the row's name.
    what: &'static str,
    /// The name of the row, or a pattern with a `*`.
    row: &'static str,
    figure: Figure,
    rule: Rule,
}

const fn budget(what: &'static str, row: &'static str, figure: Figure, rule: Rule) -> Budget {
    Budget { what, row, figure, rule }
}

use Bound::{AtLeast, AtMost, Below};
use Rule::{Itself, PartOfBestNginx, Times};

const ECHO: &str = "io_uring echo";
const FIO: &str = "fio (the drive)";
const NGINX_FSYNC: &str = "nginx + fsync";
const CLOSE_TO_FIO: Rule = Times(FIO, Some(AtMost(1.5)));
const HALF_OF_NGINX_FSYNC: Rule = Times(NGINX_FSYNC, Some(AtMost(0.5)));
const UNLINKS: &[(&str, &str)] = &[("nginx's unlinks:", NGINX)];
const TAILS: &[(&str, &str)] = &[("nginx", NGINX), ("the bare loop", ECHO)];

const BUDGETS: [Budget; 24] = [
    budget(
        "2 KiB hot GET, 64 connections, CPU",
        "hot GET 2 KiB, 64 connections",
        CPU,
        Times(NGINX, Some(AtMost(0.5))),
    ),
    budget(
        "2 KiB hot GET, 64 connections, CPU",
        "hot GET 2 KiB, 64 connections",
        CPU,
        Times(ECHO, Some(AtMost(1.25))),
    ),
    budget(
        "512 KiB hot GET, CPU",
        "hot GET 512 KiB, 8 connections",
        CPU,
        Times(NGINX, Some(AtMost(0.9))),
    ),
    budget(
        "512 KiB cold GET, requests/s",
        "cold GET 512 KiB, 16 connections",
        REQUESTS,
        Times(FIO, Some(AtLeast(0.95))),
    ),
    budget(
        "4 MiB cold GET, requests/s",
        "cold GET 4 MiB, 16 connections",
        REQUESTS,
        Times(FIO, None),
    ),
    budget("2 MiB durable PUT, 1 encoder, p99", "PUT 2 MiB, 1 encoder", P99, CLOSE_TO_FIO),
    budget("2 MiB durable PUT, 8 encoders, p99", "PUT 2 MiB, 8 encoders", P99, CLOSE_TO_FIO),
    budget("2 MiB durable PUT, 32 encoders, p99", "PUT 2 MiB, 32 encoders", P99, CLOSE_TO_FIO),
    budget("2 MiB durable PUT, 1 encoder, CPU", "PUT 2 MiB, 1 encoder", CPU, HALF_OF_NGINX_FSYNC),
    budget("2 MiB durable PUT, 8 encoders, CPU", "PUT 2 MiB, 8 encoders", CPU, HALF_OF_NGINX_FSYNC),
    budget(
        "2 MiB durable PUT, 32 encoders, CPU",
        "PUT 2 MiB, 32 encoders",
        CPU,
        HALF_OF_NGINX_FSYNC,
    ),
    budget(
        "live mix, playlist p99",
        "mix under the cap: playlist_get",
        P99,
        PartOfBestNginx(Some(AtMost(1.0)), 8),
    ),
    budget(
        "live mix, live edge p99",
        "mix under the cap: live_get",
        P99,
        PartOfBestNginx(Some(AtMost(1.0)), 8),
    ),
    budget("live mix, DVR p99.9", "mix under the cap: dvr_get", P999, PartOfBestNginx(None, 3)),
    budget(
        "live mix, playlist p99.9 with ingest to without",
        "mix under the cap: playlist_get",
        TO_NO_INGEST,
        Itself(AtMost(2.0), &[]),
    ),
    budget(
        "live mix, live edge p99.9 with ingest to without",
        "mix under the cap: live_get",
        TO_NO_INGEST,
        Itself(AtMost(2.0), &[]),
    ),
    budget(
        "live mix, DVR p99.9 with ingest to without",
        "mix under the cap: dvr_get",
        TO_NO_INGEST,
        Itself(AtMost(2.0), &[]),
    ),
    budget("follower wake-up, p99", "follower wake-up: *", P99, Itself(Below(1.0), &[])),
    budget(
        "bytes to the drive per byte ingested, 95 % full",
        "write amplification, 95 % full",
        DRIVE_BYTES,
        Itself(AtMost(1.1), &[]),
    ),
    budget(
        "expiry of *, 2 KiB GET, p99.9 during to before",
        "expiry of *: 2 KiB GET beside it",
        TO_BEFORE,
        Itself(AtMost(1.1), UNLINKS),
    ),
    budget(
        "expiry of *, 512 KiB GET, p99.9 during to before",
        "expiry of *: 512 KiB GET beside it",
        TO_BEFORE,
        Itself(AtMost(1.1), UNLINKS),
    ),
    budget(
        "70 % of saturation, 2 KiB, p99.9 to p50",
        "latency at 70 % of saturation, hot GET 2 KiB",
        TO_P50,
        Itself(AtMost(5.0), TAILS),
    ),
    budget(
        "70 % of saturation, 512 KiB, p99.9 to p50",
        "latency at 70 % of saturation, hot GET 512 KiB",
        TO_P50,
        Itself(AtMost(5.0), TAILS),
    ),
    budget(
        "70 % of saturation, 4 MiB, p99.9 to p50",
        "latency at 70 % of saturation, hot GET 4 MiB",
        TO_P50,
        Itself(AtMost(5.0), TAILS),
    ),
];

/// All budgets that a run has figures for.
pub(crate) fn table(run: &Run) -> Table {
    let mut table = Table::new(&["what", "budget", "here", "the other side in the same run"]);
    for budget in &BUDGETS {
        for (row, star) in run.rows_like(budget.row) {
            let Some([here, other]) = budget.judge(run, row) else { continue };
            let what = budget.what.replace('*', star);
            let limit = budget.rule.text(budget.figure.unit);
            table.rows.push(vec![what, limit, here, other]);
        }
    }
    table.rows.extend(memory_line(run));
    table
}

/// The budgets of two runs.
pub(crate) fn beside(one: &Run, other: &Run) -> Table {
    let tables = [table(one), table(other)];
    let mut beside = Table::new(&["what", "budget", &one.date, &other.date]);
    for line in tables.iter().flat_map(|table| &table.rows) {
        let is_same = |known: &&Vec<String>| known[..2] == line[..2];
        if beside.rows.iter().any(|known| is_same(&known)) {
            continue;
        }
        let here = tables.each_ref().map(|table| {
            let line = table.rows.iter().find(is_same);
            line.map_or(NOTHING.to_owned(), |line| line[2].clone())
        });
        beside.rows.push([&line[..2], &here].concat());
    }
    beside
}

impl Budget {
    /// Our figure with the verdict, and the other side's. `None` where one was not measured.
    fn judge(&self, run: &Run, row: &str) -> Option<[String; 2]> {
        let Figure { of, unit } = self.figure;
        let ours = run.cell(row, TAPELOOP)?.spread(of)?;
        Some(match self.rule {
            Rule::Times(peer, bound) => {
                let theirs = run.cell(row, peer)?.spread(of)?.median;
                let times = ours.median / theirs;
                let verdict = verdict(bound, times);
                [format!("{}x{verdict}", number(times)), format!("{}{unit}", number(theirs))]
            }
            Rule::Itself(bound, beside) => {
                let here = format!("{}{unit}{}", range(ours), verdict(Some(bound), ours.median));
                let other = |(name, peer): &(&str, &str)| {
                    let theirs = run.cell(row, peer)?.spread(of)?;
                    Some(format!("{name} {}{unit}", range(theirs)))
                };
                [here, beside.iter().filter_map(other).collect::<Vec<_>>().join("; ")]
            }
            Rule::PartOfBestNginx(bound, parts) => {
                let nginx = run.of_row(row).filter(|cell| cell.peer.starts_with("nginx"));
                let medians = nginx.filter_map(|cell: &Cell| Some(cell.spread(of)?.median));
                let best = medians.min_by(f64::total_cmp)?;
                let of_best = best / ours.median;
                let digits = if of_best < 10.0 { number(of_best) } else { format!("{of_best:.0}") };
                let here = format!(
                    "{}{unit}{}; 1/{digits}{}",
                    range(ours),
                    verdict(bound, ours.median),
                    verdict(Some(AtLeast(f64::from(parts))), of_best),
                );
                [here, format!("{}{unit}", number(best))]
            }
        })
    }
}

fn verdict(bound: Option<Bound>, value: f64) -> &'static str {
    match bound.map(|bound| bound.holds(value)) {
        Some(true) => ", kept",
        Some(false) => ", NOT kept",
        None => "",
    }
}

fn memory_line(run: &Run) -> Option<Vec<String>> {
    let all = run.memory();
    let nearest = all.iter().max_by(|one, other| one.share().total_cmp(&other.share()))?;
    let above = all.iter().filter(|memory| memory.share() > 1.0).count();
    let kept = match above {
        0 => format!("kept in all {} workloads", all.len()),
        _ => format!("NOT kept in {above} of {} workloads", all.len()),
    };
    let [held, printed] = [nearest.rss_bytes_max, nearest.printed_bytes];
    let mb = |bytes: u64| number(bytes as f64 / 1e6);
    Some(vec![
        "resident memory".to_owned(),
        "<= printed at start".to_owned(),
        format!("{kept}; nearest: {} of {} MB", mb(held), mb(printed)),
        nearest.workload.clone(),
    ])
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            AtMost(limit) => value <= limit,
            Below(limit) => value < limit,
            AtLeast(limit) => value >= limit,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AtMost(limit) => write!(out, "<= {limit}"),
            Below(limit) => write!(out, "< {limit}"),
            AtLeast(limit) => write!(out, ">= {limit}"),
        }
    }
}

impl Rule {
    /// What is asked, for the table.
    fn text(self, unit: &str) -> String {
        match self {
            Times(peer, Some(bound)) => format!("{bound}x {peer}"),
            Times(peer, None) => format!("none, beside {peer}"),
            Itself(bound, _) => format!("{bound}{unit}"),
            PartOfBestNginx(Some(bound), parts) => {
                format!("{bound}{unit} and <= 1/{parts} of nginx's best")
            }
            PartOfBestNginx(None, parts) => format!("<= 1/{parts} of nginx's best"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::samples::{run, run_with_memory, sample, with_extra};
    use serde_json::Value;

    const HOT: &str = "hot GET 2 KiB, 64 connections";
    const PLAYLIST: &str = "mix under the cap: playlist_get";

    fn cpu(values: &[f64]) -> Vec<Value> {
        values.iter().map(|cpu_us| sample(1.0, *cpu_us, 1.0)).collect()
    }

    fn latency_us(value: f64) -> Vec<Value> {
        vec![sample(1.0, 1.0, value)]
    }

    /// Budget, here, the other side.
    fn judged(run: &Run) -> Vec<[String; 3]> {
        let lines = table(run).rows.into_iter();
        lines.map(|line| [1, 2, 3].map(|at: usize| line[at].clone())).collect()
    }

    #[test]
    fn a_ratio_of_medians_within_its_bound_is_kept_and_one_beyond_is_not() {
        let one = run(&[
            (HOT, TAPELOOP, &cpu(&[4.0, 5.0, 90.0])),
            (HOT, NGINX, &cpu(&[10.0])),
            (HOT, ECHO, &cpu(&[3.0, 3.0, 1.0])),
        ]);
        let expected = [
            ["<= 0.5x nginx sendfile", "0.50x, kept", "10.0 us"],
            ["<= 1.25x io_uring echo", "1.67x, NOT kept", "3.00 us"],
        ];
        assert_eq!(judged(&one), expected);
    }

    #[test]
    fn a_bound_from_below_is_kept_above_it_and_without_a_bound_there_is_no_verdict() {
        let rate = |per_s: f64| vec![sample(per_s, 1.0, 1.0)];
        let [small, large] = ["cold GET 512 KiB, 16 connections", "cold GET 4 MiB, 16 connections"];
        let cold = |ours: f64| {
            run(&[
                (small, TAPELOOP, &rate(ours)),
                (small, FIO, &rate(4_000.0)),
                (large, TAPELOOP, &rate(1.0)),
                (large, FIO, &rate(4.0)),
            ])
        };
        let told = ["none, beside fio (the drive)", "0.25x", "4.00/s"].map(str::to_owned);
        let asked = |here: &str| [">= 0.95x fio (the drive)", here, "4,000/s"].map(str::to_owned);
        assert_eq!(judged(&cold(3_900.0)), [asked("0.97x, kept"), told.clone()]);
        assert_eq!(judged(&cold(3_000.0)), [asked("0.75x, NOT kept"), told]);
    }

    #[test]
    fn the_best_nginx_is_the_one_with_the_lowest_median_and_caches_before_it_are_not_asked() {
        let mix = |ours_us: f64| {
            run(&[
                (PLAYLIST, NGINX, &latency_us(80_000.0)),
                (PLAYLIST, "nginx directio+threads", &latency_us(6_000.0)),
                (PLAYLIST, "varnish + nginx", &latency_us(10.0)),
                (PLAYLIST, TAPELOOP, &latency_us(ours_us)),
            ])
        };
        let line =
            |here: &str| ["<= 1 ms and <= 1/8 of nginx's best", here, "6.00 ms"].map(str::to_owned);
        assert_eq!(judged(&mix(500.0)), [line("0.50 ms, kept; 1/12, kept")]);
        assert_eq!(judged(&mix(1_000.0)), [line("1.00 ms, kept; 1/6.00, NOT kept")]);
    }

    #[test]
    fn a_storm_of_any_size_is_judged_by_the_ratio_of_each_slice() {
        let row = "expiry of 1000 objects in 3 s: 512 KiB GET beside it";
        let ratio = |value| with_extra("p99.9 during/before", value);
        let storm = run(&[
            (row, NGINX, &[ratio(0.9)]),
            (row, TAPELOOP, &[ratio(0.5), ratio(1.2), ratio(4.0)]),
        ]);
        let expected = [
            "expiry of 1000 objects in 3 s, 512 KiB GET, p99.9 during to before",
            "<= 1.1",
            "1.20 [0.50-4.00], NOT kept",
            "nginx's unlinks: 0.90",
        ];
        assert_eq!(table(&storm).rows, [expected]);
    }

    #[test]
    fn memory_is_kept_where_no_workload_went_beyond_what_was_printed() {
        let memory = |held| {
            let run = run_with_memory(&[], &[("put", 10, 100), ("mix", held, 1_242)]);
            table(&run).rows[0][2..].join("; ")
        };
        assert_eq!(memory(838), "kept in all 2 workloads; nearest: 838 of 1,242 MB; mix");
        assert_eq!(memory(1_300), "NOT kept in 1 of 2 workloads; nearest: 1,300 of 1,242 MB; mix");
    }

    #[test]
    fn what_was_not_measured_has_no_line() {
        assert!(table(&run(&[])).rows.is_empty());
        let ours_alone = run(&[(HOT, TAPELOOP, &cpu(&[1.0])), (PLAYLIST, TAPELOOP, &cpu(&[1.0]))]);
        assert!(table(&ours_alone).rows.is_empty());
        let theirs_alone = run(&[(HOT, NGINX, &cpu(&[1.0])), (PLAYLIST, NGINX, &cpu(&[1.0]))]);
        assert!(table(&theirs_alone).rows.is_empty());
    }

    #[test]
    fn runs_as_one_are_judged_by_the_samples_of_both() {
        let of = |cpu_us| run(&[(HOT, TAPELOOP, &cpu(&[cpu_us])), (HOT, NGINX, &cpu(&[10.0]))]);
        let mut whole = of(2.0);
        whole.append(of(12.0));
        assert_eq!(judged(&whole)[0][1], "0.70x, NOT kept");
    }

    #[test]
    fn budgets_of_two_runs_stand_beside_each_other_and_what_one_lacks_is_left_open() {
        let hot = |cpu_us| run(&[(HOT, TAPELOOP, &cpu(&[cpu_us])), (HOT, NGINX, &cpu(&[10.0]))]);
        let mut other = hot(6.0);
        other.append(run_with_memory(&[], &[("put", 1, 2)]));
        let lines = beside(&hot(4.0), &other).rows;
        assert_eq!(lines[0][2..], ["0.40x, kept", "0.60x, NOT kept"]);
        assert_eq!(lines[1][2..], ["-", "kept in all 1 workloads; nearest: 1.00 of 2.00 MB"]);
        assert_eq!(lines.len(), 2);
    }
}
