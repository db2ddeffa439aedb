//! The appender's ring and the readers' runtime, on a real file.

mod support;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use support::{Store, aligned_pattern, pattern, wait_for};
use tapeloop_io::appender_ring::{QUEUE_MAX, ShortTransfer};
use tapeloop_io::buffers::SMALL_PER_LARGE;
use tapeloop_io::{
    ARENA_BLOCK, AlignedBuf, Arena, BLOCK, DiskReader, READ_BUF, SMALL_READ_BUF, WriteRing,
    WriteSource, block_on, runtime,
};

const MIB: usize = 1 << 20;

/// Long enough that only a lost wake-up can reach it.
const NEVER: Duration = Duration::from_secs(60);

#[test]
fn what_the_write_ring_writes_the_disk_reader_reads() {
    let store = Store::new(8 * MIB as u64);
    let volume = store.open();
    let written = pattern(1, 3 * MIB);
    let mut ring = WriteRing::new(Arc::clone(&volume), 16).unwrap();
    let mut source = AlignedBuf::zeroed(3 * MIB);
    source.copy_from_slice(&written);
    ring.push_write(7, WriteSource::Aligned(source), MIB as u64).unwrap();
    let completion = wait_for(&mut ring);
    assert_eq!((completion.token, completion.result.unwrap()), (7, 3 * MIB as u32));
    ring.push_flush(8).unwrap();
    let completion = wait_for(&mut ring);
    assert_eq!((completion.token, completion.result.unwrap()), (8, 0));

    let read = block_on(64, async {
        let reader = DiskReader::new(&[volume], 4).unwrap();
        let mut found = Vec::new();
        while found.len() < 3 * MIB {
            let len = READ_BUF.min(3 * MIB - found.len());
            let buf = reader.read(0, (MIB + found.len()) as u64, len).await.unwrap();
            found.extend_from_slice(&buf);
        }
        found
    });
    assert!(read.unwrap() == written);
}

#[test]
fn a_gathered_write_lands_as_one_run_of_bytes() {
    let store = Store::new(8 * MIB as u64);
    let volume = store.open();
    let mut ring = WriteRing::new(Arc::clone(&volume), 4).unwrap();
    let arena = Arena::new(20 * ARENA_BLOCK).unwrap();
    let payload = pattern(2, 18 * ARENA_BLOCK + 5000);
    let header = aligned_pattern(3, BLOCK);
    let mut wanted = header.to_vec();
    let mut parts = vec![WriteSource::Aligned(header)];
    for bytes in payload.chunks(ARENA_BLOCK) {
        let mut writer = arena.try_alloc().unwrap();
        assert_eq!(writer.append(bytes), bytes.len());
        let padded = bytes.len().next_multiple_of(BLOCK);
        parts.push(WriteSource::Block(writer.seal(), 0..padded));
    }
    wanted.extend_from_slice(&payload);
    wanted.resize(wanted.len().next_multiple_of(BLOCK), 0);
    let source = WriteSource::Gather(parts);
    assert_eq!(source.len(), wanted.len());
    ring.push_write(1, source, 8192).unwrap();
    assert_eq!(wait_for(&mut ring).result.unwrap() as usize, wanted.len());
    assert_eq!(arena.free_blocks(), 20);
    let mut found = vec![0; wanted.len()];
    volume.read_at(&mut found, 8192).unwrap();
    assert!(found == wanted);
}

#[test]
fn each_push_completes_once_with_its_token() {
    let store = Store::new(64 * MIB as u64);
    let mut ring = WriteRing::new(store.open(), 48).unwrap();
    // More than fits into the ring, the submit limit and a kernel's batch of completions.
    let mut open: Vec<bool> = vec![true; 700];
    for token in 0..700u64 {
        let source = WriteSource::Aligned(aligned_pattern(token, 2 * BLOCK));
        ring.push_write(token, source, token * 2 * BLOCK as u64).unwrap();
    }
    for _ in 0..700 {
        let completion = wait_for(&mut ring);
        assert_eq!(completion.result.unwrap(), 2 * BLOCK as u32);
        assert!(std::mem::take(&mut open[completion.token as usize]));
    }
    ring.submit_and_wait(Duration::ZERO).unwrap();
    assert!(ring.pop().is_none());
    assert_eq!(ring.queued(), 0);
    for token in [0, 333, 699] {
        ring.push_read(token, AlignedBuf::zeroed(2 * BLOCK), token * 2 * BLOCK as u64).unwrap();
        let completion = wait_for(&mut ring);
        assert_eq!(completion.result.unwrap(), 2 * BLOCK as u32);
        assert_eq!(*completion.buf.unwrap(), *pattern(token, 2 * BLOCK));
    }
}

