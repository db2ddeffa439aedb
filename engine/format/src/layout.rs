//! Every layout by name, for tools that dump structures and for the test that compares
//! docs/disk-format.md with the code.

use crate::{Field, checkpoint, footer, kill, record, trailer, volume, zone};

/// A structure and its fields in order.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Name of the structure as docs/disk-format.md has it.
    pub name: &'static str,
    /// All fields, reserved ones included, without gaps.
    pub fields: &'static [Field],
}

impl Layout {
    /// Bytes of the structure.
    pub fn len(&self) -> usize {
        self.fields.last().map_or(0, |field| field.end())
    }

    /// Whether the structure has no bytes; none has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// All fixed layouts.
pub fn layouts() -> [Layout; 8] {
    [
        Layout { name: "volume header", fields: volume::LAYOUT },
        Layout { name: "checkpoint", fields: checkpoint::LAYOUT },
        Layout { name: "open zone mark", fields: checkpoint::MARK_LAYOUT },
        Layout { name: "zone header", fields: zone::LAYOUT },
        Layout { name: "record header", fields: record::LAYOUT },
        Layout { name: "footer entry", fields: footer::LAYOUT },
        Layout { name: "kill", fields: kill::LAYOUT },
        Layout { name: "footer trailer", fields: trailer::LAYOUT },
    ]
}
