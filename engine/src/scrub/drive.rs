//! One volume as the scrub reads it: a ring of its own, one read at a time. And the one place that
//! knows what else goes on at that drive.

use super::control::{Control, Halt};
use crate::engine::Shared;
use crate::hub::OpenObject;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tapeloop_io::{AlignedBuf, VolumeFile, WriteRing};

/// How often a read that does not come back is looked after.
const LOOK: Duration = Duration::from_millis(500);
/// A read that takes longer is told of.
const STALL: Duration = Duration::from_secs(4);

/// The volumes that can be scrubbed.
pub(super) fn volumes(shared: &Shared) -> Vec<u16> {
    let drives = (0..).zip(&shared.hub.drives);
    drives.filter(|(_, drive)| !drive.is_missing()).map(|(volume, _)| volume).collect()
}

/// The zones of a volume.
pub(super) fn zones(shared: &Shared, volume: u16) -> Range<u32> {
    shared.geometry.zones_of(volume)
}

fn file(shared: &Shared, volume: u16) -> &Arc<VolumeFile> {
    shared.hub.drives[usize::from(volume)].file().expect("only volumes that are there")
}

/// Why the volume should be left alone for now.
pub(super) fn obstacle(shared: &Shared, volume: u16) -> Option<String> {
    let drive = &shared.hub.drives[usize::from(volume)];
    if let Some(cause) = drive.fence() {
        return Some(format!("fenced read-only: {cause}"));
    }
    let waited_ms = drive.hung_ms()?;
    Some(format!("the drive has not answered for {waited_ms} ms"))
}

/// Do readers or the appender want something of the drive right now?
pub(super) fn is_busy(shared: &Shared, volume: u16) -> bool {
    let drive = &shared.hub.drives[usize::from(volume)];
    file(shared, volume).reads_in_flight() > 0 || drive.is_busy()
}

/// The objects of a zone that is open, by its log; `None` if it is not open.
pub(super) fn open_objects(shared: &Shared, zone: u32) -> Option<Vec<OpenObject>> {
    shared.hub.objects_of(zone)
}

/// The reading side of a volume.
pub(super) struct Drive {
    ring: WriteRing,
}

impl Drive {
    pub(super) fn open(shared: &Shared, volume: u16, control: &Control) -> io::Result<Drive> {
        let ring = WriteRing::new(Arc::clone(file(shared, volume)), 1)?;
        control.set_waker(Some(ring.waker()));
        Ok(Drive { ring })
    }

    /// Reads whole blocks. `Err` outside: no answer, and none is waited for. `Err` inside: the
    /// drive's.
    pub(super) fn read(
        &mut self,
        control: &Control,
        offset: u64,
        len: usize,
    ) -> Result<io::Result<AlignedBuf>, Halt> {
        let begun = Instant::now();
        let pushed = self.ring.push_read(0, AlignedBuf::zeroed(len), offset);
        pushed.expect("one read at a time");
        let mut is_late = false;
        loop {
            self.ring.submit_and_wait(LOOK).map_err(Halt::Failed)?;
            if let Some(done) = self.ring.pop() {
                if is_late {
                    control.set_paused(None);
                }
                let read = done.result.map(|_| done.buf.expect("a read gives its buffer back"));
                return Ok(read);
            }
            if control.is_stopped() {
                return Err(Halt::Closed);
            }
            let waited = begun.elapsed();
            if waited > STALL {
                is_late = true;
                let waited_ms = waited.as_millis();
                let cause = format!("the drive has not answered the scrub for {waited_ms} ms");
                control.set_paused(Some(cause));
            }
        }
    }
}
