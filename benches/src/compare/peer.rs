//! The servers that are compared, each started afresh in a folder of its own.

use super::caches::{self, Cache, Cached};
use super::nginx;
use super::sample::Cells;
use crate::binaries::Binaries;
use crate::error::Result;
use crate::proc_fs::Usage;
use crate::process::Running;
use crate::results::Memory;
use crate::tapeloop::{self, Admin, FirstBytes, Tapeloop};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A server under comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// DAV PUT, sendfile.
    Nginx,
    /// The same with open_file_cache: right only where nothing is overwritten.
    NginxFileCache,
    /// Direct reads on a thread pool.
    NginxDirect,
    /// nginx with sendfile, behind a cache in memory.
    Cached(Cache),
    Tapeloop,
}

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Peer::Nginx => "nginx sendfile",
            Peer::NginxFileCache => "nginx open_file_cache",
            Peer::NginxDirect => "nginx directio+threads",
            Peer::Cached(cache) => caches::name(cache),
            Peer::Tapeloop => "tapeloop",
        }
    }
}

/// Room for any row that is not about the number of connections.
pub(super) const CONNECTIONS_MAX: u32 = 8192;

/// How it is started.
pub(super) struct Launch<'a> {
    pub(super) folder: &'a Path,
    pub(super) threads: u32,
    pub(super) capacity_bytes: u64,
    pub(super) ram_bytes: u64,
    pub(super) cgroup: Option<&'a Path>,
    /// Connections nginx makes room for; each costs it memory from the start.
    pub(super) connections_max: u32,
}

/// A running server.
pub(super) struct Server {
    /// What answers; `usage` counts what lies behind it too.
    pub(super) running: Running,
    /// nginx behind a cache.
    behind: Option<Running>,
    pub(super) address: SocketAddr,
    folder: PathBuf,
    /// Of tapeloop: the others are asked nothing.
    admin: Option<Admin>,
}

impl Server {
    pub(super) fn start(peer: Peer, binaries: &Binaries, launch: &Launch<'_>) -> Result<Server> {
        let (running, address, behind, admin) = match peer {
            Peer::Tapeloop => {
                let mut server = Tapeloop::start(
                    binaries,
                    &tapeloop::Launch {
                        data: &launch.folder.join("data"),
                        capacity_bytes: launch.capacity_bytes,
                        ram_bytes: launch.ram_bytes,
                        threads: launch.threads,
                        cgroup: launch.cgroup,
                        log: launch.folder.join("tapeloop.log"),
                    },
                )?;
                server.wait_listening(START_LIMIT)?;
                (server.running, server.address, None, Some(server.admin))
            }
            Peer::Cached(cache) => {
                let Cached { cache, address, nginx } = caches::start(cache, launch)?;
                (cache, address, Some(nginx), None)
            }
            nginx => {
                let (running, address) = nginx::start(nginx, launch)?;
                (running, address, None, None)
            }
        };
        Ok(Server { running, behind, address, folder: launch.folder.to_path_buf(), admin })
    }

    /// A server that keeps nothing.
    pub(super) fn of(running: Running, address: SocketAddr, folder: &Path) -> Server {
        Server { running, behind: None, address, folder: folder.to_path_buf(), admin: None }
    }

    /// Folder for logs, on the drive under test.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where nginx keeps the object of a path.
    pub(super) fn file_of(&self, path: &str) -> PathBuf {
        nginx::files(&self.folder).join(path.trim_start_matches('/'))
    }

    /// What its own clock says so far, if it has one.
    pub(super) fn first_bytes(&self) -> Result<Option<FirstBytes>> {
        self.admin.map(Admin::first_bytes).transpose()
    }

    /// CPU and memory of all its processes.
    pub(super) fn usage(&self) -> Usage {
        let behind = self.behind.as_ref().map(Running::usage).unwrap_or_default();
        let answering = self.running.usage();
        Usage {
            cpu_s: answering.cpu_s + behind.cpu_s,
            rss_bytes: answering.rss_bytes + behind.rss_bytes,
            rss_bytes_max: answering.rss_bytes_max + behind.rss_bytes_max,
            switch_count: answering.switch_count + behind.switch_count,
        }
    }

    /// Ends it, and notes the most memory it held in its workload.
    pub(super) fn stop(mut self, workload: &str, cells: &mut Cells) -> Result<()> {
        if let Some(admin) = self.admin {
            cells.add_memory(Memory {
                workload: workload.to_owned(),
                rss_bytes_max: self.usage().rss_bytes_max,
                printed_bytes: admin.memory_printed_bytes()?,
            });
        }
        self.running.stop(STOP_LIMIT)?;
        match &mut self.behind {
            Some(behind) => behind.stop(STOP_LIMIT).map(drop),
            None => Ok(()),
        }
    }
}
