//! The HTTP/1.1 client of `load-from-dump`: one PUT at a time on a kept connection.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use super::manifest::Entry;
use crate::error::ToolError;

const HEAD_MAX: usize = 32 * 1024;
/// An error document says more than its status; no more than this of it is kept.
const BODY_MAX: u64 = 64 * 1024;
const COPY_BUFFER: usize = 256 * 1024;

/// A checked `http://` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) url: String,
    addresses: Vec<SocketAddr>,
    /// Value of the Host field.
    host: String,
    /// What stands before every key; no trailing slash.
    path: String,
}

impl Origin {
    pub(crate) fn parse(url: &str) -> Result<Origin, ToolError> {
        let refuse =
            |allowed: String| ToolError::Flag { flag: "--to", value: url.to_owned(), allowed };
        let form = || "must be http://HOST:PORT, and a path if there is one".to_owned();
        let rest = url.strip_prefix("http://").ok_or_else(|| refuse(form()))?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"#?".contains(&byte));
        if host.is_empty() || host.contains('@') || !plain {
            return Err(refuse(form()));
        }
        let has_port = host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
        let named =
            if has_port && !host.ends_with(']') { host.into() } else { format!("{host}:80") };
        let addresses: Vec<SocketAddr> = named
            .to_socket_addrs()
            .map_err(|error| refuse(format!("the host cannot be resolved: {error}")))?
            .collect();
        let path = path.trim_end_matches('/').to_owned();
        Ok(Origin { url: url.to_owned(), addresses, host: host.to_owned(), path })
    }
}

/// The answer to a PUT.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Without its quotes.
    pub(super) etag: Option<String>,
    /// Of an error, one line.
    pub(super) detail: String,
}

struct Head {
    answer: Answer,
    body_len: u64,
    close: bool,
}

/// A connection that comes back after failures.
#[derive(Debug)]
pub(super) struct Client {
    origin: Origin,
    timeout: Duration,
    stream: Option<TcpStream>,
}

impl Client {
    pub(super) fn new(origin: Origin, timeout: Duration) -> Client {
        Client { origin, timeout, stream: None }
    }

    /// Connects, to find out early that nobody is there.
    pub(super) fn connect(&mut self) -> io::Result<()> {
        if self.stream.is_some() {
            return Ok(());
        }
        let mut last = io::Error::other("the host has no address");
        for address in &self.origin.addresses {
            match TcpStream::connect_timeout(address, self.timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(self.timeout))?;
                    stream.set_write_timeout(Some(self.timeout))?;
                    self.stream = Some(stream);
                    return Ok(());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Pushes a file as the object of `entry`.
    pub(super) fn put(
        &mut self,
        entry: &Entry,
        ttl_seconds: Option<u64>,
        file: &Path,
    ) -> io::Result<Answer> {
        let kept = self.stream.is_some();
        let result = self.exchange(entry, ttl_seconds, file);
        // A server may close a kept connection at any time: that says nothing about this upload.
        let result = match result {
            Err(error) if kept && is_closed(&error) => {
                self.stream = None;
                self.exchange(entry, ttl_seconds, file)
            }
            other => other,
        };
        if result.is_err() {
            self.stream = None;
        }
        result
    }

    fn exchange(
        &mut self,
        entry: &Entry,
        ttl_seconds: Option<u64>,
        file: &Path,
    ) -> io::Result<Answer> {
        self.connect()?;
        let head = self.head(entry, ttl_seconds);
        let stream = self.stream.as_mut().expect("just connected");
        // A refusal may come before all of the body has gone out; then sending fails, and the
        // answer is what matters.
        let sent = stream.write_all(head.as_bytes()).and_then(|()| send(stream, file, entry.len));
        let answer = receive(stream);
        let head = match (sent, answer) {
            (_, Ok(head)) => head,
            (Err(error), Err(_)) | (Ok(()), Err(error)) => return Err(error),
        };
        if head.close || head.answer.status >= 300 {
            self.stream = None;
        }
        Ok(head.answer)
    }

    fn head(&self, entry: &Entry, ttl_seconds: Option<u64>) -> String {
        let Origin { host, path, .. } = &self.origin;
        let query = ttl_seconds.map_or_else(String::new, |ttl| format!("?ttl_seconds={ttl}"));
        let mut head = format!(
            "PUT {path}/{}{query} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n",
            entry.key, entry.len,
        );
        let fields =
            [("Content-Type", &entry.content_type), ("Content-Encoding", &entry.content_encoding)];
        for (name, value) in fields {
            if let Some(value) = value {
                head += &format!("{name}: {value}\r\n");
            }
        }
        head + "\r\n"
    }
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn send(stream: &mut TcpStream, path: &Path, len: u64) -> io::Result<()> {
    let mut file = File::open(path)?.take(len);
    let mut buffer = vec![0; COPY_BUFFER.min(len as usize)];
    let mut left = len;
    while left > 0 {
        match file.read(&mut buffer)? {
            0 => return Err(io::Error::other("the file is shorter than the manifest says")),
            count => {
                stream.write_all(&buffer[..count])?;
                left -= count as u64;
            }
        }
    }
    Ok(())
}

fn receive(stream: &mut TcpStream) -> io::Result<Head> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match parse(&bytes)? {
            // Only a final answer counts.
            Some((len, head)) if (100..200).contains(&head.answer.status) => {
                bytes.drain(..len);
            }
            Some((len, head)) => return with_body(stream, head, bytes.split_off(len)),
            None if bytes.len() > HEAD_MAX => {
                return Err(io::Error::other("an answer without end"));
            }
            None => match stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => bytes.extend_from_slice(&buffer[..count]),
            },
        }
    }
}

