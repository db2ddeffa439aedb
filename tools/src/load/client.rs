//! The HTTP/1.1 client of the load generator: one request at a time on a kept connection.
//!
//! It asks for nothing a player or an encoder would not ask for, hands body bytes to the checker in
//! place, and drops the connection after anything unexpected, so that no answer is ever taken for
//! the answer to another request.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::content::{Content, WrongBytes};
use super::playlist::WrongPlaylist;
use super::response::{Framing, Head, HeadError, parse_chunk_line, parse_head};

const BUFFER: usize = 256 * 1024;
const HEAD_MAX: usize = 32 * 1024;

/// Why a request did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("status {0}")]
    Status(u16),
    #[error(transparent)]
    WrongBytes(#[from] WrongBytes),
    #[error(transparent)]
    WrongPlaylist(#[from] WrongPlaylist),
    #[error("body of {received} bytes where {expected} were stored")]
    Length { expected: u64, received: u64 },
    #[error("the playlist went back from sequence {from} to {to}")]
    WentBack { from: u64, to: u64 },
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    #[error("connection closed after {received} bytes of the answer")]
    Closed { received: u64 },
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

/// A connection that comes back after failures.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    host: Box<str>,
    timeout: Duration,
    stream: Option<TcpStream>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

/// Takes the body as it arrives: (offset, bytes).
pub(crate) type Sink<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), RequestError>;

impl Client {
    pub(crate) fn new(address: SocketAddr, host: &str, timeout: Duration) -> Client {
        Client {
            address,
            host: host.into(),
            timeout,
            stream: None,
            buffer: vec![0; BUFFER].into(),
            start: 0,
            end: 0,
        }
    }

    /// GETs `path`; gives the length of the body. Anything but a complete 200 is an error.
    pub(crate) async fn get(&mut self, path: &str, sink: Sink<'_>) -> Result<u64, RequestError> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.bounded(head, Body::Empty, sink).await
    }

    /// POSTs nothing to `path`; the body of the answer goes to `sink`.
    pub(crate) async fn post(&mut self, path: &str, sink: Sink<'_>) -> Result<u64, RequestError> {
        let host = &self.host;
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
        self.bounded(head, Body::Empty, sink).await
    }

    /// PUTs `len` bytes of `content`; gives the number of bytes stored.
    pub(crate) async fn put(
        &mut self,
        path: &str,
        content: Content,
        len: u64,
    ) -> Result<u64, RequestError> {
        let head = self.put_head(path, len);
        self.bounded(head, Body::Made(content, len), &mut |_, _| Ok(())).await?;
        Ok(len)
    }

    /// PUTs a text.
    pub(crate) async fn put_text(&mut self, path: &str, text: &str) -> Result<u64, RequestError> {
        let head = self.put_head(path, text.len() as u64) + text;
        self.bounded(head, Body::Empty, &mut |_, _| Ok(())).await?;
        Ok(text.len() as u64)
    }

    /// DELETEs `path`; one that is gone already is as good.
    pub(crate) async fn delete(&mut self, path: &str) -> Result<u64, RequestError> {
        let head = format!("DELETE {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        match self.bounded(head, Body::Empty, &mut |_, _| Ok(())).await {
            Ok(_) | Err(RequestError::Status(404 | 410)) => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn put_head(&self, path: &str, len: u64) -> String {
        format!("PUT {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {len}\r\n\r\n", self.host)
    }

    async fn bounded(
        &mut self,
        head: String,
        body: Body,
        sink: Sink<'_>,
    ) -> Result<u64, RequestError> {
        let limit = self.timeout;
        let result = match tokio::time::timeout(limit, self.exchange(head, body, sink)).await {
            Ok(result) => result,
            Err(_) => Err(RequestError::TimedOut(limit)),
        };
        // A refusal with a complete answer leaves the connection in step; nothing else does.
        if !matches!(result, Ok(_) | Err(RequestError::Status(_))) {
            self.stream = None;
        }
        result
    }

    async fn exchange(
        &mut self,
        head: String,
        body: Body,
        sink: Sink<'_>,
    ) -> Result<u64, RequestError> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        (self.start, self.end) = (0, 0);
        let sent = self.send(head.as_bytes(), body).await;
        let sent_whole = sent.is_ok();
        // An origin that refuses early answers and closes while the body is still on its way.
        let head = match (self.receive_head().await, sent) {
            (Ok(head), _) => head,
            (Err(_), Err(error)) => return Err(error.into()),
            (Err(error), Ok(())) => return Err(error),
        };
        let len = if head.is_success() {
            self.receive_body(&head, sink).await?
        } else {
            self.receive_body(&head, &mut |_, _| Ok(())).await?
        };
        if head.close || !sent_whole || self.start != self.end {
            self.stream = None;
        }
        if head.is_success() { Ok(len) } else { Err(RequestError::Status(head.status)) }
    }

    /// Sends the head, and the body with it as far as it fits the same write.
    async fn send(&mut self, head: &[u8], body: Body) -> io::Result<()> {
        let Body::Made(content, len) = body else {
            return write_all(self.stream.as_ref(), head).await;
        };
        assert!(head.len() < BUFFER);
        self.buffer[..head.len()].copy_from_slice(head);
        let (mut filled, mut offset) = (head.len(), 0);
        loop {
            let left = usize::try_from(len - offset).unwrap_or(usize::MAX);
            let take = left.min(BUFFER - filled);
            content.fill(offset, &mut self.buffer[filled..filled + take]);
            write_all(self.stream.as_ref(), &self.buffer[..filled + take]).await?;
            offset += take as u64;
            filled = 0;
            if offset == len {
                return Ok(());
            }
        }
    }

    async fn receive_head(&mut self) -> Result<Head, RequestError> {
        loop {
            if let Some(head) = parse_head(&self.buffer[self.start..self.end])? {
                self.start += head.len;
                if head.status == 100 {
                    continue;
                }
                return Ok(head);
            }
            if self.end - self.start > HEAD_MAX {
                return Err(HeadError::TooLong { max: HEAD_MAX }.into());
            }
            self.receive_more().await?;
        }
    }

    async fn receive_body(&mut self, head: &Head, sink: Sink<'_>) -> Result<u64, RequestError> {
        match head.framing {
            Framing::Length(len) => {
                self.receive_exactly(0, len, sink).await?;
                Ok(len)
            }
            Framing::Chunked => self.receive_chunks(sink).await,
            Framing::UntilClose => Err(HeadError::NoLength.into()),
        }
    }

    async fn receive_chunks(&mut self, sink: Sink<'_>) -> Result<u64, RequestError> {
        let mut offset = 0;
        loop {
            let len = self.receive_chunk_line().await?;
            if len == 0 {
                break;
            }
            self.receive_exactly(offset, len, sink).await?;
            offset += len;
            self.receive_line().await?;
        }
        while self.receive_line().await? > 2 {}
        Ok(offset)
    }

    async fn receive_chunk_line(&mut self) -> Result<u64, RequestError> {
        loop {
            if let Some((used, len)) = parse_chunk_line(&self.buffer[self.start..self.end])? {
                self.start += used;
                return Ok(len);
            }
            self.receive_more().await?;
        }
    }

    /// Takes one line off the connection; gives its length with the line end.
    async fn receive_line(&mut self) -> Result<usize, RequestError> {
        loop {
            let ready = &self.buffer[self.start..self.end];
            if let Some(at) = ready.iter().position(|byte| *byte == b'\n') {
                self.start += at + 1;
                return Ok(at + 1);
            }
            self.receive_more().await?;
        }
    }

    async fn receive_exactly(
        &mut self,
        offset: u64,
        len: u64,
        sink: Sink<'_>,
    ) -> Result<(), RequestError> {
        let mut done = 0;
        while done < len {
            if self.start == self.end {
                self.receive_more().await?;
            }
            let left = usize::try_from(len - done).unwrap_or(usize::MAX);
            let take = left.min(self.end - self.start);
            sink(offset + done, &self.buffer[self.start..self.start + take])?;
            self.start += take;
            done += take as u64;
        }
        Ok(())
    }

    async fn receive_more(&mut self) -> Result<(), RequestError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        assert!(self.end < self.buffer.len());
        let Some(stream) = self.stream.as_ref() else {
            return Err(RequestError::Closed { received: 0 });
        };
        loop {
            stream.readable().await?;
            match stream.try_read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(RequestError::Closed { received: self.end as u64 }),
                Ok(count) => {
                    self.end += count;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Body {
    Empty,
    Made(Content, u64),
}

async fn write_all(stream: Option<&TcpStream>, mut bytes: &[u8]) -> io::Result<()> {
    let stream = stream.ok_or(io::ErrorKind::NotConnected)?;
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
