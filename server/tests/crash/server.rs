//! The real `tapeloop` on a store that outlives it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::client::Client;

/// A restart that takes longer than this has failed, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The store of a run.
pub(crate) struct Store {
    folder: TempDir,
    capacity_mib: u64,
}

impl Store {
    pub(crate) fn new(capacity_mib: u64) -> Store {
        // On the disk of the build, because /tmp may be memory without O_DIRECT.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Store { folder, capacity_mib }
    }

    fn command(&self) -> Command {
        let errors =
            File::options().create(true).append(true).open(self.folder.path().join("stderr"));
        let built = || env!("CARGO_BIN_EXE_tapeloop").into();
        let mut command = Command::new(std::env::var_os("TAPELOOP_BINARY").unwrap_or_else(built));
        command
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--ram", "64MiB", "--threads", "2", "--capacity"])
            .arg(format!("{}MiB", self.capacity_mib))
            .arg("--data")
            .arg(self.folder.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors.unwrap());
        command
    }

    /// What the servers have written to stderr so far.
    pub(crate) fn complaints(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// Checks the store as the kill left it, when the environment names a tapectl.
    pub(crate) fn fsck(&self) {
        let Ok(tapectl) = std::env::var("TAPELOOP_FSCK") else { return };
        let checked = Command::new(tapectl)
            .arg("fsck")
            .arg(self.folder.path().join("data"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.success(), "{said}");
    }
}

/// A running server. Killed with the test.
pub(crate) struct Server {
    child: Child,
    addr: SocketAddr,
    started_in: Duration,
}

impl Server {
    /// Starts it, right after a kill or not, and waits for its first good answer.
    pub(crate) fn start(store: &Store) -> Server {
        let begun = Instant::now();
        let mut child = store.command().spawn().unwrap();
        let addresses = printed_addresses(&mut child);
        let addr = match addresses.recv_timeout(PATIENCE) {
            Ok(addr) => addr,
            Err(RecvTimeoutError::Disconnected) => {
                let status = child.wait().unwrap();
                panic!("tapeloop ended with {status}: {}", store.complaints());
            }
            Err(RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                panic!("tapeloop does not start: {}", store.complaints());
            }
        };
        let answer = Client::connect(addr).and_then(|mut client| client.get("/crash/never-stored"));
        assert_eq!(answer.unwrap().status, 404);
        Server { child, addr, started_in: begun.elapsed() }
    }

    /// Starts it and kills it again before, while or just after it recovers.
    pub(crate) fn start_and_kill(store: &Store, after_ms: u64) {
        let mut child = store.command().spawn().unwrap();
        // The moment of the kill is the fault; nothing is waited for.
        thread::sleep(Duration::from_millis(after_ms));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn started_in_ms(&self) -> u128 {
        self.started_in.as_millis()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        let status = self.child.try_wait().unwrap();
        assert!(status.is_none(), "tapeloop ended by itself with {status:?}");
        self.child.kill().unwrap();
    }

    pub(crate) fn reap(&mut self) {
        self.child.wait().unwrap();
    }

    pub(crate) fn stop(mut self) {
        self.kill();
        self.reap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every `http://ADDRESS` printed, in order: the data plane comes first. The pipe is read to its
/// end, so that the server never blocks on it.
fn printed_addresses(child: &mut Child) -> Receiver<SocketAddr> {
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            for rest in line.split("http://").skip(1) {
                let end = rest.find(|c: char| !(c.is_ascii_digit() || ".:".contains(c)));
                if let Ok(addr) = rest[..end.unwrap_or(rest.len())].parse() {
                    let _ = sender.send(addr);
                }
            }
        }
    });
    receiver
}
