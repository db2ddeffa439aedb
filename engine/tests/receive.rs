//! Bytes from a socket straight into the arena, several blocks at a time.

mod common;

use common::{Store, get, key, payload};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use tapeloop_engine::{Ack, Engine, PutOptions, Stream, Upload, block_on};

const BLOCK: usize = 64 << 10;

/// A connected pair: the engine's side, and the encoder's.
fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let far = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    (Stream::new(listener.accept().expect("connected").0).expect("open"), far)
}

async fn start(engine: &Engine, name: &str) -> Upload {
    let options = PutOptions { ttl_ms: 1 << 40, ..PutOptions::default() };
    engine.put(&key(name), options).await.expect("room")
}

#[test]
fn what_is_received_into_several_blocks_is_what_was_sent() {
    let files = Store::of(1);
    let engine = files.open();
    let bytes = payload(1_500_000, 3);
    let (near, mut far) = pair();
    let mut over_a_border = 0;
    block_on(64, async {
        let mut upload = start(&engine, "a/long").await;
        // What comes with a head is written, and the rest received: less than a socket keeps.
        for part in bytes.chunks(75_000) {
            let (written, sent) = part.split_at(15_000);
            upload.write(written).await.expect("room");
            far.write_all(sent).expect("it is read");
            let mut left = sent.len();
            while left > 0 {
                let spare = upload.recv_buffer(3 * BLOCK + 77).await.expect("room");
                assert_eq!(spare.capacity(), 3 * BLOCK + 77);
                let room_in_first = BLOCK - spare.start();
                let (result, spare) = near.read_spare(spare).await;
                let count = result.expect("a connection");
                upload.received(spare, count);
                over_a_border += usize::from(count > room_in_first);
                left -= count;
            }
        }
        upload.commit(Ack::Durable).await.expect("stored");
        assert!(get(&engine, "a/long").await.expect("stored") == bytes);
    })
    .expect("a ring");
    assert!(over_a_border > 0, "no receive filled more than one block");
    drop(engine);
    let engine = files.open();
    let stored = block_on(64, get(&engine, "a/long")).expect("a ring");
    assert!(stored.expect("stored") == bytes);
}

#[test]
fn blocks_that_a_receive_leaves_empty_are_there_for_others() {
    let files = Store::of(1);
    let engine = files.open();
    block_on(64, async {
        // Four blocks each are asked for and one is used, ten times as many as there are.
        for number in 0..800 {
            let (near, mut far) = pair();
            far.write_all(b"few bytes").expect("it is read");
            let mut upload = start(&engine, "a/short").await;
            let spare = upload.recv_buffer(4 * BLOCK).await.expect("room");
            let (result, spare) = near.read_spare(spare).await;
            upload.received(spare, result.expect("a connection"));
            match number % 2 {
                0 => drop(upload),
                _ => drop(upload.commit(Ack::Durable).await.expect("stored")),
            }
        }
        assert_eq!(get(&engine, "a/short").await.expect("stored"), b"few bytes");
    })
    .expect("a ring");
}