#[test]
fn a_full_ring_hands_the_source_back() {
    let store = Store::new(8 * MIB as u64);
    let mut ring = WriteRing::new(store.open(), 8).unwrap();
    for token in 0..QUEUE_MAX as u64 {
        let source = WriteSource::Aligned(AlignedBuf::zeroed(BLOCK));
        ring.push_write(token, source, token * BLOCK as u64).unwrap();
    }
    let source = WriteSource::Aligned(aligned_pattern(5, BLOCK));
    let full = ring.push_write(QUEUE_MAX as u64, source, 0).unwrap_err();
    assert_eq!((full.queued, full.needed), (QUEUE_MAX, 1));
    assert!(matches!(full.rejected, WriteSource::Aligned(buf) if *buf == *pattern(5, BLOCK)));
    assert!(ring.push_flush(0).is_err());
    wait_for(&mut ring);
    ring.push_flush(0).unwrap();
}

#[test]
fn dropping_a_busy_ring_waits_for_the_kernel() {
    const LEN: usize = 512 * 1024;
    const DEPTH: u64 = 32;
    let store = Store::new(32 * MIB as u64);
    let volume = store.open();
    let mut ring = WriteRing::new(Arc::clone(&volume), DEPTH as u32).unwrap();
    let wanted: Vec<_> = (0..2 * DEPTH).map(|seed| pattern(seed + 1, LEN)).collect();
    for (token, bytes) in (0..).zip(&wanted) {
        let source = WriteSource::Aligned(AlignedBuf::padded_from(bytes));
        ring.push_write(token, source, token % DEPTH * LEN as u64).unwrap();
    }
    // The kernel has the first half; the second half overwrites it, if it gets that far.
    ring.submit_and_wait(Duration::ZERO).unwrap();
    assert!(ring.queued() >= DEPTH as usize);
    let mut found = AlignedBuf::zeroed(LEN);
    drop(ring);
    // Newest first: what was submitted last would be missing if nobody had waited.
    for token in (0..DEPTH as usize).rev() {
        volume.read_at(&mut found, token as u64 * LEN as u64).unwrap();
        let either = [&wanted[token], &wanted[token + DEPTH as usize]];
        assert!(either.iter().any(|bytes| *found == ***bytes), "write {token}");
    }
}

#[test]
fn a_read_past_the_end_says_how_far_it_came() {
    let store = Store::new(MIB as u64);
    let volume = store.open();
    let mut ring = WriteRing::new(Arc::clone(&volume), 4).unwrap();
    ring.push_read(1, AlignedBuf::zeroed(4 * BLOCK), (MIB - BLOCK) as u64).unwrap();
    let error = wait_for(&mut ring).result.unwrap_err();
    let wanted = ShortTransfer {
        kind: "read",
        offset: (MIB - BLOCK) as u64,
        wanted: 4 * BLOCK,
        moved: BLOCK,
    };
    assert_eq!(error.get_ref().unwrap().downcast_ref(), Some(&wanted));
    let error = block_on(8, async {
        let reader = DiskReader::new(&[volume], 1).unwrap();
        reader.read(0, (MIB - BLOCK) as u64, 4 * BLOCK).await.unwrap_err()
    });
    assert_eq!(error.unwrap().get_ref().unwrap().downcast_ref(), Some(&wanted));
}

#[test]
fn a_write_error_reaches_its_token_with_the_errno() {
    let store = Store::new(MIB as u64);
    let read_only = Arc::new(tapeloop_io::VolumeFile::open_read_only(&store.path).unwrap());
    let mut ring = WriteRing::new(read_only, 4).unwrap();
    ring.push_write(9, WriteSource::Aligned(AlignedBuf::zeroed(BLOCK)), 0).unwrap();
    let completion = wait_for(&mut ring);
    assert_eq!(completion.token, 9);
    assert_eq!(completion.result.unwrap_err().raw_os_error(), Some(libc::EBADF));
}

#[test]
fn an_idle_wait_ends_at_its_timeout() {
    let store = Store::new(MIB as u64);
    let mut ring = WriteRing::new(store.open(), 4).unwrap();
    let timeout = Duration::from_millis(30);
    let before = Instant::now();
    ring.submit_and_wait(timeout).unwrap();
    assert!(before.elapsed() >= timeout);
    assert!(ring.pop().is_none());
    ring.submit_and_wait(Duration::ZERO).unwrap();
}

#[test]
fn a_wake_ends_the_wait_whether_it_comes_before_or_during() {
    let store = Store::new(MIB as u64);
    let mut ring = WriteRing::new(store.open(), 4).unwrap();
    let waker = ring.waker();
    let before = Instant::now();
    waker.wake();
    ring.submit_and_wait(NEVER).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| waker.wake());
        ring.submit_and_wait(NEVER).unwrap();
    });
    assert!(before.elapsed() < NEVER / 2);
    // Both were taken: nothing is left to end the next wait early.
    let before = Instant::now();
    ring.submit_and_wait(Duration::from_millis(20)).unwrap();
    assert!(before.elapsed() >= Duration::from_millis(20));
}

