//! Throughput against object size: hot, closed loop, 8 connections.

use super::super::peer::Peer;
use super::super::sample::Cells;
use super::super::{Bench, MIB};
use super::Stage;
use super::reading::{LARGE, Reading};
use crate::error::Result;

/// Together the objects of a size fit the arena twice.
const TOTAL_BYTES_MAX: u64 = 64 * MIB;
const OBJECTS_MAX: u64 = 64;
/// Of a size, one after the other.
const WINDOWS: u32 = 3;

const SIZES: [(&str, u64); 8] = [
    ("1 KiB", 1 << 10),
    ("4 KiB", 4 << 10),
    ("16 KiB", 16 << 10),
    ("64 KiB", 64 << 10),
    ("256 KiB", 256 << 10),
    ("1 MiB", MIB),
    ("4 MiB", 4 * MIB),
    ("16 MiB", 16 * MIB),
];

pub(super) fn run(bench: &Bench<'_>, peer: Peer, cells: &mut Cells) -> Result<()> {
    let stage = Stage::start(bench, peer, 0)?;
    for (name, bytes) in SIZES {
        let reading = Reading {
            name: "sized",
            bytes,
            objects: (TOTAL_BYTES_MAX / bytes).min(OBJECTS_MAX),
            time: bench.plan.probe_time,
            ..LARGE
        };
        reading.warm(bench, &stage.server)?;
        for _ in 0..WINDOWS {
            let seen = reading.run(bench, &stage.server)?;
            let mut sample = seen.sample();
            sample.extra = vec![
                ("object, KiB", bytes as f64 / 1024.0),
                ("server CPU s/GB", seen.cpu_s() / (seen.class.bytes as f64 / 1e9)),
            ];
            cells.add(&format!("hot GET by size, 8 connections: {name}"), peer.name(), sample);
        }
    }
    stage.stop("hot GET by size", cells)
}
