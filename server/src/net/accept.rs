//! One accept task per listener, for the whole life of the thread: a pending accept is never
//! dropped, because the ring would lose the connection it is about to bring.

use super::conn;
use super::deadline::SWEEP_MS;
use super::socket::Socket;
use super::thread::Thread;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;
use tapeloop_engine as engine;

/// Descriptors may also be freed by somebody else than a connection of this thread.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A listener that can be told to stop.
#[derive(Clone)]
pub(super) struct Listener(engine::Listener);

impl Listener {
    pub(super) fn new(listener: std::net::TcpListener) -> Listener {
        Listener(engine::Listener::new(listener))
    }

    /// Ends the pending accept with an error.
    pub(super) fn stop(&self) {
        let _ = engine::socket::shutdown(self.0.as_raw_fd());
    }
}

/// Accepts until the thread stops.
pub(super) async fn run(thread: Rc<Thread>, listener: Listener) {
    while !thread.is_stopping.get() {
        // Made before the accept fails, so that a close in between is not missed.
        let closed = thread.connections.closed.notified();
        let Some(seat) = thread.seats.take(thread.limits.connections_max) else {
            // The sweepers make room, this thread's or another's.
            thread.counters.accept_pauses.add(1);
            let _ = engine::timeout(Duration::from_millis(SWEEP_MS), closed).await;
            continue;
        };
        match listener.0.accept().await {
            Ok(stream) => {
                thread.counters.connections_accepted.add(1);
                let socket = Rc::new(Socket::new(stream));
                drop(engine::spawn(conn::serve(Rc::clone(&thread), socket, seat)));
            }
            Err(_) if thread.is_stopping.get() => return,
            Err(error) if is_shortage(&error) => {
                thread.counters.accept_pauses.add(1);
                tracing::warn!("accepting paused until a connection closes: {error}");
                let _ = engine::timeout(PAUSE_MAX, closed).await;
            }
            // A client that left before it was accepted.
            Err(error) => tracing::debug!("accept: {error}"),
        }
    }
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: nothing is wrong with the listener, there is just no room.
fn is_shortage(error: &io::Error) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const ENOBUFS: i32 = 105;
    const ENOMEM: i32 = 12;
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM))
}
