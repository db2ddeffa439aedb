//! From a judged head to what shall be done: key, life, acknowledgement, preconditions.
//!
//! The result owns what it needs, so that the receive buffer is free for the body.

use crate::config::{Ack, Policies};
use crate::http::conditional::write_has_preconditions;
use crate::http::head::{Fields, Framing, Head, Method, Version};
use crate::http::target::{Decoded, Target, decode_key, ttl_seconds};
use crate::origin::Failure;
use crate::origin::metadata::Metadata;
use tapeloop_engine::Key;

/// A request whose framing is beyond doubt.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub action: Action,
    /// How the body ends.
    pub framing: Framing,
    /// The client wants the connection to stay.
    pub keep_alive: bool,
    /// The client waits for `100 Continue`.
    pub expect_continue: bool,
    /// HTTP/1.0: no chunked answers.
    pub is_http10: bool,
    /// HEAD: no body in the answer, whatever it says.
    pub is_head: bool,
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// GET or HEAD.
    Get {
        /// The object.
        key: Key,
        /// Range and preconditions, if there are any.
        conditions: Option<Box<Conditions>>,
    },
    /// PUT or POST.
    Put(PutPlan),
    /// DELETE.
    Delete {
        /// The object.
        key: Key,
        /// Preconditions, if there are any.
        conditions: Option<Box<Conditions>>,
    },
    /// OPTIONS, for a path or for `*`.
    Options,
    /// Well-formed and refused all the same.
    Refuse(Failure),
}

/// A PUT before its body.
#[derive(Debug)]
pub struct PutPlan {
    /// The object.
    pub key: Key,
    /// Its life.
    pub ttl_ms: u64,
    /// When it is acknowledged.
    pub ack: Ack,
    /// Its group in the log.
    pub group: u64,
    /// What to keep of the headers.
    pub metadata: Vec<u8>,
    /// Its length, when declared.
    pub len: Option<u64>,
    /// Preconditions, if there are any.
    pub conditions: Option<Box<Conditions>>,
}

/// Which bytes of an object are worth reading before its record is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// None, or some that the first ones are probably not among.
    Unknown,
    /// The first ones, and not all.
    Start,
    /// All, from the first on.
    Whole,
}

/// The conditional fields of a request, owned.
#[derive(Debug, Default)]
pub struct Conditions {
    range: Option<Box<[u8]>>,
    if_range: Option<Box<[u8]>>,
    if_match: Option<Box<[u8]>>,
    if_none_match: Option<Box<[u8]>>,
    if_modified_since: Option<Box<[u8]>>,
    if_unmodified_since: Option<Box<[u8]>>,
}

impl Conditions {
    fn of_read(fields: &Fields<'_>) -> Option<Box<Conditions>> {
        let given = [
            fields.range,
            fields.if_match,
            fields.if_none_match,
            fields.if_modified_since,
            fields.if_unmodified_since,
        ];
        given.iter().any(Option::is_some).then(|| Conditions::owned(fields))
    }

    fn of_write(fields: &Fields<'_>) -> Option<Box<Conditions>> {
        write_has_preconditions(fields).then(|| Conditions::owned(fields))
    }

    fn owned(fields: &Fields<'_>) -> Box<Conditions> {
        Box::new(Conditions {
            range: fields.range.map(Box::from),
            if_range: fields.if_range.map(Box::from),
            if_match: fields.if_match.map(Box::from),
            if_none_match: fields.if_none_match.map(Box::from),
            if_modified_since: fields.if_modified_since.map(Box::from),
            if_unmodified_since: fields.if_unmodified_since.map(Box::from),
        })
    }

    /// What the answer will probably have of the object: ffmpeg sends `bytes=0-` with every GET.
    pub fn extent(&self) -> Extent {
        if self.if_none_match.is_some() || self.if_modified_since.is_some() {
            return Extent::Unknown;
        }
        match self.range.as_deref() {
            None | Some(b"bytes=0-") => Extent::Whole,
            Some(range) if range.starts_with(b"bytes=0-") => Extent::Start,
            Some(_) => Extent::Unknown,
        }
    }

