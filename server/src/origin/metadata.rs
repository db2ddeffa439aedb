//! What of a PUT's headers is kept with the object: its own Content-Type, and its Content-Encoding
//! (opaque: the bytes are never decoded).
//!
//! On disk: entries of tag u8, length u8, value. Unknown tags are skipped, so later versions may
//! add.

use crate::http::head::Fields;
use crate::origin::media;

const TAG_CONTENT_TYPE: u8 = 1;
const TAG_CONTENT_ENCODING: u8 = 2;

/// The metadata of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata<'m> {
    /// Only when it says more than the extension.
    pub content_type: Option<&'m [u8]>,
    /// As received.
    pub content_encoding: Option<&'m [u8]>,
}

impl<'m> Metadata<'m> {
    /// What is worth keeping of a PUT of `key`.
    pub fn of_put(key: &[u8], fields: &Fields<'m>) -> Metadata<'m> {
        let by_extension = media::of_key(key).map(|(mime, _)| mime.as_bytes());
        let tells_more = |own: &&[u8]| !media::is_uninformative(own) && Some(*own) != by_extension;
        let encodes = |own: &&[u8]| !own.is_empty() && !own.eq_ignore_ascii_case(b"identity");
        Metadata {
            content_type: fields.content_type.filter(tells_more).filter(fits),
            content_encoding: fields.content_encoding.filter(encodes).filter(fits),
        }
    }

    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let entries =
            [(TAG_CONTENT_TYPE, self.content_type), (TAG_CONTENT_ENCODING, self.content_encoding)];
        for (tag, value) in entries {
            let Some(value) = value else { continue };
            let len = u8::try_from(value.len()).expect("of_put keeps what fits");
            bytes.extend_from_slice(&[tag, len]);
            bytes.extend_from_slice(value);
        }
        bytes
    }

    /// Reads stored bytes. What does not decode is left out: the object is worth more than its
    /// label.
    pub fn decode(mut bytes: &'m [u8]) -> Metadata<'m> {
        let mut metadata = Metadata::default();
        while let [tag, len, rest @ ..] = bytes {
            let Some((value, tail)) = rest.split_at_checked(usize::from(*len)) else { break };
            bytes = tail;
            if value.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
                continue;
            }
            match *tag {
                TAG_CONTENT_TYPE => metadata.content_type = Some(value),
                TAG_CONTENT_ENCODING => metadata.content_encoding = Some(value),
                _ => {}
            }
        }
        metadata
    }
}

fn fits(value: &&[u8]) -> bool {
    value.len() <= usize::from(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(key: &str, content_type: Option<&'static str>) -> Option<Vec<u8>> {
        let fields = Fields { content_type: content_type.map(str::as_bytes), ..Fields::default() };
        Metadata::of_put(key.as_bytes(), &fields).content_type.map(<[u8]>::to_vec)
    }

    #[test]
    fn only_a_type_that_says_more_than_the_extension_is_kept() {
        assert_eq!(kept("a/b.ts", None), None);
        assert_eq!(kept("a/b.ts", Some("application/octet-stream")), None);
        assert_eq!(kept("a/b.ts", Some("video/mp2t")), None);
        assert_eq!(kept("a/b", Some("image/png")), Some(b"image/png".to_vec()));
        assert_eq!(kept("a/b.m3u8", Some("audio/mpegurl")), Some(b"audio/mpegurl".to_vec()));
    }

    #[test]
    fn metadata_is_read_back_and_unknown_or_torn_entries_are_skipped() {
        let metadata =
            Metadata { content_type: Some(b"image/png"), content_encoding: Some(b"gzip") };
        let mut bytes = metadata.encode();
        assert_eq!(Metadata::decode(&bytes), metadata);
        bytes.extend_from_slice(&[99, 2, b'x', b'y', TAG_CONTENT_TYPE, 200, b'z']);
        assert_eq!(Metadata::decode(&bytes), metadata);
        assert_eq!(Metadata::decode(&[]), Metadata::default());
        assert_eq!(Metadata::decode(&[TAG_CONTENT_TYPE, 2, b'\r', b'\n']), Metadata::default());
    }
}
