//! The demo against a fake origin on loopback that speaks just enough HTTP to listen to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::boxes::Segment;
use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// One request as it arrived.
struct Put {
    connection: usize,
    target: String,
    body: Vec<u8>,
}

/// Answers each PUT with what `answer` says for the n-th request of the run, and hands it over.
/// The connection is closed after an answer other than 204.
fn fake_origin(answer: fn(usize) -> &'static str) -> (SocketAddr, Receiver<Put>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let addr = listener.local_addr().expect("its address");
    let (sender, receiver) = channel();
    let served = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for (connection, stream) in listener.incoming().enumerate() {
            let stream = stream.expect("a connection");
            let (sender, served) = (sender.clone(), Arc::clone(&served));
            thread::spawn(move || serve(stream, connection, &served, answer, &sender));
        }
    });
    (addr, receiver)
}

/// None at the end of the connection or of the test.
fn serve(
    mut stream: TcpStream,
    connection: usize,
    served: &AtomicUsize,
    answer: fn(usize) -> &'static str,
    sender: &Sender<Put>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            lines.push(line.trim_end().to_owned());
        }
        let len = lines.iter().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; len.expect("a declared length").parse().expect("a number")];
        reader.read_exact(&mut body).ok()?;
        let target = lines[0].strip_prefix("PUT ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
        let target = target.expect("a PUT").to_owned();

        let text = answer(served.fetch_add(1, Ordering::AcqRel));
        sender.send(Put { connection, target, body }).ok()?;
        stream.write_all(text.as_bytes()).ok()?;
        if !text.contains("204") {
            return None;
        }
    }
}

fn always_204(_: usize) -> &'static str {
    "HTTP/1.1 204 No Content\r\n\r\n"
}

/// Runs the demo until `enough` says so, and returns what was pushed.
fn pushed_until(
    addr: SocketAddr,
    puts: &Receiver<Put>,
    enough: impl Fn(&[Put]) -> bool,
) -> (Vec<Put>, io::Result<()>) {
    let stop = Arc::new(AtomicBool::new(false));
    let demo = thread::spawn({
        let stop = Arc::clone(&stop);
        move || run(addr, stop)
    });
    let started = Instant::now();
    let mut seen = Vec::new();
    while !enough(&seen) && !demo.is_finished() {
        assert!(started.elapsed() < DEADLINE, "only {} objects came", seen.len());
        if let Ok(put) = puts.recv_timeout(Duration::from_millis(50)) {
            seen.push(put);
        }
    }
    stop.store(true, Ordering::Release);
    demo.thread().unpark();
    (seen, demo.join().expect("the demo does not panic"))
}

fn playlists(puts: &[Put]) -> usize {
    puts.iter().filter(|put| put.target.contains("/v360/stream.m3u8")).count()
}

#[test]
fn a_player_finds_a_full_window_at_once_and_everything_it_names() {
    let (addr, puts) = fake_origin(always_204);
    let started = Instant::now();
    let (seen, end) = pushed_until(addr, &puts, |seen| playlists(seen) == 6);
    end.expect("a clean stop");
    // The window is the past, so no wall-clock cadence holds it back.
    assert!(started.elapsed() < Duration::from_secs(4), "it took {:?}", started.elapsed());

    let mut stored = BTreeMap::new();
    for put in &seen {
        let (path, query) = put.target.split_once('?').expect("a query");
        assert_eq!(query, "ttl_seconds=60");
        assert!(put.connection < 3, "{path} left the warm connections");
        if path.ends_with("stream.m3u8") {
            let text = std::str::from_utf8(&put.body).expect("text");
            let folder = path.strip_suffix("stream.m3u8").expect("a playlist");
            assert!(stored.contains_key(&format!("{folder}init.mp4")));
            for uri in text.lines().filter(|line| !line.starts_with('#')) {
                let segment = format!("{folder}{uri}");
                assert!(stored.contains_key(&segment), "{segment}");
            }
        }
        stored.insert(path.to_owned(), &put.body);
    }
    assert!(stored.contains_key("/demo/master.m3u8"));
}

#[test]
fn the_stream_goes_on_at_the_pace_of_the_wall_clock() {
    let (addr, puts) = fake_origin(always_204);
    let epoch_ms = || millis(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970"));
    let (seen, end) = pushed_until(addr, &puts, |seen| playlists(seen) == 8);
    let ended_ms = epoch_ms();
    end.expect("a clean stop");

    let segments: Vec<_> = seen
        .iter()
        .filter(|put| put.target.contains("/v360/") && is_segment(&put.target))
        .collect();
    let mut expected = None;
    for put in &segments {
        let segment = Segment::parse(&put.body).expect("a good segment");
        assert_eq!(segment.decode_time, *expected.get_or_insert(segment.decode_time));
        expected = Some(segment.decode_time + segment.duration);
    }
    // The media time of the stream is the wall clock: its end cannot lie ahead of now.
    let end_ms = expected.expect("segments") * 1_000 / 12_800;
    assert!(end_ms <= ended_ms && ended_ms - end_ms < 2 * SEGMENT_MS, "{end_ms} at {ended_ms}");
}

fn is_segment(target: &str) -> bool {
    target.contains(".m4s?")
}

#[test]
fn a_refused_object_ends_the_demo_with_the_reason() {
    let (addr, puts) = fake_origin(|n| match n {
        4 => "HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 4\r\n\r\nfull",
        _ => "HTTP/1.1 204 No Content\r\n\r\n",
    });
    let (_, end) = pushed_until(addr, &puts, |_| false);
    let error = end.expect_err("the refusal").to_string();
    assert!(error.contains("507") && error.contains("full"), "{error}");
}

#[test]
fn a_connection_closed_between_two_objects_is_opened_again() {
    let (addr, puts) = fake_origin(|n| match n {
        2 => "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        _ => "HTTP/1.1 204 No Content\r\n\r\n",
    });
    let (seen, end) = pushed_until(addr, &puts, |seen| playlists(seen) == 6);
    end.expect("a clean stop");
    let connections: BTreeSet<_> = seen.iter().map(|put| put.connection).collect();
    assert_eq!(connections, BTreeSet::from([0, 1, 2, 3]), "one for each track and one more");
}

#[test]
fn an_origin_that_is_not_there_is_an_error() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let addr = gone.local_addr().expect("its address");
    drop(gone);
    let end = run(addr, Arc::new(AtomicBool::new(false)));
    assert!(end.expect_err("nobody listens").to_string().contains(&addr.to_string()));
}

#[test]
fn a_demo_told_to_stop_sends_nothing() {
    let addr = SocketAddr::from(([127, 0, 0, 1], 1));
    run(addr, Arc::new(AtomicBool::new(true))).expect("no connection was made");
    assert_eq!(urls(addr).to_string(), "http://127.0.0.1:1/demo/master.m3u8");
}
