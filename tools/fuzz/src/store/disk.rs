//! A volume in memory that can be put back to how it was. Only the blocks written since are copied,
//! so that an execution costs what it touches.

use tapeloop_format::BLOCK;

/// One volume.
#[derive(Clone, Debug)]
pub struct Disk {
    pristine: Vec<u8>,
    bytes: Vec<u8>,
    written: Vec<usize>,
    is_written: Vec<bool>,
}

impl Disk {
    /// A volume that holds these bytes.
    pub fn new(bytes: Vec<u8>) -> Disk {
        assert!(bytes.len().is_multiple_of(BLOCK));
        let blocks = bytes.len() / BLOCK;
        Disk {
            pristine: bytes.clone(),
            bytes,
            written: Vec::new(),
            is_written: vec![false; blocks],
        }
    }

    /// What the volume holds now.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Numbers of the blocks written since the last `restore`.
    pub fn written(&self) -> &[usize] {
        &self.written
    }

    /// `len` bytes at `offset`. Panics outside of the volume: nobody may ask for that.
    pub fn read(&self, offset: u64, len: usize) -> &[u8] {
        let start = usize::try_from(offset).expect("a volume in memory");
        self.bytes.get(start..start + len).unwrap_or_else(|| {
            panic!("{len} bytes at {offset} of a volume of {}", self.bytes.len())
        })
    }

    /// The bytes at `offset`, to be overwritten.
    pub fn edit(&mut self, offset: usize, len: usize) -> &mut [u8] {
        assert!(len > 0 && offset + len <= self.bytes.len());
        for block in offset / BLOCK..=(offset + len - 1) / BLOCK {
            if !std::mem::replace(&mut self.is_written[block], true) {
                self.written.push(block);
            }
        }
        &mut self.bytes[offset..offset + len]
    }

    /// Writes whole blocks, as a drive does.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        assert!(offset.is_multiple_of(BLOCK as u64) && bytes.len().is_multiple_of(BLOCK));
        let start = usize::try_from(offset).expect("a volume in memory");
        self.edit(start, bytes.len()).copy_from_slice(bytes);
    }

    /// Puts back every block written since.
    pub fn restore(&mut self) {
        for block in self.written.drain(..) {
            let range = block * BLOCK..(block + 1) * BLOCK;
            self.bytes[range.clone()].copy_from_slice(&self.pristine[range]);
            self.is_written[block] = false;
        }
    }
}
