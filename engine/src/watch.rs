//! Is a drive slow, or does it hang? Judged by looking now and then at how long it has kept its
//! oldest operation waiting.
//!
//! Time alone does not condemn a drive: a process that was stopped for a minute finds every
//! operation old when it goes on. So a drive hangs only if it was seen waiting in many looks.

/// A drive that keeps an operation waiting for so long is slow: new records go elsewhere.
pub(crate) const SLOW_MS: u64 = 200;
/// One that keeps it waiting for so long hangs.
pub(crate) const HANG_MS: u64 = 4_000;
/// Between two looks.
pub(crate) const LOOK_MS: u64 = 100;
/// Looks in a row at the same waiting operation before a drive hangs: three quarters of the time.
const HANG_LOOKS: u32 = (HANG_MS / LOOK_MS * 3 / 4) as u32;

/// How a drive answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pulse {
    /// In time.
    Quick,
    /// Not in time; new records go elsewhere if they can.
    Slow,
    /// For so long that another drive that is in the same state is no better.
    VerySlow,
    /// Not at all.
    Hangs,
}

/// The looks at one drive.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    since_ms: u64,
    looks: u32,
}

impl Watch {
    /// Looks at a drive whose oldest operation has been waiting since `since_ms`, 0 for none.
    pub(crate) fn look(&mut self, now_ms: u64, since_ms: u64) -> Pulse {
        if since_ms != self.since_ms {
            *self = Watch { since_ms, looks: 0 };
        }
        if since_ms == 0 {
            return Pulse::Quick;
        }
        self.looks = self.looks.saturating_add(1);
        let waited_ms = now_ms.saturating_sub(since_ms);
        match waited_ms {
            _ if waited_ms >= HANG_MS && self.looks >= HANG_LOOKS => Pulse::Hangs,
            _ if waited_ms >= HANG_MS / 2 => Pulse::VerySlow,
            _ if waited_ms >= SLOW_MS => Pulse::Slow,
            _ => Pulse::Quick,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_that_does_not_answer_is_slow_then_very_slow_then_hangs() {
        let mut watch = Watch::default();
        assert_eq!(watch.look(1_000, 0), Pulse::Quick);
        let mut seen = Vec::new();
        for now_ms in (1_100..=5_200).step_by(LOOK_MS as usize) {
            let pulse = watch.look(now_ms, 1_050);
            if seen.last().is_none_or(|(_, last)| *last != pulse) {
                seen.push((now_ms, pulse));
            }
        }
        let expected = [
            (1_100, Pulse::Quick),
            (1_300, Pulse::Slow),
            (3_100, Pulse::VerySlow),
            (5_100, Pulse::Hangs),
        ];
        assert_eq!(seen, expected);
        assert_eq!(watch.look(5_300, 0), Pulse::Quick, "it answers again");
    }

    #[test]
    fn a_process_that_was_stopped_condemns_no_drive() {
        let mut watch = Watch::default();
        assert_eq!(watch.look(1_100, 1_000), Pulse::Quick);
        for look in 0..HANG_LOOKS as u64 - 2 {
            let pulse = watch.look(100_000 + look * LOOK_MS, 1_000);
            assert_eq!(pulse, Pulse::VerySlow, "look {look} after the pause");
        }
        assert_eq!(watch.look(200_000, 1_000), Pulse::Hangs);
    }

    #[test]
    fn a_drive_that_answers_one_operation_after_the_other_does_not_hang() {
        let mut watch = Watch::default();
        for now_ms in (10_000..60_000).step_by(LOOK_MS as usize) {
            assert!(watch.look(now_ms, now_ms / 1_000 * 1_000 - 3_000) < Pulse::Hangs);
        }
    }
}
