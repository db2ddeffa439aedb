//! The binary as an operator meets it: refusals in one line, signals, the admin plane, running out
//! of file descriptors.

mod common;

use common::running::{BINARY, Running, directory};
use common::{Client, until};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

fn path(dir: &Path) -> &str {
    dir.to_str().expect("a plain path")
}

fn run(flags: &[&str]) -> Output {
    Command::new(BINARY).args(flags).output().expect("runs")
}

/// Refused: a status that is not 0 and one line that says why.
fn refusal(flags: &[&str]) -> String {
    let output = run(flags);
    assert!(!output.status.success(), "{flags:?} is accepted");
    let text = String::from_utf8(output.stderr).expect("text");
    let causes: Vec<&str> = text.lines().filter(|line| line.starts_with("tapeloop: ")).collect();
    assert_eq!(causes.len(), 1, "{text}");
    causes[0].to_owned()
}

#[test]
fn a_wrong_flag_is_refused_with_its_name_its_value_and_what_is_allowed() {
    let cause = refusal(&["--capacity", "12 parsecs"]);
    assert!(cause.contains("--capacity") && cause.contains("12 parsecs") && cause.contains("1GiB"));
    let cause = refusal(&["--listen", "0.0.0.0:8080"]);
    assert!(cause.contains("0.0.0.0:8080") && cause.contains("--insecure-no-auth"), "{cause}");
    let cause = refusal(&["--data", "a", "--data", "a"]);
    assert!(cause.contains("\"a\"") && cause.contains("twice"), "{cause}");
}

#[test]
fn a_port_in_use_is_refused_before_a_store_is_made() {
    let dir = directory();
    let running = Running::start("", &["--data", path(&dir.path().join("first"))]);
    let second = dir.path().join("second");
    let taken = running.data.to_string();
    let flags = ["--data", path(&second), "--listen", &taken, "--admin-listen", "127.0.0.1:0"];
    let cause = refusal(&flags);
    assert!(cause.contains(&taken), "{cause}");
    assert!(!second.exists(), "nothing half-made is left");
    running.end();
}

