//! Encoders on one thread, each with a connection of its own over which it pushes one object after
//! the other, as fast as answered.
//!
//! A thread for each would have the server wait for the turns of all of them: on a machine with few
//! processors that would be what is measured. What waits for the drive on behalf of a server has a
//! thread for each encoder.

use crate::client::{Answer, take_answer};
use crate::proc_fs::thread_cpu_s;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// Without any progress.
const TIMEOUT: Duration = Duration::from_secs(30);
/// An encoder sends at most so much in its turn.
const BLOCKS_PER_TURN: usize = 4;
const BLOCK_LEN: usize = 64 * 1024;
const STAMP_LEN: usize = 16;

/// Bytes that do not compress; each block of 64 KiB begins with the number of the object and its
/// own.
pub(super) struct Body(Vec<u8>);

/// What is pushed, and where.
pub(super) struct Push<'a> {
    pub(super) address: SocketAddr,
    pub(super) connections: u64,
    /// Objects, over all connections.
    pub(super) count: u64,
    pub(super) body: &'a Body,
    pub(super) path_of: &'a dyn Fn(u64) -> String,
    /// What is done for each object after its answer and before it counts as stored.
    pub(super) afterwards: Option<&'a Afterwards<'a>>,
}

pub(super) type Afterwards<'a> = dyn Fn(&str) -> io::Result<()> + Sync + 'a;

/// What it came to.
#[derive(Default)]
pub(super) struct Pushed {
    /// From the first byte to the answer, or to what is done afterwards.
    pub(super) latencies_ns: Vec<u64>,
    pub(super) afterwards_cpu_s: f64,
}

impl Body {
    pub(super) fn new(len: usize) -> Body {
        Body(incompressible(len))
    }

    /// The bytes of a turn from `at` on, with the stamps of the blocks from there.
    fn pieces<'a>(&'a self, at: usize, stamps: &'a Stamps) -> impl Iterator<Item = IoSlice<'a>> {
        let blocks = self.0.chunks(BLOCK_LEN).skip(at / BLOCK_LEN).zip(stamps);
        blocks.enumerate().flat_map(move |(number, (block, stamp))| {
            let skipped = if number == 0 { at % BLOCK_LEN } else { 0 };
            let stamp = &stamp[skipped.min(STAMP_LEN)..];
            [IoSlice::new(stamp), IoSlice::new(&block[skipped.max(STAMP_LEN)..])]
        })
    }

    /// Whether these are the bytes of the object with that number.
    pub(super) fn is(&self, number: u64, bytes: &[u8]) -> bool {
        let blocks = self.0.chunks(BLOCK_LEN).zip(bytes.chunks(BLOCK_LEN)).enumerate();
        bytes.len() == self.0.len()
            && blocks.into_iter().all(|(at, (ours, theirs))| {
                let stamp = &stamp(number, at)[..ours.len().min(STAMP_LEN)];
                theirs.starts_with(stamp) && theirs[stamp.len()..] == ours[stamp.len()..]
            })
    }
}

/// Bytes that do not compress, always the same.
pub(super) fn incompressible(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let words = (0..len / 8).flat_map(|_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ state >> 29).to_le_bytes()
    });
    words.collect()
}

type Stamps = [[u8; STAMP_LEN]; BLOCKS_PER_TURN];

fn stamps(number: u64, first: usize) -> Stamps {
    std::array::from_fn(|at| stamp(number, first + at))
}

fn stamp(number: u64, block: usize) -> [u8; STAMP_LEN] {
    let mut stamp = [0; STAMP_LEN];
    stamp[..8].copy_from_slice(&number.to_le_bytes());
    stamp[8..].copy_from_slice(&(block as u64).to_le_bytes());
    stamp
}

/// Pushes all objects.
pub(super) fn push(push: &Push<'_>) -> io::Result<Pushed> {
    let (mut woken, waker) = UnixStream::pair()?;
    woken.set_nonblocking(true)?;
    let (done, is_done) = channel();
    std::thread::scope(|scope| {
        let mut encoders = Vec::new();
        for number in 0..push.connections {
            let mut encoder = Encoder::connect(push.address)?;
            if let Some(afterwards) = push.afterwards {
                let end = End { encoder: number as usize, done: done.clone() };
                encoder.paths = Some(spawn(scope, afterwards, end, waker.try_clone()?));
            }
            encoders.push(encoder);
        }
        let (mut next, mut pushed) = (0, Pushed::default());
        let mut begin = |encoder: &mut Encoder| {
            if next == push.count {
                encoder.state = State::Ended;
                return;
            }
            encoder.begin(next, (push.path_of)(next), push);
            next += 1;
        };
        encoders.iter_mut().for_each(&mut begin);
        while encoders.iter().any(|encoder| encoder.state != State::Ended) {
            for (encoder, ready) in wait(&encoders, &woken)? {
                let encoder = &mut encoders[encoder];
                if encoder.advance(push, ready)? {
                    pushed.latencies_ns.push(encoder.begun.elapsed().as_nanos() as u64);
                    begin(encoder);
                }
            }
            if push.afterwards.is_some() {
                drain(&mut woken)?;
            }
            for (encoder, cpu_s) in is_done.try_iter() {
                let encoder: &mut Encoder = &mut encoders[encoder];
                pushed.afterwards_cpu_s += cpu_s?;
                pushed.latencies_ns.push(encoder.begun.elapsed().as_nanos() as u64);
                begin(encoder);
            }
        }
        Ok(pushed)
    })
}

