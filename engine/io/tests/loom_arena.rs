//! The arena's hand-back under loom: the very files of the arena, compiled over loom's atomics and
//! locks, run through the orders in which a few threads can take their steps.
//!
//! Loom cannot see the blocks' bytes, so each model keeps a `Cell` per block or byte beside them
//! and touches it where a real owner touches memory: a write that a read may race with is an error,
//! and so is a block that never comes back (a leaked `Arc`) or a waiter that nobody wakes (a
//! deadlock).
#![allow(dead_code, unreachable_pub, reason = "the files are those of the library")]

#[path = "../src/arena.rs"]
mod arena;
#[path = "loom_arena/mapping.rs"]
mod mapping;
#[path = "../src/slots.rs"]
mod slots;
#[path = "../src/spare.rs"]
mod spare;
#[path = "loom_arena/sync.rs"]
mod sync;

use arena::{ARENA_BLOCK, Arena, Block, BlockWriter};
use loom::cell::UnsafeCell;
use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;
use spare::Spare;
use tapeloop_io::{BLOCK, round_up_to_block};

/// Memory as loom sees it: who may touch it when.
struct Cell(UnsafeCell<()>);

impl Cell {
    fn several(count: usize) -> Arc<Vec<Cell>> {
        Arc::new((0..count).map(|_| Cell(UnsafeCell::new(()))).collect())
    }

    /// Nobody else touches it at this time.
    fn write(&self) {
        self.0.with_mut(|_| ());
    }

    /// Nobody writes to it at this time.
    fn read(&self) {
        self.0.with(|_| ());
    }
}

