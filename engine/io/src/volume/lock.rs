//! The exclusive lock on a volume.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::VolumeError;

/// A killed process leaves operations in its ring; the kernel holds their file, and the lock
/// with it, until they end. flock has no timed wait, so its state is asked again.
const ATTEMPTS: u32 = 20;
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(50);

/// Locks `file`, waiting up to a second for a dying holder.
pub(super) fn lock_exclusive(file: &File, path: &Path) -> Result<(), VolumeError> {
    lock_with(file, path, &mut pause)
}

/// Opens a block device exclusively, waiting likewise while it is busy.
pub(super) fn open_exclusive(open: &mut dyn FnMut() -> io::Result<File>) -> io::Result<File> {
    let opened = outwait(&mut pause, &mut || match open() {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(None),
        other => other.map(Some),
    });
    opened?.ok_or_else(|| io::Error::from_raw_os_error(libc::EBUSY))
}

fn lock_with(file: &File, path: &Path, pause: &mut dyn FnMut()) -> Result<(), VolumeError> {
    let locked = outwait(pause, &mut || Ok(try_lock(file)?.then_some(())));
    match locked {
        Ok(Some(())) => Ok(()),
        Ok(None) => Err(VolumeError::Locked { path: path.into(), holder_pid: holder_pid(file) }),
        Err(source) => Err(VolumeError::io("lock", path, source)),
    }
}

/// Asks until there is an answer or the attempts are used up.
fn outwait<T>(
    pause: &mut dyn FnMut(),
    ask: &mut dyn FnMut() -> io::Result<Option<T>>,
) -> io::Result<Option<T>> {
    for _ in 1..ATTEMPTS {
        if let Some(answer) = ask()? {
            return Ok(Some(answer));
        }
        pause();
    }
    ask()
}

fn pause() {
    thread::sleep(ATTEMPT_INTERVAL);
}

/// True when locked, false when another open file has the lock.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: the call takes a descriptor that `file` keeps open, and flags.
    let status = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if status == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock { Ok(false) } else { Err(error) }
}

/// The process that took the lock, as far as the kernel's table tells.
pub(super) fn holder_pid(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let table = fs::read_to_string("/proc/locks").ok()?;
    let device = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    find_holder(&table, device, metadata.ino())
}

/// Reads lines like `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`.
fn find_holder(table: &str, device: (u32, u32), inode: u64) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        if fields.next()? != "FLOCK" {
            return None;
        }
        let mut fields = fields.skip(2);
        let pid = fields.next()?.parse().ok()?;
        let mut place = fields.next()?.split(':');
        let major = u32::from_str_radix(place.next()?, 16).ok()?;
        let minor = u32::from_str_radix(place.next()?, 16).ok()?;
        let found = place.next()?.parse::<u64>().ok()?;
        ((major, minor) == device && found == inode).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "1: POSIX  ADVISORY  WRITE 77 fe:00:5678 0 EOF\n\
                         2: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF\n\
                         2: -> FLOCK  ADVISORY  WRITE 99 fe:00:5678 0 EOF\n\
                         3: FLOCK  ADVISORY  WRITE 4321 08:11:5678 0 EOF\n";

    #[test]
    fn the_holder_is_found_by_device_and_inode() {
        assert_eq!(find_holder(TABLE, (0xfe, 0), 5678), Some(1234));
        assert_eq!(find_holder(TABLE, (8, 17), 5678), Some(4321));
        assert_eq!(find_holder(TABLE, (8, 17), 5679), None);
        assert_eq!(find_holder("rubbish\n\n1: FLOCK", (8, 17), 5678), None);
    }

    #[test]
    fn a_holder_that_lets_go_within_the_second_is_waited_for() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let mut holder = Some(named.reopen().unwrap());
        assert!(try_lock(holder.as_ref().unwrap()).unwrap());
        let file = named.reopen().unwrap();
        let mut pauses = 0;
        let locked = lock_with(&file, named.path(), &mut || {
            pauses += 1;
            if pauses == ATTEMPTS - 1 {
                holder = None;
            }
        });
        assert!(locked.is_ok());
        assert_eq!(pauses, ATTEMPTS - 1);
    }

    #[test]
    fn a_holder_that_stays_is_an_error_after_the_last_attempt() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let holder = named.reopen().unwrap();
        assert!(try_lock(&holder).unwrap());
        let mut pauses = 0;
        let locked = lock_with(&named.reopen().unwrap(), named.path(), &mut || pauses += 1);
        assert!(matches!(locked, Err(VolumeError::Locked { holder_pid: Some(pid), .. })
            if pid == std::process::id()));
        assert_eq!(pauses, ATTEMPTS - 1);
    }
}
