//! The manifest of a dump: one JSON document a line. The first says what was dumped, the last how
//! many objects there are; between them stands one line for each object.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::metadata::Fields;
use super::names::is_inside;

const NAME: &str = "manifest.jsonl";
const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) tapeloop_dump: u32,
    pub(crate) store_id: String,
    /// As text; what is not printable is escaped.
    pub(crate) prefix: String,
    pub(crate) dumped_wall_ms: u64,
    pub(crate) dumped_store_ms: Option<u64>,
}

impl Head {
    pub(crate) fn new(
        store_id: String,
        prefix: String,
        dumped_wall_ms: u64,
        dumped_store_ms: Option<u64>,
    ) -> Head {
        Head { tapeloop_dump: VERSION, store_id, prefix, dumped_wall_ms, dumped_store_ms }
    }
}

/// One object.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The key, percent-encoded as in a URL.
    pub(crate) key: String,
    /// Relative to the folder.
    pub(crate) file: String,
    pub(crate) len: u64,
    /// XXH3-128 as the record holds it, which is the object's ETag.
    pub(crate) content_hash: String,
    /// Life left at the dump; None for one without end in sight.
    pub(crate) life_ms: Option<u64>,
    pub(crate) created_wall_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_encoding: Option<String>,
    /// All of the metadata, in hexadecimal.
    pub(crate) metadata: String,
}

impl Entry {
    pub(crate) fn describe(&mut self, fields: Fields) {
        self.content_type = fields.content_type;
        self.content_encoding = fields.content_encoding;
    }
}

/// The last line.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
struct End {
    object_count: u64,
    left_out_count: u64,
}

/// A manifest being written. It gets its name when it is whole.
#[derive(Debug)]
pub(crate) struct Writer {
    out: BufWriter<File>,
    folder: PathBuf,
    object_count: u64,
}

impl Writer {
    pub(crate) fn create(folder: &Path, head: &Head) -> io::Result<Writer> {
        let file = File::create_new(folder.join(format!("{NAME}.partial")))?;
        let mut out = BufWriter::new(file);
        line(&mut out, head)?;
        Ok(Writer { out, folder: folder.to_owned(), object_count: 0 })
    }

    pub(crate) fn add(&mut self, entry: &Entry) -> io::Result<()> {
        self.object_count += 1;
        line(&mut self.out, entry)
    }

    pub(crate) fn finish(mut self, left_out_count: u64) -> io::Result<()> {
        line(&mut self.out, &End { object_count: self.object_count, left_out_count })?;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let name = self.folder.join(NAME);
        std::fs::rename(self.folder.join(format!("{NAME}.partial")), name)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// Reads a manifest whole: it must have its end.
pub(crate) fn read(folder: &Path) -> Result<(Head, Vec<Entry>), String> {
    let path = folder.join(NAME);
    let file = File::open(&path).map_err(|error| format!("{NAME}: {error}"))?;
    parse(BufReader::new(file))
}

fn parse(input: impl BufRead) -> Result<(Head, Vec<Entry>), String> {
    let mut lines = input.lines();
    let first = lines.next().ok_or("the manifest is empty")?.map_err(|error| error.to_string())?;
    let head: Head = serde_json::from_str(&first).map_err(|error| error.to_string())?;
    if head.tapeloop_dump != VERSION {
        return Err(format!("manifest version {} is not {VERSION}", head.tapeloop_dump));
    }
    let mut entries: Vec<Entry> = Vec::new();
    let mut end: Option<End> = None;
    for text in lines {
        let text = text.map_err(|error| error.to_string())?;
        if end.is_some() {
            return Err("the manifest goes on behind its end".to_owned());
        }
        match serde_json::from_str::<Entry>(&text) {
            Ok(entry) if is_inside(&entry.file) => entries.push(entry),
            Ok(entry) => return Err(format!("{:?} would lie outside the folder", entry.file)),
            Err(error) => {
                let last = serde_json::from_str(&text);
                end = Some(last.map_err(|_| format!("line {}: {error}", entries.len() + 2))?);
            }
        }
    }
    let end = end.ok_or("the manifest has no end: the dump was cut short")?;
    if end.object_count != entries.len() as u64 {
        return Err(format!("{} of {} objects are listed", entries.len(), end.object_count));
    }
    Ok((head, entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(file: &str) -> Entry {
        Entry {
            key: "live/a%20b".to_owned(),
            file: file.to_owned(),
            len: 5,
            content_hash: "00".repeat(16),
            life_ms: Some(7),
            created_wall_ms: 9,
            content_type: None,
            content_encoding: Some("gzip".to_owned()),
            metadata: String::new(),
        }
    }

    #[test]
    fn a_manifest_reads_back_and_a_cut_or_crooked_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let head = Head::new("id".to_owned(), "live/".to_owned(), 3, None);
        let mut writer = Writer::create(folder.path(), &head).unwrap();
        writer.add(&entry("objects/a")).unwrap();
        assert!(read(folder.path()).is_err(), "not before it is whole");
        writer.finish(0).unwrap();
        let text = std::fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert_eq!(read(folder.path()).unwrap(), (head, vec![entry("objects/a")]));
        let lines: Vec<&str> = text.lines().collect();
        let cut = lines[..2].join("\n");
        assert!(parse(cut.as_bytes()).unwrap_err().contains("cut short"));
        let twice = [lines[0], lines[1], lines[1], lines[2]].join("\n");
        assert!(parse(twice.as_bytes()).unwrap_err().contains("2 of 1"));
        let outside = text.replace("objects/a", "../a");
        assert!(parse(outside.as_bytes()).unwrap_err().contains("outside"));
    }
}