/// Runs `model` through every order with at most `preemptions` switches away from a thread that
/// could go on: few find nearly everything, and keep the number of orders in the thousands.
fn model(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn arena(blocks: usize) -> Arena {
    Arena::new(blocks * ARENA_BLOCK).expect("memory for a few blocks")
}

/// Uses a block as its only owner.
fn own(writer: &mut BlockWriter, cell: &Cell) {
    assert!(writer.is_empty(), "a fresh block shows nothing of its past");
    cell.write();
    writer.append(b"x");
}

fn look(block: &Block, cell: &Cell) {
    cell.read();
    assert_eq!(block.as_slice(), b"x");
}

#[test]
fn a_block_is_handed_out_again_only_after_its_last_reader_wherever_that_was() {
    model(3, || {
        let (arena, cells) = (arena(1), Cell::several(1));
        let mut writer = arena.try_alloc().expect("a free block");
        own(&mut writer, &cells[0]);
        let readers = [(); 2].map(|()| {
            let (block, cells) = (writer.share(), Arc::clone(&cells));
            thread::spawn(move || look(&block, &cells[0]))
        });
        drop(writer);
        // As often as another thread lets it: the block is held or free, never both.
        if let Some(mut writer) = arena.try_alloc() {
            own(&mut writer, &cells[0]);
        }
        readers.into_iter().for_each(|reader| reader.join().expect("a reader that ends well"));
        let mut writer = arena.try_alloc().expect("every handle is gone");
        own(&mut writer, &cells[0]);
        drop(writer);
        assert_eq!(arena.free_blocks(), 1, "no block is lost");
    });
}

#[test]
fn a_handle_cloned_and_dropped_on_two_threads_frees_its_block_once() {
    model(3, || {
        let arena = arena(2);
        let block = arena.try_alloc().expect("a free block").seal();
        let other = block.clone();
        let thread = thread::spawn(move || drop(other.clone()));
        drop(block);
        thread.join().expect("a thread that ends well");
        let both = [arena.try_alloc(), arena.try_alloc()];
        assert!(both.iter().all(Option::is_some) && arena.try_alloc().is_none());
    });
}

#[test]
fn a_waiter_gets_the_block_that_another_thread_lets_go() {
    model(3, || {
        let (arena, cells) = (arena(1), Cell::several(1));
        let mut writer = arena.try_alloc().expect("a free block");
        own(&mut writer, &cells[0]);
        let waiter = {
            let (arena, cells) = (arena.clone(), Arc::clone(&cells));
            thread::spawn(move || own(&mut block_on(arena.alloc()), &cells[0]))
        };
        drop(writer);
        waiter.join().expect("a waiter that is woken");
        assert_eq!(arena.free_blocks(), 1);
    });
}

#[test]
fn two_blocks_let_go_at_once_reach_two_waiters() {
    // Both must have looked in vain before either sleeps, and that takes three switches.
    model(3, || {
        let arena = arena(2);
        let held = [arena.try_alloc(), arena.try_alloc()].map(|block| block.expect("a free one"));
        // Neither waiter lets go of its block before both have one: one wake-up has to become two.
        let waiters = [(); 2].map(|()| {
            let arena = arena.clone();
            thread::spawn(move || block_on(arena.alloc()))
        });
        let [first, second] = held;
        drop(first);
        drop(second);
        let blocks = waiters.map(|waiter| waiter.join().expect("a waiter that is woken"));
        assert!(arena.try_alloc().is_none(), "both blocks are held");
        drop(blocks);
        assert_eq!(arena.free_blocks(), 2);
    });
}

#[test]
fn a_waiter_that_gives_up_passes_its_wake_up_on() {
    model(2, || {
        let arena = arena(1);
        let held = arena.try_alloc().expect("a free block");
        let waiter = {
            let arena = arena.clone();
            thread::spawn(move || drop(block_on(arena.alloc())))
        };
        // Asked once, then dropped, as the future of a connection that went away.
        block_on(std::future::poll_fn({
            let arena = arena.clone();
            move |context| {
                let mut asked = std::pin::pin!(arena.alloc());
                let _ = asked.as_mut().poll(context);
                std::task::Poll::Ready(())
            }
        }));
        drop(held);
        waiter.join().expect("a waiter that is woken");
        assert_eq!(arena.free_blocks(), 1);
    });
}

#[test]
fn the_arena_lives_as_long_as_its_last_block() {
    model(3, || {
        let arena = arena(2);
        let blocks = [(); 2].map(|()| arena.try_alloc().expect("a free block").seal());
        let threads = blocks.map(|block| thread::spawn(move || drop(block)));
        drop(arena);
        // What is left behind loom reports as a leak.
        threads.into_iter().for_each(|thread| thread.join().expect("a thread that ends well"));
    });
}

#[test]
fn a_follower_sees_only_what_was_written_before_it_was_published() {
    model(3, || {
        let (arena, cells) = (arena(1), Cell::several(3));
        let mut writer = arena.try_alloc().expect("a free block");
        let follower = {
            let (block, cells) = (writer.share(), Arc::clone(&cells));
            thread::spawn(move || {
                for _ in 0..2 {
                    let sealed = block.is_sealed();
                    let len = block.len();
                    cells[..len].iter().for_each(Cell::read);
                    assert_eq!(block.bytes(0..len), &b"ab"[..len]);
                    if sealed {
                        // The padding, zeroed by the writer as it went.
                        assert_eq!(len, 2, "a sealed block grows no more");
                        cells[2].read();
                        let padded = block.drive_bytes(0..BLOCK).expect("sealed");
                        assert!(padded[2..].iter().all(|byte| *byte == 0));
                    }
                }
            })
        };
        cells[0].write();
        writer.append(b"a");
        cells[1].write();
        let mut spare = Spare::new(vec![writer], 1);
        assert_eq!(spare.capacity(), 1);
        // SAFETY: one byte of the tail, which this spare alone may write to.
        unsafe { spare.list()[0].iov_base.cast::<u8>().write(b'b') };
        spare.set_filled(1);
        let writer = spare.finish(1).remove(0);
        cells[2].write();
        drop(writer);
        follower.join().expect("a follower that ends well");
    });
}
