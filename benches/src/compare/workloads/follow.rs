//! Followers of uploads: how long after an encoder has pushed a chunk they have it.
//!
//! Encoders push objects by chunked PUT, chunk after chunk by the clock, as low-latency CMAF comes;
//! followers GET an object while it is pushed. The time runs from just before the encoder's write
//! to the follower's last byte of that chunk. The first chunk of an object only tells its followers
//! that there is one; it is not counted.

use super::super::Bench;
use super::super::peer::{Peer, Server};
use super::super::quiet::ATTEMPTS_MAX;
use super::super::sample::{Cells, Sample};
use super::Stage;
use crate::error::{BenchError, Context, Result};
use crate::figures::quantile;
use std::io::{self, BufRead, BufReader, Read, Write};
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

/// What one follower has seen.
#[derive(Default)]
struct Followed {
    latencies_ns: Vec<u64>,
    bytes_verified: u64,
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
    let sample = bench.quiet.measured(&row, ATTEMPTS_MAX, || {
        attempt += 1;
        measure(&stage.server, attempt, objects)
    })?;
    cells.add(&row, peer.name(), sample);
    stage.stop(&row, cells)
}

fn measure(server: &Server, attempt: u64, objects: u64) -> Result<Sample> {
    let before = server.usage();
    let begun = Instant::now();
    let followed: io::Result<Vec<Followed>> = std::thread::scope(|scope| {
        let upload = |number: u64| {
            let name = format!("{attempt}-{number}");
            scope.spawn(move || upload(server.address, &name, number, objects))
        };
        let threads: Vec<_> = (0..UPLOADS).map(upload).collect();
        let ended = threads.into_iter().map(|thread| thread.join().expect("no upload panics"));
        ended.collect::<io::Result<Vec<_>>>().map(|each| each.into_iter().flatten().collect())
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
    let bytes_verified = followed.iter().map(|follower| follower.bytes_verified).sum();
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

/// When each chunk of each object was pushed, in ns since a common moment.
struct Pushed {
    since: Instant,
    at_ns: Vec<AtomicU64>,
}

/// Pushes one object after the other, with its followers.
fn upload(address: SocketAddr, name: &str, number: u64, objects: u64) -> io::Result<Vec<Followed>> {
    let slots = (0..objects as usize * CHUNKS).map(|_| AtomicU64::new(0)).collect();
    let pushed = Pushed { since: Instant::now(), at_ns: slots };
    let (ready, readies) = channel();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..FOLLOWERS)
            .map(|_| {
                let ready = ready.clone();
                scope.spawn(|| follow(address, name, objects, &pushed, ready))
            })
            .collect();
        // Uploads do not push at the same moment.
        let phase = CHUNK_EVERY / UPLOADS as u32 * number as u32;
        let encoded = encode(address, name, objects, phase, &pushed, &readies);
        let followed: io::Result<Vec<Followed>> =
            threads.into_iter().map(|thread| thread.join().expect("no follower panics")).collect();
        encoded.and(followed)
    })
}

fn encode(
    address: SocketAddr,
    name: &str,
    objects: u64,
    phase: Duration,
    pushed: &Pushed,
    readies: &Receiver<()>,
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
                for _ in 0..FOLLOWERS {
                    let waited = readies.recv_timeout(TIMEOUT);
                    waited.map_err(|error| io::Error::other(format!("a follower: {error}")))?;
                }
                begun = Instant::now() + phase;
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

fn follow(
    address: SocketAddr,
    name: &str,
    objects: u64,
    pushed: &Pushed,
    ready: Sender<()>,
) -> io::Result<Followed> {
    let mut connection = Connection::open(address)?;
    let mut followed = Followed::default();
    for object in 0..objects {
        connection.ask_until_there(address, &path(name, object))?;
        let mut received = Vec::with_capacity(CHUNKS * CHUNK_LEN);
        let mut seen = 0;
        while connection.chunk(&mut received)? {
            let now_ns = pushed.since.elapsed().as_nanos() as u64;
            while received.len() >= (seen + 1) * CHUNK_LEN {
                let at_ns = pushed.at_ns.get(object as usize * CHUNKS + seen);
                let at_ns = at_ns.map_or(0, |at_ns| at_ns.load(Ordering::Acquire));
                match seen {
                    // The encoder goes on when all its followers are there.
                    0 => ready.send(()).map_err(|error| io::Error::other(error.to_string()))?,
                    _ => followed.latencies_ns.push(now_ns.saturating_sub(at_ns)),
                }
                seen += 1;
            }
        }
        let expected: Vec<u8> = (0..CHUNKS).flat_map(|at| chunk(name, object, at)).collect();
        if received != expected {
            let cause = format!("{} bytes of {} or wrong ones", received.len(), expected.len());
            return Err(io::Error::other(cause));
        }
        followed.bytes_verified += received.len() as u64;
    }
    Ok(followed)
}

fn path(name: &str, object: u64) -> String {
    format!("/follow/{name}-{object}.m4s")
}

/// Bytes of this place of this object of this upload, and of no other.
fn chunk(name: &str, object: u64, at: usize) -> Vec<u8> {
    let line = format!("{name} {object} {at} ");
    line.bytes().cycle().take(CHUNK_LEN).collect()
}

/// A kept connection on which answers are read as they come.
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

    /// Asks again and again; returns after the head of the first answer that is an object's.
    fn ask_until_there(&mut self, address: SocketAddr, path: &str) -> io::Result<()> {
        let asked = Instant::now();
        loop {
            self.write(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
            match self.head()? {
                (200, None) => return Ok(()),
                (404, len) if asked.elapsed() < TIMEOUT => self.skip(len.unwrap_or(0))?,
                (status, _) => return Err(io::Error::other(format!("status {status}: {path}"))),
            }
            std::thread::sleep(ASK_EVERY);
        }
    }

    /// The status, and the length of what follows unless it comes in chunks.
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

    /// Adds the next chunk of a body (RFC 9112, section 7.1); false after the last.
    fn chunk(&mut self, received: &mut Vec<u8>) -> io::Result<bool> {
        let line = self.line()?;
        let len = usize::from_str_radix(&line, 16)
            .map_err(|error| io::Error::other(format!("a chunk of {line:?}: {error}")))?;
        let begin = received.len();
        received.resize(begin + len, 0);
        self.stream.read_exact(&mut received[begin..])?;
        match self.line()?.as_str() {
            "" => Ok(len > 0),
            rest => Err(io::Error::other(format!("after a chunk: {rest:?}"))),
        }
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
