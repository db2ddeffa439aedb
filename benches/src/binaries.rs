//! The programs under test, built from this checkout with the bench's own profile and target
//! folder.

use crate::error::{BenchError, Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Paths of the built programs.
pub(crate) struct Binaries {
    pub(crate) tapeloop: PathBuf,
    pub(crate) tapectl: PathBuf,
    /// The bare io_uring loop, an example of the engine.
    pub(crate) echo: PathBuf,
    /// Where results are kept.
    pub(crate) results: PathBuf,
}

impl Binaries {
    /// Builds server and tools in release mode, so that nobody measures a stale or debug binary.
    /// With `prebuilt` they are taken from that folder instead.
    pub(crate) fn ready(prebuilt: Option<&Path>) -> Result<Binaries> {
        let me = std::env::current_exe().context("finding my own path")?;
        let own = me.parent().expect("an executable lies in a folder");
        let folder = match prebuilt {
            Some(folder) => folder.to_path_buf(),
            None => {
                build(own.parent().expect("target/PROFILE"))?;
                own.with_file_name("release")
            }
        };
        let results = own.with_file_name("bench-results");
        std::fs::create_dir_all(&results).context("creating the folder of results")?;
        Ok(Binaries {
            tapeloop: folder.join("tapeloop"),
            tapectl: folder.join("tapectl"),
            echo: folder.join("examples/echo"),
            results,
        })
    }
}

fn build(target: &Path) -> Result<()> {
    let servers = ["--package", "tapeloop-server", "--package", "tapeloop-tools"];
    cargo(target, &[servers.as_slice(), &["--bin", "tapeloop", "--bin", "tapectl"]].concat())?;
    // On its own: what examples need besides must not change how the server is built.
    cargo(target, &["--package", "tapeloop-io", "--example", "echo"])
}

fn cargo(target: &Path, args: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet"]).args(args);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", target);
    let status = command.status().context("starting cargo")?;
    match status.success() {
        true => Ok(()),
        false => Err(BenchError::Build { status: status.to_string() }),
    }
}
