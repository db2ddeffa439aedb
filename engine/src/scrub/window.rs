//! A piece of a zone in memory, so that small records next to each other cost one read together.

use super::control::Halt;
use super::cycle::Cycle;
use super::report::ScrubFault;
use tapeloop_format::{BLOCK, FormatError, round_up};
use tapeloop_io::AlignedBuf;

/// Bytes read at once, at most.
pub(super) const WINDOW: usize = 256 << 10;
/// What is skipped to go on reading in a row.
const GAP_MAX: u64 = 32 << 10;

/// Why there are no bytes, or not the right ones.
pub(super) enum Trouble {
    Halt(Halt),
    Fault(ScrubFault),
}

impl From<Halt> for Trouble {
    fn from(halt: Halt) -> Trouble {
        Trouble::Halt(halt)
    }
}

impl From<ScrubFault> for Trouble {
    fn from(fault: ScrubFault) -> Trouble {
        Trouble::Fault(fault)
    }
}

impl From<FormatError> for Trouble {
    fn from(error: FormatError) -> Trouble {
        Trouble::Fault(error.into())
    }
}

/// The bytes of `zone` from `start` on.
#[derive(Default)]
pub(super) struct Window {
    zone: u32,
    start: u64,
    bytes: Option<AlignedBuf>,
    /// How much the last read asked for: doubles while reads follow each other.
    ahead: usize,
}

impl Window {
    fn end(&self) -> u64 {
        self.start + self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)
    }

    pub(super) fn forget(&mut self) {
        *self = Window::default();
    }
}

impl Cycle<'_> {
    /// `len` bytes, at most [`WINDOW`], of a zone that must hold them.
    pub(super) fn bytes(&mut self, zone: u32, offset: u64, len: usize) -> Result<&[u8], Trouble> {
        assert!(len > 0 && len <= WINDOW);
        let end = offset + len as u64;
        let window = &self.window;
        let is_there = window.zone == zone && window.start <= offset && end <= window.end();
        if !is_there {
            self.refill(zone, offset, len)?;
        }
        let from = (offset - self.window.start) as usize;
        let bytes = self.window.bytes.as_ref().expect("it was just filled");
        Ok(&bytes[from..from + len])
    }

    fn refill(&mut self, zone: u32, offset: u64, len: usize) -> Result<(), Trouble> {
        let zone_size = self.shared.geometry.zone_size();
        let end = offset + len as u64;
        assert!(end <= zone_size, "{len} bytes at {offset} of a zone of {zone_size}");
        let start = offset - offset % BLOCK as u64;
        let window = &self.window;
        let in_a_row = window.zone == zone
            && window.bytes.is_some()
            && (window.start..=window.end() + GAP_MAX).contains(&start);
        let ahead = if in_a_row { (window.ahead * 2).min(WINDOW) } else { 0 };
        let needed = round_up((end - start) as usize, BLOCK);
        let wanted = needed.max(ahead).min((zone_size - start) as usize);
        self.window.forget();
        let bytes = match self.read(zone, start, wanted)? {
            // What cannot be read may lie behind what is asked for: that would be another finding.
            Err(_) if wanted > needed => self.read(zone, start, needed)??,
            read => read?,
        };
        let ahead = bytes.len();
        self.window = Window { zone, start, bytes: Some(bytes), ahead };
        Ok(())
    }

    /// A table of any length.
    pub(super) fn table(&mut self, zone: u32, offset: u64, len: usize) -> Result<Vec<u8>, Trouble> {
        let mut table = Vec::with_capacity(len);
        while table.len() < len {
            let piece = (len - table.len()).min(WINDOW);
            let bytes = self.read(zone, offset + table.len() as u64, piece)??;
            table.extend_from_slice(&bytes);
        }
        Ok(table)
    }
}
