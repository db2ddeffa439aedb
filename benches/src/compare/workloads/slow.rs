//! Slow readers of large objects beside a good client.
//!
//! Half of them take a little every second, which is slow and allowed; every byte they take is
//! compared. The other half take nothing after their request, and a server that has deadlines cuts
//! them. The good client's tail with and without them is what counts.

use super::super::encoders::incompressible;
use super::super::peer::{Peer, Server};
use super::super::quiet::{ATTEMPTS_MAX, Measured};
use super::super::sample::{Cells, Extra};
use super::super::{Bench, MIB};
use super::pair::{self, Pair, PairSeen, Windows};
use super::{Stage, tasks};
use crate::client::Client;
use crate::error::{BenchError, Context, Result};
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Larger than the socket buffers between, so that the server waits for the reader.
const BODY_LEN: usize = 4 * MIB as usize;
const OBJECTS: usize = 8;
/// One of what the good client reads.
const SMALL_PATH: &str = "/hot/2k-0";
const TIMEOUT: Duration = Duration::from_secs(20);
/// A reader takes so much so often. tapeloop cuts who takes nothing for 30 s.
const TAKEN_LEN: usize = 4096;
const TAKEN_EVERY: Duration = Duration::from_secs(2);
/// As of a player behind a slow line, and not as on loopback, whose segments of 64 KiB let the
/// kernel buffer megabytes for each connection.
const SEGMENT_LEN: u32 = 1460;
const WINDOW_LEN: usize = 16 * 1024;
/// tapeloop's deadline, and what its sweeper may be late.
const CUT_LIMIT: Duration = Duration::from_secs(40);

/// A crowd that every server keeps. A quick look has the larger one only.
pub(super) fn run_few(bench: &Bench<'_>, peer: Peer, cells: &mut Cells) -> Result<()> {
    if bench.args.quick {
        return Ok(());
    }
    run(bench, peer, bench.plan.slow_readers_few, cells)
}

/// As many as P16 speaks of.
pub(super) fn run_many(bench: &Bench<'_>, peer: Peer, cells: &mut Cells) -> Result<()> {
    run(bench, peer, bench.plan.slow_readers_many, cells)
}

fn run(bench: &Bench<'_>, peer: Peer, count: u32, cells: &mut Cells) -> Result<()> {
    let title = format!("{count} slow readers");
    let arrive = format!("{title} arrive");
    let what = format!("{title}: {}", peer.name());
    let crowd = bench.quiet.measured_by_share(&what, ATTEMPTS_MAX, || {
        let crowd = measure(bench, peer, count, &title, cells)?;
        let share = crowd.there.stolen_share().max(crowd.arriving.stolen_share);
        Ok((crowd, share))
    })?;
    let Crowd { there, arriving, newcomer_s, more } = crowd;
    pair::add_rows(cells, &title, peer.name(), &there, &more);
    let windows = Windows { during: arriving, ..there };
    pair::add_rows(cells, &arrive, peer.name(), &windows, &[newcomer_s]);
    Ok(())
}

/// What a crowd did to the good client.
struct Crowd {
    /// Before any came, and while all were there.
    there: Windows,
    /// While they came.
    arriving: PairSeen,
    newcomer_s: Extra,
    more: Vec<Extra>,
}

impl Measured for Crowd {
    fn error_count(&self) -> u64 {
        self.there.error_count() + self.arriving.error_count()
    }
}

fn measure(
    bench: &Bench<'_>,
    peer: Peer,
    count: u32,
    title: &str,
    cells: &mut Cells,
) -> Result<Crowd> {
    let stage = Stage::start(bench, peer, count + 1_000)?;
    let server = &stage.server;
    let body = store(server)?;
    let pair = Pair::prepare(bench, server, bench.plan.window_time)?;
    let before = pair.run(bench, server)?;
    let sockets_before = tasks::socket_count(server.running.id());
    let (arriving, readers) = std::thread::scope(|scope| {
        // They come evenly over the window, but for its end.
        let within = bench.plan.window_time * 4 / 5;
        let readers = scope.spawn(move || SlowReaders::start(server, count, within, body));
        let arriving = pair.run(bench, server);
        (arriving, readers.join().expect("slow readers do not panic"))
    });
    let (arriving, readers, there_since) = (arriving?, readers?, Instant::now());
    // Filling thousands of socket buffers may take a server longer than the window; what is to be
    // seen next is how it is when that is done.
    let newcomer_s = newcomer_waits(server)?;
    let during = pair.run(bench, server)?;
    let held = tasks::socket_count(server.running.id()).saturating_sub(sockets_before);
    let mut more = vec![("slow readers held", held as f64)];
    if peer == Peer::Tapeloop && !bench.args.quick {
        let left = wait_cut(server, sockets_before, count, there_since);
        more.push(("stalled ones left", left as f64));
        more.push(("after, s", there_since.elapsed().as_secs_f64()));
    }
    more.push(("verified for slow readers, MB", readers.stop()? as f64 / 1e6));
    stage.stop(title, cells)?;
    Ok(Crowd { there: Windows { before, during }, arriving, newcomer_s, more })
}

