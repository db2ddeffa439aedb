//! Objects that many read leave memory by reference: what has left is not written to again.

mod common;

use common::{Client, Server, pattern};

const READERS: usize = 20;
/// Several times what the arena of a test's server holds, below what its store does.
const FLOOD: usize = 40;

fn ask(client: &mut Client, range: &str) {
    client.send(format!("GET /live/popular.m4s HTTP/1.1\r\nHost: a\r\n{range}\r\n"));
}

#[test]
fn p2_many_readers_of_an_object_get_its_bytes_and_no_others() {
    let server = Server::start();
    let mut client = server.connect();
    for version in 0..3 {
        let body = pattern(700_001, version);
        let status = client.put("/live/popular.m4s", &body).status;
        assert_eq!(status, if version == 0 { 201 } else { 204 });
        for _ in 0..READERS {
            assert!(client.get("/live/popular.m4s").body == body);
        }
        ask(&mut client, "Range: bytes=65000-400000\r\n");
        assert!(client.answer(false).body == body[65_000..=400_000]);
    }
}

#[test]
fn p2_a_slow_reader_of_a_popular_object_gets_the_version_it_asked_for() {
    let server = Server::start();
    let mut client = server.connect();
    let old = pattern(3_000_000, 1);
    assert_eq!(client.put("/live/popular.m4s", &old).status, 201);
    for _ in 0..READERS {
        assert!(client.get("/live/popular.m4s").body == old);
    }
    let mut slow: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for one in &mut slow {
        ask(one, "");
        assert_eq!(one.head().0, 200);
    }
    // Its memory goes to others, and to a newer version of it.
    for number in 0..FLOOD {
        let path = format!("/live/other-{number}.m4s");
        assert_eq!(client.put(&path, &pattern(1 << 20, 100 + number as u64)).status, 201);
    }
    assert_eq!(client.put("/live/popular.m4s", &pattern(3_000_000, 2)).status, 204);
    for mut one in slow {
        assert!(one.exactly(old.len()) == old);
    }
}
