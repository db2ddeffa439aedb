//! The playlist of one rendition: text that follows from its name and its last sequence alone, so
//! that a reader can make it again and compare every byte.

use std::fmt::Write as _;

/// Names of one rendition of one stream.
#[derive(Debug, Clone)]
pub(crate) struct Rendition {
    /// Path of its folder, with a leading and a trailing slash.
    folder: String,
    target_ms: u64,
    window: u64,
}

/// A playlist that does not say what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WrongPlaylist {
    #[error("the playlist carries no readable sequence line")]
    NoSequence,
    #[error("the playlist ending at sequence {last} is not the one that was stored")]
    Differs { last: u64 },
}

const LAST: &str = "#TAPECTL-LAST:";

impl Rendition {
    pub(crate) fn new(
        base: &str,
        stream: usize,
        rendition: usize,
        target_ms: u64,
        window: u64,
    ) -> Rendition {
        assert!(window > 0 && !base.ends_with('/'));
        Rendition { folder: format!("{base}/s{stream}/r{rendition}/"), target_ms, window }
    }

    pub(crate) fn playlist_path(&self) -> String {
        format!("{}index.m3u8", self.folder)
    }

    pub(crate) fn segment_path(&self, sequence: u64) -> String {
        format!("{}seg-{sequence:010}.m4s", self.folder)
    }

    /// The playlist after segment `last` was stored.
    pub(crate) fn playlist(&self, last: u64) -> String {
        let first = (last + 1).saturating_sub(self.window);
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
             {LAST}{last}\n#TAPECTL-FOR:{}\n",
            self.target_ms.div_ceil(1000),
            self.folder,
        );
        for sequence in first..=last {
            let (seconds, ms) = (self.target_ms / 1000, self.target_ms % 1000);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "#EXTINF:{seconds}.{ms:03},\nseg-{sequence:010}.m4s");
        }
        text
    }

    /// Reads the last sequence out of a playlist and checks every byte of it.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<u64, WrongPlaylist> {
        let text = std::str::from_utf8(bytes).map_err(|_| WrongPlaylist::NoSequence)?;
        let last = text
            .lines()
            .find_map(|line| line.strip_prefix(LAST))
            .and_then(|number| number.parse().ok())
            .filter(|last| *last < u64::MAX)
            .ok_or(WrongPlaylist::NoSequence)?;
        if self.playlist(last) == text { Ok(last) } else { Err(WrongPlaylist::Differs { last }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_playlist_is_read_back_and_any_change_is_noticed() {
        let rendition = Rendition::new("/load", 3, 1, 2000, 6);
        let text = rendition.playlist(40);
        assert_eq!(rendition.check(text.as_bytes()), Ok(40));
        assert_eq!(text.matches("#EXTINF").count(), 6);
        let mut bytes = text.into_bytes();
        for at in 0..bytes.len() {
            bytes[at] ^= 4;
            assert!(rendition.check(&bytes).is_err(), "change at {at}");
            bytes[at] ^= 4;
        }
        bytes.pop();
        assert!(rendition.check(&bytes).is_err(), "a shortened playlist");
    }

    #[test]
    fn the_playlist_of_another_rendition_is_noticed() {
        let text = Rendition::new("/load", 0, 0, 2000, 6).playlist(9);
        assert!(Rendition::new("/load", 0, 1, 2000, 6).check(text.as_bytes()).is_err());
    }
}
