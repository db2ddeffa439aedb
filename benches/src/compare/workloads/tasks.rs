//! The processes, threads and sockets of a server, from /proc.

use std::fs;

/// Processes of a group.
fn processes(group: u32) -> Vec<u32> {
    let is_member = |pid: &u32| group_of(*pid) == Some(group);
    numbers("/proc").into_iter().filter(is_member).collect()
}

fn group_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold spaces; fields are counted after it.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(2)?.parse().ok()
}

/// Threads of all processes of a group.
pub(super) fn threads(group: u32) -> Vec<u32> {
    let tasks = |pid: u32| numbers(&format!("/proc/{pid}/task"));
    processes(group).into_iter().flat_map(tasks).collect()
}

/// Sockets that the processes of a group have open.
pub(super) fn socket_count(group: u32) -> u64 {
    let of_process = |pid: u32| {
        let folder = fs::read_dir(format!("/proc/{pid}/fd"));
        let links = folder.into_iter().flatten().flatten();
        let sockets = links.filter_map(|entry| fs::read_link(entry.path()).ok());
        sockets.filter(|link| link.to_string_lossy().starts_with("socket:")).count() as u64
    };
    processes(group).into_iter().map(of_process).sum()
}

/// Names in a folder of /proc that are numbers. What has ended meanwhile is not there.
fn numbers(folder: &str) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn a_group_has_its_members_their_threads_and_their_sockets_and_nobody_else() {
        let (ours, theirs) = UnixStream::pair().expect("two sockets");
        let mut command = Command::new("cat");
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.process_group(0).spawn();
        let mut child = child.expect("cat is everywhere");
        drop(command);
        let group = child.id();
        let seen = (processes(group), threads(group), socket_count(group));
        drop(ours);
        child.wait().expect("it ends with its input");
        assert_eq!(seen, (vec![group], vec![group], 1));
        assert_eq!(socket_count(group), 0);
    }
}
