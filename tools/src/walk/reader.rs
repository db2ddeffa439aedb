//! Reads within one zone through a window, so that a full check reads large sequential blocks and
//! a look at the headers alone does not read the payloads between them.

use tapeloop_format::BLOCK;

use super::fault::Fault;
use super::volume::Volume;

/// Window for reading everything.
pub(crate) const WINDOW_ALL: usize = 1 << 20;
/// Window for reading headers only.
pub(crate) const WINDOW_HEADERS: usize = 16 << 10;

/// The bytes of one zone.
#[derive(Debug)]
pub(crate) struct ZoneReader<'v> {
    volume: &'v Volume,
    zone_offset: u64,
    zone_size: u64,
    window: Vec<u8>,
    window_start: u64,
    window_len: usize,
    pub(crate) byte_count: u64,
}

impl<'v> ZoneReader<'v> {
    pub(crate) fn new(volume: &'v Volume, zone: u32, window_len: usize) -> ZoneReader<'v> {
        assert!(window_len.is_multiple_of(BLOCK));
        ZoneReader {
            volume,
            zone_offset: volume.zone_offset(zone),
            zone_size: volume.zone_size(),
            window: Vec::new(),
            window_start: 0,
            window_len,
            byte_count: 0,
        }
    }

    /// `len` bytes from `offset` of the zone.
    pub(crate) fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8], Fault> {
        assert!(offset + len as u64 <= self.zone_size);
        if !self.holds(offset, len) {
            self.fill(offset, len)?;
        }
        let start = (offset - self.window_start) as usize;
        Ok(&self.window[start..start + len])
    }

    /// One block.
    pub(crate) fn block(&mut self, offset: u64) -> Result<&[u8], Fault> {
        self.bytes(offset, BLOCK)
    }

    /// Takes back one flipped bit in the window, so that what shares a block with it can be judged
    /// without it. The volume is not touched.
    pub(crate) fn patch(&mut self, offset: u64, bit: u8) {
        if self.holds(offset, 1) {
            self.window[(offset - self.window_start) as usize] ^= 1 << bit;
        }
    }

    fn holds(&self, offset: u64, len: usize) -> bool {
        offset >= self.window_start
            && offset + len as u64 <= self.window_start + self.window.len() as u64
    }

    fn fill(&mut self, offset: u64, len: usize) -> Result<(), Fault> {
        let room = (self.zone_size - offset) as usize;
        let wanted = self.window_len.max(len).min(room);
        let wide = self.fill_exactly(offset, wanted);
        // A bad sector costs what lies on it, not the whole window around it.
        if wide.is_err() && wanted > len { self.fill_exactly(offset, len) } else { wide }
    }

    fn fill_exactly(&mut self, offset: u64, len: usize) -> Result<(), Fault> {
        self.window.resize(len, 0);
        self.window_start = offset;
        let result = self.volume.read(self.zone_offset + offset, &mut self.window);
        match result {
            Ok(()) => self.byte_count += len as u64,
            Err(_) => self.window.clear(),
        }
        result
    }
}
