//! `tapeloop demo`: a live stream for a newcomer who has no encoder.
//!
//! A clip of 8 s kept in the repository is pushed in an endless loop, through the same HTTP door an
//! encoder uses, at the pace of the wall clock. Segment numbers and media times count from the Unix
//! epoch, so nothing has to be remembered between two runs: a restart is a short gap to a player,
//! never a step back. Nothing is deleted; every object is given a short life and ages out.
#![forbid(unsafe_code)]

mod boxes;
mod clip;
mod playlist;
mod push;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clip::{Clip, SEGMENT_MS, Track};
use push::{PushError, Pusher};

/// Segments a playlist lists.
const WINDOW: u64 = 6;
/// Life of every object: the window, and long enough after it for the slowest player.
const TTL_SECONDS: u64 = 60;
/// How soon `run` notices that it should stop.
const STOP_POLL: Duration = Duration::from_millis(100);

/// Where the demo stream can be played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    /// The master playlist: what a player is given.
    pub master: String,
}

impl fmt::Display for Urls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.master)
    }
}

/// The addresses of the demo stream on a data plane that listens at `data_addr`.
pub fn urls(data_addr: SocketAddr) -> Urls {
    Urls { master: format!("http://{data_addr}{}", path("master.m3u8")) }
}

/// Pushes the stream to the data plane at `data_addr` until `stop` is set; unpark the calling
/// thread to have that noticed at once.
///
/// # Errors
/// The first object the origin refuses or that cannot be sent over a fresh connection.
pub fn run(data_addr: SocketAddr, stop: Arc<AtomicBool>) -> io::Result<()> {
    let clip = Clip::embedded().map_err(io::Error::other)?;
    let mut encoder = Encoder::new(&clip, data_addr);
    let clock = Clock::start();
    // A player wants a full window at once, so the stream begins that long ago.
    let mut first = clock.in_progress().saturating_sub(WINDOW);
    let mut next = first;
    let mut setup_loop = None;

    while clock.sleep_until_complete(next, &stop) {
        if setup_loop != Some(next / clip.len()) {
            encoder.publish_setup().map_err(io::Error::other)?;
            setup_loop = Some(next / clip.len());
        }
        encoder.publish_segment(next, first).map_err(io::Error::other)?;
        next += 1;
        // After a long stall (a stopped process) the past is of no use to anybody: start anew.
        if clock.in_progress().saturating_sub(next) > WINDOW {
            first = clock.in_progress() - WINDOW;
            next = first;
        }
    }
    Ok(())
}

/// Pushes the tracks of the clip side by side, each over a connection of its own, as encoders do:
/// the objects of one round can then become durable with one flush.
struct Encoder<'a> {
    clip: &'a Clip,
    pushers: Vec<Pusher>,
}

impl<'a> Encoder<'a> {
    fn new(clip: &'a Clip, data_addr: SocketAddr) -> Encoder<'a> {
        let pushers = clip.tracks.iter().map(|_| Pusher::new(data_addr)).collect();
        Encoder { clip, pushers }
    }

    /// The objects that do not change. Sent again with every loop because they age out like the
    /// rest.
    fn publish_setup(&mut self) -> Result<(), PushError> {
        self.round(|track| (track_path(track, "init.mp4"), track.init.to_vec()))?;
        let master = playlist::master(self.clip);
        self.pushers[0].put(&path("master.m3u8"), master.as_bytes())
    }

    /// All segments before any playlist: a playlist never names what cannot be fetched yet.
    /// Nor does it name what was before segment `first` of this run.
    fn publish_segment(&mut self, index: u64, first: u64) -> Result<(), PushError> {
        self.round(|track| (track_path(track, &format!("{index}.m4s")), track.segment(index)))?;
        let window = first.max((index + 1).saturating_sub(WINDOW))..index + 1;
        self.round(|track| {
            let text = playlist::media(track, window.clone());
            (track_path(track, "stream.m3u8"), text.into_bytes())
        })
    }

    /// One object of every track at once; ends when all are confirmed.
    fn round(&mut self, object: impl Fn(&Track) -> (String, Vec<u8>)) -> Result<(), PushError> {
        thread::scope(|scope| {
            let tracks = self.clip.tracks.iter().zip(&mut self.pushers);
            let pushes: Vec<_> = tracks
                .map(|(track, pusher)| {
                    let (path, body) = object(track);
                    scope.spawn(move || pusher.put(&path, &body))
                })
                .collect();
            let results = pushes.into_iter().map(|push| push.join().expect("a push never panics"));
            results.collect::<Vec<_>>().into_iter().collect()
        })
    }
}

fn path(name: &str) -> String {
    format!("/demo/{name}")
}

fn track_path(track: &Track, name: &str) -> String {
    path(&format!("{}/{name}", track.name))
}

/// The pace of the stream: segment `i` covers the two seconds from `i * SEGMENT_MS` after 1970.
/// The wall clock is read once, so a step of it neither bunches segments nor leaves a hole.
struct Clock {
    started: Instant,
    started_wall_ms: u64,
}

impl Clock {
    fn start() -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { started: Instant::now(), started_wall_ms: millis(wall) }
    }

    fn now_ms(&self) -> u64 {
        self.started_wall_ms + millis(self.started.elapsed())
    }

    /// The segment an encoder would be filling now.
    fn in_progress(&self) -> u64 {
        self.now_ms() / SEGMENT_MS
    }

    /// True once segment `index` is complete, false if `stop` came first.
    fn sleep_until_complete(&self, index: u64, stop: &AtomicBool) -> bool {
        let due_ms = (index + 1) * SEGMENT_MS;
        while !stop.load(Ordering::Acquire) {
            let left = Duration::from_millis(due_ms.saturating_sub(self.now_ms()));
            if left.is_zero() {
                return true;
            }
            thread::park_timeout(left.min(STOP_POLL));
        }
        false
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
