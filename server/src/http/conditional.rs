//! Preconditions of RFC 9110 section 13, in its order of precedence.
//!
//! An entity tag here is the text between the quotes; ours are always strong.

use super::date;
use super::head::Fields;

/// What the preconditions decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Do what the method says.
    Proceed,
    /// Answer 304 (GET and HEAD only).
    NotModified,
    /// Answer 412.
    Failed,
}

/// The validators of the object as it is. `None` fields: it has none (an upload in progress).
#[derive(Clone, Copy, Debug)]
pub struct Validators<'v> {
    /// The entity tag, without quotes.
    pub etag: Option<&'v [u8]>,
    /// Last-Modified in seconds since 1970.
    pub modified_s: Option<u64>,
}

/// Judges the preconditions of a GET or HEAD of an existing object.
pub fn evaluate(fields: &Fields<'_>, current: Validators<'_>) -> Outcome {
    if let Some(list) = fields.if_match {
        if !matches_strong(list, current.etag) {
            return Outcome::Failed;
        }
    } else if let Some(limit) = fields.if_unmodified_since.and_then(date::parse)
        && current.modified_s.is_some_and(|modified| modified > limit)
    {
        return Outcome::Failed;
    }
    if let Some(list) = fields.if_none_match {
        // If-None-Match beats If-Modified-Since, whatever the latter says.
        let matched = matches_weak(list, current.etag);
        return if matched { Outcome::NotModified } else { Outcome::Proceed };
    }
    if let Some(since) = fields.if_modified_since.and_then(date::parse)
        && current.modified_s.is_some_and(|modified| modified <= since)
    {
        return Outcome::NotModified;
    }
    Outcome::Proceed
}

/// Judges the preconditions of a PUT, POST or DELETE. `current` is `None` when nothing is there.
pub fn evaluate_write(fields: &Fields<'_>, current: Option<Validators<'_>>) -> Outcome {
    let etag = current.and_then(|current| current.etag);
    let exists = current.is_some();
    if let Some(list) = fields.if_match {
        if !(exists && matches_strong(list, etag)) {
            return Outcome::Failed;
        }
    } else if let Some(limit) = fields.if_unmodified_since.and_then(date::parse)
        && current.and_then(|current| current.modified_s).is_some_and(|modified| modified > limit)
    {
        return Outcome::Failed;
    }
    let none_match_fails =
        fields.if_none_match.is_some_and(|list| exists && matches_weak(list, etag));
    if none_match_fails { Outcome::Failed } else { Outcome::Proceed }
}

/// True when a request carries a precondition that a write must judge.
pub fn write_has_preconditions(fields: &Fields<'_>) -> bool {
    fields.if_match.is_some()
        || fields.if_none_match.is_some()
        || fields.if_unmodified_since.is_some()
}

/// True when the Range header is to be applied: no If-Range, or one that matches strongly.
/// A date is never strong enough here: two versions can share a second.
pub fn range_applies(if_range: Option<&[u8]>, etag: Option<&[u8]>) -> bool {
    match if_range {
        None => true,
        Some(wanted) => etag.is_some_and(|etag| opaque_tag(wanted) == Some((etag, b""))),
    }
}

fn matches_strong(list: &[u8], etag: Option<&[u8]>) -> bool {
    any_tag(list, |tag, is_weak| !is_weak && Some(tag) == etag)
}

fn matches_weak(list: &[u8], etag: Option<&[u8]>) -> bool {
    any_tag(list, |tag, _| Some(tag) == etag)
}

/// Walks a list of entity tags; `*` matches anything, and a malformed rest matches nothing.
fn any_tag(list: &[u8], mut wanted: impl FnMut(&[u8], bool) -> bool) -> bool {
    if list == b"*" {
        return true;
    }
    let mut rest = list;
    loop {
        while let Some((b' ' | b'\t' | b',', tail)) = rest.split_first() {
            rest = tail;
        }
        let is_weak = rest.starts_with(b"W/");
        let Some((tag, tail)) = opaque_tag(if is_weak { &rest[2..] } else { rest }) else {
            return false;
        };
        if wanted(tag, is_weak) {
            return true;
        }
        rest = tail;
    }
}

