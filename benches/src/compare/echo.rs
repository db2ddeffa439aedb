//! The floor under a small answer: a bare io_uring loop that sends the same prepared bytes for
//! whatever it is asked (an example of the engine's I/O crate). It stores nothing.

use super::peer::Server;
use crate::binaries::Binaries;
use crate::client;
use crate::error::{Context, Result};
use crate::process::{Running, StartOptions};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

const START_LIMIT: Duration = Duration::from_secs(20);

/// Its name in the table.
pub(super) const NAME: &str = "io_uring echo";
/// What a reader of the table must know of it.
pub(super) const NOTE: &str = "one thread, one prepared answer, nothing stored: a body is compared \
    with the first one, not with content";

/// Starts it with answers of `bytes` after the head. It ends with its input, so with its handle.
pub(super) fn start(binaries: &Binaries, folder: &Path, bytes: u64) -> Result<Server> {
    let address = client::free_address().context("looking for a free port")?;
    let words = ["--listen", &address.to_string(), "--bytes", &bytes.to_string()];
    let options =
        StartOptions { pipe_stdin: true, on_bench_death: Some("KILL"), ..StartOptions::default() };
    let log = folder.join("echo.log");
    let mut running = Running::start(&binaries.echo, &words.map(str::to_owned), log, &options)?;
    running.wait_ready(START_LIMIT, || TcpStream::connect(address).ok().map(drop))?;
    Ok(Server::of(running, address, folder))
}
