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

    #[test]
    fn this_process_its_threads_and_its_sockets_are_seen() {
        let group = group_of(std::process::id()).expect("every process is in a group");
        assert!(processes(group).contains(&std::process::id()));
        assert!(threads(group).contains(&std::process::id()));
        let before = socket_count(group);
        let _socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
        assert!(socket_count(group) > before);
        assert!(processes(u32::MAX).is_empty());
    }
}
