//! The text of the demo's playlists (RFC 8216).

use std::fmt::Write as _;
use std::ops::Range;

use super::clip::{Clip, Media, SEGMENT_MS, Track};

/// The master playlist: every video rendition with the one audio track.
pub(super) fn master(clip: &Clip) -> String {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let (audio, video): (Vec<_>, Vec<_>) =
        clip.tracks.iter().partition(|track| track.media == Media::Audio);
    let mut audio_rates = (0, 0);
    let mut audio_codec = "";
    for track in audio {
        let name = track.name;
        let _ = writeln!(
            text,
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"tone\",DEFAULT=YES,\
             AUTOSELECT=YES,CHANNELS=\"1\",URI=\"{name}/stream.m3u8\"",
        );
        (audio_rates, audio_codec) = (track.bitrates(), track.codec);
    }
    for track in video {
        let Media::Video { width, height } = track.media else { continue };
        let (average, peak) = track.bitrates();
        let _ = writeln!(
            text,
            "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{},{audio_codec}\",\
             RESOLUTION={width}x{height},FRAME-RATE=25.000,AUDIO=\"audio\"\n{}/stream.m3u8",
            peak + audio_rates.1,
            average + audio_rates.0,
            track.codec,
            track.name,
        );
    }
    text
}

/// The sliding playlist of one track, listing the segments of `window`.
pub(super) fn media(track: &Track, window: Range<u64>) -> String {
    let scale = f64::from(track.timescale);
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"init.mp4\"\n",
        SEGMENT_MS / 1_000,
        window.start,
    );
    for index in window {
        let start_ms = track.start(index) * 1_000 / u64::from(track.timescale);
        let _ = writeln!(
            text,
            "#EXT-X-PROGRAM-DATE-TIME:{}\n#EXTINF:{:.5},\n{index}.m4s",
            iso_date(start_ms),
            track.duration(index) as f64 / scale,
        );
    }
    text
}

/// A wall-clock time as ISO 8601 in UTC with milliseconds, as EXT-X-PROGRAM-DATE-TIME wants it.
fn iso_date(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

/// Year, month and day of a number of days after 1970-01-01.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(iso_date(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso_date(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(iso_date(951_868_799_999), "2000-02-29T23:59:59.999Z");
        assert_eq!(iso_date(1_735_689_600_001), "2025-01-01T00:00:00.001Z");
        assert_eq!(iso_date(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn a_media_playlist_slides_and_its_dates_follow() {
        let clip = Clip::embedded().expect("the clip of make.sh");
        let text = media(&clip.tracks[0], 3..5);
        assert_eq!(
            text,
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:3\n\
             #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"init.mp4\"\n\
             #EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:06.000Z\n#EXTINF:2.00000,\n3.m4s\n\
             #EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:08.000Z\n#EXTINF:2.00000,\n4.m4s\n",
        );
    }

    #[test]
    fn no_segment_rounds_above_the_target_duration() {
        let clip = Clip::embedded().expect("the clip of make.sh");
        for track in &clip.tracks {
            for index in 0..clip.len() {
                let seconds = track.duration(index) as f64 / f64::from(track.timescale);
                assert!(seconds.round() <= 2.0, "{} {index} lasts {seconds} s", track.name);
            }
        }
    }

    #[test]
    fn the_master_names_every_track_once() {
        let clip = Clip::embedded().expect("the clip of make.sh");
        let text = master(&clip);
        for track in &clip.tracks {
            let uri = format!("{}/stream.m3u8", track.name);
            assert_eq!(text.matches(&uri).count(), 1, "{uri} in\n{text}");
        }
        assert_eq!(text.matches("AUDIO=\"audio\"").count(), 2, "in\n{text}");
    }
}
