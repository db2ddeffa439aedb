//! Opening the store behind a configuration, creating it first when there is none.

use crate::config::{Config, format_size};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use tapeloop_engine::{
    CreateError, Engine, GroupPolicy, MemoryMax, OpenError, Options, RecoverySummary, VolumeFile,
    volume_paths,
};
use thiserror::Error;

/// Why there is no store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The data directory cannot be made.
    #[error("--data {path:?}: cannot create the directory: {cause}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The volumes cannot be created.
    #[error("cannot create the store: {0}")]
    Create(#[from] CreateError),
    /// The volumes cannot be opened.
    #[error("cannot open the store: {0}")]
    Open(#[from] OpenError),
    /// A store that is to be opened although parts of it are missing, and nothing of it is there.
    #[error("--degraded: none of the volumes is there: {}", list(.0))]
    NothingThere(Vec<PathBuf>),
}

/// The volumes of the configured store.
pub fn volumes(config: &Config) -> Vec<PathBuf> {
    volume_paths(&config.data)
}

/// True when there is a store, or a part of one.
pub fn exists(config: &Config) -> bool {
    volumes(config).iter().any(|volume| volume.exists())
}

fn options(config: &Config) -> Options {
    Options {
        volumes: volumes(config),
        degraded: config.degraded,
        arena_bytes: config.ram,
        groups: config.policies.groups().map(group).collect(),
        scrub: config.scrub,
        ..Options::new("")
    }
}

/// The most memory that the store takes, if its volumes together have such a capacity.
pub fn memory_max(config: &Config, capacity_bytes: u64) -> MemoryMax {
    options(config).memory_max(capacity_bytes)
}

/// Capacity of the volumes together: of those that are there, and of those that would be made.
pub fn capacity_bytes(config: &Config) -> u64 {
    let of = |path: &PathBuf| VolumeFile::open_read_only(path).map(|file| file.len());
    volumes(config).iter().map(|path| of(path).unwrap_or(config.capacity)).sum()
}

/// Opens the store, formatting it first when none of its volumes exists.
pub fn open(config: &Config) -> Result<(Engine, RecoverySummary), StoreError> {
    let volumes = volumes(config);
    if !exists(config) {
        create(config, &volumes)?;
    } else if config.capacity_given {
        let list = list(&volumes);
        tracing::info!("{list} exists: --capacity counts only when a store is created");
    }
    Ok(Engine::open(options(config))?)
}

/// Paths as people write them.
pub fn list(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}

fn group(namespace: &crate::config::Namespace) -> GroupPolicy {
    GroupPolicy {
        group: namespace.group,
        quota_bytes: namespace.quota,
        guaranteed: namespace.guaranteed,
    }
}

fn create(config: &Config, volumes: &[PathBuf]) -> Result<(), StoreError> {
    if config.degraded {
        return Err(StoreError::NothingThere(volumes.to_vec()));
    }
    for path in &config.data {
        std::fs::create_dir_all(path)
            .map_err(|cause| StoreError::Directory { path: path.clone(), cause })?;
    }
    let each = if volumes.len() > 1 { " each" } else { "" };
    eprintln!("creating {} ({}{each})", list(volumes), format_size(config.capacity));
    let mut progress = Progress::default();
    tapeloop_engine::format(volumes, config.capacity, &mut |done, all| progress.show(done, all))?;
    progress.end();
    Ok(())
}

/// One line on a terminal, rewritten at every percent; nothing in a log file.
#[derive(Default)]
struct Progress {
    shown_percent: Option<u64>,
}

impl Progress {
    fn show(&mut self, done: u64, all: u64) {
        let percent = (done * 100).checked_div(all).unwrap_or(100);
        if self.shown_percent == Some(percent) || !std::io::stderr().is_terminal() {
            return;
        }
        self.shown_percent = Some(percent);
        let mut line = String::new();
        let _ = write!(line, "\r{percent:3} % of {} written out", format_size(all));
        // A terminal that is gone does not matter to the store.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn end(&mut self) {
        if self.shown_percent.is_some() {
            eprintln!();
        }
    }
}
