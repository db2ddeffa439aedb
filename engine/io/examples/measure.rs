//! Prints what this machine does: `cargo run --release -p tapeloop-io --example measure DIR`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tapeloop_io::{
    ARENA_BLOCK, AlignedBuf, Arena, DiskReader, READ_BUF, VolumeFile, WriteRing, WriteSource,
    block_on, probe,
};

const LEN: u64 = 2 << 30;

fn main() {
    let dir = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| String::from(".")));
    println!("{:?}", probe::probe(&dir));
    let path = dir.join("measure.ring");
    let start = Instant::now();
    VolumeFile::create_preallocated(&path, LEN, &mut |_, _| {}).expect("create");
    report("zero fill", LEN, start.elapsed());
    let volume = Arc::new(VolumeFile::open_direct(&path).expect("open"));
    arena();
    write(&volume);
    read(volume);
    std::fs::remove_file(&path).expect("remove");
}

fn report(what: &str, bytes: u64, took: Duration) {
    println!("{what}: {:.0} MB/s ({took:?})", bytes as f64 / took.as_secs_f64() / 1e6);
}

fn arena() {
    const TIMES: u32 = 5_000_000;
    let arena = Arena::new(64 * ARENA_BLOCK).expect("arena");
    let start = Instant::now();
    for _ in 0..TIMES {
        std::hint::black_box(arena.try_alloc());
    }
    println!("arena alloc + free: {:?}", start.elapsed() / TIMES);
    let block = arena.try_alloc().expect("free").seal();
    let start = Instant::now();
    for _ in 0..TIMES {
        std::hint::black_box(block.clone());
    }
    println!("arena clone + drop: {:?}", start.elapsed() / TIMES);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..TIMES).for_each(|_| drop(std::hint::black_box(arena.try_alloc()))));
        }
    });
    println!("arena alloc + free, 2 threads: {:?}", start.elapsed() / (2 * TIMES));
}

fn write(volume: &Arc<VolumeFile>) {
    for (len, depth) in [(64 << 10, 32), (512 << 10, 8), (512 << 10, 32)] {
        let mut ring = WriteRing::new(Arc::clone(volume), depth).expect("ring");
        let start = Instant::now();
        let count = LEN / 2 / len;
        let (mut pushed, mut done) = (0, 0);
        while done < count {
            while pushed < count && ring.queued() < 2 * depth as usize {
                let source = WriteSource::Aligned(AlignedBuf::zeroed(len as usize));
                ring.push_write(pushed, source, pushed * len).expect("room");
                pushed += 1;
            }
            ring.submit_and_wait(Duration::from_secs(1)).expect("wait");
            while let Some(completion) = ring.pop() {
                completion.result.expect("write");
                done += 1;
            }
        }
        let what = format!("write ring ({}), {} KiB at depth {depth}", ring.flags(), len >> 10);
        report(&what, LEN / 2, start.elapsed());
    }
}

fn read(volume: Arc<VolumeFile>) {
    let run = async {
        let reader = DiskReader::new(&[volume], 16).expect("reader");
        for (len, count) in [(READ_BUF, 3000u64), (4096, 20000)] {
            let start = Instant::now();
            for number in 0..count {
                let offset = number.wrapping_mul(0x9E37_79B9) % (LEN / 2 / len as u64);
                reader.read(0, offset * len as u64, len).await.expect("read");
            }
            let took = start.elapsed();
            let each = took / count as u32;
            report(&format!("read {len} bytes, one at a time, {each:?}"), count * len as u64, took);
        }
        println!("large buffers registered: {}", reader.pool().registered());
    };
    block_on(256, run).expect("runtime");
}