#[test]
fn no_wake_is_lost_between_threads() {
    const SENDERS: usize = 3;
    const EACH: usize = 20_000;
    let store = Store::new(MIB as u64);
    let mut ring = WriteRing::new(store.open(), 4).unwrap();
    let (sender, queue) = std::sync::mpsc::channel();
    let threads: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (sender, waker) = (sender.clone(), ring.waker());
            thread::spawn(move || {
                for number in 0..EACH {
                    sender.send(number).unwrap();
                    waker.wake();
                }
            })
        })
        .collect();
    let mut received = 0;
    while received < SENDERS * EACH {
        let before = Instant::now();
        ring.submit_and_wait(NEVER).unwrap();
        assert!(before.elapsed() < NEVER / 2, "slept over a wake after {received}");
        received += queue.try_iter().count();
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn small_and_large_reads_do_not_compete_for_buffers() {
    let store = Store::new(4 * MIB as u64);
    let volume = store.open();
    block_on(64, async {
        let reader = DiskReader::new(&[volume], 1).unwrap();
        let large = reader.read(0, 0, READ_BUF).await.unwrap();
        assert_eq!(reader.pool().free_large(), 0);
        let small = reader.read(0, 0, SMALL_READ_BUF).await.unwrap();
        assert_eq!((small.len(), large.len()), (SMALL_READ_BUF, READ_BUF));
        let part = large.slice(10..20).slice(5..10);
        assert_eq!(part.len(), 5);
        drop(large);
        assert_eq!(reader.pool().free_large(), 0, "a slice keeps the buffer");
        drop(part);
        assert_eq!(reader.pool().free_large(), 1);
    })
    .unwrap();
}

#[test]
fn every_buffer_takes_the_bytes_that_were_read_into_it() {
    let store = Store::new(4 * MIB as u64);
    let volume = store.open();
    volume.write_at(&pattern(6, 2 * READ_BUF), 0).unwrap();
    block_on(64, async {
        let reader = DiskReader::new(&[volume], 3).unwrap();
        let mut held = Vec::new();
        for (count, len) in [(3, READ_BUF), (3 * SMALL_PER_LARGE, SMALL_READ_BUF)] {
            for number in 0..count {
                let offset = number * BLOCK;
                let read = reader.read(0, offset as u64, len).await.unwrap();
                held.push((offset, read));
            }
        }
        assert_eq!((reader.pool().free_large(), reader.pool().free_small()), (0, 0));
        let expected = pattern(6, 2 * READ_BUF);
        for (offset, read) in held {
            assert!(*read == expected[offset..offset + read.len()], "at {offset}");
        }
    })
    .unwrap();
}

/// The first reader of a ring registers its buffers; a second one on the same ring cannot, which
/// is the same path as a memory-lock limit.
#[test]
fn unregistered_buffers_read_the_same_bytes() {
    let store = Store::new(4 * MIB as u64);
    let volume = store.open();
    volume.write_at(&pattern(4, READ_BUF), 4096).unwrap();
    block_on(64, async {
        let first = DiskReader::new(&[Arc::clone(&volume)], 2).unwrap();
        let second = DiskReader::new(&[volume], 2).unwrap();
        assert_eq!(second.pool().registered(), 0);
        for reader in [&first, &second] {
            for len in [BLOCK, SMALL_READ_BUF, READ_BUF] {
                let found = reader.read(0, 4096, len).await.unwrap();
                assert!(*found == pattern(4, READ_BUF)[..len]);
            }
        }
        abandoned_reads_give_their_buffers_back(&first).await;
        abandoned_reads_give_their_buffers_back(&second).await;
    })
    .unwrap();
}

async fn abandoned_reads_give_their_buffers_back(reader: &DiskReader) {
    for _ in 0..50 {
        let mut read = Box::pin(reader.read(0, 0, READ_BUF));
        let polled =
            std::future::poll_fn(|cx| std::task::Poll::Ready(read.as_mut().poll(cx).is_pending()));
        assert!(polled.await, "a disk read is never ready at once");
        drop(read);
        // Both buffers are wanted at once, and one of them is still the kernel's.
        let wanted = [0, 4096].map(|offset| {
            let reader = reader.clone();
            runtime::spawn(async move { reader.read(0, offset, READ_BUF).await })
        });
        for read in wanted {
            assert_eq!(read.await.unwrap().len(), READ_BUF);
        }
    }
}

#[test]
fn waiting_reads_are_served_in_turn() {
    let store = Store::new(4 * MIB as u64);
    let volume = store.open();
    let order = block_on(64, async {
        let reader = DiskReader::new(&[volume], 1).unwrap();
        let order = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let held = reader.read(0, 0, READ_BUF).await.unwrap();
        let tasks: Vec<_> = (0..10)
            .map(|number| {
                let (reader, order) = (reader.clone(), std::rc::Rc::clone(&order));
                runtime::spawn(async move {
                    reader.read(0, 0, READ_BUF).await.unwrap();
                    order.borrow_mut().push(number);
                })
            })
            .collect();
        drop(held);
        for task in tasks {
            task.await;
        }
        order.take()
    });
    assert_eq!(order.unwrap(), (0..10).collect::<Vec<i32>>());
}

#[test]
fn a_reader_refuses_a_volume_it_does_not_have() {
    let store = Store::new(MIB as u64);
    let volume = store.open();
    let error = block_on(8, async {
        let reader = DiskReader::new(&[volume], 1).unwrap();
        reader.read(1, 0, BLOCK).await.unwrap_err()
    });
    assert_eq!(error.unwrap().to_string(), "volume 1 of a reader with 1");
}
