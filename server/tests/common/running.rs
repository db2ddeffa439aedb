//! The binary, running, as an operator starts it.

use super::Client;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

pub const BINARY: &str = env!("CARGO_BIN_EXE_tapeloop");

pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

pub struct Running {
    pub child: Child,
    pub data: SocketAddr,
    pub admin: SocketAddr,
}

impl Running {
    /// Starts `shell` words before the binary, and waits until it prints where it listens.
    pub fn start(shell: &str, flags: &[&str]) -> Running {
        let mut child = Command::new("sh")
            .args(["-c", &format!("{shell} exec \"$0\" \"$@\""), BINARY])
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--capacity", "64MiB", "--ram", "32MiB"])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut lines = stdout.lines().map(|line| line.expect("text"));
        let mut find = |word: &str| {
            let line = lines.find(|line| line.starts_with(word)).expect("it listens");
            let addr = line.rsplit("http://").next().expect("an address");
            addr.parse().expect("an address")
        };
        let data = find("data plane");
        let admin = find("admin plane");
        // The rest of its words is read, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Running { child, data, admin }
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().expect("kill runs");
        assert!(sent.success());
    }

    pub fn end(mut self) {
        self.signal("-TERM");
        let status = self.child.wait().expect("ends");
        assert!(status.success(), "{status}");
    }
}

impl Running {
    /// A figure of `/metrics`.
    pub fn metric(&self, name: &str) -> u64 {
        let answer = Client::connect(self.admin).get("/metrics");
        let text = String::from_utf8(answer.body).expect("text");
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        values.next().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name}"))
    }

    /// A figure of the process in /proc, in bytes.
    pub fn memory_bytes(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).expect("a living process");
        let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
        let kib = line.trim_matches([':', ' ', '\t']).split(' ').next().expect("a number");
        kib.parse::<u64>().expect("a number") * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
