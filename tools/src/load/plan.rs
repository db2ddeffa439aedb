//! Validated plans of the three load commands.

use std::time::Duration;

use super::pace::PaceOptions;
use super::target::Target;

/// An open-loop media workload.
#[derive(Debug, Clone)]
pub(crate) struct MediaPlan {
    pub(crate) target: Target,
    pub(crate) stream_count: usize,
    pub(crate) rendition_count: usize,
    pub(crate) segment_duration: Duration,
    pub(crate) segment_bytes: u64,
    /// Segments named by a playlist.
    pub(crate) playlist_segments: u64,
    pub(crate) live_readers_per_stream: usize,
    pub(crate) poll_interval: Duration,
    pub(crate) dvr_reader_count: usize,
    pub(crate) dvr_interval: Duration,
    /// How far back a DVR reader reaches, in segments; `u64::MAX` is back to the first.
    pub(crate) dvr_window: u64,
    /// Segments of each rendition stored before the clock starts.
    pub(crate) prefill: u64,
    pub(crate) ingest: bool,
    pub(crate) delete_old: bool,
    pub(crate) ttl_seconds: Option<u64>,
    pub(crate) duration: Duration,
    pub(crate) ramp: Duration,
    pub(crate) timeout: Duration,
    pub(crate) threads: usize,
    pub(crate) seed: u64,
    pub(crate) json: bool,
}

/// GETs over kept connections.
#[derive(Debug, Clone)]
pub(crate) struct GetPlan {
    pub(crate) target: Target,
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
    pub(crate) ramp: Duration,
    pub(crate) pace: PaceOptions,
    /// Number of objects `{n}` stands for.
    pub(crate) object_count: u64,
    pub(crate) bytes: Option<u64>,
    pub(crate) timeout: Duration,
    pub(crate) threads: usize,
    pub(crate) seed: u64,
    pub(crate) json: bool,
}

/// PUTs over kept connections.
#[derive(Debug, Clone)]
pub(crate) struct PutPlan {
    pub(crate) target: Target,
    pub(crate) connections: usize,
    pub(crate) bytes: u64,
    pub(crate) count: u64,
    pub(crate) pace: PaceOptions,
    pub(crate) ttl_seconds: Option<u64>,
    pub(crate) timeout: Duration,
    pub(crate) threads: usize,
    pub(crate) json: bool,
}

/// Path of object `index` of a target whose URL may carry `{n}`.
pub(crate) fn object_path(template: &str, index: u64) -> String {
    template.replace("{n}", &index.to_string())
}
