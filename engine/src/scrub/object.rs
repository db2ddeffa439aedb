//! One object: its record is what was written, where it was written, to the last bit.

use super::control::Halt;
use super::cycle::Cycle;
use super::report::{ScrubFault, ScrubPart};
use super::window::Trouble;
use super::zone::ZoneAt;
use tapeloop_format::{BLOCK, FormatError, KeyHash, RecordHeader, RecordKind, Structure};
use tapeloop_log::Location;
use twox_hash::XxHash3_128;

/// An object as footer, log or index list it.
pub(super) struct Listed {
    /// Not known from the index.
    pub(super) hash: Option<KeyHash>,
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) expires_ms: u64,
    pub(super) lsn: Option<u64>,
}

impl Listed {
    fn location(&self, at: &ZoneAt) -> Location {
        Location { zone: at.zone, lap: at.lap, offset: self.offset, len: self.len }
    }
}

impl Cycle<'_> {
    /// Verifies an object if it is alive. `key` is asked when there is something to name.
    pub(super) fn object(
        &mut self,
        at: &ZoneAt,
        listed: &Listed,
        key: impl FnOnce(&mut Self) -> Result<Option<Box<[u8]>>, Halt>,
    ) -> Result<(), Halt> {
        if !self.is_alive(at, listed) {
            return Ok(());
        }
        let mut header = None;
        let fault = match self.verify(at, listed, &mut header) {
            Ok(()) => {
                self.control.count_object();
                return Ok(());
            }
            Err(Trouble::Halt(halt)) => return Err(halt),
            Err(Trouble::Fault(fault)) => fault,
        };
        // The listing's word first: a record that is not what it should be has no say.
        let key = match (key(self)?, header) {
            (None, Some(header)) if is_of(&header, listed) => Some(header.key),
            (key, _) => key,
        };
        // Overwritten, deleted, expired or reused meanwhile: nobody can ask for it.
        if !self.is_alive(at, listed) {
            return Ok(());
        }
        let mut finding = self.finding(at, ScrubPart::Object, listed.offset, fault);
        (finding.key_hash, finding.len) = (listed.hash, listed.len);
        finding.expires_ms = listed.expires_ms;
        Self::name(&mut finding, key);
        self.control.count_object();
        self.found(finding);
        Ok(())
    }

    fn is_alive(&self, at: &ZoneAt, listed: &Listed) -> bool {
        let directory = &self.shared.directory;
        let is_current = match &listed.hash {
            Some(hash) => directory.is_current(hash, &listed.location(at)),
            None => directory.is_servable(at.zone, at.lap),
        };
        is_current && listed.expires_ms > self.shared.now_ms()
    }

    /// Leaves the header behind once its own checksum holds.
    fn verify(
        &mut self,
        at: &ZoneAt,
        listed: &Listed,
        found: &mut Option<RecordHeader>,
    ) -> Result<(), Trouble> {
        let header = found.insert(self.record_header(at, listed.offset)?);
        let zone_size = self.shared.geometry.zone_size();
        // Base positions are multiples of the zone size.
        let base = at.base_position.unwrap_or(header.position - header.position % zone_size);
        header.expect(at.zone, at.lap, base + listed.offset)?;
        let is_whole = listed.offset + header.shape().record_len as u64 <= zone_size;
        let hash = self.shared.hasher.hash(&header.key);
        let is_this = is_of(header, listed) && hash == header.key_hash && is_whole;
        // Without a listing the index has the word.
        let is_indexed = || self.shared.directory.is_current(&hash, &listed.location(at));
        if !is_this || (listed.hash.is_none() && !is_indexed()) {
            return Err(ScrubFault::OtherRecord.into());
        }
        if header.expires_ms <= self.shared.now_ms() {
            return Ok(());
        }
        let header = &*header;
        self.payload(at, listed.offset, header)?;
        self.padding(at, listed.offset, header)
    }

    fn record_header(&mut self, at: &ZoneAt, offset: u64) -> Result<RecordHeader, Trouble> {
        let salt = self.shared.store_id.salt();
        let first = RecordHeader::decode(self.bytes(at.zone, offset, BLOCK)?, salt);
        let Err(FormatError::NeedMore { needed }) = first else { return Ok(first?) };
        if offset + needed as u64 > self.shared.geometry.zone_size() {
            return Err(FormatError::NeedMore { needed }.into());
        }
        Ok(RecordHeader::decode(self.bytes(at.zone, offset, needed)?, salt)?)
    }

    fn payload(&mut self, at: &ZoneAt, offset: u64, header: &RecordHeader) -> Result<(), Trouble> {
        let salt = self.shared.store_id.salt();
        let mut content = XxHash3_128::new();
        let mut next = offset + header.shape().payload_offset as u64;
        for index in 0..header.chunk_crcs.len() {
            let len = header.chunk_len(index);
            let chunk = self.bytes(at.zone, next, len)?;
            header.verify_chunk(salt, index, chunk)?;
            content.write(chunk);
            next += len as u64;
        }
        let (stored, computed) = (u128::from_le_bytes(header.content_hash), content.finish_128());
        match stored == computed {
            true => Ok(()),
            false => Err(ScrubFault::ContentHash { stored, computed }.into()),
        }
    }

    fn padding(&mut self, at: &ZoneAt, offset: u64, header: &RecordHeader) -> Result<(), Trouble> {
        let shape = header.shape();
        let end = shape.payload_offset + header.payload_len as usize;
        if end == shape.record_len {
            return Ok(());
        }
        let padding = self.bytes(at.zone, offset + end as u64, shape.record_len - end)?;
        match padding.iter().position(|byte| *byte != 0) {
            None => Ok(()),
            Some(odd) => {
                let what = Structure::RecordPadding;
                Err(FormatError::Reserved { what, offset: end + odd, found: padding[odd] }.into())
            }
        }
    }
}

/// Is this the record that was listed?
fn is_of(header: &RecordHeader, listed: &Listed) -> bool {
    header.kind == RecordKind::Put
        && header.payload_len == u64::from(listed.len)
        && listed.hash.is_none_or(|hash| hash == header.key_hash)
        && listed.lsn.is_none_or(|lsn| lsn == header.lsn)
}
