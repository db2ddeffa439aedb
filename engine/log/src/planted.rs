//! Bugs planted on purpose, for the simulator to find: a check that never fails proves nothing.
//!
//! They exist only where the compiler is told `--cfg tapeloop_planted`, and even there only on a
//! thread that asks for one. The engine refuses to be compiled with them.

/// Is this bug planted here? Never, in anything that is not compiled for it.
#[cfg(not(tapeloop_planted))]
macro_rules! planted {
    (Bug::$bug:ident) => {
        false
    };
}

/// Is this bug planted on this thread?
#[cfg(tapeloop_planted)]
macro_rules! planted {
    (Bug::$bug:ident) => {
        $crate::planted::is($crate::planted::Bug::$bug)
    };
}

#[cfg(tapeloop_planted)]
pub(crate) use switch::is;
#[cfg(tapeloop_planted)]
pub use switch::{Bug, plant};

#[cfg(tapeloop_planted)]
mod switch {
    use std::cell::Cell;

    macro_rules! bugs {
        ($($bug:ident: $what:literal,)*) => {
            /// What can be planted.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Bug {
                $(#[doc = $what] $bug,)*
            }

            impl Bug {
                /// All of them.
                pub const ALL: &[Bug] = &[$(Bug::$bug,)*];

                /// What is wrong with it planted.
                pub fn what(self) -> &'static str {
                    match self {
                        $(Bug::$bug => $what,)*
                    }
                }
            }
        };
    }

    bugs! {
        AckBeforeFlush: "acknowledge before the flush",
        FlushCoversLater: "a flush covers what was written after it was asked for",
        FlushOfOtherVolume: "a flush covers what was written to another volume",
        RetryFailedFlush: "ask again for a flush that failed",
        IgnoreWriteError: "take a refused write for a done one",
        SkipPayloadCheck: "skip payload checksums in the scan after a crash",
        TrustLastLap: "take records of the last lap for this one's",
        TrustAnyPlace: "take a record for one of the place it was read from",
        NoIncarnationCheck: "believe records that an earlier start dropped",
        ReadUnverified: "skip payload checksums when reading",
        ReadAnyPlace: "give out a record from another place or lap",
        LoseTombstone: "lose a tombstone when its zone is sealed",
        LoseOverwrite: "lose what an overwrite kills when its zone is sealed",
        OldVersionWins: "let an old version return",
        FooterMissesLast: "leave the last object out of the footer",
        FooterNotFlushed: "call a footer durable when it is written",
        HeaderNotFlushed: "write into a zone whose header is not durable",
        JournalNotFlushed: "reuse a zone whose kills are not durable in the journal",
        CarryNotFlushed: "call a carry durable when it is written",
        SkipCarry: "carry no kills out of a zone that is reused",
        IgnoreJournal: "read no kills from the carry journal",
        JournalReused: "write a carry over another one in the journal",
        ForgetOrphans: "forget the kills of a zone that could not be made ready",
        ForgetGhosts: "forget where a write that was given up may lie",
        ForgetUnserved: "forget the version in a zone that is not served any more",
        DurableLenTooFar: "a checkpoint calls durable what is only placed",
        WatermarkTooHigh: "the durable watermark passes over a record that is not durable",
        CheckpointOneSlot: "write every checkpoint to the same slot",
        NoFlushAtStart: "serve what was read before it is durable",
        NoVoid: "leave a torn hole in the middle of a zone",
        SameIncarnation: "do not raise the incarnation at a start",
        LsnReused: "give out LSNs that a dropped record had",
        ClockGoesBack: "let the store clock stand still over a reboot",
        ExpireEarly: "free a zone a second before its last object expires",
        EvictGuaranteed: "evict guaranteed objects",
        KeepOldEntry: "keep the index entry of the version that was replaced",
        KeepDeleted: "keep the index entry of a deleted object",
        ReturnGivenUp: "believe a volume that was given up",
    }

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug on this thread, in the place of another one.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(crate) fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}
