//! fsck and inspect over volumes of any bytes, in files: every command runs to its end, in text and
//! in JSON, and changes nothing. A repair never leaves more damage than it found.
//!
//! The commands are tapectl's own files, compiled here once more, over an output that shows
//! nothing.

pub(crate) mod output;
pub(crate) mod progress;

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tapeloop_format::BLOCK;

use crate::error::{Outcome, ToolError};
use crate::fsck::{self, FsckPlan, FsckWhat};
use crate::inspect::{self, InspectPlan};
use crate::store::edit::{self, Edited, Input};
use crate::store::image::{Image, images};

/// The files that hold one image, a volume each.
struct Volumes {
    files: Vec<File>,
    paths: Vec<PathBuf>,
}

/// Images and their files, in memory where the machine has a place for that.
struct Place {
    folder: PathBuf,
    images: Vec<Image>,
    volumes: Vec<Volumes>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nothing is lost when it stays.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

thread_local! {
    static PLACE: RefCell<Place> = RefCell::new(place());
}

fn place() -> Place {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let thread = std::thread::current().id();
    let folder = folder.join(format!("tapeloop-fuzz-{}-{thread:?}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("scratch space");
    let images = images();
    let write = |(number, image): (usize, &Image)| {
        let names = (0..image.disks.len()).map(|index| format!("image-{number}-{index}"));
        let paths: Vec<PathBuf> = names.map(|name| folder.join(name)).collect();
        for (path, disk) in paths.iter().zip(&image.disks) {
            std::fs::write(path, disk.bytes()).expect("scratch space");
        }
        let open = |path| File::options().read(true).write(true).open(path);
        let files = paths.iter().map(|path| open(path).expect("a file just written")).collect();
        Volumes { files, paths }
    };
    let volumes = images.iter().enumerate().map(write).collect();
    Place { folder, images, volumes }
}

/// Volumes edited as `bytes` say.
pub fn tapectl(bytes: &[u8]) {
    PLACE.with_borrow_mut(|place| {
        let edited = edit::apply(&mut place.images, &mut Input::new(bytes));
        let (image, volumes) = (&mut place.images[edited.image], &place.volumes[edited.image]);
        let written: Vec<Vec<usize>> =
            image.disks.iter().map(|disk| disk.written().to_vec()).collect();
        volumes.write(image, &written);
        let repairs = edited.flags & 4 != 0;
        run(image, volumes, &edited, repairs.then(|| place.folder.join("undo")));
        image.disks.iter_mut().for_each(|disk| disk.restore());
        volumes.write(image, &written);
    });
}

impl Volumes {
    /// Writes these blocks of the image's volumes as they are now.
    fn write(&self, image: &Image, blocks: &[Vec<usize>]) {
        for ((disk, file), blocks) in image.disks.iter().zip(&self.files).zip(blocks) {
            for block in blocks {
                let at = block * BLOCK;
                let bytes = &disk.bytes()[at..at + BLOCK];
                file.write_all_at(bytes, at as u64).expect("scratch space");
            }
        }
    }

    fn hold(&self, image: &Image) -> bool {
        let mut found = Vec::new();
        image.disks.iter().zip(&self.files).all(|(disk, file)| {
            found.resize(disk.bytes().len(), 0);
            file.read_exact_at(&mut found, 0).expect("scratch space");
            found == disk.bytes()
        })
    }
}

fn run(image: &Image, volumes: &Volumes, edited: &Edited, undo: Option<PathBuf>) {
    let json = edited.flags & 1 != 0;
    // Sometimes only one of the volumes is given.
    let given = if edited.flags & 2 != 0 { &volumes.paths[..1] } else { &volumes.paths[..] };
    let check = |what| {
        let result = fsck::run(&FsckPlan { paths: given.to_vec(), what, json });
        allow(&result);
        result
    };
    let look = |plan| allow(&inspect::run(&plan));
    let paths = || given.to_vec();
    let before = check(FsckWhat::Check);
    look(InspectPlan::Volume { paths: paths(), json });
    let zone = u32::from(edited.count) % 13;
    look(InspectPlan::Zone { paths: paths(), zone, json });
    let _ = check(FsckWhat::Zone(zone));
    let key = image.keys.get(usize::from(edited.count) % 8);
    let key = key.cloned().unwrap_or_else(|| b"a/b".to_vec());
    look(InspectPlan::Key { paths: paths(), key, json });
    let _ = check(FsckWhat::Repair { yes: false, undo_file: None });
    assert!(volumes.hold(image), "a check or a plan has changed the volume");
    if let (Some(undo), Ok(before)) = (undo, before) {
        repair(&check, before, &undo);
        if undo.exists() {
            let _ = check(FsckWhat::Undo { file: undo.clone(), yes: true });
            std::fs::remove_file(&undo).expect("the file of the repair");
        }
        assert!(volumes.hold(image), "undone and still changed");
    }
}

fn repair(check: &impl Fn(FsckWhat) -> Result<Outcome, ToolError>, before: Outcome, undo: &Path) {
    let _ = check(FsckWhat::Repair { yes: true, undo_file: Some(undo.to_path_buf()) });
    let after = check(FsckWhat::Check).expect("it could be checked before");
    let harmed = before == Outcome::Clean && after != Outcome::Clean;
    assert!(!harmed, "a repair of a clean store left damage");
}

/// Clean, problems found, or one line of why it could not run.
fn allow(result: &Result<Outcome, ToolError>) {
    if let Err(error) = result {
        let line = error.to_string();
        assert!(!line.is_empty() && !line.contains('\n'), "not one line: {line:?}");
    }
}
