//! Clocks. The store counts on boot time, which no wall-clock step can move.

use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since boot, counting suspend (`CLOCK_BOOTTIME`).
pub fn boottime_ms() -> u64 {
    read_ms(libc::CLOCK_BOOTTIME)
}

/// Milliseconds since 1970 by the wall clock as of its last tick, a few milliseconds ago at most:
/// it costs a tenth of the exact time. 0 before 1970.
pub fn wall_ms_coarse() -> u64 {
    read_ms(libc::CLOCK_REALTIME_COARSE)
}

/// Milliseconds that never go back, as of the last tick of the clock: for deadlines.
pub fn monotonic_ms_coarse() -> u64 {
    read_ms(libc::CLOCK_MONOTONIC_COARSE)
}

fn read_ms(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to for the length of the call.
    let status = unsafe { libc::clock_gettime(clock, &mut now) };
    assert_eq!(status, 0, "these clocks exist since Linux 2.6.39");
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).expect("nanoseconds are never negative");
    seconds * 1000 + nanos / 1_000_000
}

/// Identifies this boot. Boot times are comparable only under the same id.
///
/// Where the kernel's id cannot be read, the answer is one that equals no other process's, so
/// that a stored boot time is never trusted by mistake.
pub fn boot_id() -> [u8; 16] {
    static BOOT_ID: OnceLock<[u8; 16]> = OnceLock::new();
    *BOOT_ID.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .ok()
            .and_then(|text| parse_uuid(text.trim()))
            .unwrap_or_else(unknown_boot_id)
    })
}

/// Milliseconds since 1970 by the wall clock; 0 before that.
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut id = [0u8; 16];
    let mut nibbles = 0;
    for symbol in text.bytes().filter(|&symbol| symbol != b'-') {
        let value = char::from(symbol).to_digit(16)? as u8;
        let byte = id.get_mut(nibbles / 2)?;
        *byte = *byte << 4 | value;
        nibbles += 1;
    }
    (nibbles == 32).then_some(id)
}

fn unknown_boot_id() -> [u8; 16] {
    let mut id = [0u8; 16];
    // SAFETY: `id` is 16 writable bytes; requests this small are never cut short.
    let filled = unsafe { libc::getrandom(id.as_mut_ptr().cast(), id.len(), 0) };
    assert_eq!(filled, 16, "getrandom exists since Linux 3.17");
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_moves_forward_and_agrees_with_the_kernel() {
        let before = boottime_ms();
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
        let after = boottime_ms();
        assert!(before <= after);
        let uptime_ms = (seconds * 1000.0) as u64;
        assert!(uptime_ms + 1000 >= before && uptime_ms <= after + 1000);
    }

    #[test]
    fn the_boot_id_is_the_kernels_and_stays() {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        assert_eq!(Some(boot_id()), parse_uuid(text.trim()));
        assert_eq!(boot_id(), boot_id());
    }

    #[test]
    fn a_malformed_uuid_is_refused() {
        assert_eq!(parse_uuid("00112233-4455-6677-8899-aabbccddeeff").unwrap()[15], 0xff);
        assert_eq!(parse_uuid("00112233-4455-6677-8899-aabbccddeef"), None);
        assert_eq!(parse_uuid("00112233-4455-6677-8899-aabbccddeeff0"), None);
        assert_eq!(parse_uuid("g0112233-4455-6677-8899-aabbccddeeff"), None);
    }

    #[test]
    fn unknown_boot_ids_differ() {
        assert_ne!(unknown_boot_id(), unknown_boot_id());
    }
}
