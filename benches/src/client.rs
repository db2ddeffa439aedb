//! A blocking HTTP/1.1 client for single steps of a bench. Loads are made by `tapectl load`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const HEAD_MAX: usize = 32 * 1024;
const BODY_MAX: usize = 256 << 20;

/// One kept connection.
pub(crate) struct Client {
    stream: TcpStream,
    host: String,
    received: Vec<u8>,
}

/// An answer, whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Client { stream, host: address.to_string(), received: Vec::new() })
    }

    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.stream.write_all(head.as_bytes())?;
        self.answer()
    }

    pub(crate) fn put(&mut self, path: &str, body: &[u8]) -> io::Result<Answer> {
        let len = body.len();
        let head =
            format!("PUT {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {len}\r\n\r\n", self.host);
        self.stream.write_all(head.as_bytes())?;
        self.stream.write_all(body)?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Answer> {
        loop {
            match take_answer(&mut self.received)? {
                Some(answer) => return Ok(answer),
                None => self.receive()?,
            }
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.received.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }
}

/// Takes an answer off what has been received, once all of it is there.
pub(crate) fn take_answer(received: &mut Vec<u8>) -> io::Result<Option<Answer>> {
    let head_len = match received.windows(4).position(|four| four == b"\r\n\r\n") {
        Some(at) => at + 4,
        None if received.len() > HEAD_MAX => return Err(wrong("a head without end")),
        None => return Ok(None),
    };
    let head = String::from_utf8_lossy(&received[..head_len]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| wrong("no status"))?;
    let body_len = match content_length(&head) {
        Some(len) => len,
        None if status == 204 => 0,
        None => return Err(wrong("no Content-Length")),
    };
    if body_len > BODY_MAX {
        return Err(wrong("a body larger than any object"));
    }
    if received.len() < head_len + body_len {
        return Ok(None);
    }
    let rest = received.split_off(head_len + body_len);
    let body = std::mem::replace(received, rest).split_off(head_len);
    Ok(Some(Answer { status, body }))
}

fn content_length(head: &str) -> Option<usize> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().and_then(|(_, value)| value.trim().parse().ok())
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// An address of this machine that nobody listens on.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once_all_of_it_is_there_and_what_follows_stays() {
        let whole = b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabc";
        for cut in 0..whole.len() {
            let mut received = whole[..cut].to_vec();
            assert!(take_answer(&mut received).expect("right so far").is_none(), "cut at {cut}");
            assert_eq!(received.len(), cut);
        }
        let mut received = [&whole[..], b"HTTP/1.1 2"].concat();
        let answer = take_answer(&mut received).expect("right").expect("whole");
        assert_eq!((answer.status, &*answer.body), (201, &b"abc"[..]));
        assert_eq!(received, b"HTTP/1.1 2");
        let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        assert!(take_answer(&mut endless).is_err(), "no length");
    }
}
