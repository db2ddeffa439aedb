//! SVG plots of stored results: `compare` and `restart` end with them, `plot FILE.json...` draws
//! them again.
//!
//! A plot is a function of the stored figures alone: the same JSON gives the same bytes. They are
//! written beside the JSON, named after it. Rows that are points of a curve (one load, one object
//! size, one fill) make one plot together; every other row is a plot of bars.

mod axis;
mod bars;
mod canvas;
mod curve;
mod figures;
mod rows;
#[cfg(test)]
mod tests;

use crate::error::{Context, Result};
use crate::results::{self, Results};
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct PlotArgs {
    /// JSON files of `compare`, `restart` or benches/engines; sizes of several restarts make one
    /// curve.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// A finished plot and what it is called.
struct Plot {
    name: String,
    svg: String,
}

/// Runs `plot`.
pub(crate) fn run(args: &PlotArgs) -> Result<()> {
    write(&args.files)
}

/// Draws what the files hold; curves over files lie beside the first that has a part of them.
pub(crate) fn write(files: &[PathBuf]) -> Result<()> {
    let mut restarts = Vec::new();
    let mut home = None;
    for file in files {
        match results::read(file)? {
            Results::Rows(run) => {
                let stem = file.file_stem().unwrap_or_default().to_string_lossy();
                for plot in figures::of_rows(&run) {
                    put(file, &format!("{stem}-{}.svg", plot.name), &plot.svg)?;
                }
            }
            Results::Restart(sizes) => {
                home = home.or(Some(file));
                restarts.extend(sizes);
            }
        }
    }
    let Some(home) = home else { return Ok(()) };
    for plot in figures::of_restarts(restarts) {
        put(home, &format!("{}.svg", plot.name), &plot.svg)?;
    }
    Ok(())
}

fn put(beside: &Path, name: &str, svg: &str) -> Result<()> {
    let path = beside.with_file_name(name);
    std::fs::write(&path, svg).context(format!("writing {}", path.display()))?;
    println!("plot: {}", path.display());
    Ok(())
}
