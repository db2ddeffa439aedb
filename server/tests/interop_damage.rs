//! A drive that returns other bytes than it was given, under the real server.

mod interop;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::Path;

use interop::{Origin, files_below};

/// More than one piece of what is checksummed, and more than one read.
const LEN: usize = 700_000;
/// Where the bit is flipped: in the second read, after good bytes have left.
const FLIPPED: usize = 500_000;

#[test]
fn a_flipped_bit_on_the_drive_costs_that_object_and_is_never_sent() {
    let origin = Origin::start(&[]);
    let (early, late, other) = (noise(1), noise(2), noise(3));
    for (path, body) in [("x/early", &early), ("x/late", &late), ("x/other", &other)] {
        put(&origin, path, body);
    }
    let store = origin.stop();
    flip(store.path(), &early, 100);
    flip(store.path(), &late, FLIPPED);

    // A new process has nothing in memory: it has to read the drive.
    let origin = Origin::start_on(store, &[]);
    let (head, body) = raw_get(&origin, "x/early");
    assert!(head.starts_with("HTTP/1.1 5"), "before the first byte it can still say so: {head}");
    assert!(head.to_ascii_lowercase().contains("cache-control: no-store"), "{head}");
    assert!(!contains(&body, &early[..64]), "and sends none of it");

    let (head, body) = raw_get(&origin, "x/late");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(body.len() <= FLIPPED, "{} bytes came, the damage is at {FLIPPED}", body.len());
    assert!(late.starts_with(&body), "what came before it is good");

    let (head, body) = raw_get(&origin, "x/other");
    assert!(head.starts_with("HTTP/1.1 200") && body == other, "a neighbour is as it was");
    origin.stop();
}

/// Bytes that occur once on a drive.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..LEN).map(|_| next()).collect()
}

fn put(origin: &Origin, path: &str, body: &[u8]) {
    let mut stream = TcpStream::connect(origin.data).expect("a connection");
    let (host, len) = (origin.data, body.len());
    let head = format!(
        "PUT /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

/// Head and as much of the body as came, whether it ended well or with a reset.
fn raw_get(origin: &Origin, path: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(origin.data).expect("a connection");
    let host = origin.data;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..n]);
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let body = bytes.split_off(end);
    (String::from_utf8_lossy(&bytes).into_owned(), body)
}

/// Flips one bit of an object where it lies in the store.
fn flip(store: &Path, object: &[u8], at: usize) {
    let name = files_below(store).into_iter().find(|name| name.ends_with(".tape"));
    let path = store.join(name.expect("a volume"));
    let mut bytes = Vec::new();
    File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).expect("its bytes");
    // A record's payload starts on a block.
    let block = (0..bytes.len()).step_by(4096).find(|&start| bytes[start..].starts_with(object));
    let place = block.expect("the object on the drive") + at;
    let file = OpenOptions::new().write(true).open(&path).expect("the volume to damage");
    file.write_at(&[bytes[place] ^ 0x10], place as u64).expect("a flipped bit");
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
