//! The command line as typed. `Config::load` gives it meaning.

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// A media origin: encoders push segments and playlists over HTTP, CDNs and players pull them.
#[derive(Clone, Debug, Default, Parser)]
#[command(
    name = "tapeloop",
    version,
    after_help = "Without arguments: an origin on ./tapeloop-data (created, 1GiB), data plane on \
                  127.0.0.1:8080, admin plane on 127.0.0.1:8081."
)]
pub struct Args {
    /// What to run; the origin alone when left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// TOML file; every flag below has a key of the same name in it.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Directory of the store, or a volume file or block device; once for each drive [default:
    /// ./tapeloop-data].
    #[arg(long, value_name = "PATH", global = true)]
    pub data: Vec<PathBuf>,
    /// Open the store although volumes are missing, and give up what they hold for good.
    #[arg(long, global = true)]
    pub degraded: bool,
    /// Size of a store that is created, on each drive [default: 1GiB].
    #[arg(long, value_name = "SIZE", global = true)]
    pub capacity: Option<String>,
    /// Memory for recent objects and uploads [default: 256MiB].
    #[arg(long, value_name = "SIZE", global = true)]
    pub ram: Option<String>,
    /// Life of objects whose PUT and namespace name none [default: 24h].
    #[arg(long, value_name = "DURATION", global = true)]
    pub ttl: Option<String>,
    /// Address of the data plane [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR", global = true)]
    pub listen: Option<String>,
    /// Address of the admin plane [default: 127.0.0.1:8081].
    #[arg(long, value_name = "ADDR", global = true)]
    pub admin_listen: Option<String>,
    /// Front-end threads [default: one per core].
    #[arg(long, value_name = "N", global = true)]
    pub threads: Option<u64>,
    /// Allow addresses that other machines can reach, although nothing is authenticated.
    #[arg(long, global = true)]
    pub insecure_no_auth: bool,
    /// Validate the configuration and the machine, print what would be done, and exit.
    #[arg(long)]
    pub check: bool,
}

/// What to run beside the origin.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// The same origin plus a built-in live stream to open a player on.
    Demo,
}
