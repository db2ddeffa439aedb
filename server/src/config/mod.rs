//! One validated configuration out of flags, a TOML file and defaults.
//!
//! Flags beat the file, the file beats the defaults. Nothing behind this module checks a value
//! again: what is here is within its bounds.

mod args;
mod file;
mod policy;
mod scrub;
mod units;

pub use args::{Args, Command};
pub use policy::{Ack, Namespace, Policies};
pub use units::{format_duration, format_size};

use crate::http::target::TTL_SECONDS_MAX;
use file::{File, OneOrMany};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tapeloop_engine::ScrubOptions;
use thiserror::Error;

const MIB: u64 = 1 << 20;
/// The smallest arena that can hold a few uploads at once.
const RAM_MIN: u64 = 16 * MIB;
/// The smallest volume the format allows.
const CAPACITY_MIN: u64 = 32 * MIB;
const THREADS_MAX: u64 = 256;
/// Most volumes of a store.
const VOLUMES_MAX: usize = 16;

/// Everything the server runs by.
#[derive(Clone, Debug)]
pub struct Config {
    /// The volumes of the store, one each: a directory that holds a volume file, a volume file, or
    /// a block device.
    pub data: Vec<PathBuf>,
    /// Open the store although volumes are missing.
    pub degraded: bool,
    /// Size of each volume of a store still to be created.
    pub capacity: u64,
    /// True when somebody asked for this capacity.
    pub capacity_given: bool,
    /// Bytes of the arena.
    pub ram: u64,
    /// Data plane address.
    pub listen: SocketAddr,
    /// Admin plane address.
    pub admin_listen: SocketAddr,
    /// Front-end threads, one ring and one listener each.
    pub threads: usize,
    /// How the store is scrubbed.
    pub scrub: ScrubOptions,
    /// Life, acknowledgement and quota by namespace.
    pub policies: Policies,
    /// Where the namespaces can be read again.
    pub file: Option<PathBuf>,
}

/// Why there is no configuration. One line each.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A value out of its bounds or not understood.
    #[error("{name}: {value:?} is not {allowed}")]
    Value {
        /// The flag, or the key of the file.
        name: String,
        /// What was given.
        value: String,
        /// What would have been accepted.
        allowed: String,
    },
    /// Two volumes in one place.
    #[error("--data: {0:?} is given twice: each volume of a store has a place of its own")]
    Twice(PathBuf),
    /// An address that others can reach, without authentication.
    #[error(
        "{name}: {addr} is reachable from other machines and no authentication is configured; \
         use a loopback address, or --insecure-no-auth to allow it"
    )]
    Exposed {
        /// The flag or key.
        name: String,
        /// The address.
        addr: SocketAddr,
    },
    /// The file cannot be read.
    #[error("--config {path:?}: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file is no valid TOML, or holds a key nobody knows.
    #[error("--config {path:?}: {cause}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The parser's words, on one line.
        cause: String,
    },
}

impl Config {
    /// Merges `args`, the file they name and the defaults.
    pub fn load(args: &Args) -> Result<Config, ConfigError> {
        let file = read_file(args.config.as_deref())?;
        let flag = |name: &str, given: &Option<String>, key: &Option<String>| match given {
            Some(text) => Some((format!("--{name}"), text.clone())),
            None => key.clone().map(|text| (name.to_owned(), text)),
        };
        let insecure = args.insecure_no_auth || file.insecure_no_auth.unwrap_or(false);
        let capacity = flag("capacity", &args.capacity, &file.capacity);
        let listen = flag("listen", &args.listen, &file.listen);
        let admin_listen = flag("admin-listen", &args.admin_listen, &file.admin_listen);
        let ttl = flag("ttl", &args.ttl, &file.ttl);
        let ram = flag("ram", &args.ram, &file.ram);
        let default_ttl_ms = ttl.map_or(Ok(24 * 3600 * 1000), |given| ttl_ms(given.0, &given.1))?;
        let threads = match args.threads {
            Some(threads) => Some(("--threads", threads)),
            None => file.threads.map(|threads| ("threads", threads)),
        };
        Ok(Config {
            data: data(args, &file)?,
            degraded: args.degraded || file.degraded.unwrap_or(false),
            capacity_given: capacity.is_some(),
            capacity: size(capacity, 1024 * MIB, CAPACITY_MIN)?,
            ram: size(ram, 256 * MIB, RAM_MIN)?,
            listen: address(listen, 8080, insecure)?,
            admin_listen: address(admin_listen, 8081, insecure)?,
            threads: threads.map_or(Ok(default_threads()), checked_threads)?,
            scrub: scrub::options(&file)?,
            policies: policies(default_ttl_ms, &file)?,
            file: args.config.clone(),
        })
    }

    /// Reads the namespaces again from the file. The rest stays as it was at start.
    pub fn reload_policies(&self) -> Result<Policies, ConfigError> {
        let file = read_file(self.file.as_deref())?;
        let default_ttl_ms = match &file.ttl {
            Some(text) => ttl_ms("ttl".into(), text)?,
            None => self.policies.default.ttl_ms,
        };
        policies(default_ttl_ms, &file)
    }
}

