//! The real ffmpeg as encoder and as player.
//!
//! The encoder feeds one encode to two muxers: one pushes to the origin, the other writes files. So
//! what the origin stores can be compared byte for byte with what ffmpeg meant to store.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Origin, Process, SOON, files_below, until};

/// What ffmpeg is asked to make of its test sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packaging {
    HlsTs,
    HlsFmp4,
    Dash,
    /// Each segment is one upload that stays open while the segment grows.
    LowLatencyDash,
}

impl Packaging {
    /// What a player is given.
    pub(crate) fn entry(self) -> &'static str {
        match self {
            Packaging::HlsTs | Packaging::HlsFmp4 => "master.m3u8",
            Packaging::Dash | Packaging::LowLatencyDash => "manifest.mpd",
        }
    }

    /// Length of the stream; the read-back has to fit into it with room for a slow machine.
    pub(crate) fn seconds(self) -> u32 {
        match self {
            Packaging::HlsTs | Packaging::HlsFmp4 => 12,
            Packaging::Dash => 16,
            Packaging::LowLatencyDash => 9,
        }
    }

    /// Options of one muxer and its target, in the syntax of ffmpeg's tee: two levels of escaping.
    fn slave(self, target: &str, more: &str) -> String {
        let ladder = r"var_stream_map=v\\:0,a\\:0 v\\:1,a\\:1 v\\:2,a\\:2";
        let hls = "f=hls:hls_time=1:hls_list_size=4:hls_flags=delete_segments";
        let dash = "f=dash:seg_duration=2:window_size=3:extra_window_size=1";
        let sets = "adaptation_sets=id=0,streams=v id=1,streams=a";
        let (options, name) = match self {
            Packaging::HlsTs => {
                (format!("{hls}:master_pl_name=master.m3u8:{ladder}"), "v%v/stream.m3u8")
            }
            Packaging::HlsFmp4 => (
                format!("{hls}:hls_segment_type=fmp4:master_pl_name=master.m3u8:{ladder}"),
                "v%v/stream.m3u8",
            ),
            Packaging::Dash => (format!("{dash}:{sets}"), self.entry()),
            Packaging::LowLatencyDash => {
                let parts = "ldash=1:streaming=1:frag_type=duration:frag_duration=0.4";
                (format!("{dash}:{parts}:{sets}"), self.entry())
            }
        };
        format!("[{options}{more}]{target}/{name}")
    }

    /// Which encoded streams go out: HLS repeats the audio in every rendition.
    fn maps(self) -> &'static [&'static str] {
        match self {
            Packaging::HlsTs | Packaging::HlsFmp4 => &["[a]", "1:a", "[b]", "1:a", "[c]", "1:a"],
            Packaging::Dash | Packaging::LowLatencyDash => &["[a]", "[b]", "[c]", "1:a"],
        }
    }
}

/// An ffmpeg that pushes a live ladder of three renditions.
pub(crate) struct Encoder {
    process: Process,
    complaints: JoinHandle<String>,
}

impl Encoder {
    /// Pushes to `/{namespace}/...` at the pace of the wall clock and writes the same to `files`.
    pub(crate) fn start(
        origin: &Origin,
        namespace: &str,
        files: &Path,
        packaging: Packaging,
        persistent: bool,
    ) -> Encoder {
        for rendition in ["v0", "v1", "v2"] {
            fs::create_dir_all(files.join(rendition)).expect("a folder for a rendition");
        }
        // In a tee a colon ends an option, so the address is a target and never an option's value.
        let push = format!(":method=PUT:http_persistent={}", u8::from(persistent));
        let outputs = format!(
            "{}|{}",
            packaging.slave(&origin.url(namespace), &push),
            packaging.slave(&files.to_string_lossy(), ""),
        );
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "warning", "-re", "-f", "lavfi"]);
        command.args(["-i", "testsrc2=size=192x108:rate=25", "-f", "lavfi"]);
        command.args(["-i", "sine=sample_rate=48000", "-t", &packaging.seconds().to_string()]);
        command.args([
            "-filter_complex",
            "[0:v]split=3[a][b0][c0];[b0]scale=128x72[b];[c0]scale=96x54[c]",
        ]);
        for map in packaging.maps() {
            command.args(["-map", map]);
        }
        command.args(["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-bf", "0"]);
        command.args(["-g", "25", "-keyint_min", "25", "-sc_threshold", "0", "-b:v", "100k"]);
        command.args(["-c:a", "aac", "-b:a", "32k", "-ac", "1", "-flags", "+global_header"]);
        command.args(["-fflags", "+bitexact", "-f", "tee", &outputs]);
        let mut process = Process::spawn(command.stderr(Stdio::piped()));
        let complaints = process.errors();
        Encoder { process, complaints }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Waits for the end of the stream; nothing may have gone wrong with any upload.
    #[track_caller]
    pub(crate) fn finish(mut self, within: Duration) {
        let status = self.process.wait(within);
        let complaints = self.complaints.join().expect("the text of stderr");
        assert!(status.success(), "the encoder ended with {status}:\n{complaints}");
        for word in ["failed", "Failed", "Broken pipe", "Error", "error"] {
            assert!(!complaints.contains(word), "the encoder complains:\n{complaints}");
        }
    }
}

/// What a player made of a stream.
#[derive(Debug)]
pub(crate) struct Playback {
    pub(crate) ok: bool,
    pub(crate) seconds: f64,
    pub(crate) complaints: String,
}

/// Decodes `seconds` of every stream behind a URL.
pub(crate) fn play(url: &str, seconds: u32) -> Playback {
    let mut process = Process::spawn(
        Command::new("ffmpeg")
            .args(["-v", "error", "-xerror", "-i", url, "-map", "0"])
            .args(["-t", &seconds.to_string(), "-progress", "pipe:1", "-f", "null", "-"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let (progress, complaints) = (process.output(), process.errors());
    let status = process.wait(Duration::from_secs(u64::from(seconds)) + SOON);
    let progress = progress.join().expect("the progress");
    let times = progress.lines().filter_map(|line| line.strip_prefix("out_time_us="));
    let position_us = times.filter_map(|time| time.parse::<f64>().ok()).next_back();
    Playback {
        ok: status.success(),
        seconds: position_us.unwrap_or(0.0) / 1e6,
        complaints: complaints.join().expect("the text of stderr"),
    }
}

/// Every file ffmpeg wrote lies in the origin, byte for byte. An encoder does not wait for the
/// answer to its last upload, so the origin may be a moment behind it.
#[track_caller]
pub(crate) fn assert_stored(origin: &Origin, namespace: &str, files: &Path) {
    let names = files_below(files);
    assert!(names.len() > 10, "hardly anything was written: {names:?}");
    for name in names {
        let path = format!("{namespace}/{name}");
        let written = fs::read(files.join(&name)).expect("a file of the encoder");
        until(&format!("/{path} as the encoder wrote it"), SOON, || {
            let stored = origin.get(&path);
            (stored.status == 200 && stored.body == written).then_some(())
        });
    }
}
