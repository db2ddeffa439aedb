//! docs/disk-format.md is normative, so it must say what the code does: its field tables, its
//! volume map and its worked example are compared with the layouts, the constants and the golden
//! image.

use std::path::Path;
use tapeloop_format::{
    BLOCK, CARRY_JOURNAL_LEN, CARRY_JOURNAL_OFFSET, CHECKPOINT_SLOTS, DATA_OFFSET, layouts,
};

fn from_root(path: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn document() -> String {
    String::from_utf8(from_root("docs/disk-format.md")).unwrap()
}

/// Cells of the first table behind a heading, its two head lines left out.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let mut lines = document.lines().skip_while(|line| !line.eq_ignore_ascii_case(heading));
    assert!(lines.next().is_some(), "no heading {heading:?} in docs/disk-format.md");
    let rows = lines.skip_while(|line| !line.starts_with('|')).skip(2);
    let cells = |row: &str| {
        let row = row.trim_matches('|');
        row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    rows.take_while(|line| line.starts_with('|')).map(cells).collect()
}

#[test]
fn the_field_tables_are_the_layouts() {
    let document = document();
    for layout in layouts() {
        let documented: Vec<(usize, usize, String)> =
            table(&document, &format!("### {}", layout.name))
                .iter()
                .map(|row| {
                    let number = |cell: &str| cell.parse().unwrap_or_else(|_| panic!("{row:?}"));
                    (number(&row[0]), number(&row[1]), row[2].trim_matches('`').to_owned())
                })
                .collect();
        let fields: Vec<(usize, usize, String)> = layout
            .fields
            .iter()
            .map(|field| (field.offset, field.len, field.name.to_owned()))
            .collect();
        assert_eq!(documented, fields, "{} in docs/disk-format.md", layout.name);
    }
}

#[test]
fn the_volume_map_is_the_geometry() {
    let block = BLOCK as u64;
    let reserved = CHECKPOINT_SLOTS[1] + block;
    let map = [
        (0, block, "volume header, copy A"),
        (CHECKPOINT_SLOTS[0], block, "checkpoint slot 0"),
        (CHECKPOINT_SLOTS[1], block, "checkpoint slot 1"),
        (reserved, CARRY_JOURNAL_OFFSET - reserved, "reserved"),
        (CARRY_JOURNAL_OFFSET, CARRY_JOURNAL_LEN, "carry journal"),
    ];
    let rows = table(&document(), "## Volume map");
    for (row, (offset, len, region)) in rows.iter().zip(map) {
        assert_eq!(row[..], [offset.to_string(), len.to_string(), region.to_owned()]);
    }
    assert_eq!(rows.len(), map.len() + 2);
    assert_eq!(rows[map.len()][0], DATA_OFFSET.to_string());
    assert_eq!(CARRY_JOURNAL_OFFSET + CARRY_JOURNAL_LEN, DATA_OFFSET);
}

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .map_while(|byte| (byte.len() == 2).then(|| u8::from_str_radix(byte, 16).ok()).flatten())
        .collect()
}

#[test]
fn the_worked_example_is_the_golden_record() {
    let document = document();
    let golden = from_root("engine/format/tests/golden/record-put-small.bin");
    let opening = "```hexdump engine/format/tests/golden/record-put-small.bin";
    let lines = document.lines().skip_while(|line| *line != opening).skip(1);
    let mut dumped = Vec::new();
    for line in lines.take_while(|line| *line != "```") {
        let (offset, rest) = line.split_once("  ").unwrap();
        assert_eq!(usize::from_str_radix(offset, 16), Ok(dumped.len()));
        dumped.extend(hex(rest.split('|').next().unwrap()));
    }
    assert!(dumped.len() > 0xe0, "the whole record is shown");
    assert_eq!(dumped, golden[..dumped.len()]);
    assert!(golden[dumped.len()..].iter().all(|byte| *byte == 0), "the rest is zeros");

    let rows = table(&document, "## A worked example");
    for row in &rows {
        let at = usize::from_str_radix(row[0].trim_start_matches("0x"), 16).unwrap();
        let shown = hex(row[1].trim_start_matches('`').split('`').next().unwrap());
        assert!(!shown.is_empty(), "{row:?}");
        assert_eq!(shown, golden[at..at + shown.len()], "{row:?}");
    }
    assert!(rows.len() > 15);
}
