//! A client that knows when an answer was complete: only then is anything acknowledged.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Far beyond what any answer takes: a server that hangs fails the test.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    reader: BufReader<TcpStream>,
    stream: TcpStream,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { reader: BufReader::new(stream.try_clone()?), stream })
    }

    pub(crate) fn put(&mut self, path: &str, body: &[u8], chunked: bool) -> io::Result<u16> {
        if chunked {
            self.ask(&format!("PUT {path} HTTP/1.1\r\nTransfer-Encoding: chunked"))?;
            for chunk in body.chunks(50_000) {
                write!(self.stream, "{:x}\r\n", chunk.len())?;
                self.stream.write_all(chunk)?;
                self.stream.write_all(b"\r\n")?;
            }
            self.stream.write_all(b"0\r\n\r\n")?;
        } else {
            self.ask(&format!("PUT {path} HTTP/1.1\r\nContent-Length: {}", body.len()))?;
            self.stream.write_all(body)?;
        }
        Ok(self.answer()?.status)
    }

    pub(crate) fn delete(&mut self, path: &str) -> io::Result<u16> {
        self.ask(&format!("DELETE {path} HTTP/1.1"))?;
        Ok(self.answer()?.status)
    }

    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.ask(&format!("GET {path} HTTP/1.1"))?;
        self.answer()
    }

    fn ask(&mut self, head: &str) -> io::Result<()> {
        self.stream.write_all(format!("{head}\r\nHost: crash.test\r\n\r\n").as_bytes())
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let status = self.line()?;
        let status = status.get(9..12).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("no status line"))?;
        let mut len = 0;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            assert!(!line.starts_with("transfer-encoding"), "a sealed object has a length");
            if let Some(value) = line.strip_prefix("content-length:") {
                len = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; len];
        self.reader.read_exact(&mut body)?;
        Ok(Answer { status, body })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 || !line.ends_with("\r\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.len() - 2);
        Ok(line)
    }
}
