//! Blocking work on a drive that may never answer.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

/// Does blocking work on a thread of its own and waits for it at most so long; then the thread is
/// left to the drive, and ends when that answers.
pub(crate) fn within<T: Send + 'static>(
    wait: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (send, done) = mpsc::sync_channel(1);
    let name = "tape-blocking".to_owned();
    // Nobody listens any more once the wait is over.
    std::thread::Builder::new().name(name).spawn(move || drop(send.send(work())))?;
    done.recv_timeout(wait).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => {
            let text = format!("the drive has not answered for {} ms", wait.as_millis());
            io::Error::new(io::ErrorKind::TimedOut, text)
        }
        mpsc::RecvTimeoutError::Disconnected => io::Error::other("the work panicked"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_never_ends_is_waited_for_only_so_long() {
        assert_eq!(within(Duration::from_secs(60), || 7).expect("at once"), 7);
        let (hold, held) = mpsc::channel::<()>();
        let error = within(Duration::from_millis(20), move || held.recv()).expect_err("stuck");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("20 ms"), "{error}");
        drop(hold);
    }
}
