//! The HTTP origin of tapeloop.
#![forbid(unsafe_code)]

pub mod config;
pub mod demo;
pub mod http;
pub mod net;
pub mod origin;
