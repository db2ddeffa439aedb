//! The request target: path decoded once into a key, query kept apart.
//!
//! Invariants: two targets give the same key only if their decoded bytes are the same; nothing is
//! merged, case-folded or normalised; what another parser might normalise is refused instead.

use super::Reason;

/// The longest decoded key.
pub const KEY_BYTES_MAX: usize = 1024;
/// Ten years.
pub const TTL_SECONDS_MAX: u64 = 315_360_000;

/// A request target, split but not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'b> {
    /// `*`: the server as a whole.
    Asterisk,
    /// A path with its leading slash, and the query after the `?`.
    Path {
        /// Percent-encoded, starts with `/`.
        path: &'b [u8],
        /// Without the `?`.
        query: Option<&'b [u8]>,
    },
}

impl<'b> Target<'b> {
    /// Splits a target in origin-form, absolute-form (`http` and `https`) or `*`.
    pub fn split(target: &'b [u8]) -> Result<Target<'b>, Reason> {
        if target.iter().any(|byte| !(0x21..=0x7e).contains(byte) || matches!(byte, b'#' | b'\\')) {
            return Err(Reason::TargetByte);
        }
        if target == b"*" {
            return Ok(Target::Asterisk);
        }
        let rest = match target.first() {
            Some(b'/') => target,
            _ => path_of_absolute(target)?,
        };
        let (path, query) = match rest.iter().position(|&byte| byte == b'?') {
            Some(mark) => (&rest[..mark], Some(&rest[mark + 1..])),
            None => (rest, None),
        };
        Ok(Target::Path { path: if path.is_empty() { b"/" } else { path }, query })
    }
}

/// The path and query of an absolute URI. Its authority must be as valid as a Host.
fn path_of_absolute(target: &[u8]) -> Result<&[u8], Reason> {
    let scheme_len = [&b"http://"[..], b"https://"]
        .iter()
        .find(|scheme| {
            target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
        .map(|scheme| scheme.len())
        .ok_or(Reason::TargetForm)?;
    let rest = &target[scheme_len..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    if !super::host::is_valid(&rest[..end]) {
        return Err(Reason::TargetForm);
    }
    Ok(&rest[end..])
}

/// A decoded path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// `namespace/path`: the key is in the buffer.
    Key,
    /// A well-formed path that names no object: fewer than two segments, or a trailing slash.
    NotAnObject,
}

/// Decodes `path` once into `key` (cleared first), without its leading slash.
pub fn decode_key(path: &[u8], key: &mut Vec<u8>) -> Result<Decoded, Reason> {
    assert_eq!(path.first(), Some(&b'/'), "a path starts with a slash");
    key.clear();
    let mut bytes = path[1..].iter();
    while let Some(&byte) = bytes.next() {
        let plain = if byte == b'%' { decode_percent(&mut bytes)? } else { byte };
        if key.len() == KEY_BYTES_MAX {
            return Err(Reason::KeyTooLong);
        }
        key.push(plain);
    }
    if std::str::from_utf8(key).is_err() {
        return Err(Reason::PathNotUtf8);
    }
    let mut segments = 0;
    let mut last_is_empty = false;
    for segment in key.split(|&byte| byte == b'/') {
        match segment {
            b"." | b".." => return Err(Reason::DotSegment),
            _ if last_is_empty => return Err(Reason::EmptySegment),
            _ => last_is_empty = segment.is_empty(),
        }
        segments += 1;
    }
    Ok(if segments < 2 || last_is_empty { Decoded::NotAnObject } else { Decoded::Key })
}

fn decode_percent(bytes: &mut std::slice::Iter<'_, u8>) -> Result<u8, Reason> {
    let mut digit = || {
        let byte = *bytes.next().ok_or(Reason::PercentMalformed)?;
        char::from(byte).to_digit(16).ok_or(Reason::PercentMalformed)
    };
    let value = (digit()? << 4) | digit()?;
    let byte = u8::try_from(value).expect("two hex digits fit a byte");
    match byte {
        b'/' | b'\\' | 0x00..=0x1f | 0x7f => Err(Reason::PercentForbidden),
        _ => Ok(byte),
    }
}

/// `ttl_seconds` of a query: at most one, digits only, 1 to `TTL_SECONDS_MAX`.
pub fn ttl_seconds(query: Option<&[u8]>) -> Result<Option<u64>, Reason> {
    let mut found = None;
    for pair in query.unwrap_or_default().split(|&byte| byte == b'&') {
        let mut sides = pair.splitn(2, |&byte| byte == b'=');
        if sides.next() != Some(b"ttl_seconds") {
            continue;
        }
        let digits = sides.next().unwrap_or_default();
        if found.is_some() || digits.is_empty() || digits.len() > 9 {
            return Err(Reason::TtlMalformed);
        }
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(Reason::TtlMalformed);
        }
        let seconds = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        if !(1..=TTL_SECONDS_MAX).contains(&seconds) {
            return Err(Reason::TtlMalformed);
        }
        found = Some(seconds);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> Result<Option<String>, Reason> {
        let mut key = Vec::new();
        let decoded = decode_key(path.as_bytes(), &mut key)?;
        Ok((decoded == Decoded::Key).then(|| String::from_utf8(key).expect("checked by decode")))
    }

    #[test]
    fn a_path_is_decoded_once_and_only_once() {
        assert_eq!(key("/a/b.ts"), Ok(Some("a/b.ts".into())));
        assert_eq!(key("/a/b%20c"), Ok(Some("a/b c".into())));
        assert_eq!(key("/a/%252f"), Ok(Some("a/%2f".into())));
        assert_eq!(key("/a/%C3%A9"), Ok(Some("a/\u{e9}".into())));
        assert_eq!(key("/a/...x/.y"), Ok(Some("a/...x/.y".into())));
        assert_eq!(key("/A/b"), Ok(Some("A/b".into())));
    }

    #[test]
    fn paths_that_name_no_object_are_told_apart_from_malformed_ones() {
        for path in ["/", "/a", "/a/", "/a/b/"] {
            assert_eq!(key(path), Ok(None), "{path}");
        }
    }

    #[test]
    fn keys_cannot_escape_or_alias() {
        let table = [
            ("/a/%", Reason::PercentMalformed),
            ("/a/%4", Reason::PercentMalformed),
            ("/a/%zz", Reason::PercentMalformed),
            ("/a/%+1", Reason::PercentMalformed),
            ("/a/%00", Reason::PercentForbidden),
            ("/a/%2f", Reason::PercentForbidden),
            ("/a/%2F", Reason::PercentForbidden),
            ("/a/%5c", Reason::PercentForbidden),
            ("/a/%0a", Reason::PercentForbidden),
            ("/a/%7f", Reason::PercentForbidden),
            ("/a/%ff", Reason::PathNotUtf8),
            ("/a/%c0%af", Reason::PathNotUtf8),
            ("/a/../b", Reason::DotSegment),
            ("/a/./b", Reason::DotSegment),
            ("/a/%2e%2e/b", Reason::DotSegment),
            ("/a/.%2e", Reason::DotSegment),
            ("/..", Reason::DotSegment),
            ("//a/b", Reason::EmptySegment),
            ("/a//b", Reason::EmptySegment),
            ("/a/b//", Reason::EmptySegment),
        ];
        for (path, reason) in table {
            assert_eq!(key(path), Err(reason), "{path}");
        }
    }

    #[test]
    fn a_key_of_1024_bytes_is_taken_and_one_more_is_not() {
        assert!(key(&format!("/a/{}", "x".repeat(1022))).is_ok_and(|key| key.is_some()));
        assert_eq!(key(&format!("/a/{}", "x".repeat(1023))), Err(Reason::KeyTooLong));
        assert!(key(&format!("/a/{}", "%61".repeat(1022))).is_ok_and(|key| key.is_some()));
    }

    #[test]
    fn the_query_is_split_off_and_absolute_form_is_accepted() {
        let path = |path, query| Ok(Target::Path { path, query });
        assert_eq!(Target::split(b"/a/b"), path(b"/a/b", None));
        assert_eq!(Target::split(b"/a/b?c=/d?e"), path(b"/a/b", Some(b"c=/d?e")));
        assert_eq!(Target::split(b"http://h:1/a/b?x"), path(b"/a/b", Some(b"x")));
        assert_eq!(Target::split(b"HTTPS://h"), path(b"/", None));
        assert_eq!(Target::split(b"*"), Ok(Target::Asterisk));
        for bad in [&b"a/b"[..], b"ftp://h/a", b"http:///a/b", b"http://u@h/a/b", b"h:443", b"**"] {
            assert_eq!(Target::split(bad), Err(Reason::TargetForm), "{}", bad.escape_ascii());
        }
        for bad in [&b"/a/b#c"[..], b"/a\\b", b"/a/\x7f", b"/a/\xc3\xa9", b"/a b"] {
            assert_eq!(Target::split(bad), Err(Reason::TargetByte), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_ttl_is_taken_strictly_or_refused() {
        let ttl = |query: &str| ttl_seconds(Some(query.as_bytes()));
        assert_eq!(ttl_seconds(None), Ok(None));
        assert_eq!(ttl("token=1&x"), Ok(None));
        assert_eq!(ttl("a=b&ttl_seconds=60"), Ok(Some(60)));
        assert_eq!(ttl("ttl_seconds=315360000"), Ok(Some(TTL_SECONDS_MAX)));
        for bad in ["", "=", "=0", "=-1", "=+1", "=1.5", "=1h", "=315360001", "=9999999999", "=%31"]
        {
            assert_eq!(ttl(&format!("ttl_seconds{bad}")), Err(Reason::TtlMalformed), "{bad}");
        }
        assert_eq!(ttl("ttl_seconds=1&ttl_seconds=1"), Err(Reason::TtlMalformed));
    }
}
