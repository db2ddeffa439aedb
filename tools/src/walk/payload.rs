//! The part of a record behind its header.

use tapeloop_format::{CHUNK, FormatError, RecordHeader, RecordKind, Salt, Structure};
use twox_hash::XxHash3_128;

use super::fault::Fault;
use super::reader::ZoneReader;

/// Checks all of a record behind its header: payload, content hash and padding. Gives what is
/// wrong: the first fault, and the number of places that are wrong.
pub(crate) fn check_record(
    reader: &mut ZoneReader<'_>,
    salt: Salt,
    offset: u64,
    header: &RecordHeader,
) -> Option<(Fault, usize)> {
    let payload = check_payload(reader, salt, offset, header);
    // A void keeps whatever a crash left in its hole.
    if header.kind == RecordKind::Void {
        return None;
    }
    match (payload, check_padding(reader, offset, header)) {
        (payload, Ok(())) => payload,
        (None, Err(fault)) => Some((fault, 1)),
        (Some((first, count)), Err(_)) => Some((first, count + 1)),
    }
}

/// Checks every chunk of a record's payload, and the content hash of an object: all that a reader
/// is given. A bit in the padding costs nobody anything.
pub(crate) fn check_payload(
    reader: &mut ZoneReader<'_>,
    salt: Salt,
    offset: u64,
    header: &RecordHeader,
) -> Option<(Fault, usize)> {
    let start = offset + header.shape().payload_offset as u64;
    let mut faults = Faults::default();
    let mut content = XxHash3_128::new();
    for index in 0..header.chunk_crcs.len() {
        let at = start + (index * CHUNK) as u64;
        let checked = match reader.bytes(at, header.chunk_len(index)) {
            Ok(chunk) => {
                content.write(chunk);
                header.verify_chunk(salt, index, chunk).map_err(Fault::Format)
            }
            Err(fault) => Err(fault),
        };
        if let Err(fault) = checked {
            faults.note(fault);
        }
    }
    // A damaged chunk spoils the hash as well: one finding is enough.
    if faults.count == 0 && header.kind == RecordKind::Put {
        let found = content.finish_128().to_le_bytes();
        if found != header.content_hash {
            let (expected, found) = (hex(&header.content_hash), hex(&found));
            faults.note(Fault::ContentHash { expected, found });
        }
    }
    faults.first.map(|fault| (fault, faults.count))
}

#[derive(Default)]
struct Faults {
    first: Option<Fault>,
    count: usize,
}

impl Faults {
    fn note(&mut self, fault: Fault) {
        self.first.get_or_insert(fault);
        self.count += 1;
    }
}

/// Bytes in hexadecimal, in the order they lie in: how a content hash is shown everywhere.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of a payload that was found good.
pub(crate) fn payload<'r>(
    reader: &'r mut ZoneReader<'_>,
    offset: u64,
    header: &RecordHeader,
) -> Result<&'r [u8], Fault> {
    reader.bytes(offset + header.shape().payload_offset as u64, header.payload_len as usize)
}

fn check_padding(
    reader: &mut ZoneReader<'_>,
    offset: u64,
    header: &RecordHeader,
) -> Result<(), Fault> {
    let shape = header.shape();
    let end = shape.payload_offset + header.payload_len as usize;
    let padding = reader.bytes(offset + end as u64, shape.record_len - end)?;
    match padding.iter().position(|byte| *byte != 0) {
        None => Ok(()),
        Some(at) => Err(Fault::Format(FormatError::Reserved {
            what: Structure::RecordPadding,
            offset: end + at,
            found: padding[at],
        })),
    }
}
