//! The arena under many threads: no block has two owners, no reader sees another owner's bytes.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use support::{Store, wait_for};
use tapeloop_io::{
    ARENA_BLOCK, Arena, BLOCK, Block, BlockWriter, Spare, WriteRing, WriteSource, block_on,
};

const STAMP: usize = 64;

/// The bytes at one place of the block that `owner` wrote: every stamp names owner and place.
fn stamp(owner: u64, place: usize) -> [u8; STAMP] {
    let mut bytes = [0; STAMP];
    for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(owner << 20 | (place + index * 8) as u64).to_le_bytes());
    }
    bytes
}

fn assert_owned(block: &Block, owner: u64, at_least: usize) {
    let bytes = block.as_slice();
    assert!(bytes.len() >= at_least && bytes.len().is_multiple_of(STAMP));
    for (index, found) in bytes.chunks_exact(STAMP).enumerate() {
        assert_eq!(found, stamp(owner, index * STAMP), "owner {owner}, stamp {index}");
    }
}

/// Fills a block in uneven steps, by copy and by spare, handing readers clones as it grows.
fn write_block(mut writer: BlockWriter, owner: u64, readers: &[SyncSender<(Block, u64)>]) {
    assert!(writer.is_empty(), "a fresh block shows nothing of its past");
    let len = ARENA_BLOCK - (owner as usize % 5) * STAMP * 7;
    for (step, place) in (0..len).step_by(STAMP).enumerate() {
        let bytes = stamp(owner, place);
        if step % 3 == 0 {
            writer.spare()[..STAMP].copy_from_slice(&bytes);
            writer = Spare::new(vec![writer], STAMP).finish(STAMP).remove(0);
        } else {
            assert_eq!(writer.append(&bytes), STAMP);
        }
        if step % 97 == owner as usize % 97 {
            let reader = &readers[(step + owner as usize) % readers.len()];
            reader.send((writer.share(), owner)).unwrap();
        }
    }
    let block = writer.seal();
    assert!(block.is_sealed());
    assert_owned(&block, owner, len);
    readers[owner as usize % readers.len()].send((block, owner)).unwrap();
}

fn read_blocks(blocks: &Receiver<(Block, u64)>) -> usize {
    let mut held: Vec<(Block, u64, usize)> = Vec::new();
    let mut seen = 0;
    for (block, owner) in blocks {
        let len = block.len();
        assert_owned(&block, owner, len);
        held.push((block.clone(), owner, len));
        // Two stay held, so that the last handle is dropped here as often as by the writer.
        if held.len() > 2 {
            let (block, owner, len) = held.remove(seen % 2);
            assert_owned(&block, owner, len);
        }
        seen += 1;
    }
    seen
}

#[test]
fn no_reader_ever_sees_another_owners_bytes() {
    const WRITERS: u64 = 4;
    const READERS: usize = 3;
    const ROUNDS: u64 = 80;
    // Fewer blocks than handles wanted: every block is reused all the time.
    let arena = Arena::new(14 * ARENA_BLOCK).unwrap();
    let seen = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..READERS).map(|_| sync_channel(1)).unzip();
        for blocks in receivers {
            let seen = &seen;
            scope.spawn(move || seen.fetch_add(read_blocks(&blocks), Ordering::Relaxed));
        }
        for number in 0..WRITERS {
            let (arena, senders) = (arena.clone(), senders.clone());
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let writer = loop {
                        match arena.try_alloc() {
                            Some(writer) => break writer,
                            None => thread::yield_now(),
                        }
                    };
                    write_block(writer, 1 + round * WRITERS + number, &senders);
                }
            });
        }
        drop(senders);
    });
    assert!(seen.into_inner() as u64 > WRITERS * ROUNDS * 5);
    assert_eq!(arena.free_blocks(), arena.block_count());
}

#[test]
fn a_block_is_free_only_when_writer_and_readers_are_gone() {
    let arena = Arena::new(ARENA_BLOCK).unwrap();
    let mut writer = arena.try_alloc().unwrap();
    assert!(arena.try_alloc().is_none());
    writer.append(b"live edge");
    let reader = writer.share();
    drop(writer);
    assert!(arena.try_alloc().is_none());
    assert_eq!(reader.as_slice(), b"live edge");
    thread::spawn(move || drop(reader)).join().unwrap();
    assert_eq!(arena.free_blocks(), 1);
}

#[test]
fn blocks_outlive_the_arena_handle() {
    let arena = Arena::new(2 * ARENA_BLOCK).unwrap();
    let mut writer = arena.try_alloc().unwrap();
    writer.append(&[9; 100]);
    drop(arena);
    let block = writer.seal();
    assert_eq!(block.bytes(10..100), &[9; 90]);
}

#[test]
#[should_panic(expected = "published")]
fn unpublished_bytes_cannot_be_read() {
    let arena = Arena::new(ARENA_BLOCK).unwrap();
    let mut writer = arena.try_alloc().unwrap();
    writer.append(&[1; 10]);
    let _ = writer.share().bytes(0..11);
}

