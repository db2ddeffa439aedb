//! Followers of uploads: how long after an encoder has pushed a chunk they have it.
//!
//! Encoders push objects by chunked PUT, chunk after chunk by the clock, as low-latency CMAF comes;
//! followers GET an object while it is pushed. The time runs from just before the encoder's write
//! to the follower's last byte of that chunk. The first chunk of an object only tells its followers
//! that there is one; it is not counted.

use super::super::Bench;
use super::super::peer::{Peer, Server};
use super::super::sample::{Cells, Sample};
use super::Stage;
use crate::error::{BenchError, Context, Result};
use crate::figures::quantile;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const UPLOADS: u64 = 4;
const FOLLOWERS: u64 = 8;
const CHUNK_LEN: usize = 20 * 1024;
const CHUNKS: usize = 20;
const CHUNK_EVERY: Duration = Duration::from_millis(50);
/// How often is asked for an object that is not there yet.
const ASK_EVERY: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_secs(20);

/// What the followers of one encoder's uploads have seen.
struct Followed {
    name: String,
    latencies_ns: Vec<u64>,
    /// What each has received, by object.
    bodies: Vec<(u64, Vec<u8>)>,
}

pub(super) fn run(bench: &Bench<'_>, peer: Peer, cells: &mut Cells) -> Result<()> {
    assert_eq!(peer, Peer::Tapeloop, "the others do not serve what is still being pushed");
    let stage = Stage::start(bench, peer, 0)?;
    let every = CHUNK_EVERY.as_millis();
    let row = format!(
        "follower wake-up: {UPLOADS} uploads, {FOLLOWERS} followers each, 20 KiB every {every} ms"
    );
    let object_time = CHUNK_EVERY * CHUNKS as u32;
    let objects = bench.plan.window_time.div_duration_f64(object_time).ceil() as u64;
    let mut attempt = 0;
    bench.add_windows(&row, peer.name(), cells, || {
        attempt += 1;
        measure(&stage.server, attempt, objects)
    })?;
    stage.stop(&row, cells)
}

fn measure(server: &Server, attempt: u64, objects: u64) -> Result<Sample> {
    let before = server.usage();
    let begun = Instant::now();
    let followed: io::Result<Vec<Followed>> = std::thread::scope(|scope| {
        let upload = |number: u64| {
            let name = format!("{attempt}-{number}");
            scope.spawn(move || upload(server.address, &name, number, objects, begun))
        };
        let threads: Vec<_> = (0..UPLOADS).map(upload).collect();
        let ended = threads.into_iter().map(|thread| thread.join().expect("no upload panics"));
        ended.collect()
    });
    let seconds = begun.elapsed().as_secs_f64();
    let followed = followed.context("following uploads")?;
    let after = server.usage();
    let mut latencies_ns: Vec<u64> =
        followed.iter().flat_map(|follower| follower.latencies_ns.iter().copied()).collect();
    latencies_ns.sort_unstable();
    let expected = UPLOADS * FOLLOWERS * objects * (CHUNKS as u64 - 1);
    if latencies_ns.len() as u64 != expected {
        let cause = format!("{} chunks were seen, {expected} expected", latencies_ns.len());
        return Err(BenchError::Answer { what: "following uploads".to_owned(), cause });
    }
    let us = |share| quantile(&latencies_ns, share) as f64 / 1e3;
    let verified: io::Result<u64> = followed.iter().map(Followed::verified).sum();
    let bytes_verified = verified.context("what followers have received")?;
    let sample = Sample {
        requests_per_s: expected as f64 / seconds,
        bytes_per_s: bytes_verified as f64 / seconds,
        cpu_us_per_request: None,
        switches_per_request: None,
        latency_us_p50: us(0.5),
        latency_us_p99: us(0.99),
        latency_us_p999: us(0.999),
        bytes_verified,
        request_count: expected,
        error_count: 0,
        unsent_count: 0,
        rss_bytes: after.rss_bytes,
        extra: Vec::new(),
    };
    Ok(sample.with_cost(&before, &after))
}

