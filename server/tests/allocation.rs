//! The hot path allocates nothing: a GET of a small object in the arena works with memory that the
//! connection and the object already have.
//!
//! Alone in its program, because the allocations of all threads are counted.

#[path = "common/mod.rs"]
mod common;

use cap::Cap;
use common::Server;
use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const BODY_BYTES: usize = 2048;
const ANSWERS: usize = 10_000;
/// What timers and the engine's own threads may allocate meanwhile: a few bytes for each answer,
/// where the smallest allocation for each would show.
const OTHERS_BYTES_MAX: usize = 4 * ANSWERS;

/// GETs without an allocation on this side either.
fn get(stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
    stream.write_all(b"GET /live/small.m4s HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).expect("an answer");
        assert!(count > 0, "the connection stays open");
        filled += count;
        let head = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n");
        if head.is_some_and(|head| filled == head + 4 + BODY_BYTES) {
            assert!(buffer.starts_with(b"HTTP/1.1 200 "));
            return filled;
        }
    }
}

#[test]
fn a_small_get_from_the_arena_allocates_nothing() {
    let server = Server::start();
    let body = vec![b'x'; BODY_BYTES];
    let mut client = server.connect();
    assert_eq!(client.put("/live/small.m4s", &body).status, 201);

    let mut stream = TcpStream::connect(server.addr()).expect("connects");
    stream.set_nodelay(true).expect("a socket");
    let mut buffer = vec![0; 16 << 10];
    for _ in 0..200 {
        get(&mut stream, &mut buffer);
    }
    let before = ALLOCATOR.total_allocated();
    for _ in 0..ANSWERS {
        get(&mut stream, &mut buffer);
    }
    let allocated = ALLOCATOR.total_allocated() - before;
    println!("{allocated} bytes allocated in {ANSWERS} answers");
    assert!(allocated <= OTHERS_BYTES_MAX, "{allocated} bytes allocated in {ANSWERS} answers");
}