#[test]
fn a_store_in_use_is_refused_and_names_its_user() {
    let dir = directory();
    let running = Running::start("", &["--data", path(dir.path())]);
    let flags =
        ["--data", path(dir.path()), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let cause = refusal(&flags);
    let id = running.child.id().to_string();
    assert!(cause.contains(&id) || cause.contains(path(dir.path())), "{cause}");
    running.end();
}

#[test]
fn check_says_what_would_be_done_and_does_nothing() {
    let dir = directory();
    let data = dir.path().join("none");
    let flags = ["--check", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data"];
    let output = run(&[&flags[..], &[path(&data)]].concat());
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("would create") && text.contains("1 GiB"), "{text}");
    assert!(!data.exists());
}

#[test]
fn the_admin_plane_tells_health_figures_and_names() {
    let dir = directory();
    let running = Running::start("", &["--data", path(dir.path())]);
    let mut client = Client::connect(running.data);
    for name in ["a", "b", "c"] {
        assert_eq!(client.put(&format!("/admin/{name}.ts"), b"12345").status, 201);
    }
    let mut admin = Admin(running.admin);
    assert_eq!(admin.get("/healthz"), (200, "ok\n".into()));
    assert_eq!(admin.get("/readyz"), (200, "ok\n".into()));
    let (_, metrics) = admin.get("/metrics");
    assert!(metrics.contains("\ntapeloop_puts_total 3\n"), "{metrics}");
    assert!(metrics.contains("tapeloop_put_ack_seconds_bucket{le=\"+Inf\"} 3"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));
    let status = admin.json("/api/v1/status");
    assert_eq!(status["health"], "ok");
    assert_eq!(status["data_plane"]["puts"], 3);
    // The appender publishes its figures a moment after its answers.
    until("the log's figures", || admin.json("/api/v1/status")["store"]["records_stored"] == 3);
    let page = admin.json("/api/v1/objects?prefix=admin/&limit=2");
    assert_eq!(page["objects"][0]["key"], "admin/a.ts");
    assert_eq!(page["objects"][1]["bytes"], 5);
    let rest = admin.json("/api/v1/objects?prefix=admin/&limit=2&after=admin/b.ts");
    assert_eq!((&rest["objects"][0]["key"], &rest["next"]), (&"admin/c.ts".into(), &().into()));
    assert_eq!(admin.get("/api/v1/objects?limit=0").0, 400);
    running.end();
}

struct Admin(SocketAddr);

impl Admin {
    fn get(&mut self, path: &str) -> (u16, String) {
        let mut client = Client::connect(self.0);
        let head = format!("GET {path} HTTP/1.1\r\nConnection: close");
        client.send(format!("{head}\r\nHost: {}\r\n\r\n", self.0));
        // hyper writes header names in lower case; `Answer::header` does not mind.
        let answer = client.answer(false);
        (answer.status, String::from_utf8(answer.body).expect("text"))
    }

    fn json(&mut self, path: &str) -> serde_json::Value {
        let (status, text) = self.get(path);
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }
}

#[test]
fn a_hangup_reads_the_namespaces_again_and_a_wrong_file_changes_nothing() {
    let dir = directory();
    let file = dir.path().join("tapeloop.toml");
    std::fs::write(&file, "[namespaces.one]\nttl = \"1h\"\n").expect("writable");
    let data = dir.path().join("store");
    let running = Running::start("", &["--data", path(&data), "--config", path(&file)]);
    let mut client = Client::connect(running.data);
    assert_eq!(client.put("/one/a", b"x").status, 201);
    assert_eq!(client.put("/two/a", b"x").status, 404);
    std::fs::write(&file, "[namespaces.two]\nack = \"buffered\"\n").expect("writable");
    running.signal("-HUP");
    until("the new namespace", || client.put("/two/a", b"x").status != 404);
    let answer = client.put("/two/b", b"x");
    assert_eq!(answer.header("Tapeloop-Ack"), Some("buffered"));
    assert_eq!(client.get("/one/a").status, 404);
    std::fs::write(&file, "[namespaces.").expect("writable");
    running.signal("-HUP");
    std::fs::write(&file, "[namespaces.three]\n").expect("writable");
    running.signal("-HUP");
    until("the third", || client.put("/three/a", b"x").status != 404);
    running.end();
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = directory();
    let body = common::pattern(3 << 20, 7);
    for signal in ["-KILL", "-TERM", "-KILL"] {
        let mut running = Running::start("", &["--data", path(dir.path())]);
        let mut client = Client::connect(running.data);
        let before = client.get("/restart/a.ts");
        assert!(before.status == 404 || before.body == body, "{}", before.status);
        let status = client.put("/restart/a.ts", &body).status;
        assert!(matches!(status, 201 | 204), "{status}");
        running.signal(signal);
        running.child.wait().expect("ends");
    }
    let running = Running::start("", &["--data", path(dir.path())]);
    assert!(Client::connect(running.data).get("/restart/a.ts").body == body);
    running.end();
}

#[test]
fn p19_out_of_descriptors_pauses_accepting_and_recovers_by_itself() {
    let dir = directory();
    let running = Running::start("ulimit -n 96;", &["--data", path(dir.path()), "--threads", "1"]);
    // Taken now: later there may be no descriptor left to ask with.
    let mut early = Client::connect(running.data);
    assert_eq!(early.put("/p19/a", b"x").status, 201);
    let crowd: Vec<TcpStream> =
        (0..120).map(|_| TcpStream::connect(running.data).expect("queued")).collect();
    assert_eq!(early.get("/p19/a").body, b"x", "those inside are served");
    let before = cpu_ticks(&running);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let spent = cpu_ticks(&running) - before;
    assert!(spent <= 20, "it spins: {spent} ticks of 10 ms in a second");
    drop(crowd);
    until("a newcomer to be served", || Client::connect(running.data).get("/p19/a").status == 200);
    running.end();
}

/// User and system time of the process, in ticks of 10 ms.
fn cpu_ticks(running: &Running) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.child.id()))
        .expect("a living process");
    let after_name = stat.rsplit(") ").next().expect("fields");
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    ticks(11) + ticks(12)
}