/// Tells which encoder's object is through, and the CPU time that took.
struct End {
    encoder: usize,
    done: Sender<(usize, io::Result<f64>)>,
}

/// A thread that does for the objects of one encoder what is done afterwards.
fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    afterwards: &'scope Afterwards<'scope>,
    end: End,
    mut waker: UnixStream,
) -> Sender<String> {
    let (paths, received): (Sender<String>, Receiver<String>) = channel();
    scope.spawn(move || {
        for path in received {
            let before = thread_cpu_s();
            let result = afterwards(&path).map(|()| thread_cpu_s() - before);
            // Nobody listens any more when another encoder has failed.
            let _ = end.done.send((end.encoder, result));
            let _ = waker.write_all(b"!");
        }
    });
    paths
}

fn drain(woken: &mut UnixStream) -> io::Result<()> {
    let mut bytes = [0; 64];
    loop {
        match woken.read(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Waits until an encoder can go on; gives those that can, and what their sockets are ready for.
fn wait(encoders: &[Encoder], woken: &UnixStream) -> io::Result<Vec<(usize, PollFlags)>> {
    let (mut numbers, mut polled) = (Vec::new(), Vec::new());
    for (number, encoder) in encoders.iter().enumerate() {
        let events = match encoder.state {
            // Who refuses may answer before all has been sent.
            State::Sending { .. } => PollFlags::IN | PollFlags::OUT,
            State::Waiting => PollFlags::IN,
            State::Afterwards | State::Ended => continue,
        };
        numbers.push(number);
        polled.push(PollFd::new(&encoder.stream, events));
    }
    polled.push(PollFd::new(woken, PollFlags::IN));
    let limit = Timespec { tv_sec: TIMEOUT.as_secs() as i64, tv_nsec: 0 };
    if poll(&mut polled, Some(&limit))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let ready = numbers.into_iter().zip(polled.iter().map(PollFd::revents));
    Ok(ready.filter(|(_, ready)| !ready.is_empty()).collect())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of head and body.
    Sending {
        sent: usize,
    },
    /// For the answer.
    Waiting,
    /// Its thread has the object.
    Afterwards,
    Ended,
}

struct Encoder {
    stream: TcpStream,
    received: Vec<u8>,
    state: State,
    number: u64,
    path: String,
    head: Vec<u8>,
    begun: Instant,
    /// To the thread that does what is done afterwards.
    paths: Option<Sender<String>>,
}

impl Encoder {
    fn connect(address: SocketAddr) -> io::Result<Encoder> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Encoder {
            stream,
            received: Vec::new(),
            state: State::Ended,
            number: 0,
            path: String::new(),
            head: Vec::new(),
            begun: Instant::now(),
            paths: None,
        })
    }

    fn begin(&mut self, number: u64, path: String, push: &Push<'_>) {
        let (host, len) = (push.address, push.body.0.len());
        let head = format!("PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len}\r\n\r\n");
        (self.number, self.path, self.head) = (number, path, head.into_bytes());
        self.state = State::Sending { sent: 0 };
        self.begun = Instant::now();
    }

    /// Does in one turn what its socket is ready for; true when its object is through.
    fn advance(&mut self, push: &Push<'_>, ready: PollFlags) -> io::Result<bool> {
        if let (State::Sending { sent }, true) = (self.state, ready.contains(PollFlags::OUT)) {
            let sent = self.send(sent, push.body)?;
            let is_sent = sent == self.head.len() + push.body.0.len();
            self.state = if is_sent { State::Waiting } else { State::Sending { sent } };
        }
        // What is left are bytes to read, the end, or an error that reading tells.
        if ready == PollFlags::OUT {
            return Ok(false);
        }
        let Some(answer) = self.answer()? else { return Ok(false) };
        if !matches!(answer.status, 201 | 204) || self.state != State::Waiting {
            let (status, path) = (answer.status, &self.path);
            return Err(io::Error::other(format!("status {status} for {path}")));
        }
        match &self.paths {
            None => Ok(true),
            Some(paths) => {
                self.state = State::Afterwards;
                paths.send(self.path.clone()).map_err(io::Error::other)?;
                Ok(false)
            }
        }
    }

    /// Sends what comes after the first `sent` bytes of head and body, and gives the new count.
    fn send(&mut self, sent: usize, body: &Body) -> io::Result<usize> {
        let head = &self.head[sent.min(self.head.len())..];
        let at = sent.saturating_sub(self.head.len());
        let stamps = stamps(self.number, at / BLOCK_LEN);
        let mut pieces = vec![IoSlice::new(head)];
        pieces.extend(body.pieces(at, &stamps));
        self.stream.write_vectored(&pieces).map(|count| sent + count)
    }

    fn answer(&mut self) -> io::Result<Option<Answer>> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        take_answer(&mut self.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::Mutex;

    const LEN: usize = 5 * BLOCK_LEN / 2;

    /// Answers what comes over each connection and keeps the bodies, in the order of their names.
    fn server(listener: &TcpListener, connections: usize, bodies: &Mutex<Vec<(String, Vec<u8>)>>) {
        std::thread::scope(|scope| {
            for _ in 0..connections {
                let (mut stream, _) = listener.accept().expect("an encoder");
                scope.spawn(move || {
                    let (mut received, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
                    loop {
                        let count = stream.read(&mut buffer).expect("no encoder fails");
                        if count == 0 {
                            return;
                        }
                        received.extend_from_slice(&buffer[..count]);
                        let end = received.windows(4).position(|four| four == b"\r\n\r\n");
                        let Some(end) = end else { continue };
                        if received.len() < end + 4 + LEN {
                            continue;
                        }
                        let head = String::from_utf8_lossy(&received[..end]).into_owned();
                        let name = head.split(' ').nth(1).expect("a path").to_owned();
                        let body = received[end + 4..].to_vec();
                        bodies.lock().expect("no panic while held").push((name, body));
                        received.clear();
                        let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
                        stream.write_all(answer).expect("it listens");
                    }
                });
            }
        });
    }

    fn pushed(count: u64, afterwards: Option<&Afterwards<'_>>) -> (Pushed, Vec<(String, Vec<u8>)>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let bodies = Mutex::new(Vec::new());
        let pushed = std::thread::scope(|scope| {
            scope.spawn(|| server(&listener, 3, &bodies));
            let path_of = &|number| format!("/{number}");
            let body = &Body::new(LEN);
            push(&Push { address, connections: 3, count, body, path_of, afterwards })
        });
        let mut bodies = bodies.into_inner().expect("no panic while held");
        bodies.sort();
        (pushed.expect("pushed"), bodies)
    }

    #[test]
    fn every_object_is_pushed_once_with_bytes_of_its_own() {
        let (pushed, bodies) = pushed(10, None);
        assert_eq!((pushed.latencies_ns.len(), bodies.len()), (10, 10));
        let body = Body::new(LEN);
        for (number, (name, bytes)) in (0..).zip(&bodies) {
            assert_eq!(*name, format!("/{number}"));
            assert!(body.is(number, bytes) && !body.is(number + 1, bytes));
            assert!(!body.is(number, &bytes[..LEN - 1]));
        }
    }

    #[test]
    fn wherever_a_write_was_cut_the_next_goes_on_there() {
        let (body, number) = (Body::new(LEN), 7);
        let from = |at: usize| -> Vec<u8> {
            let stamps = stamps(number, at / BLOCK_LEN);
            body.pieces(at, &stamps).flat_map(|piece| piece.to_vec()).collect()
        };
        let whole = from(0);
        assert!(body.is(number, &whole));
        for at in [1, 15, 16, 17, BLOCK_LEN - 1, BLOCK_LEN, BLOCK_LEN + 5, LEN - 1] {
            assert_eq!(from(at), whole[at..], "from {at}");
        }
        assert!(from(LEN).is_empty());
    }

    #[test]
    fn an_object_counts_once_what_is_done_afterwards_is_done() {
        let done = Mutex::new(Vec::new());
        let wait = Duration::from_millis(3);
        let (pushed, _) = pushed(
            7,
            Some(&|path| {
                std::thread::sleep(wait);
                done.lock().expect("no panic while held").push(path.to_owned());
                Ok(())
            }),
        );
        let mut done = done.into_inner().expect("no panic while held");
        done.sort();
        assert_eq!(done, ["/0", "/1", "/2", "/3", "/4", "/5", "/6"]);
        assert!(pushed.latencies_ns.iter().all(|ns| *ns >= wait.as_nanos() as u64));
    }

    #[test]
    fn what_fails_afterwards_or_is_refused_ends_it_all() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let body = &Body::new(LEN);
        let path_of = &|number| format!("/{number}");
        let refused = std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().expect("an encoder");
                let answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(answer).expect("it listens");
                io::copy(&mut stream, &mut io::sink()).map(drop)
            });
            push(&Push { address, connections: 1, count: 1, body, path_of, afterwards: None })
        });
        assert!(refused.err().is_some_and(|error| error.to_string().contains("503")));
        let bodies = Mutex::new(Vec::new());
        let failed = std::thread::scope(|scope| {
            scope.spawn(|| server(&listener, 1, &bodies));
            let afterwards: Option<&Afterwards<'_>> = Some(&|_| Err(io::ErrorKind::Other.into()));
            push(&Push { address, connections: 1, count: 2, body, path_of, afterwards })
        });
        assert!(failed.is_err_and(|error| error.kind() == io::ErrorKind::Other));
    }
}