/// Splits `"tag"rest` into tag and rest.
fn opaque_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"\"")?;
    let end = inner.iter().position(|&byte| byte == b'"')?;
    Some((&inner[..end], &inner[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &[u8] = b"Sun, 06 Nov 1994 08:49:36 GMT";
    const NOW: Validators<'static> =
        Validators { etag: Some(b"abc"), modified_s: Some(784_111_777) };

    fn none_match(list: &[u8], since: Option<&[u8]>) -> Outcome {
        let fields =
            Fields { if_none_match: Some(list), if_modified_since: since, ..Fields::default() };
        evaluate(&fields, NOW)
    }

    #[test]
    fn if_none_match_compares_weakly_over_the_whole_list() {
        for list in
            ["\"abc\"", "W/\"abc\"", "*", "\"x\", \"abc\"", "\"a,b\" , W/\"abc\"", ",\"abc\""]
        {
            assert_eq!(none_match(list.as_bytes(), None), Outcome::NotModified, "{list}");
        }
        for list in ["\"x\"", "abc", "\"abc", "", "w/\"abc\"", "\"ABC\""] {
            assert_eq!(none_match(list.as_bytes(), None), Outcome::Proceed, "{list}");
        }
    }

    #[test]
    fn if_none_match_beats_if_modified_since() {
        assert_eq!(none_match(b"\"x\"", Some(MODIFIED)), Outcome::Proceed);
        assert_eq!(none_match(b"\"abc\"", Some(BEFORE)), Outcome::NotModified);
    }

    #[test]
    fn if_modified_since_compares_whole_seconds_and_ignores_nonsense() {
        let since = |text| {
            let fields = Fields { if_modified_since: Some(text), ..Fields::default() };
            evaluate(&fields, NOW)
        };
        assert_eq!(since(MODIFIED), Outcome::NotModified);
        assert_eq!(since(BEFORE), Outcome::Proceed);
        assert_eq!(since(b"soon"), Outcome::Proceed);
    }

    #[test]
    fn if_match_compares_strongly() {
        let of = |list: &'static [u8]| {
            evaluate(&Fields { if_match: Some(list), ..Fields::default() }, NOW)
        };
        assert_eq!(of(b"\"abc\""), Outcome::Proceed);
        assert_eq!(of(b"*"), Outcome::Proceed);
        assert_eq!(of(b"W/\"abc\""), Outcome::Failed);
        assert_eq!(of(b"\"x\""), Outcome::Failed);
    }

    #[test]
    fn if_range_needs_exactly_the_strong_tag() {
        let etag = Some(&b"abc"[..]);
        assert!(range_applies(None, etag));
        assert!(range_applies(Some(b"\"abc\""), etag));
        for not in [&b"W/\"abc\""[..], b"\"x\"", b"abc", b"\"abc\", \"x\"", MODIFIED] {
            assert!(!range_applies(Some(not), etag), "{}", not.escape_ascii());
        }
        assert!(!range_applies(Some(b"\"abc\""), None));
    }

    #[test]
    fn a_create_only_write_fails_when_something_is_there() {
        let star = Fields { if_none_match: Some(b"*"), ..Fields::default() };
        assert_eq!(evaluate_write(&star, None), Outcome::Proceed);
        assert_eq!(evaluate_write(&star, Some(NOW)), Outcome::Failed);
        let only = Fields { if_match: Some(b"*"), ..Fields::default() };
        assert_eq!(evaluate_write(&only, None), Outcome::Failed);
        assert_eq!(evaluate_write(&only, Some(NOW)), Outcome::Proceed);
    }
}
