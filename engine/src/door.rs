//! The way of an operation to the log: a bounded queue, taken from by whichever appender is awake.
//!
//! Nobody waits here for drives that hang: neither for a place in the queue nor for an answer.

use crate::admission::Claim;
use crate::body::Body;
use crate::drive;
use crate::error::PutError;
use crate::hub::Hub;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tapeloop_io::runtime;
use tapeloop_log::{Append, AppendError};
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for an appender; more callers wait at the door.
pub(crate) const COMMANDS_MAX: usize = 1024;
/// How often a waiting operation looks whether the drives still answer.
const LOOK: Duration = Duration::from_millis(250);
/// An operation that has waited for so long, while a drive hangs, is not waited for any longer.
const WAIT_MAX: Duration = Duration::from_millis(4_750);

/// Answers an operation: whether an older version was there.
pub(crate) type Reply = oneshot::Sender<Result<bool, PutError>>;

/// An operation, and what belongs to it.
pub(crate) enum Command {
    Put { append: Append, body: Arc<Body>, claim: Claim, reply: Reply },
    Delete { append: Append, reply: Reply },
}

/// Where operations come in.
pub(crate) struct Door {
    commands: mpsc::Sender<Command>,
    hub: Arc<Hub>,
}

/// A place in the queue.
pub(crate) struct Permit<'a> {
    permit: mpsc::Permit<'a, Command>,
    hub: &'a Hub,
}

impl Permit<'_> {
    pub(crate) fn send(self, command: Command) {
        self.permit.send(command);
        self.hub.wake_for_commands();
    }
}

impl Door {
    pub(crate) fn new(commands: mpsc::Sender<Command>, hub: Arc<Hub>) -> Door {
        Door { commands, hub }
    }

    pub(crate) async fn reserve(&self) -> Result<Permit<'_>, PutError> {
        // Nearly always there is room; then no timer is wanted.
        let permit = match self.commands.try_reserve() {
            Ok(permit) => permit,
            Err(_) => {
                let permit = self.unless_stalled(self.commands.reserve()).await?;
                permit.map_err(|_| PutError::Closed)?
            }
        };
        Ok(Permit { permit, hub: &self.hub })
    }

    /// Can the store take anything?
    pub(crate) fn check_writable(&self) -> Result<(), PutError> {
        if let Some(failure) = self.hub.read_only() {
            return Err(AppendError::Fenced(failure).into());
        }
        if self.hub.is_closed() {
            return Err(PutError::Closed);
        }
        match drive::all_stalled_ms(&self.hub.drives) {
            Some(waited_ms) => Err(PutError::Stalled { waited_ms }),
            None => Ok(()),
        }
    }

    /// Waits for the log's answer, but not for drives that hang.
    pub(crate) async fn answer(
        &self,
        answer: oneshot::Receiver<Result<bool, PutError>>,
    ) -> Result<bool, PutError> {
        match self.unless_stalled(answer).await? {
            Ok(result) => result,
            Err(_) => Err(PutError::Closed),
        }
    }

    /// Waits for something that the appenders bring about, but not for drives that hang.
    pub(crate) async fn unless_stalled<F: Future>(&self, wanted: F) -> Result<F::Output, PutError> {
        let begun = Instant::now();
        let mut wanted = pin!(wanted);
        loop {
            if let Ok(output) = runtime::timeout(LOOK, &mut wanted).await {
                return Ok(output);
            }
            let stalled_ms = drive::all_stalled_ms(&self.hub.drives).or_else(|| {
                let late = begun.elapsed() >= WAIT_MAX;
                let drives = self.hub.drives.iter().filter(|_| late);
                drives.filter(|drive| drive.is_writable()).find_map(|drive| drive.stalled_ms())
            });
            if let Some(waited_ms) = stalled_ms {
                return Err(PutError::Stalled { waited_ms });
            }
        }
    }
}
