//! The command line: raw arguments as typed, and the one place that turns them into validated
//! commands. Nothing behind this file checks a flag again.

mod load;

use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::admin::AdminUrl;
use crate::dump::{DumpPlan, LoadFromDumpPlan, Origin};
use crate::error::ToolError;
use crate::format::FormatPlan;
use crate::fsck::{FsckPlan, FsckWhat};
use crate::inspect::InspectPlan;
use crate::load::{GetPlan, MediaPlan, PutPlan};
use crate::scrub::ScrubPlan;
use crate::top::TopPlan;
use crate::units::{parse_duration, parse_size};
use load::RawLoad;

/// Where a server's admin plane listens unless told otherwise.
const ADMIN_DEFAULT: &str = "http://127.0.0.1:8081";

/// A validated command.
#[derive(Debug)]
pub(crate) enum Command {
    Format(FormatPlan),
    Fsck(FsckPlan),
    Inspect(InspectPlan),
    Dump(DumpPlan),
    LoadFromDump(LoadFromDumpPlan),
    Scrub(ScrubPlan),
    Top(TopPlan),
    LoadMedia(MediaPlan),
    LoadGet(GetPlan),
    LoadPut(PutPlan),
}

/// Reads the process's arguments. Help, version and typing mistakes end the process here, with
/// clap's own exit codes: 0 for help, 2 for a mistake.
pub(crate) fn parse() -> Result<Command, ToolError> {
    Raw::parse().command.validate()
}

#[derive(Debug, Parser)]
#[command(
    name = "tapectl",
    version,
    about = "Format, inspect, check, repair, dump and load a tapeloop store.",
    after_help = "Exit codes: 0 clean, 1 problems found, 2 could not run."
)]
struct Raw {
    #[command(subcommand)]
    command: RawCommand,
}

#[derive(Debug, Subcommand)]
enum RawCommand {
    /// Make a store: a file of the given capacity, or a block device. Replaces nothing.
    Format(RawFormat),
    /// Show a store: volumes, zones, classes, fill; one zone's records; or one key's versions.
    Inspect(RawInspect),
    /// Verify every structure and every payload byte of a store and name every damaged object.
    Fsck(RawFsck),
    /// Write the live objects under a prefix to files, each verified, with a manifest.
    Dump(RawDump),
    /// Push what `tapectl dump` has written to an origin, each object verified.
    LoadFromDump(RawLoadFromDump),
    /// Show what the scrub of a running origin has read and found; or begin a cycle and follow it.
    Scrub(RawScrub),
    /// Show a running origin at a glance: health, volumes, fill, rates, scrub.
    Top(RawTop),
    /// Load an origin on this machine: an open-loop media workload, or plain GETs or PUTs.
    Load(Box<RawLoad>),
}

