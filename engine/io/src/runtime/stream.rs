//! TCP sockets on the runtime's ring.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::rc::Rc;

use io_uring::opcode;
use io_uring::types::Fd;

use super::driver::{Held, count};
use super::large::large_turn;
use super::lend::count_of;
use crate::chunk::Chunk;
use crate::spare::Spare;

/// Listens. A pending accept that is dropped loses no connection that it was about to bring: that
/// one is closed.
#[derive(Clone, Debug)]
pub struct Listener(Rc<TcpListener>);

impl Listener {
    /// Takes a socket that listens already.
    pub fn new(listener: TcpListener) -> Listener {
        Listener(Rc::new(listener))
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<Stream> {
        let fd = Fd(self.0.as_raw_fd());
        let entry = opcode::Accept::new(fd, ptr::null_mut(), ptr::null_mut())
            .flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
            .build();
        // SAFETY: the descriptor is open as long as it is held; no memory is named.
        let (result, _) = unsafe { super::driver().start(Accept(Rc::clone(&self.0)), entry) }.await;
        let fd = accepted(result)?;
        Ok(Stream(Rc::new(TcpStream::from(fd))))
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

struct Accept(#[expect(dead_code, reason = "open for the kernel")] Rc<TcpListener>);

impl Held for Accept {
    fn is_cancelled(&self) -> bool {
        true
    }

    fn abandoned(self: Box<Self>, result: i32) {
        drop(accepted(result));
    }
}

fn accepted(result: i32) -> io::Result<OwnedFd> {
    count(result)?;
    // SAFETY: the kernel has just handed this descriptor to us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

/// A connection. Operations of a kind are meant to be one at a time.
#[derive(Debug)]
pub struct Stream(Rc<TcpStream>);

/// From this length on a transfer takes its turn.
const LARGE_MIN: usize = 128 << 10;

/// Memory that an operation of a connection uses, and the connection.
struct OnStream<M>(#[expect(dead_code, reason = "open for the kernel")] Rc<TcpStream>, M);

impl<M: 'static> Held for OnStream<M> {}

impl Stream {
    /// Takes a connected socket.
    pub fn new(stream: TcpStream) -> io::Result<Stream> {
        // The ring waits for readiness all the same; what is lent must not.
        stream.set_nonblocking(true)?;
        Ok(Stream(Rc::new(stream)))
    }

    fn fd(&self) -> Fd {
        Fd(self.0.as_raw_fd())
    }

    fn hold<M>(&self, memory: M) -> OnStream<M> {
        OnStream(Rc::clone(&self.0), memory)
    }

    /// Sends small writes at once.
    pub fn set_nodelay(&self) -> io::Result<()> {
        self.0.set_nodelay(true)
    }

    /// Ends one direction or both; operations in flight complete.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how)
    }

    /// Reads behind the bytes in `buffer`, whose spare capacity must not be empty.
    pub async fn read(&self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let room = buffer.spare_capacity_mut();
        assert!(!room.is_empty(), "no room to read into");
        let entry = opcode::Recv::new(self.fd(), room.as_mut_ptr().cast(), len_u32(room.len()));
        // SAFETY: the heap memory of a Vec stays where it is when the Vec is moved, and nobody
        // touches one that is held.
        let op = unsafe { super::driver().start(self.hold(buffer), entry.build()) };
        let (result, OnStream(_, mut buffer)) = op.await;
        let result = count(result);
        if let Ok(count) = result {
            let filled = buffer.len() + count;
            assert!(filled <= buffer.capacity(), "{count} bytes received into too little room");
            // SAFETY: the kernel has just written `count` bytes behind those that were there.
            unsafe { buffer.set_len(filled) };
        }
        (result, buffer)
    }

    /// Reads into arena memory.
    pub async fn read_spare(&self, mut spare: Spare) -> (io::Result<usize>, Spare) {
        turn_of(spare.capacity()).await;
        let mut header = Header::new(spare.list());
        let entry = opcode::RecvMsg::new(self.fd(), &raw mut *header.message).build();
        // SAFETY: the tails of arena blocks stay in place, and are the Spare's alone, while the
        // Spare holds their writers; the header's parts lie on the heap.
        let op = unsafe { super::driver().start(self.hold((spare, header)), entry) };
        let (result, OnStream(_, (back, _))) = op.await;
        spare = back;
        let result = count(result);
        if let Ok(count) = result {
            spare.set_filled(count);
        }
        (result, spare)
    }

    /// Writes what `buffer` has from `from` on, once; the count may be short.
    pub async fn write(&self, buffer: Vec<u8>, from: usize) -> (io::Result<usize>, Vec<u8>) {
        let bytes = &buffer[from..];
        assert!(!bytes.is_empty(), "nothing to write");
        let entry = opcode::Send::new(self.fd(), bytes.as_ptr(), len_u32(bytes.len())).build();
        // SAFETY: as in `read`.
        let op = unsafe { super::driver().start(self.hold(buffer), entry) };
        let (result, OnStream(_, buffer)) = op.await;
        (count(result), buffer)
    }

    /// Writes several chunks once; the count may be short.
    pub async fn write_chunks(&self, parts: Vec<Chunk>) -> (io::Result<usize>, Vec<Chunk>) {
        turn_of(Chunk::len_of(&parts)).await;
        assert!(!parts.is_empty(), "nothing to write");
        let of_part = |part: &Chunk| libc::iovec {
            // The kernel only reads through it; iovec has no const form.
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: part.len(),
        };
        let header = Header::new(parts.iter().map(of_part).collect());
        let entry = opcode::SendMsg::new(self.fd(), &raw const *header.message).build();
        // SAFETY: chunks keep their memory in place; the header's parts lie on the heap.
        let op = unsafe { super::driver().start(self.hold((parts, header)), entry) };
        let (result, OnStream(_, (parts, _))) = op.await;
        (count(result), parts)
    }

    /// Sends chunks as far as there is room now, and gives the count, which may be 0. Those in the
    /// arena leave by reference: nothing is copied, the network keeps their pages as long as it
    /// needs them, and their blocks may be reused meanwhile.
    pub async fn lend_chunks(&self, parts: &[Chunk]) -> io::Result<usize> {
        turn_of(Chunk::len_of(parts)).await;
        let is_arena = |part: &Chunk| matches!(part, Chunk::Arena(..));
        let mut sent = 0;
        let mut left = parts;
        while let [first, ..] = left {
            let run = left.iter().take_while(|part| is_arena(part)).count();
            let (now, behind) = left.split_at(run.max(1));
            let result = match run {
                0 => self.send_now(first, !behind.is_empty()),
                _ => super::current(|core| core.lender.lend(&self.0, now)),
            };
            let count = match result {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                // What came before has been sent; the next call will tell.
                Err(_) if sent > 0 => 0,
                Err(error) => return Err(error),
            };
            sent += count;
            if count < Chunk::len_of(now) {
                break;
            }
            left = behind;
        }
        Ok(sent)
    }

    fn send_now(&self, bytes: &[u8], has_more: bool) -> io::Result<usize> {
        let more = if has_more { libc::MSG_MORE } else { 0 };
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | more;
        let (address, fd) = (bytes.as_ptr().cast(), self.0.as_raw_fd());
        // SAFETY: the kernel reads the bytes of a slice that outlives the call.
        let sent = unsafe { libc::send(fd, address, bytes.len(), flags) };
        count_of(sent)
    }

    /// Waits until a good part of the send buffer is free, or the socket is shut down. It may be
    /// given up at any time.
    pub async fn writable(&self) -> io::Result<()> {
        let entry = opcode::PollAdd::new(self.fd(), libc::POLLOUT as u32).build();
        // SAFETY: the descriptor is open as long as it is held; no memory is named.
        let op = unsafe { super::driver().start(Watch(Rc::clone(&self.0)), entry) };
        count(op.await.0).map(drop)
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

async fn turn_of(len: usize) {
    if len >= LARGE_MIN {
        large_turn().await;
    }
}

struct Watch(#[expect(dead_code, reason = "open for the kernel")] Rc<TcpStream>);

impl Held for Watch {
    fn is_cancelled(&self) -> bool {
        true
    }
}

/// Several pieces of memory as the kernel takes them. They stay where they are when this is moved.
struct Header {
    message: Box<libc::msghdr>,
    _list: Box<[libc::iovec]>,
}

impl Header {
    fn new(mut list: Box<[libc::iovec]>) -> Header {
        // SAFETY: all zeros is a valid value of this plain C struct.
        let mut message: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        message.msg_iov = list.as_mut_ptr();
        message.msg_iovlen = list.len() as _;
        Header { message, _list: list }
    }
}

fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("a transfer below 4 GiB")
}
