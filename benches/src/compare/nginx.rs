//! nginx with a configuration of its own: DAV PUT below a folder, loopback, nothing logged.

use super::peer::{Launch, Peer};
use crate::client::{self, Client};
use crate::error::{Context, Result};
use crate::process::{Running, StartOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);
const PLACES: [&str; 3] = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];

fn program() -> PathBuf {
    let found = PLACES.iter().map(Path::new).find(|path| path.exists());
    found.unwrap_or(Path::new("nginx")).to_path_buf()
}

/// Its version, and proof that it is installed.
pub(super) fn version() -> Result<String> {
    let output = Command::new(program()).arg("-v").output();
    let output = output.context("starting nginx (Debian: apt install nginx)")?;
    let text = String::from_utf8_lossy(&output.stderr);
    Ok(text.trim().trim_start_matches("nginx version: ").to_owned())
}

/// The folder it serves and stores into.
pub(super) fn files(folder: &Path) -> PathBuf {
    folder.join("files")
}

pub(super) fn start(peer: Peer, launch: &Launch<'_>) -> Result<(Running, SocketAddr)> {
    let folder = launch.folder;
    std::fs::create_dir_all(files(folder)).context("creating nginx's folder")?;
    let address = client::free_address().context("looking for a free port")?;
    let conf = folder.join("nginx.conf");
    std::fs::write(&conf, configuration(peer, launch, address)).context("writing nginx.conf")?;
    let mut args: Vec<String> = ["-e", "stderr", "-p"].map(str::to_owned).into();
    args.push(folder.display().to_string());
    args.extend(["-c".to_owned(), conf.display().to_string()]);
    // A master that is killed leaves its workers behind; TERM ends them too.
    let options = StartOptions {
        cgroup: launch.cgroup,
        on_bench_death: Some("TERM"),
        ..StartOptions::default()
    };
    let mut running = Running::start(&program(), &args, folder.join("nginx.log"), &options)?;
    running.wait_ready(LIMIT, || Client::connect(address, LIMIT).ok().map(drop))?;
    Ok((running, address))
}

/// The body buffer is the size that served nginx best of 16k to 2m here; at 2m every PUT pays for
/// fresh memory, five times the CPU.
fn configuration(peer: Peer, launch: &Launch<'_>, address: SocketAddr) -> String {
    let reading = match peer {
        Peer::NginxFileCache => "sendfile on; open_file_cache max=20000 inactive=10m;",
        Peer::NginxDirect => "aio threads; directio 4k; output_buffers 2 512k;",
        Peer::Nginx | Peer::Cached(_) | Peer::Tapeloop => "sendfile on;",
    };
    // Encoders overwrite playlists and nothing else.
    let freshness = match peer {
        Peer::Cached(_) => {
            "  map $uri $seconds { default 86400; ~\\.m3u8$ 1; }\n  \
             add_header Cache-Control max-age=$seconds;\n"
        }
        _ => "",
    };
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {}/{kind};\n", launch.folder.display()))
        .concat();
    format!(
        "{user}\nworker_processes {threads};\ndaemon off;\npid {folder}/nginx.pid;\n\
         events {{ worker_connections {connections_max}; }}\n\
         http {{\n{temporary}{freshness}  access_log off;\n  {reading}\n\
         \x20 tcp_nopush on;\n  tcp_nodelay on;\n\
         \x20 keepalive_timeout 600s;\n  keepalive_requests 1000000000;\n\
         \x20 client_max_body_size 0;\n  client_body_buffer_size 512k;\n\
         \x20 default_type application/octet-stream;\n\
         \x20 server {{\n    listen {address} backlog=4096;\n    root {files};\n\
         \x20   location / {{ dav_methods PUT DELETE; create_full_put_path on; }}\n  }}\n}}\n",
        threads = launch.threads,
        connections_max = launch.connections_max,
        folder = launch.folder.display(),
        files = files(launch.folder).display(),
    )
}