impl Followed {
    /// How many bytes have been received, every one as it was pushed. Asked when all have ended:
    /// meanwhile it would take the processors from those who wait.
    fn verified(&self) -> io::Result<u64> {
        let mut bytes_verified = 0;
        for (object, received) in &self.bodies {
            let expected = (0..CHUNKS).map(|at| chunk(&self.name, *object, at));
            if !received.chunks(CHUNK_LEN).eq(expected) {
                let (name, got) = (path(&self.name, *object), received.len());
                let cause = format!("{name}: {got} bytes of {}, or wrong ones", CHUNKS * CHUNK_LEN);
                return Err(io::Error::other(cause));
            }
            bytes_verified += received.len() as u64;
        }
        Ok(bytes_verified)
    }
}

/// When each chunk of each object was pushed, in ns since a common moment.
struct Pushed {
    since: Instant,
    at_ns: Vec<AtomicU64>,
}

/// Pushes one object after the other, with its followers.
fn upload(
    address: SocketAddr,
    name: &str,
    number: u64,
    objects: u64,
    since: Instant,
) -> io::Result<Followed> {
    let slots = (0..objects as usize * CHUNKS).map(|_| AtomicU64::new(0)).collect();
    let pushed = Pushed { since, at_ns: slots };
    let (ready, is_ready) = channel();
    std::thread::scope(|scope| {
        let pushed = &pushed;
        let thread = scope.spawn(move || follow(address, name, objects, pushed, &ready));
        // Uploads do not push at the same moment: all have one clock, and each its part of a beat.
        let phase = CHUNK_EVERY / UPLOADS as u32 * number as u32;
        let encoded = encode(address, name, objects, phase, pushed, &is_ready);
        let followed = thread.join().expect("no follower panics");
        encoded.and(followed)
    })
}

fn encode(
    address: SocketAddr,
    name: &str,
    objects: u64,
    phase: Duration,
    pushed: &Pushed,
    is_ready: &Receiver<()>,
) -> io::Result<()> {
    let mut connection = Connection::open(address)?;
    for object in 0..objects {
        connection.write(
            format!(
                "PUT {} HTTP/1.1\r\nHost: {address}\r\nTransfer-Encoding: chunked\r\n\r\n",
                path(name, object)
            )
            .as_bytes(),
        )?;
        let mut begun = Instant::now();
        for at in 0..CHUNKS {
            let due = begun + CHUNK_EVERY * at as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let chunk = chunk(name, object, at);
            let framed = [format!("{CHUNK_LEN:x}\r\n").as_bytes(), &chunk, b"\r\n"].concat();
            let slot = &pushed.at_ns[object as usize * CHUNKS + at];
            slot.store(pushed.since.elapsed().as_nanos() as u64, Ordering::Release);
            connection.write(&framed)?;
            if at == 0 {
                let waited = is_ready.recv_timeout(TIMEOUT);
                waited.map_err(|error| io::Error::other(format!("followers: {error}")))?;
                begun = pushed.since + beat_before(pushed.since.elapsed(), phase);
            }
        }
        connection.write(b"0\r\n\r\n")?;
        match connection.head()? {
            (201, len) => connection.skip(len.unwrap_or(0))?,
            (status, _) => return Err(io::Error::other(format!("status {status} for a PUT"))),
        }
    }
    Ok(())
}

/// The last moment before `now` at which an upload of this phase has a chunk due.
fn beat_before(now: Duration, phase: Duration) -> Duration {
    let beats = now.saturating_sub(phase).as_nanos() / CHUNK_EVERY.as_nanos();
    phase + CHUNK_EVERY * u32::try_from(beats).expect("a bench ends within a day")
}

