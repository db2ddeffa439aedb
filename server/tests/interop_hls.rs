//! A live HLS ladder of three renditions, pushed by ffmpeg and played by ffmpeg.

mod interop;

use std::time::Duration;

use interop::ffmpeg::{Encoder, Packaging, assert_stored, play};
use interop::{Origin, SOON, until};

/// Segments of one second in the whole stream.
const SEGMENTS: u32 = 12;
/// More than lies in the window, so that the player has to wait for segments yet to be pushed.
const PLAYED_SECONDS: u32 = 6;

#[test]
fn hls_with_ts_over_one_connection_per_object_is_stored_byte_for_byte_and_plays_live() {
    a_ladder_is_stored_and_plays(Packaging::HlsTs, "ts", false);
}

#[test]
fn hls_with_ts_over_persistent_connections_is_stored_byte_for_byte_and_plays_live() {
    a_ladder_is_stored_and_plays(Packaging::HlsTs, "ts", true);
}

#[test]
fn hls_with_fmp4_over_one_connection_per_object_is_stored_byte_for_byte_and_plays_live() {
    a_ladder_is_stored_and_plays(Packaging::HlsFmp4, "m4s", false);
}

#[test]
fn hls_with_fmp4_over_persistent_connections_is_stored_byte_for_byte_and_plays_live() {
    a_ladder_is_stored_and_plays(Packaging::HlsFmp4, "m4s", true);
}

fn a_ladder_is_stored_and_plays(packaging: Packaging, extension: &str, persistent: bool) {
    let origin = Origin::start(&[]);
    let files = tempfile::tempdir().expect("a folder for the encoder's files");
    let mut encoder = Encoder::start(&origin, "live", files.path(), packaging, persistent);

    // The first segment is there before it is deleted again.
    origin.body_of(&format!("live/v0/stream0.{extension}"), SOON);
    until("three segments in the last playlist", SOON, || {
        let playlist = origin.get("live/v2/stream.m3u8");
        let entries = String::from_utf8_lossy(&playlist.body).matches("#EXTINF").count();
        (playlist.status == 200 && entries >= 3).then_some(())
    });
    let playback = play(&origin.url("live/master.m3u8"), PLAYED_SECONDS);
    assert!(encoder.is_running(), "the stream was not live any more");
    assert!(playback.ok && playback.complaints.is_empty(), "{playback:?}");
    assert!(playback.seconds > f64::from(PLAYED_SECONDS) - 0.1, "{playback:?}");

    encoder.finish(Duration::from_secs(u64::from(packaging.seconds())) + SOON);
    assert_stored(&origin, "live", files.path());
    assert_deleted(&origin, files.path(), extension);
    origin.stop();
}

/// What the encoder removed from its folder it deleted from the origin, and nothing else.
fn assert_deleted(origin: &Origin, files: &std::path::Path, extension: &str) {
    let mut deleted = 0;
    for rendition in 0..3 {
        for number in 0..SEGMENTS {
            let name = format!("v{rendition}/stream{number}.{extension}");
            if !files.join(&name).exists() {
                let path = format!("live/{name}");
                until(&format!("/{path} deleted"), SOON, || {
                    (origin.get(&path).status == 404).then_some(())
                });
                deleted += 1;
            }
        }
    }
    assert!(deleted >= 3 * 5, "only {deleted} segments were deleted");
}
