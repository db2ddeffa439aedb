//! The probe on the machine the tests run on.

mod support;

use support::{names_in, scratch};
use tapeloop_io::probe::{ProbeError, probe};

#[test]
fn the_probe_passes_here_and_leaves_nothing_behind() {
    let dir = scratch();
    let found = probe(dir.path()).unwrap();
    assert!(!found.kernel.is_empty() && found.kernel != "unknown");
    assert!(found.direct_alignment.is_none_or(|(memory, offset)| memory > 0 && offset > 0));
    assert!(names_in(&dir).is_empty());
}

#[test]
fn a_volume_is_probed_by_reading_it_and_stays_as_it_is() {
    let dir = scratch();
    let path = dir.path().join("volume");
    std::fs::write(&path, [7; 8192]).unwrap();
    let found = probe(&path).map(|found| found.kernel);
    assert!(!found.unwrap().is_empty());
    assert_eq!(std::fs::read(&path).unwrap(), [7; 8192]);
    assert_eq!(names_in(&dir).len(), 1);
}

#[test]
fn a_missing_directory_is_named() {
    let dir = scratch();
    let missing = dir.path().join("missing");
    let error = probe(&missing).unwrap_err();
    assert!(matches!(error, ProbeError::Io { .. }));
    assert!(error.to_string().contains(missing.to_str().unwrap()));
    assert!(!error.to_string().contains('\n'));
}
