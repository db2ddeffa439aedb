//! The engines, each behind the same few words.

mod foyer;
mod rocksdb;
mod tapeloop;

use crate::work::Store;
use crate::{Peer, Result};
use std::path::Path;

pub(crate) fn open(peer: Peer, folder: &Path, objects: u64) -> Result<Box<dyn Store>> {
    Ok(match peer {
        Peer::Rocksdb => Box::new(rocksdb::Rocks::open(folder)?),
        Peer::Foyer => Box::new(foyer::Foyer::open(folder, objects)?),
        Peer::Tapeloop => Box::new(tapeloop::Tape::open(folder, objects)?),
    })
}

fn key(number: u64) -> String {
    format!("engines/{number}.m4s")
}

/// Wrong bytes end the bench.
fn wrong(number: u64) -> crate::Result<()> {
    Err(format!("object {number} has wrong bytes").into())
}
