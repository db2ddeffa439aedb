//! A real server on loopback, on a store of its own, and a client that sends exactly what it is
//! told.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod running;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tapeloop_engine::{Engine, Options};
use tapeloop_server::config::Policies;
use tapeloop_server::net::{self, DataPlane, Limits, Serving};
use tokio::sync::watch;

/// Nothing here takes this long; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);
const CAPACITY: u64 = 64 << 20;
const ARENA: u64 = 32 << 20;

pub struct Server {
    serving: Option<Serving>,
    pub engine: Engine,
    pub policies: watch::Sender<Arc<Policies>>,
    _dir: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Server {
        Server::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Server {
        // On the disk of the build, because /tmp may be memory without O_DIRECT.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let volume = dir.path().join("volume");
        tapeloop_engine::format(std::slice::from_ref(&volume), CAPACITY, &mut |_, _| {})
            .expect("formats");
        let options = Options { arena_bytes: ARENA, ..Options::new(volume) };
        let (engine, _) = Engine::open(options).expect("opens");
        let (policies, receiver) = watch::channel(Arc::new(Policies::open_to_all(3_600_000)));
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let plane = DataPlane { listen, threads: 2, limits };
        let serving = net::bind(&plane)
            .and_then(|bound| net::serve(bound, &engine, &receiver))
            .expect("serves");
        Server { serving: Some(serving), engine, policies, _dir: dir }
    }

    pub fn addr(&self) -> SocketAddr {
        self.serving.as_ref().expect("running").addr()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.addr())
    }

    pub fn connections_open(&self) -> u64 {
        let counters = self.serving.as_ref().expect("running").counters();
        counters.iter().map(|counters| counters.connections_open.get()).sum()
    }

    pub fn bytes_sent(&self) -> u64 {
        let counters = self.serving.as_ref().expect("running").counters();
        counters.iter().map(|counters| counters.bytes_sent.get()).sum()
    }

    pub fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.stop().expect("a clean stop");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        self.engine.clone().close();
    }
}

pub struct Client {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is sent twice");
        value
    }
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect(addr).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Client { stream, unread: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("sends");
    }

    pub fn end_sending(&self) {
        self.stream.shutdown(Shutdown::Write).expect("half-closes");
    }

    /// One request, one answer.
    pub fn ask(&mut self, head: &str, body: &[u8]) -> Answer {
        self.send([head.as_bytes(), b"\r\nHost: test\r\n\r\n", body].concat());
        self.answer(head.starts_with("HEAD "))
    }

    pub fn put(&mut self, path: &str, body: &[u8]) -> Answer {
        self.ask(&format!("PUT {path} HTTP/1.1\r\nContent-Length: {}", body.len()), body)
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1"), b"")
    }

    /// Reads one complete answer; interim ones too.
    pub fn answer(&mut self, is_head: bool) -> Answer {
        let (status, headers) = self.head();
        let mut answer = Answer { status, headers, body: Vec::new() };
        if is_head || matches!(status, 100..=199 | 204 | 304) {
            return answer;
        }
        if answer.header("Transfer-Encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                answer.body.extend(chunk);
            }
        } else if let Some(len) = answer.header("Content-Length") {
            let len = len.parse().expect("a number");
            answer.body = self.exactly(len);
        } else {
            answer.body = self.until_end();
        }
        answer
    }

    pub fn head(&mut self) -> (u16, Vec<(String, String)>) {
        let line = self.line();
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = status.and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return (status, headers);
            }
            let (name, value) = line.split_once(": ").expect("name: value");
            headers.push((name.to_owned(), value.to_owned()));
        }
    }

    /// The next chunk of a chunked answer, `None` for the last.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let len = usize::from_str_radix(&self.line(), 16).expect("a chunk size");
        let chunk = self.exactly(len);
        assert_eq!(self.line(), "", "a chunk ends with CRLF");
        (len > 0).then_some(chunk)
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.unread.drain(..end + 2).collect::<Vec<u8>>();
                return String::from_utf8_lossy(&line[..end]).into_owned();
            }
            self.more().expect("a complete line");
        }
    }

    pub fn exactly(&mut self, len: usize) -> Vec<u8> {
        while self.unread.len() < len {
            self.more().expect("all bytes");
        }
        self.unread.drain(..len).collect()
    }

    fn until_end(&mut self) -> Vec<u8> {
        while self.more().is_ok() {}
        std::mem::take(&mut self.unread)
    }

    fn more(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 65536];
        let read = loop {
            match self.stream.read(&mut buffer) {
                // A ring of this thread (opening a store) may interrupt a wait.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        match read {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.unread.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }

    /// Waits for the end of the connection: the bytes before it, and whether it was a reset.
    pub fn end(&mut self) -> (Vec<u8>, bool) {
        loop {
            match self.more() {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return (std::mem::take(&mut self.unread), false);
                }
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return (std::mem::take(&mut self.unread), true);
                }
                Err(error) => panic!("the connection stays open: {error}"),
            }
        }
    }
}

/// Bytes that look random and tell where they are from.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Waits until `done` holds; the condition, not a time, ends the wait.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "still waiting for {what}");
        std::thread::yield_now();
    }
}
