//! hls.js in a real browser plays `tapeloop demo` for a minute without a stall.

mod interop;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use interop::{Origin, Process, SOON};

const PLAYED_SECONDS: u64 = 60;

#[test]
fn hls_js_in_chromium_plays_the_demo_for_a_minute_without_a_stall() {
    let origin = Origin::start(&["demo"]);
    origin.body_of("demo/master.m3u8", SOON);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/browser");
    let mut player = Process::spawn(
        Command::new("node")
            .arg(folder.join("play.mjs"))
            .args([&origin.url("demo/master.m3u8"), &PLAYED_SECONDS.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit()),
    );
    let figures = player.output();
    // The player judges, prints its figures and says why; it also has to start a browser.
    let status = player.wait(Duration::from_secs(PLAYED_SECONDS) + 3 * SOON);
    let figures = figures.join().expect("the figures");
    assert!(status.success(), "the player ended with {status}: {figures}");
    println!("{figures}");
    origin.stop();
}
