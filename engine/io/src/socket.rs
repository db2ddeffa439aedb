//! The few socket and process calls the server needs and std does not offer.

use std::io;
use std::mem;
use std::os::fd::RawFd;

/// Acknowledge received segments at once. The kernel forgets it; set it again after each read.
pub fn set_quickack(fd: RawFd) -> io::Result<()> {
    set_int(fd, libc::IPPROTO_TCP, libc::TCP_QUICKACK, 1)
}

/// Send small writes at once (no Nagle delay).
pub fn set_nodelay(fd: RawFd) -> io::Result<()> {
    set_int(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// The most bytes that wait unsent in the kernel. Connections inherit it from their listener.
pub fn set_unsent_max(fd: RawFd, bytes: i32) -> io::Result<()> {
    set_int(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes)
}

/// Ends both directions: operations in flight on the socket complete, none is abandoned.
pub fn shutdown(fd: RawFd) -> io::Result<()> {
    // SAFETY: the call takes two integers; a wrong descriptor is an error, not memory misuse.
    check(unsafe { libc::shutdown(fd, libc::SHUT_RDWR) })
}

/// Makes the coming close of the socket a reset: unsent bytes are dropped, and the other side
/// cannot take what it has for all there is.
pub fn set_reset_on_close(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_LINGER, libc::linger { l_onoff: 1, l_linger: 0 })
}

/// Raises the soft limit of open files to the hard one and returns what it is now.
pub fn raise_nofile_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit to write to.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid rlimit to read from.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    }
    Ok(limit.rlim_cur)
}

fn set_int(fd: RawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    set_option(fd, level, name, value)
}

/// `T` is the plain C type that the option `name` takes.
fn set_option<T: Copy>(
    fd: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: T,
) -> io::Result<()> {
    let len = mem::size_of_val(&value) as libc::socklen_t;
    let value = std::ptr::from_ref(&value).cast();
    // SAFETY: `value` points to `len` readable bytes that outlive the call.
    check(unsafe { libc::setsockopt(fd, level, name, value, len) })
}

/// What a call says that returns 0, or -1 and errno.
pub(crate) fn check(status: libc::c_int) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn shutdown_ends_a_read_on_the_other_side_and_on_this_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        set_quickack(near.as_raw_fd()).unwrap();
        set_nodelay(near.as_raw_fd()).unwrap();
        assert!(near.nodelay().unwrap());
        shutdown(near.as_raw_fd()).unwrap();
        assert_eq!(near.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(far.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn a_close_can_be_made_a_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        set_reset_on_close(near.as_raw_fd()).unwrap();
        drop(near);
        let error = far.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_descriptor_that_is_no_socket_is_an_error() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let error = set_quickack(file.as_raw_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
    }

    #[test]
    fn the_nofile_limit_ends_at_the_hard_one() {
        let limit = raise_nofile_limit().unwrap();
        assert_eq!(raise_nofile_limit().unwrap(), limit);
        assert!(limit >= 256);
    }
}
