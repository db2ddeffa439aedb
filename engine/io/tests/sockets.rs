//! Arena memory between sockets: received by spare, followed by readers, sent as chunks.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

use support::pattern;
use tapeloop_io::{
    ARENA_BLOCK, Arena, BlockWriter, Chunk, Spare, Stream, block_on, runtime, socket,
};

const LEN: usize = 3 * ARENA_BLOCK + 1234;

/// An upload received into arena blocks, two at a time, and echoed from them as it arrives.
async fn echo(stream: TcpStream, arena: Arena) -> usize {
    let stream = Stream::new(stream).unwrap();
    let mut received = 0;
    let mut writers: Vec<BlockWriter> = Vec::new();
    loop {
        writers.retain(|writer| writer.remaining() > 0);
        while writers.len() < 2 {
            writers.push(arena.alloc().await);
        }
        let mut start = writers[0].len();
        let (result, spare) = stream.read_spare(Spare::new(writers, ARENA_BLOCK + 999)).await;
        let n = result.unwrap();
        assert_eq!((spare.start(), spare.filled()), (start, n));
        writers = spare.finish(n);
        if n == 0 {
            return received;
        }
        for writer in &writers {
            let chunk = Chunk::from_block(writer.share(), start..writer.len());
            let half = chunk.len() / 2;
            let (head, tail) = (chunk.slice(0..half), chunk.slice(half..chunk.len()));
            for part in [head, tail] {
                let mut left = part;
                while !left.is_empty() {
                    let sent = stream.write_chunks(vec![left.clone()]).await.0.unwrap();
                    left = left.slice(sent..left.len());
                }
            }
            start = 0;
        }
        received += n;
    }
}

#[test]
fn what_is_received_into_the_arena_is_sent_from_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let sent = pattern(1, LEN);
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut reading = stream.try_clone().unwrap();
        let reader = thread::spawn(move || {
            let mut found = Vec::new();
            reading.read_to_end(&mut found).unwrap();
            found
        });
        stream.write_all(&sent).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        (reader.join().unwrap(), sent)
    });
    // Two blocks for an upload of four: they must come back as they are sent.
    let arena = Arena::new(2 * ARENA_BLOCK).unwrap();
    let (stream, _) = listener.accept().unwrap();
    assert_eq!(block_on(64, echo(stream, arena.clone())).unwrap(), LEN);
    let (found, sent) = client.join().unwrap();
    assert!(found == sent);
    assert_eq!(arena.free_blocks(), 2);
}

#[test]
fn a_shut_down_socket_ends_its_receive_and_frees_its_blocks() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let arena = Arena::new(2 * ARENA_BLOCK).unwrap();
    let received = block_on(64, async {
        let fd = stream.as_raw_fd();
        let upload = runtime::spawn(echo(stream, arena.clone()));
        // Until the receive has both blocks.
        while arena.free_blocks() > 0 {
            runtime::yield_now().await;
        }
        socket::shutdown(fd).unwrap();
        upload.await
    });
    assert_eq!(received.unwrap(), 0);
    assert_eq!(arena.free_blocks(), 2);
    drop(silent);
}

#[test]
fn what_was_lent_arrives_as_it_was_although_its_blocks_are_used_again() {
    const BLOCKS: usize = 2;
    let arena = Arena::new(BLOCKS * ARENA_BLOCK).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let near = Stream::new(listener.accept().unwrap().0).unwrap();
    block_on(8, async {
        let mut on_its_way = Vec::new();
        for round in 0..20 {
            let mut parts = vec![Chunk::from(pattern(round, 100))];
            for number in 0..BLOCKS {
                let bytes = pattern(round + number as u64, ARENA_BLOCK);
                let mut writer = arena.try_alloc().expect("what was lent does not keep a block");
                assert_eq!(writer.append(&bytes), ARENA_BLOCK);
                parts.push(Chunk::from_block(writer.seal(), 10..ARENA_BLOCK));
            }
            // All blocks are written to again, and only now the client reads what came before.
            let mut found = vec![0; on_its_way.len()];
            far.read_exact(&mut found).unwrap();
            assert!(found == on_its_way, "round {round}");
            near.writable().await.unwrap();
            let sent = near.lend_chunks(&parts).await.unwrap();
            assert!(sent > 100, "{sent} bytes sent: none by reference");
            on_its_way = parts.iter().flat_map(|part| part.to_vec()).take(sent).collect();
        }
    })
    .unwrap();
    assert_eq!(arena.free_blocks(), BLOCKS);
}

#[test]
fn a_client_that_takes_nothing_more_is_lent_nothing_more() {
    let arena = Arena::new(ARENA_BLOCK).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let near = Stream::new(listener.accept().unwrap().0).unwrap();
    block_on(8, async {
        let mut writer = arena.try_alloc().unwrap();
        writer.append(&pattern(1, ARENA_BLOCK));
        let part = [Chunk::from_block(writer.seal(), 0..ARENA_BLOCK)];
        let mut sent = 0;
        loop {
            match near.lend_chunks(&part).await.unwrap() {
                0 => break,
                count => sent += count,
            }
        }
        let reader = thread::spawn(move || {
            far.read_exact(&mut vec![0; sent]).unwrap();
            far
        });
        near.writable().await.unwrap();
        let mut far = reader.join().unwrap();
        // Nothing of what did not fit is left over for the next.
        let next = Chunk::from(b"next".to_vec());
        assert_eq!(near.lend_chunks(&[next]).await.unwrap(), 4);
        let mut found = [0; 4];
        far.read_exact(&mut found).unwrap();
        assert_eq!(&found, b"next");
        drop(far);
        while near.lend_chunks(&part).await.is_ok() {
            runtime::yield_now().await;
        }
    })
    .unwrap();
}

#[test]
fn heap_and_arena_chunks_slice_alike() {
    let arena = Arena::new(ARENA_BLOCK).unwrap();
    let mut writer = arena.try_alloc().unwrap();
    writer.append(b"abcdefghij");
    let chunks = [
        Chunk::from(b"cdefgh".to_vec()),
        Chunk::from(b"abcdefghij".to_vec()).slice(2..8),
        Chunk::from_block(writer.seal(), 2..8),
    ];
    for chunk in chunks {
        assert_eq!(&*chunk, b"cdefgh");
        assert_eq!(&*chunk.slice(1..4).slice(1..3), b"ef");
        assert!(chunk.slice(6..6).is_empty());
        let past = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| chunk.slice(2..7)));
        assert!(past.is_err());
    }
    assert_eq!(arena.free_blocks(), 1);
}
