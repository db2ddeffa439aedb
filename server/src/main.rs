//! The tapeloop origin server.
#![forbid(unsafe_code)]

use clap::Parser;
use std::process::ExitCode;
use tapeloop_server::{app, config::Args};

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("TAPELOOP_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match app::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tapeloop: {error}");
            ExitCode::FAILURE
        }
    }
}
