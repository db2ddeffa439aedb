//! The HTTP origin of tapeloop.
//!
//! `http` reads and writes bytes without sockets and imports nothing of ours; `origin` knows media;
//! `net` moves bytes on the ring; `admin` answers operators; `app` puts them together.
#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod config;
pub mod demo;
pub mod http;
pub mod memory;
pub mod net;
pub mod origin;
pub mod store;
