//! A live DASH ladder of three renditions and audio, pushed by ffmpeg and played by ffmpeg.

mod interop;

use std::time::Duration;

use interop::ffmpeg::{Encoder, Packaging, Playback, assert_stored, play};
use interop::{Origin, SOON, files_below, until};

/// Within one window of the manifest.
const PLAYED_SECONDS: u32 = 4;
const MANIFEST: &str = "live/manifest.mpd";

#[test]
fn dash_over_one_connection_per_object_is_stored_byte_for_byte_and_plays_live() {
    a_ladder_is_stored_and_plays(false);
}

#[test]
fn dash_over_persistent_connections_is_stored_byte_for_byte_and_plays_live() {
    a_ladder_is_stored_and_plays(true);
}

#[test]
fn a_low_latency_segment_is_read_while_the_encoder_is_still_pushing_it() {
    let origin = Origin::start(&[]);
    let files = tempfile::tempdir().expect("a folder for the encoder's files");
    let packaging = Packaging::LowLatencyDash;
    let encoder = Encoder::start(&origin, "live", files.path(), packaging, true);

    let path = "live/chunk-stream0-00002.m4s";
    let followed = until("the start of an upload", SOON, || origin.follow(path));
    // A segment takes two seconds and is pushed in parts of 0.4 s.
    assert!(followed.body_duration > Duration::from_secs(1), "{:?}", followed.body_duration);
    assert!(followed.head.contains("Transfer-Encoding: chunked"), "{}", followed.head);
    let sealed = origin.body_of(path, SOON);
    assert!(followed.body == sealed, "{} of {} bytes", followed.body.len(), sealed.len());

    encoder.finish(Duration::from_secs(u64::from(packaging.seconds())) + SOON);
    assert_stored(&origin, "live", files.path());
    origin.stop();
}

fn a_ladder_is_stored_and_plays(persistent: bool) {
    let origin = Origin::start(&[]);
    let files = tempfile::tempdir().expect("a folder for the encoder's files");
    let packaging = Packaging::Dash;
    let mut encoder = Encoder::start(&origin, "live", files.path(), packaging, persistent);

    origin.body_of("live/chunk-stream0-00001.m4s", SOON);
    let playback = play_within_one_window(&origin, &mut encoder);
    assert!(playback.ok && playback.complaints.is_empty(), "{playback:?}");
    assert!(playback.seconds > f64::from(PLAYED_SECONDS) - 0.1, "{playback:?}");

    encoder.finish(Duration::from_secs(u64::from(packaging.seconds())) + SOON);
    assert_stored(&origin, "live", files.path());
    assert_deleted(&origin, files.path());
    origin.stop();
}

/// ffmpeg 5.1 as a DASH player loses its place when the window moves while it reads: it repeats or
/// skips a segment, from any origin. So a playback counts if the manifest was the same before and
/// after it; it takes a fraction of the two seconds a window stays.
fn play_within_one_window(origin: &Origin, encoder: &mut Encoder) -> Playback {
    loop {
        assert!(encoder.is_running(), "no window of the stream lasted long enough to be played");
        // A window that has moved once no longer starts at time zero, which that player repeats.
        let before = until("a moved window", SOON, || {
            let manifest = origin.body_of(MANIFEST, SOON);
            let text = String::from_utf8_lossy(&manifest).into_owned();
            let moved = text.contains("startNumber=") && !text.contains("startNumber=\"1\"");
            (moved && text.contains("type=\"dynamic\"")).then_some(manifest)
        });
        let fresh = until("the next window", SOON, || {
            let manifest = origin.body_of(MANIFEST, SOON);
            (manifest != before).then_some(manifest)
        });
        let playback = play(&origin.url(MANIFEST), PLAYED_SECONDS);
        if origin.body_of(MANIFEST, SOON) == fresh {
            return playback;
        }
    }
}

/// What the encoder removed from its folder it deleted from the origin.
fn assert_deleted(origin: &Origin, files: &std::path::Path) {
    let kept = files_below(files);
    let mut deleted = 0;
    for stream in 0..4 {
        for number in 1..=Packaging::Dash.seconds() / 2 {
            let name = format!("chunk-stream{stream}-{number:05}.m4s");
            if !kept.contains(&name) {
                let path = format!("live/{name}");
                until(&format!("/{path} deleted"), SOON, || {
                    (origin.get(&path).status == 404).then_some(())
                });
                deleted += 1;
            }
        }
    }
    assert!(deleted >= 4 * 3, "only {deleted} segments were deleted, kept: {kept:?}");
}
