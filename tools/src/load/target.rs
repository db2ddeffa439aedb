//! Where the load goes: loopback only. A load generator pointed at somebody's origin by a typo is
//! an outage, so anything else is refused.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::error::ToolError;

/// A checked `http://` URL of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    /// Value of the Host field.
    pub(crate) host: String,
    /// Path, with its leading slash and without a trailing one.
    pub(crate) path: String,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Target, ToolError> {
        let refuse = |allowed: &str| ToolError::Flag {
            flag: "--url",
            value: url.to_owned(),
            allowed: allowed.to_owned(),
        };
        let rest = url
            .strip_prefix("http://")
            .ok_or_else(|| refuse("must start with http:// (the generator speaks plain HTTP)"))?;
        let (host, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if host.is_empty() || host.contains('@') || !plain {
            return Err(refuse("must be http://HOST[:PORT]/PATH of printable characters"));
        }
        let has_port = host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
        let named =
            if has_port && !host.ends_with(']') { host.into() } else { format!("{host}:80") };
        let addresses: Vec<_> = named
            .to_socket_addrs()
            .map_err(|error| refuse(&format!("the host cannot be resolved: {error}")))?
            .collect();
        match addresses.iter().find(|address| address.ip().is_loopback()) {
            Some(address) if addresses.iter().all(|other| other.ip().is_loopback()) => Ok(Target {
                url: url.to_owned(),
                address: *address,
                host: host.to_owned(),
                path: path.trim_end_matches('/').to_owned(),
            }),
            _ => Err(refuse("only an origin on this machine's loopback may be loaded")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_accepted() {
        let target = Target::parse("http://127.0.0.1:8080/load/").unwrap();
        assert_eq!((target.path.as_str(), target.address.port()), ("/load", 8080));
        assert!(Target::parse("http://[::1]:8080/a").unwrap().address.is_ipv6());
        assert_eq!(Target::parse("http://127.0.0.1").unwrap().address.port(), 80);
    }

    #[test]
    fn anything_but_loopback_is_refused() {
        for url in
            ["http://192.0.2.1:8080/x", "http://0.0.0.0/x", "https://127.0.0.1/x", "127.0.0.1/x"]
        {
            assert!(Target::parse(url).is_err(), "{url}");
        }
        assert!(Target::parse("http://user@127.0.0.1/x").is_err());
        assert!(Target::parse("http://127.0.0.1/a b").is_err());
    }
}
