//! The binary over two volumes: what it prints, what it refuses, what the admin plane says of each.

mod common;

use common::{Client, pattern, until};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_tapeloop");
const LISTEN: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

struct Running {
    child: Child,
    data: SocketAddr,
    admin: SocketAddr,
    banner: Vec<String>,
}

impl Running {
    fn start(flags: &[&str]) -> Running {
        let mut child = Command::new(BINARY)
            .args(LISTEN)
            .args(["--capacity", "32MiB", "--ram", "20MiB"])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut lines = stdout.lines().map(|line| line.expect("text"));
        let mut banner = Vec::new();
        while banner.last().is_none_or(|line: &String| !line.starts_with("play")) {
            banner.push(lines.next().expect("it listens"));
        }
        let find = |word: &str| {
            let line =
                banner.iter().find(|line| line.starts_with(word)).expect("a line of its own");
            let addr = line.rsplit("http://").next().expect("an address");
            addr.parse().expect("an address")
        };
        let (data, admin) = (find("data plane"), find("admin plane"));
        Running { child, data, admin, banner }
    }

    fn admin(&self, path: &str) -> (u16, String) {
        let mut client = Client::connect(self.admin);
        let answer = client.ask(&format!("GET {path} HTTP/1.1\r\nConnection: close"), b"");
        (answer.status, String::from_utf8(answer.body).expect("text"))
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.admin("/api/v1/status").1).expect("JSON")
    }

    fn end(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill runs").success());
        let status = self.child.wait().expect("ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Two places in a directory, and the flags that name them.
fn places(dir: &Path) -> [PathBuf; 2] {
    ["a", "b"].map(|name| dir.join(name))
}

/// Ended with an error, and one line that says why.
fn refusal(flags: &[&str]) -> String {
    let output: Output = Command::new(BINARY).args(LISTEN).args(flags).output().expect("runs");
    assert!(!output.status.success(), "{flags:?} is accepted");
    let text = String::from_utf8(output.stderr).expect("text");
    let causes: Vec<&str> = text.lines().filter(|line| line.starts_with("tapeloop: ")).collect();
    assert_eq!(causes.len(), 1, "{text}");
    causes[0].to_owned()
}

#[test]
fn a_store_on_two_drives_is_made_served_and_shown_by_volume() {
    let dir = directory();
    let [a, b] = places(dir.path());
    let running = Running::start(&["--data", text(&a), "--data", text(&b)]);
    let store = running.banner.iter().find(|line| line.starts_with("store")).expect("told");
    for path in [a.join("volume-0.tape"), b.join("volume-1.tape")] {
        assert!(store.contains(text(&path)), "{store}");
    }
    assert!(store.contains("64 MiB"), "both volumes count: {store}");
    let mut client = Client::connect(running.data);
    let body = pattern(300_000, 1);
    for n in 0..60 {
        assert_eq!(client.put(&format!("/two/{n}.ts"), &body).status, 201);
    }
    for n in 0..60 {
        assert!(client.get(&format!("/two/{n}.ts")).body == body, "{n}");
    }
    until("both volumes are in use", || {
        let status = running.status();
        let volumes = status["store"]["volumes"].as_array().expect("a list").clone();
        assert_eq!(volumes.len(), 2);
        assert!(volumes.iter().all(|volume| volume["state"] == "ok"), "{volumes:?}");
        let used = |volume: &serde_json::Value| volume["zones_free"].as_u64() < Some(4);
        volumes.iter().all(used)
    });
    assert_eq!(running.admin("/healthz"), (200, "ok\n".into()));
    let (_, metrics) = running.admin("/metrics");
    for volume in [0, 1] {
        let line = format!("\ntapeloop_volume_fenced{{volume=\"{volume}\"}} 0\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
    running.end();
    let list = format!("data = [\"{}\", \"{}\"]\n", text(&b), text(&a));
    let file = dir.path().join("tapeloop.toml");
    std::fs::write(&file, list).expect("written");
    let running = Running::start(&["--config", text(&file)]);
    assert!(Client::connect(running.data).get("/two/0.ts").body == body, "in any order");
    running.end();
}

#[test]
fn a_missing_drive_is_refused_and_with_degraded_told_everywhere() {
    let dir = directory();
    let [a, b] = places(dir.path());
    let both = ["--data", text(&a), "--data", text(&b)];
    let running = Running::start(&both);
    let mut client = Client::connect(running.data);
    for n in 0..60 {
        assert_eq!(client.put(&format!("/two/{n}.ts"), &pattern(300_000, n)).status, 201);
    }
    running.end();
    let cause = refusal(&["--data", text(&b)]);
    assert!(cause.contains("volume 0 of 2 is missing") && cause.contains("--degraded"), "{cause}");
    let away = dir.path().join("away");
    std::fs::rename(&a, &away).expect("taken away");
    let cause = refusal(&both);
    assert!(cause.contains("volume 0 of 2 is missing") && cause.contains(text(&a)), "{cause}");
    assert!(!a.exists(), "nothing is made in its place");
    let cause = refusal(&["--degraded", "--data", text(&a)]);
    assert!(cause.contains("none of the volumes"), "{cause}");
    let running = Running::start(&["--degraded", "--data", text(&a), "--data", text(&b)]);
    let told = running.banner.iter().any(|line| line.contains("volume 0 of 2 is missing"));
    assert!(told, "{:?}", running.banner);
    let (status, cause) = running.admin("/healthz");
    assert_eq!((status, &*cause), (503, "degraded: volume 0: missing\n"), "health is red");
    assert_eq!(running.admin("/readyz"), (200, cause), "and it takes uploads");
    assert_eq!(running.status()["health"], "degraded");
    assert_eq!(running.status()["store"]["volumes"][0]["state"], "missing");
    let (_, metrics) = running.admin("/metrics");
    assert!(metrics.contains("\ntapeloop_volume_missing{volume=\"0\"} 1\n"), "{metrics}");
    assert!(metrics.contains("\ntapeloop_healthy 0\n"), "{metrics}");
    let mut client = Client::connect(running.data);
    let found = (0..60).filter(|n| {
        let answer = client.get(&format!("/two/{n}.ts"));
        assert!(answer.status == 404 || answer.body == pattern(300_000, *n), "{n}");
        answer.status == 200
    });
    let found = found.count();
    assert!(found > 0 && found < 60, "{found} of 60 are on the volume that is left");
    assert_eq!(client.put("/two/new.ts", b"new").status, 201);
    running.end();
}

#[test]
fn check_names_every_volume_and_makes_none() {
    let dir = directory();
    let [a, b] = places(dir.path());
    let output = Command::new(BINARY)
        .args(LISTEN)
        .args(["--check", "--capacity", "32MiB", "--data", text(&a), "--data", text(&b)])
        .output()
        .expect("runs");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(said.contains("would create") && said.contains("32 MiB each"), "{said}");
    assert!(said.contains(text(&a)) && said.contains(text(&b)), "{said}");
    assert!(!a.exists() && !b.exists());
}
