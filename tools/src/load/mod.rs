//! `tapectl load`: a media workload, and two plain primitives, against an origin on loopback.
//!
//! Invariants: requests of the media workload are due by the clock and never wait for answers to
//! earlier ones to become due; every byte received is checked; a run ends by itself.

mod client;
mod content;
mod media;
mod pace;
mod plan;
mod playlist;
mod primitive;
mod reader;
mod report;
mod response;
mod run;
mod stats;
mod target;
mod ticker;
mod writer;

pub(crate) use client::{Client, RequestError};
pub(crate) use media::run as media;
pub(crate) use pace::PaceOptions;
pub(crate) use plan::{GetPlan, MediaPlan, PutPlan};
pub(crate) use primitive::{get, put};
pub(crate) use target::Target;
