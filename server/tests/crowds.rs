//! Many clients at once, and what they may cost: the real binary, ten thousand sockets, its memory
//! as the kernel counts it.

mod common;

use common::running::{Running, directory};
use common::{Client, pattern, until};
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tapeloop_engine::socket;

const CROWD: usize = 10_000;

/// A crowd needs as many descriptors here as there, so there is one at a time.
fn descriptors() -> MutexGuard<'static, ()> {
    static ALL: Mutex<()> = Mutex::new(());
    let limit = socket::raise_nofile_limit().expect("a limit");
    assert!(limit > CROWD as u64 + 100, "{CROWD} open files: raise `ulimit -Hn`, now {limit}");
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn crowd(running: &Running, count: usize, say: &[u8]) -> Vec<TcpStream> {
    let connect = |_| {
        let mut stream = TcpStream::connect(running.data).expect("connects");
        stream.write_all(say).expect("sends");
        stream
    };
    (0..count).map(connect).collect()
}

fn start(dir: &tempfile::TempDir) -> Running {
    Running::start("", &["--data", dir.path().to_str().expect("plain"), "--threads", "2"])
}

/// The kernel's own count of the most memory there was, against the figure that was promised.
fn assert_memory_is_kept(running: &Running, after: &str) {
    let (most, max) = (running.memory_bytes("VmHWM"), running.metric("tapeloop_memory_max_bytes"));
    assert!(most <= max, "{most} bytes resident after {after}, {max} promised");
}

#[test]
fn p16_ten_thousand_slow_clients_are_cut_and_keep_nobody_else_waiting() {
    let _all = descriptors();
    let dir = directory();
    let running = start(&dir);
    let mut good = Client::connect(running.data);
    assert_eq!(good.put("/p16/a.ts", b"bytes").status, 201);
    let slow = crowd(&running, CROWD, b"GET /p16/a.ts HTTP/1.1\r\nHos");
    until("the crowd to be inside", || running.metric("tapeloop_connections_open") > CROWD as u64);
    assert_eq!(good.get("/p16/a.ts").body, b"bytes", "served among them");
    assert_eq!(Client::connect(running.data).get("/p16/a.ts").body, b"bytes", "so are newcomers");
    until("them to be cut", || running.metric("tapeloop_connections_open") < 10);
    assert!(running.metric("tapeloop_deadlines_passed_total") >= CROWD as u64);
    assert_eq!(good.get("/p16/a.ts").body, b"bytes");
    assert_memory_is_kept(&running, "ten thousand slow heads");
    drop(slow);
    running.end();
}

#[test]
fn p18_memory_stays_at_or_below_the_figure_printed_at_start() {
    let _all = descriptors();
    let dir = directory();
    let running = start(&dir);
    let mut client = Client::connect(running.data);
    let large = pattern(3 << 20, 18);
    for number in 0..40 {
        let status = client.put(&format!("/p18/large{number}.mp4"), &large).status;
        assert!(matches!(status, 201 | 204), "{status}");
    }
    assert_memory_is_kept(&running, "an arena that has wrapped");
    let before = running.memory_bytes("VmRSS");
    let mut idle = crowd(&running, CROWD, b"");
    for stream in &mut idle {
        stream
            .write_all(b"GET /p18/large39.mp4 HTTP/1.1\r\nHost: t\r\nRange: bytes=0-9\r\n\r\n")
            .expect("sends");
    }
    until("ten thousand answers", || running.metric("tapeloop_gets_total") >= CROWD as u64);
    let each = running.memory_bytes("VmRSS").saturating_sub(before) / CROWD as u64;
    assert!(each <= 12 << 10, "{each} bytes for each idle connection");
    drop(idle);

    // Nobody takes these answers, and these heads have no end.
    let deaf = b"GET /p18/large0.mp4 HTTP/1.1\r\nHost: t\r\n\r\n".repeat(20);
    let deaf = crowd(&running, 200, &deaf);
    let field = [b"X: ".to_vec(), vec![b'x'; 4000], b"\r\n".to_vec()].concat();
    let endless = [b"GET /p18/a HTTP/1.1\r\n".to_vec(), field.repeat(7)].concat();
    let endless = crowd(&running, 3000, &endless);
    until("some of them to be refused", || running.metric("tapeloop_resets_total") > 0);
    assert_memory_is_kept(&running, "deaf clients and endless heads");
    drop((deaf, endless));

    for number in 0..3000 {
        assert_eq!(client.put(&format!("/p18/small{number}"), b"small").status, 201);
    }
    assert_memory_is_kept(&running, "thousands of small objects");
    running.signal("-KILL");
    drop(running);
    let running = start(&dir);
    assert_eq!(Client::connect(running.data).get("/p18/small2999").body, b"small");
    assert_memory_is_kept(&running, "a restart");
    running.end();
}
