//! How long caches may keep an answer: never past the end of the object's life.

use crate::http::response::ResponseHead;
use crate::origin::media::Kind;

/// Longer than a year means forever to nobody.
const MAX_AGE_S: u64 = 365 * 24 * 3600;
/// Playlists and manifests: half the shortest usual segment.
const PLAYLIST_MAX_AGE_S: u64 = 1;
/// What may be rewritten, we do not know when.
const OTHER_MAX_AGE_S: u64 = 60;

/// Answers whose object is absent: short, or a player waits for the CDN instead of the encoder.
pub const NOT_FOUND: &str = "max-age=1";
/// Answers nobody may keep.
pub const NO_STORE: &str = "no-store";

/// Seconds a copy may be kept.
pub fn max_age_s(kind: Kind, remaining_ms: u64) -> u64 {
    let limit_s = match kind {
        Kind::Playlist => PLAYLIST_MAX_AGE_S,
        Kind::Segment => MAX_AGE_S,
        Kind::Other => OTHER_MAX_AGE_S,
    };
    (remaining_ms / 1000).min(limit_s)
}

/// Adds Cache-Control. No Expires: whoever knows max-age must ignore it (RFC 9111 section 5.3).
pub fn write(head: &mut ResponseHead<'_>, kind: Kind, remaining_ms: u64) {
    let end = if kind == Kind::Segment { ", immutable\r\n" } else { "\r\n" };
    head.number_between("Cache-Control: public, max-age=", max_age_s(kind, remaining_ms), end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_copy_outlives_its_object() {
        for kind in [Kind::Playlist, Kind::Segment, Kind::Other] {
            assert_eq!(max_age_s(kind, 999), 0);
            assert!(max_age_s(kind, 30_000) <= 30);
        }
        assert_eq!(max_age_s(Kind::Playlist, 3_600_000), 1);
        assert_eq!(max_age_s(Kind::Segment, 3_600_000), 3600);
        assert_eq!(max_age_s(Kind::Other, 3_600_000), 60);
        assert_eq!(max_age_s(Kind::Segment, u64::MAX), 365 * 24 * 3600);
    }
}
