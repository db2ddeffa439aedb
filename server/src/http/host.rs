//! The Host header: `host[:port]`, nothing else. Keys never depend on it; a malformed one shows a
//! request that two parsers would read differently.

/// True for a non-empty `reg-name`, IPv4 address or bracketed IPv6 address with an optional port.
pub fn is_valid(host: &[u8]) -> bool {
    let (name, port) = match split_port(host) {
        Some(parts) => parts,
        None => return false,
    };
    let port_ok = port.is_none_or(|port| {
        port.len() <= 5
            && port.iter().all(u8::is_ascii_digit)
            && port.iter().fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0')) <= 65535
    });
    port_ok && !name.is_empty() && is_name(name)
}

/// Splits at the port's colon; `None` for an unbalanced bracket.
fn split_port(host: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    if host.first() == Some(&b'[') {
        let end = host.iter().position(|&byte| byte == b']')? + 1;
        return match host.get(end) {
            None => Some((host, None)),
            Some(b':') => Some((&host[..end], Some(&host[end + 1..]))),
            Some(_) => None,
        };
    }
    match host.iter().position(|&byte| byte == b':') {
        None => Some((host, None)),
        Some(colon) => Some((&host[..colon], Some(&host[colon + 1..]))),
    }
}

fn is_name(name: &[u8]) -> bool {
    if let Some(inner) = name.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
        return inner.len() >= 2
            && inner.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
    }
    name.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => name.get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)),
        _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte),
    })
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn hosts_and_ports_as_clients_send_them_are_valid() {
        for host in ["a", "localhost:8080", "127.0.0.1", "[::1]", "[::1]:80", "o_1.example.", "a:"]
        {
            assert!(is_valid(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for host in [
            "", ":80", "a b", "a/b", "u@h", "a:99999", "a:8x", "[::1", "[]", "[::1]x", "a:1:2",
            "a%2",
        ] {
            assert!(!is_valid(host.as_bytes()), "{host}");
        }
    }
}
