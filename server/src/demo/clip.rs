//! The clip itself: what `server/assets/demo/make.sh` built, with its times read out of it.
//!
//! All tracks are one loop long to the tick, so loop `n` of a track starts at `n` loop lengths and
//! the tracks stay together however long the demo runs.

use thiserror::Error;

use super::boxes::{self, BoxError, Segment};

/// Nominal length of a segment: the cadence. Audio segments differ from it by part of a frame.
pub(super) const SEGMENT_MS: u64 = 2_000;

/// The embedded clip is not what `make.sh` builds.
#[derive(Debug, Error)]
pub(super) enum ClipError {
    #[error("demo clip, {track}: {cause}")]
    Boxes { track: &'static str, cause: BoxError },
    #[error("demo clip, {track}: segment {index} starts at {found}, expected {expected}")]
    Gap { track: &'static str, index: usize, found: u64, expected: u64 },
    #[error("demo clip, {track}: lasts {found} ticks, expected {expected}")]
    Length { track: &'static str, found: u64, expected: u64 },
}

/// What a track is to the master playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    Video { width: u32, height: u32 },
    Audio,
}

/// One rendition.
pub(super) struct Track {
    pub(super) name: &'static str,
    pub(super) media: Media,
    /// RFC 6381 name of the codec, profile and level.
    pub(super) codec: &'static str,
    pub(super) init: &'static [u8],
    pub(super) timescale: u32,
    segments: Vec<Segment>,
    sizes: Vec<usize>,
}

/// All renditions, with the same number of segments and the same length.
pub(super) struct Clip {
    pub(super) tracks: Vec<Track>,
}

/// An init segment and the media segments after it.
type Files = (&'static [u8], [&'static [u8]; SEGMENTS]);
const SEGMENTS: usize = 4;

macro_rules! files {
    ($track:literal) => {
        (
            include_bytes!(concat!("../../assets/demo/", $track, "/init.mp4")),
            [
                include_bytes!(concat!("../../assets/demo/", $track, "/0.m4s")),
                include_bytes!(concat!("../../assets/demo/", $track, "/1.m4s")),
                include_bytes!(concat!("../../assets/demo/", $track, "/2.m4s")),
                include_bytes!(concat!("../../assets/demo/", $track, "/3.m4s")),
            ],
        )
    };
}

static V360: Files = files!("v360");
static V180: Files = files!("v180");
static AUDIO: Files = files!("audio");

impl Clip {
    /// The clip in this binary.
    pub(super) fn embedded() -> Result<Clip, ClipError> {
        let large = Media::Video { width: 640, height: 360 };
        let small = Media::Video { width: 320, height: 180 };
        let tracks = vec![
            Track::read("v360", large, "avc1.4D401E", &V360)?,
            Track::read("v180", small, "avc1.4D400D", &V180)?,
            Track::read("audio", Media::Audio, "mp4a.40.2", &AUDIO)?,
        ];
        Ok(Clip { tracks })
    }

    /// Segments in one loop.
    pub(super) fn len(&self) -> u64 {
        SEGMENTS as u64
    }
}

impl Track {
    fn read(
        name: &'static str,
        media: Media,
        codec: &'static str,
        (init, files): &'static Files,
    ) -> Result<Track, ClipError> {
        let boxes = |cause| ClipError::Boxes { track: name, cause };
        let timescale = boxes::timescale(init).map_err(boxes)?;

        let mut segments = Vec::with_capacity(SEGMENTS);
        let mut expected = 0;
        for (index, bytes) in files.iter().enumerate() {
            let segment = Segment::parse(bytes).map_err(boxes)?;
            let found = segment.decode_time;
            if found != expected {
                return Err(ClipError::Gap { track: name, index, found, expected });
            }
            expected += segment.duration;
            segments.push(segment);
        }

        let sizes = files.iter().map(|bytes| bytes.len()).collect();
        let track = Track { name, media, codec, init, timescale, segments, sizes };
        if expected != track.loop_ticks() {
            let (found, expected) = (expected, track.loop_ticks());
            return Err(ClipError::Length { track: name, found, expected });
        }
        Ok(track)
    }