fn read_file(path: Option<&Path>) -> Result<File, ConfigError> {
    let Some(path) = path else { return Ok(File::default()) };
    let text = std::fs::read_to_string(path)
        .map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
    toml::from_str(&text).map_err(|error| ConfigError::Malformed {
        path: path.to_owned(),
        cause: file::one_line(&error, &text),
    })
}

fn data(args: &Args, file: &File) -> Result<Vec<PathBuf>, ConfigError> {
    let from_file = match &file.data {
        None => Vec::new(),
        Some(OneOrMany::One(path)) => vec![path.clone()],
        Some(OneOrMany::Many(paths)) => paths.clone(),
    };
    let given = if args.data.is_empty() { from_file } else { args.data.clone() };
    if given.is_empty() {
        return Ok(vec![PathBuf::from("./tapeloop-data")]);
    }
    if given.len() > VOLUMES_MAX {
        let (name, value) = ("--data".to_owned(), format!("{} paths", given.len()));
        let allowed = format!("1 to {VOLUMES_MAX} volumes");
        return Err(ConfigError::Value { name, value, allowed });
    }
    let twice = (1..given.len()).find(|at| given[..*at].contains(&given[*at]));
    match twice {
        Some(at) => Err(ConfigError::Twice(given[at].clone())),
        None => Ok(given),
    }
}

fn size(given: Option<(String, String)>, default: u64, min: u64) -> Result<u64, ConfigError> {
    let Some((name, value)) = given else { return Ok(default) };
    match units::parse_size(&value) {
        Some(bytes) if bytes >= min => Ok(bytes),
        _ => {
            let allowed = format!("a size of at least {}, as in 1GiB or 512MiB", format_size(min));
            Err(ConfigError::Value { name, value, allowed })
        }
    }
}

fn ttl_ms(name: String, value: &str) -> Result<u64, ConfigError> {
    match units::parse_duration_ms(value) {
        Some(ttl_ms) if (1000..=TTL_SECONDS_MAX * 1000).contains(&ttl_ms) => Ok(ttl_ms),
        _ => {
            let allowed = "a duration from 1s to 3650d, as in 90s, 15m, 24h or 7d".to_owned();
            Err(ConfigError::Value { name, value: value.to_owned(), allowed })
        }
    }
}

fn address(
    given: Option<(String, String)>,
    default_port: u16,
    insecure: bool,
) -> Result<SocketAddr, ConfigError> {
    let Some((name, value)) = given else {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), default_port));
    };
    let Ok(addr) = value.parse::<SocketAddr>() else {
        let allowed = format!("an address and port, as in 127.0.0.1:{default_port} or [::1]:80");
        return Err(ConfigError::Value { name, value, allowed });
    };
    if addr.ip().is_loopback() || insecure {
        Ok(addr)
    } else {
        Err(ConfigError::Exposed { name, addr })
    }
}

fn checked_threads((name, threads): (&str, u64)) -> Result<usize, ConfigError> {
    if !(1..=THREADS_MAX).contains(&threads) {
        let allowed = format!("a number of threads from 1 to {THREADS_MAX}");
        let (name, value) = (name.to_owned(), threads.to_string());
        return Err(ConfigError::Value { name, value, allowed });
    }
    Ok(usize::try_from(threads).expect("bounded above"))
}

fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn policies(default_ttl_ms: u64, file: &File) -> Result<Policies, ConfigError> {
    let mut policies = Policies::open_to_all(default_ttl_ms);
    for (name, raw) in &file.namespaces {
        let key = |field: &str| format!("namespaces.{name}.{field}");
        let name_ok = !name.is_empty()
            && name.len() <= 255
            && name.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && !b"/\\%?#".contains(&byte))
            && !matches!(name.as_str(), "." | "..");
        if !name_ok {
            let allowed = "a namespace: visible ASCII without / \\ % ? #".to_owned();
            return Err(ConfigError::Value {
                name: "namespaces".into(),
                value: name.clone(),
                allowed,
            });
        }
        let ttl = raw.ttl.as_ref().map(|text| ttl_ms(key("ttl"), text)).transpose()?;
        let quota = raw
            .quota
            .as_ref()
            .map(|text| size(Some((key("quota"), text.clone())), 0, MIB))
            .transpose()?;
        let ack = match raw.ack.as_deref() {
            None | Some("durable") => Ack::Durable,
            Some("buffered") => Ack::Buffered,
            Some(other) => {
                let allowed = "\"durable\" or \"buffered\"".to_owned();
                return Err(ConfigError::Value { name: key("ack"), value: other.into(), allowed });
            }
        };
        let guaranteed = raw.guaranteed.unwrap_or(false);
        let ttl_ms = ttl.unwrap_or(default_ttl_ms);
        if !policies.add(name, Namespace { ttl_ms, ack, quota, guaranteed, group: 0 }) {
            let allowed = "distinguishable from the namespaces before it; rename one".to_owned();
            return Err(ConfigError::Value {
                name: "namespaces".into(),
                value: name.clone(),
                allowed,
            });
        }
    }
    Ok(policies)
}

#[cfg(test)]
mod tests;