/// All followers of an upload, on one thread: as many threads would wait for each other's turn.
fn follow(
    address: SocketAddr,
    name: &str,
    objects: u64,
    pushed: &Pushed,
    ready: &Sender<()>,
) -> io::Result<Followed> {
    let mut probe = Connection::open(address)?;
    let open = |_| Follower::open(address);
    let mut followers: Vec<Follower> = (0..FOLLOWERS).map(open).collect::<io::Result<_>>()?;
    let (latencies_ns, bodies) = (Vec::new(), Vec::new());
    let mut followed = Followed { name: name.to_owned(), latencies_ns, bodies };
    for object in 0..objects {
        let path = path(name, object);
        probe.ask_until_there(address, &path)?;
        followers.iter_mut().try_for_each(|follower| follower.ask(address, &path))?;
        let mut is_told = false;
        while followers.iter().any(|follower| !follower.has_ended) {
            wait_readable(&followers)?;
            for follower in followers.iter_mut().filter(|follower| !follower.has_ended) {
                follower.read()?;
                let now_ns = pushed.since.elapsed().as_nanos() as u64;
                while follower.received.len() >= (follower.seen + 1) * CHUNK_LEN {
                    let at_ns = &pushed.at_ns[object as usize * CHUNKS + follower.seen];
                    // The first only tells that they are there.
                    if follower.seen > 0 {
                        let at_ns = at_ns.load(Ordering::Acquire);
                        followed.latencies_ns.push(now_ns.saturating_sub(at_ns));
                    }
                    follower.seen += 1;
                }
            }
            // The encoder goes on when all its followers are there.
            if !is_told && followers.iter().all(|follower| follower.seen > 0) {
                ready.send(()).map_err(|error| io::Error::other(error.to_string()))?;
                is_told = true;
            }
        }
        let received = followers.iter_mut().map(Follower::take);
        followed.bodies.extend(received.map(|received| (object, received)));
    }
    Ok(followed)
}

fn wait_readable(followers: &[Follower]) -> io::Result<()> {
    let waiting = followers.iter().filter(|follower| !follower.has_ended);
    let mut polled: Vec<PollFd<'_>> =
        waiting.map(|follower| PollFd::new(&follower.stream, PollFlags::IN)).collect();
    let limit = Timespec { tv_sec: TIMEOUT.as_secs() as i64, tv_nsec: 0 };
    match poll(&mut polled, Some(&limit))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// A kept connection whose answer is taken as it comes.
struct Follower {
    stream: TcpStream,
    /// Received and not yet understood.
    pending: Vec<u8>,
    is_in_body: bool,
    has_ended: bool,
    /// Of the body.
    received: Vec<u8>,
    /// Whole chunks of the encoder's among it.
    seen: usize,
}

impl Follower {
    fn open(address: SocketAddr) -> io::Result<Follower> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Follower::of(stream))
    }

    fn of(stream: TcpStream) -> Follower {
        let (pending, received) = (Vec::new(), Vec::new());
        Follower { stream, pending, is_in_body: false, has_ended: false, received, seen: 0 }
    }

    fn ask(&mut self, address: SocketAddr, path: &str) -> io::Result<()> {
        assert!(self.pending.is_empty(), "the answer before has been read to its end");
        (self.is_in_body, self.has_ended, self.seen) = (false, false, 0);
        self.received = Vec::with_capacity(CHUNKS * CHUNK_LEN);
        let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        // So little fits a socket in which nothing waits.
        self.stream.write_all(head.as_bytes())
    }

    /// The body that has been received.
    fn take(&mut self) -> Vec<u8> {
        mem::take(&mut self.received)
    }

    /// Reads what is there.
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 2 * CHUNK_LEN];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.understand()
    }

    /// Takes apart the head, and every chunk of the body that is whole (RFC 9112, section 7.1).
    fn understand(&mut self) -> io::Result<()> {
        let find = |bytes: &[u8], end: &[u8]| bytes.windows(end.len()).position(|some| some == end);
        if !self.is_in_body {
            let Some(end) = find(&self.pending, b"\r\n\r\n") else { return Ok(()) };
            let head = String::from_utf8_lossy(&self.pending[..end]).to_ascii_lowercase();
            if !head.starts_with("http/1.1 200") || !head.contains("transfer-encoding: chunked") {
                return Err(io::Error::other(format!("not followed: {head:?}")));
            }
            self.pending.drain(..end + 4);
            self.is_in_body = true;
        }
        while let Some(end) = find(&self.pending, b"\r\n") {
            let line = String::from_utf8_lossy(&self.pending[..end]).into_owned();
            let len = usize::from_str_radix(&line, 16)
                .map_err(|error| io::Error::other(format!("a chunk of {line:?}: {error}")))?;
            let Some(rest) = self.pending.get(end + 2..end + 2 + len + 2) else { break };
            let (data, after) = rest.split_at(len);
            if after != b"\r\n" {
                return Err(io::Error::other(format!("after a chunk: {after:?}")));
            }
            self.received.extend_from_slice(data);
            self.pending.drain(..end + 2 + len + 2);
            if len == 0 {
                self.has_ended = true;
                break;
            }
        }
        Ok(())
    }
}

