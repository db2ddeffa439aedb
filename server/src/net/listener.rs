//! Listening sockets: one per thread on the same address, spread by the kernel.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use tapeloop_engine::socket;

const BACKLOG: i32 = 4096;
/// What the kernel keeps unsent for a client of whom nothing is known. Ten thousand slow ones would
/// otherwise fill all memory that the kernel grants to TCP, and slow down everybody.
pub(super) const UNSENT_BYTES_MAX: i32 = 64 << 10;

/// Binds `count` listeners to `addr`.
///
/// `SO_REUSEPORT` would let a second server take half of our connections, silently. So the address
/// is first bound without it, which fails while anybody listens there.
pub(super) fn bind_all(addr: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    drop(bind(addr, false)?);
    let first = bind(addr, true)?;
    let addr = first.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    let mut sockets = vec![first];
    while sockets.len() < count {
        sockets.push(bind(addr, true)?);
    }
    sockets
        .into_iter()
        .map(|socket| {
            socket::set_unsent_max(socket.as_raw_fd(), UNSENT_BYTES_MAX)?;
            socket.listen(BACKLOG)?;
            // Left blocking: the ring waits for readiness itself, and answers EAGAIN otherwise.
            Ok(TcpListener::from(socket))
        })
        .collect()
}

fn bind(addr: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if is_shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_on_the_port_is_refused() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = bind_all(any, 2).expect("a free port");
        assert_eq!(first.len(), 2);
        let taken = first[0].local_addr().expect("bound");
        assert_eq!(first[1].local_addr().expect("bound"), taken);
        let error = bind_all(taken, 1).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(bind_all(taken, 1).is_ok());
    }
}