    /// Segment `index` of the endless stream, counted from the epoch.
    pub(super) fn segment(&self, index: u64) -> Vec<u8> {
        // A fragment number is 32 bits and only has to grow; it wraps in the year 2242.
        let sequence = (index & u64::from(u32::MAX)) as u32;
        self.in_clip(index).restamped(sequence, self.start(index))
    }

    /// Ticks from the epoch to the start of segment `index`.
    pub(super) fn start(&self, index: u64) -> u64 {
        (index / SEGMENTS as u64) * self.loop_ticks() + self.in_clip(index).decode_time
    }

    /// Ticks that segment `index` lasts.
    pub(super) fn duration(&self, index: u64) -> u64 {
        self.in_clip(index).duration
    }

    /// Bits per second of (the whole loop, its densest segment).
    pub(super) fn bitrates(&self) -> (u64, u64) {
        let rate = |bytes: usize, ticks: u64| bytes as u64 * 8 * u64::from(self.timescale) / ticks;
        let densest = self.sizes.iter().zip(&self.segments);
        let densest = densest.map(|(&bytes, segment)| rate(bytes, segment.duration)).max();
        (rate(self.sizes.iter().sum(), self.loop_ticks()), densest.unwrap_or(0))
    }

    fn in_clip(&self, index: u64) -> &Segment {
        &self.segments[(index % SEGMENTS as u64) as usize]
    }

    fn loop_ticks(&self) -> u64 {
        SEGMENTS as u64 * SEGMENT_MS * u64::from(self.timescale) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_clip_is_whole_and_gapless() {
        let clip = Clip::embedded().expect("the clip of make.sh");
        let names: Vec<_> = clip.tracks.iter().map(|track| track.name).collect();
        assert_eq!(names, ["v360", "v180", "audio"]);
    }

    #[test]
    fn time_goes_on_over_the_end_of_the_clip() {
        let clip = Clip::embedded().expect("the clip of make.sh");
        for track in &clip.tracks {
            for index in 890_000_000..890_000_010 {
                let written = Segment::parse(&track.segment(index)).expect("a good segment");
                assert_eq!(written.decode_time, track.start(index));
                assert_eq!(
                    written.decode_time + written.duration,
                    track.start(index + 1),
                    "{} leaves a gap after segment {index}",
                    track.name,
                );
            }
        }
    }

    #[test]
    fn tracks_stay_together_within_an_audio_frame() {
        let clip = Clip::embedded().expect("the clip of make.sh");
        for index in [0, 3, 4, 890_000_001, 89_000_000_003] {
            for track in &clip.tracks {
                let start = u128::from(track.start(index));
                let start_us = start * 1_000_000 / u128::from(track.timescale);
                let nominal_us = u128::from(index) * u128::from(SEGMENT_MS) * 1_000;
                assert!(
                    start_us.abs_diff(nominal_us) < 21_334,
                    "{} starts segment {index} at {start_us} us, the stream at {nominal_us}",
                    track.name,
                );
            }
        }
    }

    #[test]
    fn the_codec_names_are_those_of_the_init_segments() {
        let clip = Clip::embedded().expect("the clip of make.sh");
        for track in clip.tracks.iter().filter(|track| track.media != Media::Audio) {
            // Profile, constraints and level are bytes 1 to 3 of the decoder configuration.
            let at = track.init.windows(4).position(|four| four == b"avcC").expect("an avcC box");
            let [profile, constraints, level] = track.init[at + 5..at + 8] else {
                panic!("three bytes are three bytes")
            };
            assert_eq!(track.codec, format!("avc1.{profile:02X}{constraints:02X}{level:02X}"));
        }
    }
}
