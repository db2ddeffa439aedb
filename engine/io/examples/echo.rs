//! The floor under a small answer: what one thread pays for receiving and sending alone.
//!
//! A bare io_uring loop that knows no HTTP: whatever ends with an empty line is answered with the
//! same prepared bytes, one receive and one send at a time per connection. The bench harness
//! measures it beside the origin; it is no server. It ends when its standard input does.

use io_uring::{IoUring, opcode, squeue, types::Fd};
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

const RING_ENTRIES: u32 = 4096;
const REQUEST_BYTES_MAX: usize = 4096;
const ACCEPT: u64 = u64::MAX;

/// One connection: its bytes stay in place while the kernel has them.
struct Connection {
    stream: TcpStream,
    request: Box<[u8]>,
    received: usize,
    sent: usize,
    is_sending: bool,
}

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let [_, listen, address, bytes, count] = words.as_slice() else { return usage() };
    let (("--listen", "--bytes"), Ok(count)) = ((&**listen, &**bytes), count.parse()) else {
        return usage();
    };
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    // The one who started it holds the other end: it never outlives a bench.
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    serve(&listener, &answer(count))
}

fn usage() -> io::Result<()> {
    Err(io::Error::other("usage: echo --listen ADDRESS --bytes BODY_BYTES"))
}

/// A head as long as the origin's, and the body.
fn answer(count: usize) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {count}\r\nX-Fill: {}\r\n\r\n",
        "x".repeat(400)
    )
    .into_bytes();
    bytes.resize(bytes.len() + count, b'e');
    bytes
}

fn serve(listener: &TcpListener, answer: &[u8]) -> io::Result<()> {
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(2 * RING_ENTRIES)
        .build(RING_ENTRIES)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).build().user_data(ACCEPT);
    push(&mut ring, &accept)?;
    let mut done = Vec::new();
    loop {
        ring.submit_and_wait(1)?;
        done.extend(ring.completion().map(|entry| (entry.user_data(), entry.result())));
        for (token, result) in done.drain(..) {
            let next = if token == ACCEPT {
                accepted(&mut connections, result)?
            } else {
                advance(&mut connections, token, result, answer)
            };
            if let Some(entry) = next {
                push(&mut ring, &entry)?;
            }
        }
    }
}

fn accepted(
    connections: &mut Vec<Option<Connection>>,
    result: i32,
) -> io::Result<Option<squeue::Entry>> {
    use std::os::fd::FromRawFd;
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    // SAFETY: the kernel has just handed this descriptor to us; nobody else owns it.
    let stream = unsafe { TcpStream::from_raw_fd(result) };
    stream.set_nodelay(true)?;
    let slot = connections.iter().position(Option::is_none).unwrap_or_else(|| {
        connections.push(None);
        connections.len() - 1
    });
    let request = vec![0; REQUEST_BYTES_MAX].into_boxed_slice();
    let connection = Connection { stream, request, received: 0, sent: 0, is_sending: false };
    let connection = connections[slot].insert(connection);
    Ok(Some(receive(connection, slot)))
}

/// Takes a completion of one connection; gives its next operation, unless it has ended.
fn advance(
    connections: &mut [Option<Connection>],
    token: u64,
    result: i32,
    answer: &[u8],
) -> Option<squeue::Entry> {
    let slot = usize::try_from(token).expect("a slot");
    let connection = connections[slot].as_mut().expect("one operation at a time, then its end");
    let Some(count) = usize::try_from(result).ok().filter(|count| *count > 0) else {
        connections[slot] = None;
        return None;
    };
    if connection.is_sending {
        connection.sent += count;
        if connection.sent < answer.len() {
            return Some(send(connection, slot, answer));
        }
        connection.is_sending = false;
        connection.received = 0;
        return Some(receive(connection, slot));
    }
    connection.received += count;
    let request = &connection.request[..connection.received];
    if request.ends_with(b"\r\n\r\n") {
        connection.is_sending = true;
        connection.sent = 0;
        return Some(send(connection, slot, answer));
    }
    if connection.received == REQUEST_BYTES_MAX {
        connections[slot] = None;
        return None;
    }
    Some(receive(connection, slot))
}

fn receive(connection: &mut Connection, slot: usize) -> squeue::Entry {
    let room = &mut connection.request[connection.received..];
    let len = u32::try_from(room.len()).expect("a short request");
    let fd = Fd(connection.stream.as_raw_fd());
    opcode::Recv::new(fd, room.as_mut_ptr(), len).build().user_data(slot as u64)
}

fn send(connection: &Connection, slot: usize, answer: &[u8]) -> squeue::Entry {
    let rest = &answer[connection.sent..];
    let len = u32::try_from(rest.len()).expect("a short answer");
    let fd = Fd(connection.stream.as_raw_fd());
    opcode::Send::new(fd, rest.as_ptr(), len).build().user_data(slot as u64)
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    // SAFETY: the bytes of an operation are those of a connection, which is dropped only after its
    // one operation has completed, or the answer's, which outlive the ring.
    while unsafe { ring.submission().push(entry) }.is_err() {
        ring.submit()?;
    }
    Ok(())
}
