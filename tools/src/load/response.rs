//! Response heads and chunk lines: bytes in, facts out.

/// How long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// What the client needs of a response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) len: usize,
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    pub(crate) close: bool,
}

/// A response that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("malformed response head: {0}")]
    Malformed(httparse::Error),
    #[error("malformed chunk size in the response")]
    ChunkSize,
    #[error("content-length that is not one number")]
    Length,
    #[error("response head longer than {max} bytes")]
    TooLong { max: usize },
    #[error("answer without a length: a cut body could not be told from a whole one")]
    NoLength,
}

impl Head {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Parses a head, if all of it is there.
pub(crate) fn parse_head(bytes: &[u8]) -> Result<Option<Head>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let len = match response.parse(bytes).map_err(HeadError::Malformed)? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(len) => len,
    };
    let status = response.code.unwrap_or(0);
    let mut framing = match status {
        100..200 | 204 | 304 => Framing::Length(0),
        _ => Framing::UntilClose,
    };
    let mut close = response.version == Some(0);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).map_err(|_| HeadError::Length)?;
            let len = text.trim().parse().map_err(|_| HeadError::Length)?;
            framing = Framing::Length(len);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        } else if header.name.eq_ignore_ascii_case("connection") {
            close |= header.value.eq_ignore_ascii_case(b"close");
        }
    }
    Ok(Some(Head { len, status, framing, close }))
}

/// Parses the size line of a chunk: (bytes used, chunk length).
pub(crate) fn parse_chunk_line(bytes: &[u8]) -> Result<Option<(usize, u64)>, HeadError> {
    match httparse::parse_chunk_size(bytes) {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(line)) => Ok(Some(line)),
        Err(_) => Err(HeadError::ChunkSize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_how_its_body_is_framed() {
        let head =
            parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nbody").unwrap().unwrap();
        assert_eq!((head.status, head.framing, head.len), (200, Framing::Length(12), 39));
        let head = parse_head(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap();
        assert_eq!(head.framing, Framing::Length(0));
        let head = parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(head.unwrap().unwrap().framing, Framing::Chunked);
        let head = parse_head(b"HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert!(head.unwrap().unwrap().close);
    }

    #[test]
    fn a_partial_head_waits_and_a_broken_one_is_refused() {
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\nContent-Le"), Ok(None));
        assert!(parse_head(b"SMTP nonsense\r\n\r\n").is_err());
        assert_eq!(
            parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 1 2\r\n\r\n"),
            Err(HeadError::Length)
        );
    }
}
