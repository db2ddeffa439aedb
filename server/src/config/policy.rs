//! What a namespace may do: life of its objects, kind of acknowledgement, quota.

use std::collections::BTreeMap;

/// When a PUT is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Once the object is on stable storage.
    Durable,
    /// Once the object is complete in memory; a crash may lose it.
    Buffered,
}

/// The rules of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Life of an object whose PUT names none.
    pub ttl_ms: u64,
    /// When its PUTs are answered.
    pub ack: Ack,
    /// Bytes it may hold before it gives way to others.
    pub quota: Option<u64>,
    /// Refuse its PUTs (507) rather than cut its retention.
    pub guaranteed: bool,
    /// Its number in the log; 0 is the group shared by all namespaces without a quota or guarantee.
    pub group: u64,
}

/// The rules of all namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policies {
    /// The rules of a namespace that is not listed.
    pub default: Namespace,
    listed: BTreeMap<Box<[u8]>, Namespace>,
}

impl Policies {
    /// Any namespace exists and all share one set of rules.
    pub fn open_to_all(ttl_ms: u64) -> Policies {
        let default =
            Namespace { ttl_ms, ack: Ack::Durable, quota: None, guaranteed: false, group: 0 };
        Policies { default, listed: BTreeMap::new() }
    }

    /// Lists a namespace. False when its name collides with that of another.
    pub(super) fn add(&mut self, name: &str, mut namespace: Namespace) -> bool {
        if namespace.quota.is_some() || namespace.guaranteed {
            namespace.group = group_of(name.as_bytes());
        }
        let taken = |other: &Namespace| other.group != 0 && other.group == namespace.group;
        if self.listed.values().any(taken) {
            return false;
        }
        self.listed.insert(name.as_bytes().into(), namespace).is_none()
    }

    /// The rules for `key`, or `None` when namespaces are listed and this one is not.
    pub fn of_key(&self, key: &[u8]) -> Option<&Namespace> {
        if self.listed.is_empty() {
            return Some(&self.default);
        }
        let name = key.split(|&byte| byte == b'/').next().unwrap_or_default();
        self.listed.get(name)
    }

    /// The namespaces that have a group of their own.
    pub fn groups(&self) -> impl Iterator<Item = &Namespace> {
        self.listed.values().filter(|namespace| namespace.group != 0)
    }

    /// The listed names.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.listed.keys().map(|name| String::from_utf8_lossy(name).into_owned())
    }
}

/// FNV-1a of the name, never 0. It is written to disk, so it must not change between versions.
fn group_of(name: &[u8]) -> u64 {
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_list_any_namespace_exists() {
        let policies = Policies::open_to_all(1000);
        assert_eq!(policies.of_key(b"any/thing").map(|found| found.ttl_ms), Some(1000));
    }

    #[test]
    fn with_a_list_only_the_listed_exist() {
        let mut policies = Policies::open_to_all(1000);
        let live = Namespace { ttl_ms: 5000, quota: Some(1), ..policies.default.clone() };
        assert!(policies.add("live", live));
        assert_eq!(policies.of_key(b"live/a").map(|found| found.ttl_ms), Some(5000));
        assert_eq!(policies.of_key(b"lives/a"), None);
        assert_eq!(policies.of_key(b"liv"), None);
    }

    #[test]
    fn a_group_number_is_stable_because_it_is_written_to_disk() {
        assert_eq!(group_of(b"live"), 0xbf66_95ad_6966_058f);
        assert_ne!(group_of(b""), 0);
    }
}
