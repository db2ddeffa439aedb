//! The table, and the same as JSON in the form `tapeloop-benches plot` draws.

use crate::measure::Sample;
use serde::Serialize;

/// A finished run.
#[derive(Serialize)]
pub(crate) struct Report {
    machine: String,
    date: String,
    load_average: f64,
    rounds: u32,
    cells: Cells,
}

/// All samples, in the order rows and engines first came.
#[derive(Default, Serialize)]
pub(crate) struct Cells {
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    row: String,
    peer: String,
    samples: Vec<Sample>,
}

impl Cells {
    pub(crate) fn add(&mut self, row: &str, peer: &str, sample: Sample) {
        match self.cells.iter_mut().find(|cell| cell.row == row && cell.peer == peer) {
            Some(cell) => cell.samples.push(sample),
            None => {
                let (row, peer) = (row.to_owned(), peer.to_owned());
                self.cells.push(Cell { row, peer, samples: vec![sample] });
            }
        }
    }
}

type Figure = (&'static str, fn(&Sample) -> f64);

const FIGURES: [Figure; 9] = [
    ("ops/s", |sample| sample.requests_per_s),
    ("CPU us/op", |sample| sample.cpu_us_per_request),
    ("p50 ms", |sample| sample.latency_us_p50 / 1e3),
    ("p99 ms", |sample| sample.latency_us_p99 / 1e3),
    ("p99.9 ms", |sample| sample.latency_us_p999 / 1e3),
    ("written/byte", |sample| extra(sample, "drive bytes written per byte")),
    ("read/byte", |sample| extra(sample, "drive bytes read per byte")),
    ("misses, %", |sample| extra(sample, "misses, %")),
    ("RSS MB", |sample| sample.rss_bytes / 1e6),
];

fn extra(sample: &Sample, name: &str) -> f64 {
    sample.extra.get(name).copied().unwrap_or(f64::NAN)
}

impl Report {
    pub(crate) fn new(rounds: u32, load_average: f64, cells: Cells) -> Report {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name\t: "));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let date = std::process::Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
        let date = date.map(|date| date.stdout).unwrap_or_default();
        Report {
            machine: format!("{}, {cores} cores", model.unwrap_or("unknown CPU")),
            date: String::from_utf8_lossy(&date).trim().to_owned(),
            load_average,
            rounds,
            cells,
        }
    }

    pub(crate) fn print(&self) {
        println!("\n{}; {}; load before {:.1}", self.machine, self.date, self.load_average);
        println!("{} rounds, A B A B; median [min-max]", self.rounds);
        let mut row = "";
        for cell in ordered(&self.cells.cells) {
            if cell.row != row {
                row = &cell.row;
                print!("\n{row}\n  {:<28}", "");
                FIGURES.iter().for_each(|(name, _)| print!("{name:>21}"));
                println!();
            }
            print!("  {:<28}", cell.peer);
            for (_, of) in FIGURES {
                let mut values: Vec<f64> = cell.samples.iter().map(of).collect();
                values.sort_by(f64::total_cmp);
                let middle = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
                let (min, max) = (values[0], values[values.len() - 1]);
                let text = format!("{} [{}-{}]", short(middle), short(min), short(max));
                print!("{text:>21}");
            }
            println!();
        }
        println!();
    }
}

/// Row by row, as the rows first came.
fn ordered(cells: &[Cell]) -> Vec<&Cell> {
    let first = |row: &str| cells.iter().position(|cell| cell.row == row);
    let mut sorted: Vec<&Cell> = cells.iter().collect();
    sorted.sort_by_key(|cell| first(&cell.row));
    sorted
}

fn short(value: f64) -> String {
    match value.abs() {
        abs if abs >= 100.0 => format!("{value:.0}"),
        abs if abs >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
