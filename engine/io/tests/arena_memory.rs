//! The arena's own files over plain memory and real threads, small enough for miri: every byte that
//! the arena touches through a raw pointer is one it may touch, whoever touches another meanwhile.
//!
//! `tests/loom_arena.rs` tries all orders but cannot see the bytes; here it is the other way.
#![allow(dead_code, unreachable_pub, reason = "the files are those of the library")]

#[path = "../src/arena.rs"]
mod arena;
#[path = "loom_arena/mapping.rs"]
mod mapping;
#[path = "../src/slots.rs"]
mod slots;
#[path = "../src/spare.rs"]
mod spare;
#[path = "../src/sync.rs"]
mod sync;

use std::sync::mpsc::sync_channel;
use std::thread;

use arena::{ARENA_BLOCK, Arena, BlockWriter};
use spare::Spare;
use tapeloop_io::{BLOCK, round_up_to_block};

/// Rounds of every test: each is another order of the threads' steps.
const ROUNDS: usize = if cfg!(miri) { 8 } else { 2000 };

fn arena(blocks: usize) -> Arena {
    Arena::new(blocks * ARENA_BLOCK).expect("memory for a few blocks")
}

/// Appends three bytes that name their owner, one of them through a spare.
fn write(mut writer: BlockWriter, owner: u8) -> BlockWriter {
    assert!(writer.is_empty(), "a fresh block shows nothing of its past");
    assert_eq!(writer.append(&[owner]), 1);
    let mut spare = Spare::new(vec![writer], BLOCK);
    // SAFETY: one byte of the tail, which this spare alone may write to.
    unsafe { spare.list()[0].iov_base.cast::<u8>().write(owner) };
    spare.set_filled(1);
    let mut writer = spare.finish(1).remove(0);
    writer.spare()[0] = owner;
    writer.advance(1);
    assert_eq!(writer.published(), [owner; 3]);
    writer
}

#[test]
fn a_follower_on_another_thread_reads_whole_published_bytes_and_zeroed_padding() {
    for round in 0..ROUNDS {
        let owner = round as u8;
        let arena = arena(1);
        let writer = arena.try_alloc().expect("a free block");
        let block = writer.share();
        let follower = thread::spawn(move || {
            loop {
                let sealed = block.is_sealed();
                let seen = block.as_slice();
                assert!(seen.iter().all(|byte| *byte == owner));
                assert_eq!(block.bytes(0..seen.len()), seen);
                if sealed {
                    let padded = block.drive_bytes(0..BLOCK).expect("sealed");
                    assert_eq!(
                        (&padded[..3], &padded[3..]),
                        (&[owner; 3][..], &[0; BLOCK - 3][..])
                    );
                    return;
                }
                thread::yield_now();
            }
        });
        drop(write(writer, owner).seal());
        follower.join().expect("a follower that ends well");
        assert_eq!(arena.free_blocks(), 1);
    }
}

#[test]
fn blocks_go_from_thread_to_thread_and_the_last_handle_may_outlive_the_arena() {
    for round in 0..ROUNDS {
        let arena = arena(2);
        let (sender, blocks) = sync_channel(1);
        let reader = thread::spawn(move || {
            for (owner, block) in blocks {
                let block: arena::Block = block;
                assert_eq!(block.as_slice(), [owner; 3]);
                let again = block.clone();
                drop(block);
                assert_eq!(again.as_slice(), [owner; 3]);
            }
        });
        for owner in 0..4 {
            let writer = loop {
                match arena.try_alloc() {
                    Some(writer) => break writer,
                    None => thread::yield_now(),
                }
            };
            let block = write(writer, owner).seal();
            sender.send((owner, block)).expect("a reader that lives");
        }
        if round % 2 == 0 {
            drop(arena);
        }
        drop(sender);
        reader.join().expect("a reader that ends well");
    }
}
