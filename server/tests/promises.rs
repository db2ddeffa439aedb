//! P12 to P16 and P20 over real connections: aborted uploads, one reading per request, keys,
//! ranges, deadlines, draining. The numbers are those of the list of promises.

mod common;

use common::{Client, Server, pattern, until};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};
use tapeloop_server::net::Limits;

/// The largest part of an 8 MiB zone, more or less.
const LARGE: usize = 7 << 20;

fn put_head(path: &str, len: usize) -> String {
    format!("PUT {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {len}\r\n\r\n")
}

fn get_head(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n")
}

#[test]
fn p12_an_upload_whose_client_is_gone_is_no_object_and_its_followers_are_reset() {
    let server = Server::start();
    let body = pattern(1 << 20, 1);
    for abort in [Shutdown::Both, Shutdown::Write] {
        let mut encoder = server.connect();
        encoder.send(put_head("/p12/gone.ts", body.len()));
        encoder.send(&body[..300_000]);
        let mut follower = server.connect();
        until("the upload to be seen", || {
            follower.send(get_head("/p12/gone.ts"));
            let (status, headers) = follower.head();
            if status == 200 {
                assert!(headers.iter().all(|(name, _)| name != "ETag" && name != "Content-Length"));
                return true;
            }
            assert_eq!(status, 404);
            let len = headers.iter().find(|(name, _)| name == "Content-Length");
            follower.exactly(len.expect("a length").1.parse().expect("a number"));
            false
        });
        let mut followed = Vec::new();
        while followed.len() < 300_000 {
            followed.extend(follower.chunk().expect("more to come"));
        }
        assert_eq!(followed, &body[..300_000], "a true prefix");
        encoder.stream.shutdown(abort).expect("open until now");
        let (rest, was_reset) = follower.end();
        assert!(rest.is_empty() && was_reset, "nothing that looks like an end: {rest:?}");
        assert_eq!(server.connect().get("/p12/gone.ts").status, 404);
        until("its memory", || server.engine.stats().arena_blocks_uploading == 0);
    }
}

#[test]
fn p12_an_aborted_replacement_leaves_the_old_version() {
    let server = Server::start();
    let mut client = server.connect();
    assert_eq!(client.put("/p12/old.ts", b"old").status, 201);
    let mut encoder = server.connect();
    encoder.send(put_head("/p12/old.ts", 10));
    encoder.send(b"new");
    encoder.end_sending();
    assert_eq!(encoder.answer(false).status, 400);
    assert_eq!(client.get("/p12/old.ts").body, b"old");
}