#[derive(Debug, Args)]
struct RawFormat {
    /// Volume file to make, directory to make it in, or block device. Several make one store over
    /// several drives.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Bytes for objects on each volume: at least 32MiB. 1GiB takes objects of up to about 60 MiB.
    #[arg(long, value_parser = parse_size)]
    capacity: u64,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct RawInspect {
    #[command(subcommand)]
    layout: Option<RawLayout>,
    /// Volume file, data directory or block device. Several are the volumes of one store.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Show the records of this zone.
    #[arg(long, conflicts_with = "key")]
    zone: Option<u32>,
    /// Show every version of this key (NAMESPACE/PATH) and which one is live.
    #[arg(long)]
    key: Option<std::ffi::OsString>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum RawLayout {
    /// Print the constants and field tables of the disk format.
    Layout {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct RawFsck {
    /// Volume file, data directory or block device; several are the volumes of one store. They are
    /// only read, and may be in use, unless told otherwise.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Check this zone only, and what lies outside the zones.
    #[arg(long, conflicts_with_all = ["repair", "undo"])]
    zone: Option<u32>,
    /// Print what could be mended safely; with --yes, mend it. The store must not be in use.
    #[arg(long)]
    repair: bool,
    /// Where --repair keeps the bytes it overwrites [default: beside the first volume].
    #[arg(long, value_name = "FILE", requires = "repair")]
    undo_file: Option<PathBuf>,
    /// Put back what a repair has overwritten; with --yes, do it.
    #[arg(long, value_name = "FILE", conflicts_with = "repair")]
    undo: Option<PathBuf>,
    /// Carry out the plan of --repair or --undo.
    #[arg(long)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RawDump {
    /// Volume file, data directory or block device; several are the volumes of one store. They are
    /// only read, and may be in use.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Keys that start with this (NAMESPACE/PATH) [default: all].
    #[arg(long, default_value = "")]
    prefix: std::ffi::OsString,
    /// Folder to make and to write the objects and the manifest to.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RawLoadFromDump {
    /// Folder that `tapectl dump` has made.
    folder: PathBuf,
    /// Origin to push to: http://HOST:PORT, with a path before every key if it has one.
    #[arg(long, value_name = "URL")]
    to: String,
    /// Take the time since the dump off every object's life; what has none left is not pushed.
    #[arg(long)]
    deduct_age: bool,
    /// Uploads at a time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// A request without an answer after this long has failed.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    timeout: Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RawScrub {
    /// Admin plane of the origin.
    #[arg(long, default_value = ADMIN_DEFAULT)]
    admin: String,
    /// Begin a cycle at once and wait for its end.
    #[arg(long)]
    now: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RawTop {
    /// Admin plane of the origin.
    #[arg(long, default_value = ADMIN_DEFAULT)]
    admin: String,
    /// Look for one second, print, and end; so it does without a terminal.
    #[arg(long)]
    once: bool,
    /// Print JSON, one document for each look.
    #[arg(long)]
    json: bool,
}

impl RawCommand {
    fn validate(self) -> Result<Command, ToolError> {
        match self {
            RawCommand::Format(RawFormat { paths, capacity, yes, json }) => {
                Ok(Command::Format(FormatPlan { paths, capacity, yes, json }))
            }
            RawCommand::Inspect(inspect) => inspect.validate().map(Command::Inspect),
            RawCommand::Fsck(fsck) => Ok(Command::Fsck(fsck.validate())),
            RawCommand::Dump(RawDump { paths, prefix, to, json }) => {
                let prefix = prefix.into_vec();
                Ok(Command::Dump(DumpPlan { paths, prefix, to, json }))
            }
            RawCommand::LoadFromDump(load) => load.validate().map(Command::LoadFromDump),
            RawCommand::Scrub(RawScrub { admin, now, json }) => {
                Ok(Command::Scrub(ScrubPlan { admin: AdminUrl::parse(&admin)?, now, json }))
            }
            RawCommand::Top(RawTop { admin, once, json }) => {
                Ok(Command::Top(TopPlan { admin: AdminUrl::parse(&admin)?, once, json }))
            }
            RawCommand::Load(load) => load.validate(),
        }
    }
}

impl RawFsck {
    fn validate(self) -> FsckPlan {
        let RawFsck { paths, zone, repair, undo_file, undo, yes, json } = self;
        let what = match (zone, undo) {
            (Some(zone), _) => FsckWhat::Zone(zone),
            (None, Some(file)) => FsckWhat::Undo { file, yes },
            (None, None) if repair => FsckWhat::Repair { yes, undo_file },
            (None, None) => FsckWhat::Check,
        };
        FsckPlan { paths, what, json }
    }
}

impl RawLoadFromDump {
    fn validate(self) -> Result<LoadFromDumpPlan, ToolError> {
        let longest = Duration::from_secs(3600);
        in_range("--timeout", self.timeout, Duration::from_millis(100), longest)?;
        Ok(LoadFromDumpPlan {
            folder: self.folder,
            origin: Origin::parse(&self.to)?,
            deduct_age: self.deduct_age,
            connections: self.connections as usize,
            timeout: self.timeout,
            json: self.json,
        })
    }
}

impl RawInspect {
    fn validate(self) -> Result<InspectPlan, ToolError> {
        if let Some(RawLayout::Layout { json }) = self.layout {
            return Ok(InspectPlan::Layout { json });
        }
        let json = self.json;
        let paths = self.paths;
        Ok(match (self.zone, self.key) {
            (Some(zone), _) => InspectPlan::Zone { paths, zone, json },
            (None, Some(key)) => {
                let key = key.into_vec();
                let most = tapeloop_format::KEY_LEN_MAX;
                if key.is_empty() || key.len() > most {
                    return Err(refuse(
                        "--key",
                        key.len(),
                        format!("a key takes 1 to {most} bytes"),
                    ));
                }
                InspectPlan::Key { paths, key, json }
            }
            (None, None) => InspectPlan::Volume { paths, json },
        })
    }
}

fn refuse(flag: &'static str, value: impl ToString, allowed: impl ToString) -> ToolError {
    ToolError::Flag { flag, value: value.to_string(), allowed: allowed.to_string() }
}

fn in_range(
    flag: &'static str,
    value: Duration,
    least: Duration,
    most: Duration,
) -> Result<(), ToolError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let allowed = format!("must lie between {least:?} and {most:?}");
    Err(refuse(flag, format!("{value:?}"), allowed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Raw::command().debug_assert();
    }

    fn validated(line: &str) -> Result<Command, String> {
        let raw = Raw::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        raw.command.validate().map_err(|error| error.to_string())
    }

    #[test]
    fn a_wrong_value_names_the_flag_the_value_and_what_is_allowed() {
        let url = "tapectl load --url http://127.0.0.1:1/x";
        let error = validated(&format!("{url} --segment-duration 1ms")).unwrap_err();
        assert!(error.contains("--segment-duration") && error.contains("1ms"), "{error}");
        assert!(error.contains("between"), "{error}");
        let error = validated(&format!("{url} --segment-bytes 12x")).unwrap_err();
        assert!(error.contains("--segment-bytes") && error.contains("12x"), "{error}");
        let error = validated("tapectl load --url http://192.0.2.1/x").unwrap_err();
        assert!(error.contains("loopback"), "{error}");
    }

    #[test]
    fn load_has_a_media_form_and_two_primitives() {
        assert!(matches!(
            validated("tapectl load --url http://127.0.0.1:1/x"),
            Ok(Command::LoadMedia(_))
        ));
        assert!(matches!(
            validated("tapectl load get --url http://127.0.0.1:1/x"),
            Ok(Command::LoadGet(_))
        ));
        assert!(matches!(
            validated("tapectl load put --url http://127.0.0.1:1/x --bytes 1KiB --count 3"),
            Ok(Command::LoadPut(_))
        ));
        assert!(validated("tapectl load").is_err());
    }
}
