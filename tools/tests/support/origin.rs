//! The real `tapeloop`, beside the tapectl under test, and a client of few words for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// The binary, made from the sources of today.
fn tapeloop() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let tapectl = Path::new(env!("CARGO_BIN_EXE_tapectl"));
        let folder = tapectl.parent().unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", "tapeloop-server", "--bin", "tapeloop"]);
        build.arg("--target-dir").arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            build.arg("--release");
        }
        let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(status.success(), "tapeloop does not build");
        folder.join("tapeloop")
    })
}

/// A running server; killed when dropped.
pub(crate) struct Origin {
    child: Child,
    pub(crate) port: u16,
}

impl Origin {
    /// Serves the volumes (or makes a store of 32 MiB where there is none).
    pub(crate) fn start(volumes: &[PathBuf]) -> Origin {
        let mut command = Command::new(tapeloop());
        command
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--ram", "64MiB", "--threads", "1", "--capacity", "32MiB"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        for volume in volumes {
            command.arg("--data").arg(volume);
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let line = lines.next().expect("it says where it listens").unwrap();
            // The first address is that of the data plane.
            if let Some(at) = line.find("http://127.0.0.1:") {
                break line[at + "http://127.0.0.1:".len()..].to_owned();
            }
        };
        // What else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let port = url.chars().take_while(char::is_ascii_digit).collect::<String>();
        Origin { child, port: port.parse().unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn etag(&self) -> &str {
        self.header("etag").unwrap().trim_matches('"')
    }
}

impl Client {
    pub(crate) fn connect(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    /// One request, one answer; None when the server went away.
    pub(crate) fn ask(&mut self, head: &str, body: &[u8]) -> Option<Answer> {
        let head = format!("{head}\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        let stream = self.stream.get_mut();
        stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).ok().filter(|count| *count > 0)?;
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let status = lines[0].split(' ').nth(1)?.parse().ok()?;
        let fields = lines[1..].iter().filter_map(|line| line.split_once(": "));
        let headers: Vec<_> =
            fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        let len = answer.header("content-length").map_or(0, |len| len.parse().unwrap());
        if status != 204 {
            answer.body = vec![0; len];
            self.stream.read_exact(&mut answer.body).ok()?;
        }
        Some(answer)
    }

    pub(crate) fn put(&mut self, path: &str, body: &[u8]) -> Option<Answer> {
        self.ask(&format!("PUT {path} HTTP/1.1"), body)
    }

    pub(crate) fn get(&mut self, path: &str) -> Option<Answer> {
        self.ask(&format!("GET {path} HTTP/1.1"), b"")
    }
}
