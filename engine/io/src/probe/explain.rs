//! From an errno of io_uring_setup to one line an operator can act on.

use std::fs;

/// What decides whether a ring may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `/proc/sys/kernel/io_uring_disabled`; `None` where the file is missing (before 6.6).
    pub io_uring_disabled: Option<u32>,
    /// RLIMIT_MEMLOCK, bytes; `None` is unlimited.
    pub memlock_bytes: Option<u64>,
}

impl Setting {
    /// This process's.
    pub fn read() -> Setting {
        let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
        let io_uring_disabled = sysctl.and_then(|text| text.trim().parse().ok());
        Setting { io_uring_disabled, memlock_bytes: memlock_bytes() }
    }
}

/// One line: errno, what is set, remedy.
pub fn explain(errno: i32, setting: &Setting) -> String {
    let sysctl = match setting.io_uring_disabled {
        Some(value) => format!("kernel.io_uring_disabled = {value}"),
        None => String::from("kernel.io_uring_disabled is not set"),
    };
    match (errno, setting.io_uring_disabled) {
        (libc::EPERM, Some(1)) => format!(
            "EPERM, {sysctl}: run `sysctl kernel.io_uring_disabled=0`, or put this user into the \
             group that kernel.io_uring_group names"
        ),
        (libc::EPERM, Some(2..)) => {
            format!("EPERM, {sysctl}: run `sysctl kernel.io_uring_disabled=0`")
        }
        (libc::EPERM | libc::EACCES, _) => format!(
            "{}, {sysctl}: a seccomp or security profile blocks it (Docker and containerd do by \
             default): allow io_uring_setup, io_uring_enter and io_uring_register in the profile",
            name(errno)
        ),
        (libc::ENOSYS, _) => format!(
            "ENOSYS, {sysctl}: the kernel is older than 5.11 or built without CONFIG_IO_URING, \
             or a sandbox hides it: run on a newer kernel or outside the sandbox"
        ),
        (libc::ENOMEM, _) => format!(
            "ENOMEM, RLIMIT_MEMLOCK = {}: raise it (`ulimit -l unlimited`, LimitMEMLOCK=infinity \
             in systemd), or the memory limit of this container",
            memlock_text(setting.memlock_bytes)
        ),
        (libc::EMFILE | libc::ENFILE, _) => {
            format!("{}: raise the limit of open files (`ulimit -n`)", name(errno))
        }
        _ => format!(
            "{}, {sysctl}, RLIMIT_MEMLOCK = {}: Linux 5.11 or newer with io_uring is needed",
            name(errno),
            memlock_text(setting.memlock_bytes)
        ),
    }
}

fn name(errno: i32) -> String {
    match errno {
        libc::EPERM => "EPERM".into(),
        libc::EACCES => "EACCES".into(),
        libc::EINVAL => "EINVAL".into(),
        libc::EMFILE => "EMFILE".into(),
        libc::ENFILE => "ENFILE".into(),
        libc::EOPNOTSUPP => "EOPNOTSUPP".into(),
        other => format!("errno {other}"),
    }
}

fn memlock_text(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| String::from("unlimited"), |bytes| format!("{} KiB", bytes / 1024))
}

fn memlock_bytes() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit to write to.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    (status == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(io_uring_disabled: Option<u32>, memlock_bytes: Option<u64>) -> Setting {
        Setting { io_uring_disabled, memlock_bytes }
    }

    fn line(errno: i32, setting: Setting) -> String {
        let line = explain(errno, &setting);
        assert!(!line.contains('\n'), "one line: {line}");
        line
    }

    #[test]
    fn a_refusal_by_sysctl_names_its_value_and_the_command() {
        for value in [1, 2] {
            let line = line(libc::EPERM, setting(Some(value), None));
            assert!(line.starts_with("EPERM"), "{line}");
            assert!(line.contains(&format!("io_uring_disabled = {value}")), "{line}");
            assert!(line.contains("sysctl kernel.io_uring_disabled=0"), "{line}");
        }
    }

    #[test]
    fn a_refusal_without_the_sysctl_names_the_seccomp_profile() {
        for value in [Some(0), None] {
            let line = line(libc::EPERM, setting(value, None));
            assert!(line.contains("seccomp") && !line.contains("run `sysctl"), "{line}");
        }
    }

    #[test]
    fn a_missing_call_names_the_kernel_and_the_sandbox() {
        let line = line(libc::ENOSYS, setting(None, None));
        assert!(line.starts_with("ENOSYS"), "{line}");
        assert!(line.contains("CONFIG_IO_URING") && line.contains("sandbox"), "{line}");
    }

    #[test]
    fn a_lack_of_memory_names_the_limit_and_how_to_raise_it() {
        let limited = line(libc::ENOMEM, setting(Some(0), Some(8 << 20)));
        assert!(limited.contains("RLIMIT_MEMLOCK = 8192 KiB"), "{limited}");
        assert!(limited.contains("LimitMEMLOCK"), "{limited}");
        let unlimited = line(libc::ENOMEM, setting(Some(0), None));
        assert!(unlimited.contains("RLIMIT_MEMLOCK = unlimited"), "{unlimited}");
    }

    #[test]
    fn an_unforeseen_errno_is_still_told() {
        let line = line(libc::EIO, setting(Some(0), Some(65536)));
        assert!(line.contains("errno 5") && line.contains("64 KiB"), "{line}");
    }
}