#[test]
#[should_panic(expected = "a spare of no bytes")]
fn a_full_block_lends_no_spare() {
    let arena = Arena::new(ARENA_BLOCK).unwrap();
    let mut writer = arena.try_alloc().unwrap();
    writer.advance(ARENA_BLOCK);
    let _ = Spare::new(vec![writer], 1);
}

#[test]
fn a_dropped_spare_publishes_nothing_and_frees_the_block() {
    let arena = Arena::new(ARENA_BLOCK).unwrap();
    let mut writer = arena.try_alloc().unwrap();
    writer.append(&[1; 10]);
    let follower = writer.share();
    let spare = Spare::new(vec![writer], usize::MAX);
    assert_eq!(spare.capacity(), ARENA_BLOCK - 10);
    drop(spare);
    assert_eq!(follower.as_slice(), [1; 10]);
    assert!(follower.is_sealed());
    drop(follower);
    assert_eq!(arena.free_blocks(), 1);
}

#[test]
fn a_block_the_kernel_writes_from_is_not_free_until_the_completion() {
    let store = Store::new(1 << 20);
    let mut ring = WriteRing::new(store.open(), 8).unwrap();
    let arena = Arena::new(ARENA_BLOCK).unwrap();
    let mut writer = arena.try_alloc().unwrap();
    writer.append(&[3; BLOCK]);
    ring.push_write(1, WriteSource::Block(writer.seal(), 0..BLOCK), 0).unwrap();
    assert_eq!(arena.free_blocks(), 0);
    assert_eq!(wait_for(&mut ring).result.unwrap(), BLOCK as u32);
    assert_eq!(arena.free_blocks(), 1);
}

#[test]
fn every_waiter_gets_a_block_in_the_end() {
    const WAITERS: usize = 16;
    let arena = Arena::new(2 * ARENA_BLOCK).unwrap();
    let held = [arena.try_alloc().unwrap(), arena.try_alloc().unwrap()];
    let served = Arc::new(AtomicUsize::new(0));
    let waiters: Vec<_> = (0..WAITERS)
        .map(|_| {
            let (arena, served) = (arena.clone(), Arc::clone(&served));
            thread::spawn(move || {
                let rounds = async {
                    for _ in 0..50 {
                        let writer = arena.alloc().await;
                        served.fetch_add(1, Ordering::Relaxed);
                        thread::yield_now();
                        drop(writer);
                    }
                };
                block_on(8, rounds).unwrap();
            })
        })
        .collect();
    drop(held);
    for waiter in waiters {
        waiter.join().unwrap();
    }
    assert_eq!(served.load(Ordering::Relaxed), WAITERS * 50);
}

#[test]
fn padding_is_written_as_zeros_though_the_block_was_dirty() {
    let store = Store::new(1 << 20);
    let volume = store.open();
    let mut ring = WriteRing::new(Arc::clone(&volume), 8).unwrap();
    let arena = Arena::new(ARENA_BLOCK).unwrap();
    let mut dirty = arena.try_alloc().unwrap();
    dirty.append(&[0xFF; ARENA_BLOCK]);
    drop(dirty);
    let mut writer = arena.try_alloc().unwrap();
    writer.append(&[1; BLOCK + 100]);
    let follower = writer.share();
    ring.push_write(1, WriteSource::Block(writer.seal(), 0..2 * BLOCK), 0).unwrap();
    assert_eq!(wait_for(&mut ring).result.unwrap(), 2 * BLOCK as u32);
    let mut found = vec![0xEE; 2 * BLOCK];
    volume.read_at(&mut found, 0).unwrap();
    assert!(found[..BLOCK + 100].iter().all(|&byte| byte == 1));
    assert!(found[BLOCK + 100..].iter().all(|&byte| byte == 0));
    assert_eq!(follower.len(), BLOCK + 100, "padding is not payload");
}

#[test]
#[should_panic(expected = "sealed: false")]
fn padding_of_a_block_still_written_to_is_refused() {
    let store = Store::new(1 << 20);
    let mut ring = WriteRing::new(store.open(), 8).unwrap();
    let arena = Arena::new(ARENA_BLOCK).unwrap();
    let mut writer = arena.try_alloc().unwrap();
    writer.append(&[1; 100]);
    let _ = ring.push_write(1, WriteSource::Block(writer.share(), 0..BLOCK), 0);
}

#[test]
fn a_waiting_alloc_is_woken_by_a_drop_on_another_thread() {
    let arena = Arena::new(ARENA_BLOCK).unwrap();
    let held = arena.try_alloc().unwrap();
    let (started, start) = sync_channel(0);
    let dropper = thread::spawn(move || {
        start.recv_timeout(Duration::from_secs(60)).unwrap();
        drop(held);
    });
    let waiting = async {
        started.send(()).unwrap();
        arena.alloc().await.len()
    };
    assert_eq!(block_on(8, waiting).unwrap(), 0);
    dropper.join().unwrap();
}
