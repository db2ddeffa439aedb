//! `tapectl fsck --undo`: puts back what a repair has overwritten.
//!
//! The file holds one JSON document a line: first what it is, then each stretch of bytes with the
//! volume, the offset, the bytes as they were, and a hash of what replaced them. Without this
//! program: write the bytes of `before` (hexadecimal) back at `volume_offset` of that volume.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tapeloop_format::StoreId;
use twox_hash::XxHash3_128;

use super::repair::{Action, Locked, refused};
use crate::error::{Outcome, ToolError};
use crate::output;
use crate::walk::{Store, hex};

const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Head {
    tapeloop_undo: u32,
    store_id: String,
    place_count: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
struct Place {
    volume: u16,
    volume_offset: u64,
    len: usize,
    what: String,
    before: String,
    after_xxh3: String,
}

/// What a repair overwrites.
#[derive(Debug)]
pub(crate) struct UndoFile {
    store_id: String,
    places: Vec<Place>,
}

#[derive(Serialize)]
struct Report {
    undone: bool,
    place_count: usize,
}

impl UndoFile {
    pub(crate) fn of(store_id: &StoreId, actions: &[Action]) -> UndoFile {
        let place = |action: &Action| Place {
            volume: action.volume,
            volume_offset: action.volume_offset,
            len: action.before.len(),
            what: action.what.clone(),
            before: hex(&action.before),
            after_xxh3: hash(&action.after),
        };
        UndoFile { store_id: store_id.to_string(), places: actions.iter().map(place).collect() }
    }

    /// Durable when this returns. Replaces nothing.
    pub(crate) fn write(&self, path: &Path) -> Result<(), ToolError> {
        let failed = |error: std::io::Error| {
            refused(path, format!("the undo file cannot be written: {error}"))
        };
        let file = File::create_new(path).map_err(failed)?;
        let mut out = BufWriter::new(file);
        let head = Head {
            tapeloop_undo: VERSION,
            store_id: self.store_id.clone(),
            place_count: self.places.len(),
        };
        line(&mut out, &head).map_err(failed)?;
        for place in &self.places {
            line(&mut out, place).map_err(failed)?;
        }
        let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(failed)?;
        folder.sync_all().map_err(failed)
    }

    fn read(path: &Path) -> Result<UndoFile, ToolError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| refused(path, format!("cannot be read: {error}")))?;
        UndoFile::parse(&text).map_err(|why| refused(path, format!("no undo file: {why}")))
    }

    fn parse(text: &str) -> Result<UndoFile, String> {
        let mut lines = text.lines();
        let head = lines.next().ok_or("it is empty")?;
        let head: Head = serde_json::from_str(head).map_err(|error| error.to_string())?;
        if head.tapeloop_undo != VERSION {
            return Err(format!("version {} is not {VERSION}", head.tapeloop_undo));
        }
        let places = lines.map(serde_json::from_str).collect::<Result<Vec<Place>, _>>();
        let places = places.map_err(|error| error.to_string())?;
        if places.len() != head.place_count {
            return Err(format!("{} of {} places are there", places.len(), head.place_count));
        }
        Ok(UndoFile { store_id: head.store_id, places })
    }
}

fn line(out: &mut impl Write, value: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn hash(bytes: &[u8]) -> String {
    format!("{:032x}", XxHash3_128::oneshot(bytes))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    bytes.collect::<Option<Vec<u8>>>().filter(|_| odd.is_empty())
}

pub(super) fn run(
    paths: &[PathBuf],
    file: &Path,
    yes: bool,
    json: bool,
) -> Result<Outcome, ToolError> {
    let undo = UndoFile::read(file)?;
    let store = Store::open(paths)?;
    if undo.store_id != store.store_id().to_string() {
        let cause = format!("is of store {}, this is {}", undo.store_id, store.store_id());
        return Err(refused(file, cause));
    }
    let locked = Locked::all_of(&store)?;
    let writes = check(&locked, &undo, file)?;
    for (place, _) in &writes {
        output::plan(&format!(
            "plan: volume {} offset {}, {} bytes: take back: {}",
            place.volume, place.volume_offset, place.len, place.what,
        ));
    }
    if yes {
        for (place, before) in &writes {
            let volume = locked.volume(place.volume).expect("checked above");
            volume
                .write_at(before, place.volume_offset)
                .map_err(|error| refused(volume.path(), error.to_string()))?;
        }
        locked.sync()?;
    } else {
        output::plan("nothing was changed; to carry out the plan add --yes");
    }
    if json {
        output::json(&Report { undone: yes, place_count: writes.len() })?;
    } else if yes {
        output::text(&format!("put back {} places\n", writes.len()))?;
    }
    Ok(if yes { Outcome::Clean } else { Outcome::Problems })
}

/// Every place must hold what the repair wrote, or already what was there before.
fn check(
    locked: &Locked,
    undo: &UndoFile,
    file: &Path,
) -> Result<Vec<(Place, Vec<u8>)>, ToolError> {
    let mut writes = Vec::new();
    for place in &undo.places {
        let before = unhex(&place.before).filter(|before| before.len() == place.len);
        let before = before.ok_or_else(|| refused(file, "its bytes are damaged".to_owned()))?;
        let volume = locked.volume(place.volume).ok_or_else(|| {
            refused(file, format!("needs volume {}, which was not given", place.volume))
        })?;
        let mut now = vec![0; place.len];
        volume
            .read_at(&mut now, place.volume_offset)
            .map_err(|error| refused(volume.path(), error.to_string()))?;
        if now == before {
            continue;
        }
        if hash(&now) != place.after_xxh3 {
            let cause = format!("offset {} was written since the repair", place.volume_offset);
            return Err(refused(volume.path(), cause));
        }
        writes.push((place.clone(), before));
    }
    Ok(writes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_undo_file_is_refused() {
        let action = Action {
            volume: 0,
            volume_offset: 4096,
            len: 3,
            what: "x".to_owned(),
            before: vec![1, 2, 255],
            after: vec![0; 3],
        };
        let undo = UndoFile::of(&StoreId([7; 16]), &[action.clone(), action]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("undo");
        undo.write(&path).unwrap();
        assert!(undo.write(&path).is_err(), "nothing is replaced");
        let text = std::fs::read_to_string(&path).unwrap();
        let read = UndoFile::parse(&text).unwrap();
        assert_eq!(read.places, undo.places);
        assert_eq!(unhex(&read.places[0].before), Some(vec![1, 2, 255]));
        let lines: Vec<&str> = text.lines().collect();
        assert!(UndoFile::parse(&lines[..2].join("\n")).unwrap_err().contains("1 of 2"));
        assert!(UndoFile::parse("").is_err());
        assert!(UndoFile::parse(&text[..text.len() - 10]).is_err());
        assert_eq!(unhex("0g"), None);
        assert_eq!(unhex("abc"), None);
    }
}
