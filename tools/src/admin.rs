//! A running origin, asked through its admin plane: JSON documents, one request at a time.

use std::fmt::Display;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::error::ToolError;
use crate::load::{Client, RequestError};

/// An answer that takes longer is none.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No document of ours is longer.
const BODY_MAX: usize = 64 << 20;

/// A checked URL of an admin plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdminUrl {
    url: String,
    address: SocketAddr,
    host: String,
}

impl AdminUrl {
    pub(crate) fn parse(url: &str) -> Result<AdminUrl, ToolError> {
        let refuse =
            |allowed: String| ToolError::Flag { flag: "--admin", value: url.to_owned(), allowed };
        let host = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let is_plain = |host: &&str| !host.is_empty() && !host.contains(['/', '@', ' ']);
        let host = host.filter(is_plain).ok_or_else(|| {
            refuse("must be http://HOST:PORT, as in http://127.0.0.1:8081".into())
        })?;
        let address = host
            .to_socket_addrs()
            .map_err(|error| refuse(format!("cannot be resolved to an address: {error}")))?
            .next()
            .ok_or_else(|| refuse("has no address".into()))?;
        Ok(AdminUrl { url: format!("http://{host}"), address, host: host.to_owned() })
    }
}

/// The asking side.
pub(crate) struct Admin {
    url: String,
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Admin {
    pub(crate) fn new(url: &AdminUrl) -> Result<Admin, ToolError> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_io().enable_time().build().map_err(ToolError::Runtime)?;
        let client = Client::new(url.address, &url.host, TIMEOUT);
        Ok(Admin { url: url.url.clone(), runtime, client })
    }

    pub(crate) fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ToolError> {
        let mut body = Vec::new();
        let mut asked = self.runtime.block_on(self.client.get(path, &mut keep(&mut body)));
        // A kept connection may have been given up by the other side since.
        if matches!(asked, Err(RequestError::Closed { .. } | RequestError::Io(_))) {
            body.clear();
            asked = self.runtime.block_on(self.client.get(path, &mut keep(&mut body)));
        }
        asked.map_err(|error| self.failed(path, error))?;
        self.document(path, &body)
    }

    pub(crate) fn post<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ToolError> {
        let mut body = Vec::new();
        let asked = self.runtime.block_on(self.client.post(path, &mut keep(&mut body)));
        asked.map_err(|error| self.failed(path, error))?;
        self.document(path, &body)
    }

    fn document<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T, ToolError> {
        serde_json::from_slice(body).map_err(|error| self.failed(path, error))
    }

    fn failed(&self, path: &str, cause: impl Display) -> ToolError {
        ToolError::Unreachable { url: format!("{}{path}", self.url), cause: cause.to_string() }
    }
}

fn keep(body: &mut Vec<u8>) -> impl FnMut(u64, &[u8]) -> Result<(), RequestError> + '_ {
    |_, bytes| {
        if body.len() + bytes.len() > BODY_MAX {
            let received = (body.len() + bytes.len()) as u64;
            return Err(RequestError::Length { expected: BODY_MAX as u64, received });
        }
        body.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_url_is_a_host_and_a_port_and_nothing_else() {
        let url = AdminUrl::parse("http://127.0.0.1:8081/").unwrap();
        assert_eq!((url.address.port(), url.host.as_str()), (8081, "127.0.0.1:8081"));
        assert!(AdminUrl::parse("http://[::1]:8081").unwrap().address.is_ipv6());
        for bad in ["127.0.0.1:8081", "http://", "http://127.0.0.1", "http://a@b:1", "http://h:1/x"]
        {
            let error = AdminUrl::parse(bad).unwrap_err().to_string();
            assert!(error.contains("--admin") && error.contains(bad), "{error}");
        }
    }
}