/// How long somebody waits for a small object who comes last.
fn newcomer_waits(server: &Server) -> Result<Extra> {
    let begun = Instant::now();
    let answer =
        Client::connect(server.address, TIMEOUT).and_then(|mut client| client.get(SMALL_PATH));
    match answer.context("coming after the slow readers")?.status {
        200 => Ok(("newcomer afterwards waits, s", begun.elapsed().as_secs_f64())),
        status => Err(BenchError::Answer {
            what: "coming after the slow readers".to_owned(),
            cause: format!("status {status}"),
        }),
    }
}

/// Waits until a server holds no more than the readers that take something; gives how many more it
/// holds when that takes too long.
fn wait_cut(server: &Server, sockets_before: u64, count: u32, begun: Instant) -> u64 {
    let allowed = sockets_before + u64::from(count.div_ceil(2));
    loop {
        let left = tasks::socket_count(server.running.id()).saturating_sub(allowed);
        if left == 0 || begun.elapsed() > CUT_LIMIT {
            return left;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Stores the objects, all with the same bytes, and gives those.
fn store(server: &Server) -> Result<Vec<u8>> {
    let body = incompressible(BODY_LEN);
    let mut client = Client::connect(server.address, TIMEOUT).context("connecting to store")?;
    for number in 0..OBJECTS {
        let answer = client.put(&path(number), &body).context("storing a large object")?;
        if !matches!(answer.status, 201 | 204) {
            let cause = format!("status {}", answer.status);
            return Err(BenchError::Answer { what: path(number), cause });
        }
    }
    Ok(body)
}

fn path(number: usize) -> String {
    format!("/slow/{number}.m4s")
}

/// Connections that take their time, and the thread that does it for them.
struct SlowReaders {
    over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<u64>>,
    stalled: Vec<TcpStream>,
}

impl SlowReaders {
    fn start(server: &Server, count: u32, within: Duration, body: Vec<u8>) -> Result<SlowReaders> {
        let (mut trickling, mut stalled) = (Vec::new(), Vec::new());
        let begun = Instant::now();
        for number in 0..count {
            let due = begun + within / count * number;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let stream = ask(server, number as usize);
            let stream = stream.context(format!("opening slow reader {number} of {count}"))?;
            match number % 2 {
                0 => trickling.push(Trickle::new(stream)),
                _ => stalled.push(stream),
            }
        }
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = std::thread::spawn(move || take_turns(&mut trickling, &body, &seen));
        Ok(SlowReaders { over, thread, stalled })
    }

    /// Bytes taken and found right.
    fn stop(self) -> Result<u64> {
        self.over.store(true, Ordering::Release);
        let taken = self.thread.join().expect("slow readers do not panic");
        drop(self.stalled);
        taken.context("reading slowly")
    }
}

fn ask(server: &Server, number: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server.address), Type::STREAM, None)?;
    socket.set_recv_buffer_size(WINDOW_LEN)?;
    socket.set_tcp_mss(SEGMENT_LEN)?;
    socket.connect_timeout(&server.address.into(), TIMEOUT)?;
    let mut stream = TcpStream::from(socket);
    let path = path(number % OBJECTS);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Lets each reader take something when it is its turn, until all is over.
fn take_turns(readers: &mut [Trickle], body: &[u8], over: &AtomicBool) -> io::Result<u64> {
    let begun = Instant::now();
    let between = TAKEN_EVERY / readers.len().max(1) as u32;
    for turn in 0.. {
        let due = begun + between * turn;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if over.load(Ordering::Acquire) {
            break;
        }
        let number = turn as usize % readers.len();
        readers[number].take(body)?;
    }
    Ok(readers.iter().map(|reader| reader.verified_len() as u64).sum())
}

/// One reader that takes a little now and then.
struct Trickle {
    stream: TcpStream,
    /// What came until the head was complete.
    head: Vec<u8>,
    /// Bytes of the body taken; none while the head is not complete.
    taken: Option<usize>,
}

impl Trickle {
    fn new(stream: TcpStream) -> Trickle {
        Trickle { stream, head: Vec::new(), taken: None }
    }

    fn verified_len(&self) -> usize {
        self.taken.unwrap_or(0)
    }

    fn take(&mut self, body: &[u8]) -> io::Result<()> {
        let mut buffer = [0; TAKEN_LEN];
        let received = match self.stream.read(&mut buffer) {
            Ok(0) if self.verified_len() < body.len() => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        match self.taken {
            Some(taken) => self.check(taken, received, body),
            None => self.take_head(received, body),
        }
    }

    fn take_head(&mut self, received: &[u8], body: &[u8]) -> io::Result<()> {
        self.head.extend_from_slice(received);
        let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(());
        };
        if !self.head.starts_with(b"HTTP/1.1 200") {
            return Err(io::Error::other("an answer other than 200"));
        }
        let rest = self.head.split_off(end + 4);
        self.check(0, &rest, body)
    }

    fn check(&mut self, taken: usize, received: &[u8], body: &[u8]) -> io::Result<()> {
        if body.get(taken..taken + received.len()) != Some(received) {
            return Err(io::Error::other(format!("wrong bytes after {taken}")));
        }
        self.taken = Some(taken + received.len());
        Ok(())
    }
}
