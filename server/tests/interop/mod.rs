//! What the interoperability tests share: the real binary on ports of its own, a GET that keeps
//! bytes exact, and child processes that cannot outlive their test.
#![allow(dead_code, reason = "every test program uses its own part of this")]

pub(crate) mod ffmpeg;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// For what should take no time at all; long enough for a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Looks until there is an answer; a test that waits for nothing longer than this has failed.
#[track_caller]
pub(crate) fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(started.elapsed() < within, "not within {within:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A child process that is killed with the test that started it.
pub(crate) struct Process {
    name: String,
    child: Child,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Process {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|cause| panic!("{name} does not start: {cause}"));
        Process { name, child }
    }

    #[track_caller]
    pub(crate) fn wait(&mut self, within: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        until(&what, within, || self.child.try_wait().expect("a child to wait for"))
    }

    /// All that comes out of a piped stdout, read to its end beside the test.
    pub(crate) fn output(&mut self) -> JoinHandle<String> {
        let stdout = self.child.stdout.take().expect("a pipe");
        thread::spawn(move || text_of(stdout))
    }

    /// The same for a piped stderr.
    pub(crate) fn errors(&mut self) -> JoinHandle<String> {
        let stderr = self.child.stderr.take().expect("a pipe");
        thread::spawn(move || text_of(stderr))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child to ask").is_none()
    }
}

fn text_of(mut pipe: impl Read) -> String {
    let mut text = Vec::new();
    let _ = pipe.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A running tapeloop on a store of its own.
pub(crate) struct Origin {
    process: Process,
    pub(crate) data: SocketAddr,
    /// None once it was handed on.
    folder: Option<TempDir>,
}

/// One answer, its body as it came.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// A body that came in pieces, put together.
pub(crate) struct Followed {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// From its first piece to its end.
    pub(crate) body_duration: Duration,
}

impl Origin {
    /// `tapeloop` with the words of `command` before its flags.
    pub(crate) fn start(command: &[&str]) -> Origin {
        // On the disk of the build: /tmp may be memory, without O_DIRECT.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        Origin::start_on(folder, command)
    }

    /// The same on what an earlier one left behind.
    pub(crate) fn start_on(folder: TempDir, command: &[&str]) -> Origin {
        let errors = fs::File::create(folder.path().join("stderr")).expect("a file for stderr");
        let mut process = Process::spawn(
            Command::new(env!("CARGO_BIN_EXE_tapeloop"))
                .args(command)
                .args(["--capacity", "256MiB", "--listen", "127.0.0.1:0"])
                .args(["--admin-listen", "127.0.0.1:0", "--data"])
                .arg(folder.path().join("store"))
                .stdout(Stdio::piped())
                .stderr(errors),
        );
        let stdout = process.child.stdout.take().expect("a pipe");
        let addresses = addresses_in(BufReader::new(stdout));
        let data = until("the address of the data plane", SOON, || {
            let found = addresses.try_recv().ok();
            assert!(found.is_some() || process.is_running(), "{}", stderr_of(&folder));
            found
        });
        let origin = Origin { process, data, folder: Some(folder) };
        until("an open data plane", SOON, || TcpStream::connect(data).ok());
        origin
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.data)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        get(self.data, path).unwrap_or_else(|cause| panic!("GET /{path}: {cause}"))
    }

    /// GET of an object that may still be on its way in; None while it is not there.
    pub(crate) fn follow(&self, path: &str) -> Option<Followed> {
        follow(self.data, path).unwrap_or_else(|cause| panic!("GET /{path}: {cause}"))
    }

    /// The body, once it is there.
    #[track_caller]
    pub(crate) fn body_of(&self, path: &str, within: Duration) -> Vec<u8> {
        until(path, within, || Some(self.get(path)).filter(|got| got.status == 200)).body
    }

    /// SIGTERM: the origin drains and exits with 0. What it stored stays as long as the folder.
    #[track_caller]
    pub(crate) fn stop(mut self) -> TempDir {
        let id = self.process.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
        assert!(sent.success(), "no process {id}");
        let status = self.process.wait(SOON);
        let folder = self.folder.take().expect("a running origin has a folder");
        assert!(status.success(), "{status}: {}", stderr_of(&folder));
        folder
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.as_ref().filter(|_| thread::panicking()) {
            eprintln!("stderr of tapeloop:\n{}", stderr_of(folder));
        }
    }
}

fn stderr_of(folder: &TempDir) -> String {
    fs::read_to_string(folder.path().join("stderr")).unwrap_or_default()
}

/// Every `http://ADDRESS` the binary prints, in order. Reads on so that it never blocks on a pipe.
fn addresses_in(stdout: impl BufRead + Send + 'static) -> Receiver<SocketAddr> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            for rest in line.split("http://").skip(1) {
                let end = rest.find(|c: char| !(c.is_ascii_digit() || ".:".contains(c)));
                if let Ok(address) = rest[..end.unwrap_or(rest.len())].parse() {
                    let _ = sender.send(address);
                }
            }
        }
    });
    receiver
}

/// GET on a connection of its own.
fn get(addr: SocketAddr, path: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&addr, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let malformed = || std::io::Error::other("not an answer of HTTP/1.1");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(malformed)?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = bytes.split_off(end + 4);
    let declared = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if declared.is_some_and(|len| len != body.len()) {
        return Err(std::io::Error::other("a body of another length than declared"));
    }
    Ok(Answer { status: status.ok_or_else(malformed)?, head, body })
}

/// GET that expects a chunked body and measures how long it took to come.
fn follow(addr: SocketAddr, path: &str) -> std::io::Result<Option<Followed>> {
    let mut stream = TcpStream::connect_timeout(&addr, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    if head.starts_with("HTTP/1.1 404") {
        return Ok(None);
    }
    let (mut body, mut began) = (Vec::new(), None);
    loop {
        let mut size = String::new();
        stream.read_line(&mut size)?;
        let size = u64::from_str_radix(size.trim_end(), 16).map_err(std::io::Error::other)?;
        let began = *began.get_or_insert_with(Instant::now);
        (&mut stream).take(size).read_to_end(&mut body)?;
        stream.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(Some(Followed { head, body, body_duration: began.elapsed() }));
        }
    }
}

/// The files below a folder, as paths relative to it, sorted.
pub(crate) fn files_below(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let relative = path.strip_prefix(root).expect("a path below the root");
                files.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    files
}
