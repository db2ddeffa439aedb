//! The smallest HTTP/1.1 client that can push: PUT with a declared length over one warm connection.
//!
//! A connection the server closed while it was idle is opened again once per object. Anything else
//! that goes wrong is reported: an object is never quietly left out.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use thiserror::Error;

use super::TTL_SECONDS;

/// No answer within this time means the origin is not there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer to a PUT that is read.
const ANSWER_LEN_MAX: usize = 16 * 1024;
/// Most header lines of an answer.
const ANSWER_HEADERS_MAX: usize = 64;

/// Why an object was not stored.
#[derive(Debug, Error)]
pub(super) enum PushError {
    #[error("PUT {path} to {addr}: {cause}")]
    Io { path: String, addr: SocketAddr, cause: io::Error },
    #[error("PUT {path}: the origin answered {status}: {text}")]
    Refused { path: String, status: u16, text: String },
}

/// One warm connection to the data plane.
pub(super) struct Pusher {
    addr: SocketAddr,
    connection: Option<TcpStream>,
}

struct Answer {
    status: u16,
    body: Vec<u8>,
    close: bool,
}

impl Pusher {
    /// Connects with the first object.
    pub(super) fn new(addr: SocketAddr) -> Pusher {
        Pusher { addr, connection: None }
    }

    /// Stores one object; returns when the origin has confirmed it.
    pub(super) fn put(&mut self, path: &str, body: &[u8]) -> Result<(), PushError> {
        let warm = self.connection.is_some();
        let answer = match self.exchange(path, body) {
            Err(_) if warm => self.exchange(path, body),
            first => first,
        };
        let answer = answer.map_err(|cause| PushError::Io {
            path: path.to_owned(),
            addr: self.addr,
            cause,
        })?;
        if !(200..300).contains(&answer.status) {
            return Err(PushError::Refused {
                path: path.to_owned(),
                status: answer.status,
                text: String::from_utf8_lossy(&answer.body).trim().to_owned(),
            });
        }
        Ok(())
    }

    /// One request and its answer. The connection is kept only if both went well.
    fn exchange(&mut self, path: &str, body: &[u8]) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let mut request = format!(
            "PUT {path}?ttl_seconds={TTL_SECONDS} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\
             User-Agent: tapeloop-demo\r\n\r\n",
            self.addr,
            body.len(),
        )
        .into_bytes();
        request.extend_from_slice(body);
        connection.write_all(&request)?;

        let answer = read_answer(&mut connection)?;
        if !answer.close {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let connection = TcpStream::connect_timeout(&self.addr, ANSWER_TIMEOUT)?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(connection)
    }
}

fn read_answer(connection: &mut TcpStream) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    loop {
        if let Some(head) = parse_head(&bytes)? {
            return read_body(connection, bytes, head);
        }
        read_more(connection, &mut bytes)?;
    }
}

struct Head {
    len: usize,
    status: u16,
    body_len: usize,
    close: bool,
}

/// None until the head is complete.
fn parse_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; ANSWER_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let len = match response.parse(bytes).map_err(malformed)? {
        httparse::Status::Complete(len) => len,
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.unwrap_or(0);
    let mut body_len = None;
    let mut close = false;
    for header in response.headers.iter() {
        let value = std::str::from_utf8(header.value).map_err(malformed)?;
        if header.name.eq_ignore_ascii_case("content-length") {
            body_len = Some(value.parse::<usize>().map_err(malformed)?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(malformed("an answer of unknown length"));
        } else if header.name.eq_ignore_ascii_case("connection") {
            close = value.eq_ignore_ascii_case("close");
        }
    }
    let body_len = match (status, body_len) {
        (204, _) => 0,
        (_, Some(body_len)) => body_len,
        (_, None) => return Err(malformed("an answer without Content-Length")),
    };
    Ok(Some(Head { len, status, body_len, close }))
}

fn read_body(connection: &mut TcpStream, mut bytes: Vec<u8>, head: Head) -> io::Result<Answer> {
    let end = head.len.saturating_add(head.body_len);
    while bytes.len() < end {
        read_more(connection, &mut bytes)?;
    }
    if bytes.len() > end {
        return Err(malformed("bytes after the answer"));
    }
    Ok(Answer { status: head.status, body: bytes.split_off(head.len), close: head.close })
}

fn read_more(connection: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 2048];
    // A ring set up by this thread earlier can interrupt its system calls.
    let received = loop {
        match connection.read(&mut buffer) {
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    match received {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ if bytes.len() + buffer.len() > ANSWER_LEN_MAX => Err(malformed("too long an answer")),
        n => {
            bytes.extend_from_slice(&buffer[..n]);
            Ok(())
        }
    }
}

fn malformed(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, cause)
}
