//! The scrub as an operator meets it: the real binary, a volume that rots under it, and the admin
//! plane.

mod common;

use common::{Client, pattern, until};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Running {
    child: Child,
    data: SocketAddr,
    admin: SocketAddr,
}

impl Running {
    fn start(folder: &Path) -> Running {
        let config = folder.join("tapeloop.toml");
        std::fs::write(&config, "scrub-share = \"100%\"\nscrub-cycle = \"off\"\n")
            .expect("written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_tapeloop"))
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--capacity", "64MiB", "--ram", "32MiB", "--config"])
            .arg(&config)
            .arg("--data")
            .arg(folder.join("store"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut lines = stdout.lines().map(|line| line.expect("text"));
        let mut find = |word: &str| {
            let line = lines.find(|line| line.starts_with(word)).expect("it listens");
            line.rsplit("http://").next().expect("an address").parse().expect("an address")
        };
        let (data, admin) = (find("data plane"), find("admin plane"));
        // The rest of its words is read, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Running { child, data, admin }
    }

    fn ask(&self, method: &str, path: &str, more: &str) -> (u16, String) {
        let mut client = Client::connect(self.admin);
        let head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: 0");
        client.send(format!("{head}\r\nHost: {}\r\n{more}\r\n", self.admin));
        let answer = client.answer(false);
        (answer.status, String::from_utf8(answer.body).expect("text"))
    }

    fn json(&self, path: &str) -> Value {
        let (status, text) = self.ask("GET", path, "");
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// A cycle from its begin to its end.
    fn scrub(&self) -> Value {
        let (status, text) = self.ask("POST", "/api/v1/scrub", "");
        assert_eq!(status, 202, "{text}");
        let begun: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(begun["cycles"][0]["volume"], 0);
        let wanted = begun["cycles"][0]["cycle"].as_u64().expect("a number");
        let mut report = Value::Null;
        until("the end of the cycle", || {
            report = self.json("/api/v1/scrub");
            report["volumes"][0]["last"]["cycle"].as_u64() >= Some(wanted)
        });
        report
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Flips a bit in the middle of `body`, which lies once on the volume.
fn rot(volume: &Path, body: &[u8]) {
    let bytes = std::fs::read(volume).expect("the volume");
    let at = bytes.windows(64).position(|window| *window == body[..64]).expect("on the drive");
    let at = (at + body.len() / 2) as u64;
    let file = File::options().read(true).write(true).open(volume).expect("the volume");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 4], at).expect("written");
    file.sync_all().expect("synced");
}

#[test]
fn the_admin_plane_begins_a_scrub_and_names_what_has_rotted() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let running = Running::start(folder.path());
    let mut client = Client::connect(running.data);
    let bodies: Vec<Vec<u8>> = (1..=5).map(|seed| pattern(150_000, seed)).collect();
    for (number, body) in bodies.iter().enumerate() {
        assert_eq!(client.put(&format!("/rot/{number}.ts"), body).status, 201);
    }
    let before = running.json("/api/v1/scrub");
    assert_eq!((&before["cycle_s"], &before["share_percent"]), (&Value::Null, &100.0.into()));
    assert_eq!(before["volumes"][0]["last"], Value::Null);
    let clean = running.scrub();
    assert_eq!(clean["damage_count"], 0, "{clean:#}");
    assert_eq!(clean["volumes"][0]["last"]["objects_read"], 5, "{clean:#}");

    rot(&folder.path().join("store/volume-0.tape"), &bodies[3]);
    let report = running.scrub();
    assert_eq!(report["damage_count"], 1, "{report:#}");
    let damage = &report["damage"][0];
    assert_eq!((&damage["key"], &damage["part"]), (&"rot/3.ts".into(), &"object".into()));
    assert!(damage["reason"].as_str().expect("text").contains("checksum"), "{damage:#}");
    assert_eq!((&damage["volume"], &damage["bytes"]), (&0.into(), &150_000.into()));
    let (_, metrics) = running.ask("GET", "/metrics", "");
    for line in [
        "tapeloop_scrub_objects_damaged_total{volume=\"0\"} 1",
        "tapeloop_scrub_cycles_completed_total{volume=\"0\"} 2",
        "tapeloop_scrub_objects_read_total{volume=\"0\"} 10",
        "tapeloop_scrub_cycle_progress_ratio{volume=\"0\"} 1.0",
        "tapeloop_scrub_damage_known 1",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line} in {metrics}");
    }
    let status = running.json("/api/v1/status");
    assert_eq!(status["scrub"]["damage_count"], 1);
    assert_eq!(client.put("/rot/3.ts", &bodies[3]).status, 204);
    assert_eq!(running.json("/api/v1/scrub")["damage_count"], 0, "pushed again, it is well");
}

#[test]
fn a_page_of_another_origin_cannot_begin_a_scrub() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let running = Running::start(folder.path());
    let evil = "Origin: http://evil.example\r\n";
    assert_eq!(running.ask("POST", "/api/v1/scrub", evil).0, 403);
    assert_eq!(running.json("/api/v1/scrub")["volumes"][0]["cycle"], 0);
    let own = format!("Origin: http://{}\r\n", running.admin);
    assert_eq!(running.ask("POST", "/api/v1/scrub", &own).0, 202);
}
