//! Opening the store behind a configuration, creating it first when there is none.

use crate::config::{Config, format_size};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use tapeloop_engine::{
    CreateError, Engine, GroupPolicy, OpenError, Options, RecoverySummary, volume_path,
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
    /// The volume cannot be created.
    #[error("{path:?}: cannot create the store: {cause}")]
    Create {
        /// The volume.
        path: PathBuf,
        /// Why.
        cause: CreateError,
    },
    /// The volume cannot be opened.
    #[error("cannot open the store: {0}")]
    Open(#[from] OpenError),
}

/// True when the configured volume exists.
pub fn exists(config: &Config) -> bool {
    volume_path(&config.data).exists()
}

/// Opens the store, formatting it first when its volume does not exist.
pub fn open(config: &Config) -> Result<(Engine, RecoverySummary, PathBuf), StoreError> {
    let volume = volume_path(&config.data);
    if !volume.exists() {
        create(config, &volume)?;
    } else if config.capacity_given {
        tracing::info!("{volume:?} exists: --capacity counts only when a store is created");
    }
    let options = Options {
        arena_bytes: config.ram,
        groups: config.policies.groups().map(group).collect(),
        scrub: config.scrub,
        ..Options::new(&volume)
    };
    let (engine, summary) = Engine::open(options)?;
    Ok((engine, summary, volume))
}

fn group(namespace: &crate::config::Namespace) -> GroupPolicy {
    GroupPolicy {
        group: namespace.group,
        quota_bytes: namespace.quota,
        guaranteed: namespace.guaranteed,
    }
}

fn create(config: &Config, volume: &Path) -> Result<(), StoreError> {
    std::fs::create_dir_all(&config.data)
        .map_err(|cause| StoreError::Directory { path: config.data.clone(), cause })?;
    eprintln!("creating {} ({})", volume.display(), format_size(config.capacity));
    let mut progress = Progress::default();
    tapeloop_engine::format(volume, config.capacity, &mut |done, all| progress.show(done, all))
        .map_err(|cause| StoreError::Create { path: volume.to_owned(), cause })?;
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
