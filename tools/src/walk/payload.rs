//! The part of a record behind its header.

use tapeloop_format::{CHUNK, FormatError, RecordHeader, RecordKind, Salt, Structure};

use super::fault::Fault;
use super::reader::ZoneReader;

/// Checks every chunk of a record's payload, and the padding behind it. Gives what is wrong: the
/// first fault, and the number of places that are wrong.
pub(crate) fn check_payload(
    reader: &mut ZoneReader<'_>,
    salt: Salt,
    offset: u64,
    header: &RecordHeader,
) -> Option<(Fault, usize)> {
    // A void keeps whatever a crash left in its hole.
    if header.kind == RecordKind::Void {
        return None;
    }
    let start = offset + header.shape().payload_offset as u64;
    let mut first = None;
    let mut count = 0;
    let mut note = |fault: Fault| {
        first.get_or_insert(fault);
        count += 1;
    };
    for index in 0..header.chunk_crcs.len() {
        let at = start + (index * CHUNK) as u64;
        let checked = match reader.bytes(at, header.chunk_len(index)) {
            Ok(chunk) => header.verify_chunk(salt, index, chunk).map_err(Fault::Format),
            Err(fault) => Err(fault),
        };
        if let Err(fault) = checked {
            note(fault);
        }
    }
    if let Err(fault) = check_padding(reader, offset, header) {
        note(fault);
    }
    first.map(|fault| (fault, count))
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