    /// The fields as the parser gave them.
    pub fn fields(&self) -> Fields<'_> {
        Fields {
            range: self.range.as_deref(),
            if_range: self.if_range.as_deref(),
            if_match: self.if_match.as_deref(),
            if_none_match: self.if_none_match.as_deref(),
            if_modified_since: self.if_modified_since.as_deref(),
            if_unmodified_since: self.if_unmodified_since.as_deref(),
            ..Fields::default()
        }
    }
}

impl Request {
    /// Judges target, namespace and method. The key is made in `key`, whatever that held. `Err`
    /// closes the connection.
    pub fn from_head(
        head: &Head<'_>,
        policies: &Policies,
        key: Vec<u8>,
    ) -> Result<Request, Failure> {
        let action = action(head, policies, key)?;
        Ok(Request {
            action,
            framing: head.framing,
            keep_alive: head.keep_alive,
            expect_continue: head.expect_continue,
            is_http10: head.version == Version::Http10,
            is_head: head.method == Method::Head,
        })
    }
}

fn action(head: &Head<'_>, policies: &Policies, mut key: Vec<u8>) -> Result<Action, Failure> {
    let split = Target::split(head.target).map_err(|reason| Failure::Reject(reason.into()))?;
    let Target::Path { path, query } = split else {
        return match head.method {
            Method::Options => Ok(Action::Options),
            _ => Err(Failure::AsteriskTarget),
        };
    };
    let decoded = decode_key(path, &mut key).map_err(|reason| Failure::Reject(reason.into()))?;
    let is_write = matches!(head.method, Method::Put | Method::Post | Method::Delete);
    if head.method == Method::Options {
        return Ok(Action::Options);
    }
    if decoded == Decoded::NotAnObject {
        return Ok(Action::Refuse(Failure::NotAnObject { is_write }));
    }
    let Some(namespace) = policies.of_key(&key) else {
        return Ok(Action::Refuse(Failure::UnknownNamespace));
    };
    let checked_key = |key: Vec<u8>| Key::new(key).expect("1 to 1024 bytes, checked by decode_key");
    match head.method {
        Method::Get | Method::Head => {
            let conditions = Conditions::of_read(&head.fields);
            Ok(Action::Get { key: checked_key(key), conditions })
        }
        Method::Delete => {
            let conditions = Conditions::of_write(&head.fields);
            Ok(Action::Delete { key: checked_key(key), conditions })
        }
        Method::Put | Method::Post => {
            let len = match head.framing {
                Framing::None => return Ok(Action::Refuse(Failure::LengthRequired)),
                Framing::Length(len) => Some(len),
                Framing::Chunked => None,
            };
            if head.fields.content_range.is_some() {
                return Ok(Action::Refuse(Failure::ContentRange));
            }
            let given = ttl_seconds(query).map_err(|reason| Failure::Reject(reason.into()))?;
            Ok(Action::Put(PutPlan {
                ttl_ms: given.map_or(namespace.ttl_ms, |seconds| seconds * 1000),
                ack: namespace.ack,
                group: namespace.group,
                metadata: Metadata::of_put(&key, &head.fields).encode(),
                len,
                conditions: Conditions::of_write(&head.fields),
                key: checked_key(key),
            }))
        }
        Method::Options => unreachable!("answered above"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_will_probably_be_sent_is_read_before_the_record_is_known() {
        let extent = |fields: Fields<'_>| Conditions::owned(&fields).extent();
        let range = |range| extent(Fields { range: Some(range), ..Fields::default() });
        assert_eq!(range(b"bytes=0-"), Extent::Whole);
        assert_eq!(range(b"bytes=0-799"), Extent::Start);
        assert_eq!(range(b"bytes=100-"), Extent::Unknown);
        assert_eq!(range(b"bytes=-500"), Extent::Unknown);
        assert_eq!(extent(Fields { if_match: Some(b"\"a\""), ..Fields::default() }), Extent::Whole);
        let none_match = Fields { if_none_match: Some(b"\"a\""), ..Fields::default() };
        assert_eq!(extent(none_match), Extent::Unknown, "probably nothing but a 304");
    }
}