#[test]
fn p12_a_stalled_or_dripping_body_is_cut_and_told_why() {
    let limits = Limits { body_idle_ms: 500, body_bytes_per_s_min: 1_000_000, ..Limits::default() };
    let server = Server::with_limits(limits);
    let mut stalled = server.connect();
    stalled.send(put_head("/p12/stalled.ts", 10));
    stalled.send(b"abc");
    let answer = stalled.answer(false);
    assert_eq!(answer.status, 408, "{answer:?}");
    stalled.end();

    // Never idle for long, and still far below the minimum rate.
    let mut dripping = server.connect();
    dripping.send(put_head("/p12/drip.ts", 1 << 20));
    let started = Instant::now();
    while dripping.stream.write_all(b"x").is_ok() {
        assert!(started.elapsed() < common::PATIENCE, "nobody cuts it");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut client = server.connect();
    assert_eq!(client.get("/p12/stalled.ts").status, 404);
    assert_eq!(client.get("/p12/drip.ts").status, 404);
}

#[test]
fn p13_nothing_after_an_ambiguous_request_is_read_as_a_request() {
    let server = Server::start();
    let smuggled = "PUT /p13/smuggled HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\nx";
    let heads = [
        "PUT /p13/a HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "PUT /p13/a HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "GET /p13/a HTTP/1.1\nHost: t\n\n",
        "GET /p13//a HTTP/1.1\r\nHost: t\r\n\r\n",
    ];
    for head in heads {
        let mut client = server.connect();
        client.send([head, smuggled].concat());
        assert_eq!(client.answer(false).status, 400, "{head:?}");
        let (rest, _) = client.end();
        assert!(rest.is_empty(), "{head:?}: a second answer: {}", rest.escape_ascii());
        assert_eq!(server.connect().get("/p13/smuggled").status, 404, "{head:?}");
    }
}

#[test]
fn p13_a_conversation_has_the_same_answers_at_every_split() {
    let server = Server::start();
    let sent = "PUT /p13/s HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n\
                3;x\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n\
                GET /p13/s HTTP/1.1\r\nHost: t\r\n\r\n\
                DELETE /p13/s HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n"
        .as_bytes();
    for at in 0..=sent.len() {
        let mut client = server.connect();
        client.send(&sent[..at]);
        client.send(&sent[at..]);
        assert_eq!(client.answer(false).status, 201, "split at {at}");
        let got = client.answer(false);
        assert_eq!((got.status, &got.body[..]), (200, &b"abcde"[..]), "split at {at}");
        assert_eq!(client.answer(false).status, 204, "split at {at}");
    }
}

#[test]
fn p14_keys_are_byte_strings_that_neither_alias_nor_escape() {
    let server = Server::start();
    let mut client = server.connect();
    assert_eq!(client.put("/p14/a%20b", b"space").status, 201);
    assert_eq!(client.put("/p14/A%20b", b"case").status, 201);
    assert_eq!(client.put("/p14/a%2520b", b"percent").status, 201);
    assert_eq!(client.get("/p14/%61%20%62?x=1").body, b"space");
    assert_eq!(client.get("/p14/A%20b").body, b"case");
    assert_eq!(client.get("/p14/a%2520b").body, b"percent");
    assert_eq!(client.put("/p14x/a", b"x").status, 201);
    assert_eq!(client.get("/p14/x/a").status, 404);
    for path in ["/p14/../p14x/a", "/p14/%2e%2e/p14x/a", "/p14%2f..%2fp14x/a", "/p14/.%2e/p14x/a"] {
        assert_eq!(server.connect().get(path).status, 400, "{path}");
    }
}

#[test]
fn p15_ranges_of_a_large_object_are_exact_from_memory_and_from_the_drive() {
    let server = Server::start();
    let mut client = server.connect();
    let body = pattern(LARGE, 15);
    assert_eq!(client.put("/p15/large.mp4", &body).status, 201);
    check_ranges(&mut client, &body);
    // More than the arena holds goes by.
    for other in 0..5 {
        let path = format!("/p15/other{other}.mp4");
        assert_eq!(client.put(&path, &pattern(LARGE, other)).status, 201);
    }
    check_ranges(&mut client, &body);
}

fn check_ranges(client: &mut Client, body: &[u8]) {
    let got = client.get("/p15/large.mp4");
    assert!(got.status == 200 && got.body == body, "the whole");
    let etag = got.header("ETag").expect("a tag").to_owned();
    let len = body.len();
    let ranges =
        [(0, 0), (0, len - 1), (65_535, 65_536), (4096, 300_000), (len - 1, len - 1), (1, len - 2)];
    for (first, last) in ranges {
        let head = format!(
            "GET /p15/large.mp4 HTTP/1.1\r\nIf-Range: {etag}\r\nRange: bytes={first}-{last}"
        );
        let got = client.ask(&head, b"");
        assert_eq!(got.status, 206);
        let wanted = format!("bytes {first}-{last}/{len}");
        assert_eq!(got.header("Content-Range"), Some(&wanted[..]));
        assert!(got.body == body[first..=last], "bytes {first} to {last}");
    }
    let same = client.ask(&format!("GET /p15/large.mp4 HTTP/1.1\r\nIf-None-Match: {etag}"), b"");
    assert_eq!(same.status, 304);
}

/// More slow readers of the drive than there are read buffers, and one that is not slow.
#[test]
fn p16_clients_that_do_not_read_keep_nobody_else_from_the_drive() {
    let server = Server::start();
    let mut client = server.connect();
    let body = pattern(LARGE, 16);
    assert_eq!(client.put("/p16/large.mp4", &body).status, 201);
    for other in 0..5 {
        let path = format!("/p16/other{other}.mp4");
        assert_eq!(client.put(&path, &pattern(LARGE, other)).status, 201);
    }
    let mut deaf: Vec<Client> = (0..60).map(|_| server.connect()).collect();
    for one in &mut deaf {
        one.send(get_head("/p16/large.mp4"));
    }
    for _ in 0..4 {
        let mut good = server.connect();
        assert!(good.get("/p16/large.mp4").body == body, "a good one is served meanwhile");
    }
    // They begin to read at last, and miss nothing.
    for mut one in deaf.into_iter().step_by(15) {
        assert!(one.answer(false).body == body, "every byte, although late");
    }
}

#[test]
fn chunked_bodies_of_all_sizes_arrive_byte_for_byte() {
    let server = Server::start();
    let mut client = server.connect();
    for (number, chunk_len) in
        [1usize, 1000, 16_384, 16_385, 65_536, 200_000].into_iter().enumerate()
    {
        let body = pattern(chunk_len * 7 + 3, 99);
        let path = format!("/chunks/{number}.ts");
        let mut wire =
            format!("PUT {path} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
                .into_bytes();
        for chunk in body.chunks(chunk_len) {
            wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        client.send(&wire);
        assert_eq!(client.answer(false).status, 201, "chunks of {chunk_len}");
        assert!(client.get(&path).body == body, "chunks of {chunk_len}");
    }
}

#[test]
fn an_object_too_large_is_refused_before_its_body_or_as_soon_as_it_shows() {
    let server = Server::start();
    let max = usize::try_from(server.engine.object_len_max()).expect("small");
    let mut declared = server.connect();
    declared.send(put_head("/large/declared.ts", max + 1));
    assert_eq!(declared.answer(false).status, 413);

    let mut chunked = server.connect();
    chunked.send("PUT /large/chunked.ts HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"100000\r\n".to_vec(), pattern(1 << 20, 1), b"\r\n".to_vec()].concat();
    let mut sent = 0;
    while sent <= max && chunked.stream.write_all(&chunk).is_ok() {
        sent += 1 << 20;
    }
    assert_eq!(chunked.answer(false).status, 413);
    let mut client = server.connect();
    assert_eq!(client.get("/large/chunked.ts").status, 404);
    let largest = client.put("/large/fits.ts", &pattern(max, 3));
    assert_eq!(largest.status, 201, "{}", String::from_utf8_lossy(&largest.body));
}

#[test]
fn a_follower_gets_every_byte_as_it_comes_and_the_end() {
    let server = Server::start();
    let mut encoder = server.connect();
    encoder.send("PUT /follow/a.m4s HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    encoder.send("5\r\nfirst\r\n");
    let mut follower = server.connect();
    until("the upload to be seen", || {
        follower.ask("HEAD /follow/a.m4s HTTP/1.1", b"").status == 200
    });
    follower.send("GET /follow/a.m4s HTTP/1.1\r\nHost: t\r\nRange: bytes=2-\r\n\r\n");
    let (status, headers) = follower.head();
    assert_eq!(status, 200, "a range of what has no length yet is ignored");
    let has = |name: &str, value: &str| headers.contains(&(name.to_owned(), value.to_owned()));
    assert!(has("Transfer-Encoding", "chunked") && has("Cache-Control", "no-store"));
    assert!(has("Content-Type", "video/iso.segment"));
    assert_eq!(follower.chunk().expect("the first"), b"first");
    for text in ["second", "third"] {
        encoder.send(format!("{:x}\r\n{text}\r\n", text.len()));
        let mut got = Vec::new();
        while got.len() < text.len() {
            got.extend(follower.chunk().expect("what was just sent"));
        }
        assert_eq!(got, text.as_bytes());
    }
    encoder.send("0\r\n\r\n");
    assert_eq!(encoder.answer(false).status, 201);
    assert_eq!(follower.chunk(), None, "the last chunk, not a reset");
    assert_eq!(follower.get("/follow/a.m4s").body, b"firstsecondthird");
}

#[test]
fn a_follower_that_does_not_read_for_long_misses_nothing_and_keeps_nothing() {
    let server = Server::start();
    let body = pattern(LARGE, 21);
    let mut encoder = server.connect();
    encoder
        .send("PUT /follow/b.m4s HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n");
    encoder.send([&body[..1], b"\r\n"].concat());
    let mut slow: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    until("the upload to be seen", || {
        slow[0].ask("HEAD /follow/b.m4s HTTP/1.1", b"").status == 200
    });
    for one in &mut slow {
        one.send(get_head("/follow/b.m4s"));
        assert_eq!(one.head().0, 200);
    }
    encoder.send(format!("{:x}\r\n", body.len() - 1));
    encoder.send([&body[1..], b"\r\n0\r\n\r\n"].concat());
    assert_eq!(encoder.answer(false).status, 201);
    // Its place in the arena is taken by others.
    for number in 0..5 {
        assert_eq!(encoder.put(&format!("/follow/{number}.m4s"), &body).status, 201);
    }
    for one in &mut slow {
        let mut received = Vec::new();
        while let Some(chunk) = one.chunk() {
            received.extend(chunk);
        }
        assert!(received == body, "every byte, although late");
    }
}

#[test]
fn p16_slow_heads_idle_connections_and_clients_that_do_not_read_are_cut() {
    let limits = Limits { head_ms: 400, idle_ms: 700, send_stall_ms: 500, ..Limits::default() };
    let server = Server::with_limits(limits);
    let mut slow = server.connect();
    slow.send("GET /a/b HTTP/1.1\r\nHo");
    assert_eq!(slow.answer(false).status, 408);
    slow.end();
    let mut idle = server.connect();
    assert_eq!(idle.end(), (Vec::new(), false), "closed without a word");
    // An encoder is left alone for longer.
    let mut encoder = server.connect();
    assert_eq!(encoder.put("/p16/a.ts", &pattern(LARGE, 4)).status, 201);
    let mut deaf = server.connect();
    deaf.send(get_head("/p16/a.ts").repeat(8));
    until("the deaf one to be cut", || server.connections_open() == 1);
    assert_eq!(encoder.get("/p16/a.ts").status, 200);
}

#[test]
fn p16_a_client_that_drips_is_cut_by_the_minimum_rate() {
    // Some of every answer is taken again and again, but never as much as there should be.
    let rate = 1 << 40;
    let limits = Limits { send_stall_ms: 1000, send_bytes_per_s_min: rate, ..Limits::default() };
    let server = Server::with_limits(limits);
    let mut encoder = server.connect();
    let len = usize::try_from(server.engine.object_len_max()).expect("small");
    assert_eq!(encoder.put("/p16/a.mp4", &pattern(len, 5)).status, 201);
    let mut slow = server.connect();
    slow.send(get_head("/p16/a.mp4").repeat(4));
    let (mut buffer, mut taken) = ([0; 64 << 10], 0);
    while let Ok(count) = slow.stream.read(&mut buffer) {
        taken += count;
        if count == 0 || taken >= 4 * len {
            break;
        }
        // This is how fast it is.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(taken < 4 * len, "all {taken} bytes were sent, however slowly");
    assert_eq!(encoder.get("/p16/a.mp4").status, 200);
}

#[test]
fn p16_for_a_client_that_does_not_read_the_kernel_keeps_little() {
    let server = Server::start();
    let mut client = server.connect();
    assert_eq!(client.put("/p16/kernel.mp4", &pattern(LARGE, 6)).status, 201);
    let before = server.bytes_sent();
    let mut deaf = server.connect();
    deaf.send(get_head("/p16/kernel.mp4"));
    let mut sent = 0;
    until("it to be stuck", || {
        std::thread::sleep(Duration::from_millis(100));
        let now = server.bytes_sent() - before;
        now > 0 && std::mem::replace(&mut sent, now) == now
    });
    assert!(sent < 2 << 20, "{sent} bytes wait in two sockets");
    assert!(deaf.answer(false).body == pattern(LARGE, 6), "and none is lost");
}

#[test]
fn p17_clients_that_do_not_read_keep_no_memory_from_encoders() {
    let server = Server::start();
    let mut encoder = server.connect();
    let path = |number: usize| format!("/p17/{number}.mp4");
    let mut deaf = Vec::new();
    for number in 0..28 {
        assert_eq!(encoder.put(&path(number), &pattern(1 << 20, 1)).status, 201);
        // Each of them could keep some of one half of it; together, most of the memory there is.
        for range in ["0-524287", "524288-1048575"].repeat(3) {
            let mut one = server.connect();
            let head = get_head(&path(number)).replace("\r\n\r\n", "\r\nRange: bytes=");
            one.send(format!("{head}{range}\r\n\r\n").repeat(30));
            deaf.push(one);
        }
    }
    let mut before = 0;
    until("all of them to be stuck", || {
        std::thread::sleep(Duration::from_millis(100));
        std::mem::replace(&mut before, server.bytes_sent()) == before
    });
    let largest = usize::try_from(server.engine.object_len_max()).expect("small");
    let body = pattern(largest, 2);
    let mut others: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    for (number, one) in others.iter_mut().enumerate() {
        one.send(put_head(&path(100 + number), body.len()));
        one.send(&body[1..]);
    }
    assert_eq!(encoder.put(&path(102), &body).status, 201);
    for one in &mut others {
        one.send(b"x");
        assert_eq!(one.answer(false).status, 201);
    }
}

#[test]
fn p17_readers_without_a_request_make_room_for_encoders() {
    let server = Server::with_limits(Limits { connections_max: 10, ..Limits::default() });
    let mut encoder = server.connect();
    assert_eq!(encoder.put("/p17/a.ts", b"a").status, 201);
    let mut readers: Vec<Client> = Vec::new();
    for _ in 0..7 {
        let mut reader = server.connect();
        assert_eq!(reader.get("/p17/a.ts").status, 200);
        readers.push(reader);
    }
    let mut late: Vec<Client> = (0..6).map(|_| server.connect()).collect();
    for one in &mut late {
        assert!(matches!(one.put("/p17/b.ts", b"b").status, 201 | 204), "there is room again");
    }
    assert_eq!(encoder.put("/p17/c.ts", b"c").status, 201, "encoders are not cut");
    until("readers to have made room", || server.connections_open() <= 8);
}

#[test]
fn p20_a_stopping_server_finishes_what_it_has_begun() {
    let mut server = Server::start();
    let addr = server.addr();
    let body = pattern(500_000, 20);
    let mut encoder = server.connect();
    encoder.send(put_head("/p20/a.ts", body.len()));
    encoder.send(&body[..100_000]);
    let mut idle = server.connect();
    until("the upload to be seen", || idle.ask("HEAD /p20/a.ts HTTP/1.1", b"").status == 200);
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| server.stop());
        assert_eq!(idle.end(), (Vec::new(), false), "idle connections end first");
        until("nobody to listen", || std::net::TcpStream::connect(addr).is_err());
        encoder.send(&body[100_000..]);
        let answer = encoder.answer(false);
        assert_eq!((answer.status, answer.header("Connection")), (201, Some("close")));
        encoder.end();
        stopping.join().expect("a clean stop");
    });
}