fn with_body(stream: &mut TcpStream, mut head: Head, mut body: Vec<u8>) -> io::Result<Head> {
    let wanted = head.body_len.min(BODY_MAX);
    let more = wanted.saturating_sub(body.len() as u64);
    stream.take(more).read_to_end(&mut body)?;
    if head.body_len > BODY_MAX {
        head.close = true;
    }
    if head.answer.status >= 300 {
        head.answer.detail = detail(&body);
    }
    Ok(head)
}

/// The cause in an error document.
fn detail(body: &[u8]) -> String {
    let document = serde_json::from_slice::<serde_json::Value>(body).ok();
    let detail = document.as_ref().and_then(|document| document["detail"].as_str());
    detail.unwrap_or("no cause given").to_owned()
}

fn parse(bytes: &[u8]) -> io::Result<Option<(usize, Head)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let broken = |error: httparse::Error| io::Error::other(format!("malformed answer: {error}"));
    let len = match response.parse(bytes).map_err(broken)? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(len) => len,
    };
    let status = response.code.unwrap_or(0);
    let (mut etag, mut body_len, mut close) = (None, 0, response.version == Some(0));
    for header in response.headers.iter() {
        let text = String::from_utf8_lossy(header.value);
        if header.name.eq_ignore_ascii_case("etag") {
            etag = Some(text.trim().trim_matches('"').to_owned());
        } else if header.name.eq_ignore_ascii_case("content-length") {
            let len = text.trim().parse();
            body_len = len.map_err(|_| io::Error::other("a length that is no number"))?;
        } else if header.name.eq_ignore_ascii_case("connection") {
            close |= header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            close = true;
        }
    }
    if status == 204 || (100..200).contains(&status) {
        body_len = 0;
    }
    let answer = Answer { status, etag, detail: String::new() };
    Ok(Some((len, Head { answer, body_len, close })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_an_http_url_without_query_or_user() {
        let origin = Origin::parse("http://127.0.0.1:8080/").unwrap();
        assert_eq!((origin.path.as_str(), origin.host.as_str()), ("", "127.0.0.1:8080"));
        assert_eq!(Origin::parse("http://127.0.0.1:1/a/b").unwrap().path, "/a/b");
        for url in ["https://127.0.0.1/", "127.0.0.1:80", "http://u@127.0.0.1/", "http:///x"] {
            assert!(Origin::parse(url).is_err(), "{url}");
        }
        assert!(Origin::parse("http://127.0.0.1/a?b").is_err());
    }

    #[test]
    fn an_answer_gives_its_status_its_tag_and_its_length() {
        let bytes = b"HTTP/1.1 201 Created\r\nETag: \"ab\"\r\nContent-Length: 0\r\n\r\n";
        let (len, head) = parse(bytes).unwrap().unwrap();
        assert_eq!((len, head.answer.status, head.body_len), (bytes.len(), 201, 0));
        assert_eq!(head.answer.etag.as_deref(), Some("ab"));
        assert!(parse(&bytes[..30]).unwrap().is_none());
        assert!(parse(b"SMTP\r\n\r\n").is_err());
        assert_eq!(detail(br#"{"detail":"no such namespace"}"#), "no such namespace");
        assert_eq!(detail(b"<html>"), "no cause given");
    }
}
