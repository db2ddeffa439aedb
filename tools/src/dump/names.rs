//! File names for keys. A key is any bytes; a name is a relative path of harmless characters.
//!
//! Each part of a key between slashes becomes one part of the path: letters, digits and `-_.`
//! stand for themselves, every other byte is `%XX`, and so is a leading dot. That is one name for
//! one key, but a file system may want a file and a folder under the same name, fold upper and
//! lower case, or take no name that long. Then the object goes by a number instead; the manifest
//! says which.

use std::path::{Component, Path};

/// Longest part of a path; file systems take 255.
const PART_LEN_MAX: usize = 200;
/// Longest path; the kernel takes 4095, and the folder counts too.
const PATH_LEN_MAX: usize = 2000;
/// Where the objects are, in the folder of the dump.
pub(crate) const OBJECTS: &str = "objects";
/// Where the objects are that no name of their own would do for.
pub(crate) const NUMBERED: &str = "numbered";

/// The name of a key below `OBJECTS`; None if its own bytes make none.
pub(crate) fn own_name(key: &[u8]) -> Option<String> {
    let mut name = String::from(OBJECTS);
    for part in key.split(|byte| *byte == b'/') {
        let start = name.len() + 1;
        name.push('/');
        for (index, byte) in part.iter().enumerate() {
            match byte {
                b'.' if index == 0 => name.push_str("%2E"),
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                    name.push(char::from(*byte));
                }
                _ => name.push_str(&format!("%{byte:02X}")),
            }
        }
        let len = name.len() - start;
        if len == 0 || len > PART_LEN_MAX {
            return None;
        }
    }
    (name.len() <= PATH_LEN_MAX).then_some(name)
}

/// The name of an object by its number in the dump.
pub(crate) fn numbered_name(number: u64) -> String {
    format!("{NUMBERED}/{number:08}")
}

/// Whether a name from a manifest stays in its folder.
pub(crate) fn is_inside(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    !name.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn an_ordinary_key_keeps_its_name() {
        assert_eq!(own_name(b"live/cam-1/seg_01.m4s").unwrap(), "objects/live/cam-1/seg_01.m4s");
    }

    #[test]
    fn no_key_leaves_the_folder() {
        let keys: [&[u8]; 9] = [
            b"../etc/passwd",
            b"a/../../b",
            b"/etc/passwd",
            b"a//b",
            b"a/./b",
            b"..",
            b"a/b\0c",
            b"C:\\x",
            b"\xff\xfe/~root",
        ];
        for key in keys {
            let Some(name) = own_name(key) else { continue };
            assert!(is_inside(&name) && name.starts_with("objects/"), "{name}");
            let harmless = |c: char| c.is_ascii_alphanumeric() || "-_.%/".contains(c);
            assert!(name.chars().all(harmless), "{name}");
            assert!(!name.split('/').any(|part| part.starts_with('.')), "{name}");
        }
        assert_eq!(own_name(b"a//b"), None);
        assert_eq!(own_name(b"a/"), None);
        assert_eq!(own_name(&[b'x'; 201]), None);
        assert_eq!(own_name(&[0xff; 100]), None, "300 characters");
    }

    #[test]
    fn no_two_keys_have_one_name() {
        let mut names = HashSet::new();
        let mut count = 0;
        // Every key of up to three of these, and what an encoder could confuse.
        let bytes = *b"a.%/~2E\0A";
        let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
        for _ in 0..3 {
            let longer =
                keys.iter().flat_map(|key| bytes.map(|byte| [key.as_slice(), &[byte]].concat()));
            keys = longer.chain(keys.iter().cloned()).collect::<HashSet<_>>().into_iter().collect();
        }
        keys.extend([b"%2E".to_vec(), b"%252E".to_vec(), b".".to_vec()]);
        for key in keys.into_iter().collect::<HashSet<_>>() {
            if let Some(name) = own_name(&key) {
                count += 1;
                assert!(names.insert(name.clone()), "{name} twice");
            }
        }
        assert!(count > 300);
    }

    #[test]
    fn a_manifest_cannot_name_a_file_elsewhere() {
        for name in ["/etc/passwd", "../x", "objects/../../x", "", "./x", "objects/./../x"] {
            assert!(!is_inside(name), "{name}");
        }
        assert!(is_inside("objects/a/b") && is_inside(&numbered_name(3)));
    }
}