fn path(name: &str, object: u64) -> String {
    format!("/follow/{name}-{object}.m4s")
}

/// Bytes of this place of this object of this upload, and of no other.
fn chunk(name: &str, object: u64, at: usize) -> Vec<u8> {
    let line = format!("{name} {object} {at} ");
    line.bytes().cycle().take(CHUNK_LEN).collect()
}

/// A kept connection that waits for its answers.
struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Connection { stream: BufReader::with_capacity(2 * CHUNK_LEN, stream) })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Asks again and again until an answer is an object's.
    fn ask_until_there(&mut self, address: SocketAddr, path: &str) -> io::Result<()> {
        let asked = Instant::now();
        loop {
            self.write(format!("HEAD {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
            match self.head()? {
                (200, _) => return Ok(()),
                (404, _) if asked.elapsed() < TIMEOUT => {}
                (status, _) => return Err(io::Error::other(format!("status {status}: {path}"))),
            }
            std::thread::sleep(ASK_EVERY);
        }
    }

    /// The status, and the length of what follows.
    fn head(&mut self) -> io::Result<(u16, Option<usize>)> {
        let wrong = |line: &str| io::Error::other(format!("a head with {line:?}"));
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| wrong(&first))?;
        let mut len = None;
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    len = Some(value.parse().map_err(|_| wrong(&line))?);
                }
                None if line.is_empty() => return Ok((status, len)),
                _ => {}
            }
        }
    }

    fn skip(&mut self, len: usize) -> io::Result<()> {
        let mut rest = vec![0; len];
        self.stream.read_exact(&mut rest)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn every_object_of_an_upload_keeps_its_part_of_the_beat() {
        let phase = CHUNK_EVERY / UPLOADS as u32;
        for now_ms in [0, 12, 13, 62, 63, 1_010] {
            let now = Duration::from_millis(now_ms);
            let before = beat_before(now, phase);
            assert!(before <= now.max(phase) && now < before + CHUNK_EVERY, "{before:?} {now:?}");
            assert_eq!((before - phase).as_nanos() % CHUNK_EVERY.as_nanos(), 0);
        }
    }

    #[test]
    fn a_followed_body_is_understood_however_it_is_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            5\r\nab\r\nc\r\n3\r\ndef\r\n0\r\n\r\n";
        for cut in 0..answer.len() {
            let stream = TcpStream::connect(address).expect("listening");
            let mut follower = Follower::of(stream);
            follower.pending.extend_from_slice(&answer[..cut]);
            follower.understand().expect("the first part");
            assert!(!follower.has_ended && b"ab\r\ncdef".starts_with(&follower.received));
            follower.pending.extend_from_slice(&answer[cut..]);
            follower.understand().expect("the rest");
            assert_eq!((follower.has_ended, follower.pending.len()), (true, 0), "cut at {cut}");
            assert_eq!(follower.received, b"ab\r\ncdef");
        }
    }

    #[test]
    fn what_is_not_a_followed_body_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        for wrong in [
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        ] {
            let stream = TcpStream::connect(address).expect("listening");
            let mut follower = Follower::of(stream);
            follower.pending.extend_from_slice(wrong.as_bytes());
            assert!(follower.understand().is_err(), "{wrong:?}");
        }
    }
}
