//! What kind of media a key names, by its extension: encoders send no type, or a useless one.

/// How long a copy elsewhere stays right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rewritten all the time: playlists, manifests, JSON.
    Playlist,
    /// Written once under its name.
    Segment,
    /// Unknown: may be rewritten.
    Other,
}

/// The type of what nobody named a type for.
pub const OCTET_STREAM: &str = "application/octet-stream";

const TYPES: [(&str, &str, Kind); 17] = [
    ("m3u8", "application/vnd.apple.mpegurl", Kind::Playlist),
    ("mpd", "application/dash+xml", Kind::Playlist),
    ("ts", "video/mp2t", Kind::Segment),
    ("m4s", "video/iso.segment", Kind::Segment),
    ("mp4", "video/mp4", Kind::Segment),
    ("m4v", "video/mp4", Kind::Segment),
    ("cmfv", "video/mp4", Kind::Segment),
    ("m4a", "audio/mp4", Kind::Segment),
    ("cmfa", "audio/mp4", Kind::Segment),
    ("cmft", "application/mp4", Kind::Segment),
    ("aac", "audio/aac", Kind::Segment),
    ("vtt", "text/vtt", Kind::Segment),
    ("key", OCTET_STREAM, Kind::Segment),
    ("jpg", "image/jpeg", Kind::Segment),
    ("jpeg", "image/jpeg", Kind::Segment),
    ("json", "application/json", Kind::Playlist),
    ("init", "video/mp4", Kind::Segment),
];

/// The type and kind that the extension of `key` says, `None` for an extension we do not know.
pub fn of_key(key: &[u8]) -> Option<(&'static str, Kind)> {
    let dot = key.iter().rposition(|&byte| matches!(byte, b'.' | b'/'))?;
    if key[dot] == b'/' {
        return None;
    }
    let extension = &key[dot + 1..];
    TYPES
        .iter()
        .find(|(name, ..)| extension.eq_ignore_ascii_case(name.as_bytes()))
        .map(|&(_, mime, kind)| (mime, kind))
}

/// True for a type that tells nothing, as pushers send it for everything.
pub fn is_uninformative(content_type: &[u8]) -> bool {
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    let essence = crate::http::fields::trim(essence);
    essence.is_empty()
        || essence.eq_ignore_ascii_case(OCTET_STREAM.as_bytes())
        || essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promised_extension_has_its_exact_type() {
        let table = [
            ("m3u8", "application/vnd.apple.mpegurl"),
            ("mpd", "application/dash+xml"),
            ("ts", "video/mp2t"),
            ("m4s", "video/iso.segment"),
            ("mp4", "video/mp4"),
            ("m4v", "video/mp4"),
            ("m4a", "audio/mp4"),
            ("cmfv", "video/mp4"),
            ("cmfa", "audio/mp4"),
            ("cmft", "application/mp4"),
            ("aac", "audio/aac"),
            ("vtt", "text/vtt"),
            ("key", "application/octet-stream"),
            ("jpg", "image/jpeg"),
            ("json", "application/json"),
        ];
        for (extension, mime) in table {
            let found = of_key(format!("live/a.b/seg-1.{extension}").as_bytes());
            assert_eq!(found.map(|(mime, _)| mime), Some(mime), "{extension}");
        }
        assert!(of_key(b"a/X.M3U8").is_some());
    }

    #[test]
    fn an_extension_is_that_of_the_last_segment_only() {
        for key in ["a/b", "a.ts/b", "a/ts", "a/b.", "a/b.tsx"] {
            assert_eq!(of_key(key.as_bytes()), None, "{key}");
        }
    }

    #[test]
    fn types_that_pushers_send_for_everything_tell_nothing() {
        for text in ["", "application/octet-stream", "Application/Octet-Stream ; x=y"] {
            assert!(is_uninformative(text.as_bytes()), "{text}");
        }
        assert!(!is_uninformative(b"video/mp2t"));
    }
}
