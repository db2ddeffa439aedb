//! The same figures give the same bytes: plots of small results against stored ones.
//!
//! After a change of looks, `tapeloop-benches plot benches/src/plot/golden/*.json` writes them
//! anew; look at them before they are committed.

use super::{Plot, figures};
use crate::results::{Results, parse};
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plot/golden")
}

fn read(name: &str) -> String {
    let path = golden().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn same(plots: Vec<Plot>, prefix: &str) -> usize {
    for plot in &plots {
        let name = format!("{prefix}{}.svg", plot.name);
        for (number, (ours, stored)) in (1..).zip(plot.svg.lines().zip(read(&name).lines())) {
            assert_eq!(ours, stored, "{name}, line {number}");
        }
        assert_eq!(plot.svg.len(), read(&name).len(), "{name} is not as long");
    }
    plots.len()
}

#[test]
fn the_same_results_give_the_same_plots() {
    let Ok(Results::Rows(run)) = parse(&read("run.json")) else { panic!("no comparison") };
    let Ok(Results::Restart(sizes)) = parse(&read("restart.json")) else { panic!("no restarts") };
    let drawn = same(figures::of_rows(&run), "run-") + same(figures::of_restarts(sizes), "");
    let entries = std::fs::read_dir(golden()).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let stored = names.filter(|name| name.to_string_lossy().ends_with(".svg")).count();
    assert_eq!((drawn, stored), (6, 6));
}

#[test]
fn one_restart_is_a_series_of_one() {
    let one = r#"{"machine": "", "date": "", "objects": 7, "engine_open_ms": 1.5,
        "index_bytes": 9.0, "rounds": [{"kill_to_first_get_ms": 3.0,
            "rss_bytes": 4, "rss_bytes_max": 5}]}"#;
    let Ok(Results::Restart(sizes)) = parse(one) else { panic!("no restart") };
    assert_eq!(sizes.iter().map(|size| size.objects).collect::<Vec<_>>(), [7]);
    assert_eq!(figures::of_restarts(sizes).len(), 2);
}

#[test]
fn a_file_without_results_is_refused() {
    assert!(parse("{}").is_err() && parse("[1]").is_err() && parse("").is_err());
}
