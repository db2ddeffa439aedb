//! `tapectl dump`: the live objects under a prefix, to files.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use twox_hash::XxHash3_128;

use super::manifest::{Entry, Head, Writer};
use super::metadata::Fields;
use super::names::{NUMBERED, OBJECTS, numbered_name, own_name};
use super::newest::{newest, read_object};
use super::{DumpPlan, LEFT_OUT_MAX, LeftOut};
use crate::error::{Outcome, ToolError};
use crate::output;
use crate::progress;
use crate::units;
use crate::walk::{Store, hex};

/// A payload is read whole before a byte of it is written; what the kernel merges, it may lose.
const VERIFY_BUFFER: usize = 1 << 20;

#[derive(Debug, Default, Serialize)]
struct Report {
    folder: String,
    store_id: String,
    object_count: u64,
    payload_bytes: u64,
    /// Their life was over.
    expired_count: u64,
    left_out_count: u64,
    left_out: Vec<LeftOut>,
    /// Indexes of volumes that were not given: what lies on them is not in the dump.
    missing: Vec<u16>,
}

pub(crate) fn run(plan: &DumpPlan) -> Result<Outcome, ToolError> {
    let store = Store::open(&plan.paths)?;
    let prefix = plan.prefix.escape_ascii().to_string();
    output::plan(&format!(
        "dump {}: live objects under {prefix:?} to {}; the store is only read",
        store.paths(),
        plan.to.display(),
    ));
    let failed = |path: &Path, error: &io::Error| {
        ToolError::Create(format!(
            "{}: {error}; what was written so far has no manifest",
            path.display()
        ))
    };
    std::fs::create_dir(&plan.to).map_err(|error| failed(&plan.to, &error))?;
    let (wall, now_ms) = (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH), store.now_ms());
    let wall_ms = wall.map_or(0, |wall: Duration| wall.as_millis() as u64);
    let head = Head::new(store.store_id().to_string(), prefix, wall_ms, now_ms);
    let writer = Writer::create(&plan.to, &head).map_err(|error| failed(&plan.to, &error))?;
    let report = Report {
        folder: plan.to.display().to_string(),
        store_id: store.store_id().to_string(),
        missing: store.missing.clone(),
        ..Report::default()
    };
    let mut dump = Dump { store: &store, folder: plan.to.clone(), now_ms, writer, report };
    dump.objects(&plan.prefix).map_err(|error| failed(&plan.to, &error))?;
    let Dump { writer, report, .. } = dump;
    writer.finish(report.left_out_count).map_err(|error| failed(&plan.to, &error))?;
    print(&report, plan.json)?;
    Ok(Outcome::of_problem_count(report.left_out_count + report.missing.len() as u64))
}

struct Dump<'s> {
    store: &'s Store,
    folder: PathBuf,
    now_ms: Option<u64>,
    writer: Writer,
    report: Report,
}

impl Dump<'_> {
    fn objects(&mut self, prefix: &[u8]) -> io::Result<()> {
        std::fs::create_dir(self.folder.join(OBJECTS))?;
        let all = newest(self.store, prefix);
        let bar = progress::count(all.len() as u64, "dumping");
        for newest in all {
            bar.inc(1);
            if newest.is_lost() {
                self.leave_out(&newest.key, "the header of its record is damaged".to_owned());
            }
            let Some(version) = newest.version() else { continue };
            match read_object(self.store, &newest.key, version) {
                Ok((header, payload)) => {
                    if self.now_ms.is_some_and(|now_ms| header.expires_ms <= now_ms) {
                        self.report.expired_count += 1;
                        continue;
                    }
                    let left_ms =
                        self.now_ms.map(|now_ms| header.expires_ms.saturating_sub(now_ms));
                    let mut entry = Entry {
                        key: percent(&newest.key),
                        file: String::new(),
                        len: payload.len() as u64,
                        content_hash: hex(&header.content_hash),
                        life_ms: left_ms.filter(|_| header.expires_ms != u64::MAX),
                        created_wall_ms: header.created_wall_ms,
                        content_type: None,
                        content_encoding: None,
                        metadata: hex(&header.metadata),
                    };
                    entry.describe(Fields::of(&header.metadata));
                    self.write(&newest.key, entry, &payload)?;
                }
                Err(why) => self.leave_out(&newest.key, why),
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn write(&mut self, key: &[u8], mut entry: Entry, payload: &[u8]) -> io::Result<()> {
        let (mut file, name) = self.create(key)?;
        let path = self.folder.join(&name);
        file.write_all(payload)?;
        file.sync_all()?;
        // Read back, so that the manifest speaks of what is there.
        if hash_file(&path)? != (payload.len() as u64, XxHash3_128::oneshot(payload)) {
            return Err(io::Error::other(format!("{name} does not read back as written")));
        }
        entry.file = name;
        self.writer.add(&entry)?;
        self.report.object_count += 1;
        self.report.payload_bytes += entry.len;
        Ok(())
    }

    /// A new file under the key's own name, or under a number if that name is not to be had.
    fn create(&self, key: &[u8]) -> io::Result<(File, String)> {
        if let Some(name) = own_name(key) {
            let path = self.folder.join(&name);
            let parent = path.parent().expect("below the folder");
            let made = std::fs::create_dir_all(parent).and_then(|()| File::create_new(&path));
            match made {
                Ok(file) => return Ok((file, name)),
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let name = numbered_name(self.report.object_count);
        std::fs::create_dir_all(self.folder.join(NUMBERED))?;
        Ok((File::create_new(self.folder.join(&name))?, name))
    }

    fn leave_out(&mut self, key: &[u8], why: String) {
        let key = key.escape_ascii().to_string();
        output::plan(&format!("left out {key}: {why}"));
        self.report.left_out_count += 1;
        if self.report.left_out.len() < LEFT_OUT_MAX {
            self.report.left_out.push(LeftOut { key, why });
        }
    }
}

fn is_taken(error: &io::Error) -> bool {
    use ErrorKind::{AlreadyExists, InvalidFilename, IsADirectory, NotADirectory};
    matches!(error.kind(), AlreadyExists | IsADirectory | NotADirectory | InvalidFilename)
}

/// Length and XXH3-128 of a file.
pub(super) fn hash_file(path: &Path) -> io::Result<(u64, u128)> {
    let mut file = File::open(path)?;
    let mut hasher = XxHash3_128::new();
    let mut buffer = vec![0; VERIFY_BUFFER];
    let mut len = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((len, hasher.finish_128())),
            count => {
                hasher.write(&buffer[..count]);
                len += count as u64;
            }
        }
    }
}

/// A key as it stands in a URL: slashes and unreserved characters as they are, `%XX` for the rest.
fn percent(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                text.push(char::from(*byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn print(report: &Report, json: bool) -> Result<(), ToolError> {
    if json {
        return output::json(report);
    }
    let mut text = format!(
        "{}: {} objects, {} of payload; {} expired, {} left out\n",
        report.folder,
        report.object_count,
        units::size(report.payload_bytes),
        report.expired_count,
        report.left_out_count,
    );
    for index in &report.missing {
        text += &format!("volume {index} is missing: what lies on it is not in the dump\n");
    }
    output::text(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_a_url_is_escaped_byte_by_byte() {
        assert_eq!(percent(b"live/a b?c#d%\xff~.ts"), "live/a%20b%3Fc%23d%25%FF~.ts");
    }
}
