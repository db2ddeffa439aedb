//! Arena memory between sockets: received by spare, followed by readers, sent as chunks.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

use support::pattern;
use tapeloop_io::{ARENA_BLOCK, Arena, Chunk, Stream, block_on, runtime, socket};

const LEN: usize = 3 * ARENA_BLOCK + 1234;

/// An upload received into arena blocks and echoed from them, chunk by chunk as it arrives.
async fn echo(stream: TcpStream, arena: Arena) -> usize {
    let stream = Stream::new(stream);
    let mut received = 0;
    let mut writer = arena.alloc().await;
    loop {
        if writer.remaining() == 0 {
            writer = arena.alloc().await;
        }
        let start = writer.len();
        let (result, spare) = stream.read_spare(writer.into_spare(10_000)).await;
        let n = result.unwrap();
        assert_eq!(spare.filled(), n);
        writer = spare.finish(n);
        if n == 0 {
            return received;
        }
        let chunk = Chunk::from_block(writer.share(), start..start + n);
        let (head, tail) = (chunk.slice(0..n / 2), chunk.slice(n / 2..n));
        for part in [head, tail] {
            let mut left = part;
            while !left.is_empty() {
                let sent = stream.write_chunks(vec![left.clone()]).await.0.unwrap();
                left = left.slice(sent..left.len());
            }
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
fn a_shut_down_socket_ends_its_receive_and_frees_the_block() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let arena = Arena::new(ARENA_BLOCK).unwrap();
    let received = block_on(64, async {
        let fd = stream.as_raw_fd();
        let upload = runtime::spawn(echo(stream, arena.clone()));
        // Until the receive has the block.
        while arena.free_blocks() > 0 {
            runtime::yield_now().await;
        }
        socket::shutdown(fd).unwrap();
        upload.await
    });
    assert_eq!(received.unwrap(), 0);
    assert_eq!(arena.free_blocks(), 1);
    drop(silent);
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
