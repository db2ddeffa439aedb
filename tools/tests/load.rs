//! `tapectl load` against a small origin of this file's own: it must pass on a faithful one, and
//! notice every way of being unfaithful.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the origin of a test does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Flips a bit in the middle of every 5th segment read.
    FlipBit,
    /// Cuts every 5th body read and closes.
    CutBody,
    /// Stops answering anybody for this long, once.
    Stall(Duration),
    /// Answers 503 to every 5th request.
    Refuse,
}

struct Origin {
    port: u16,
    objects: Mutex<HashMap<String, Vec<u8>>>,
    fault: Fault,
    request_count: AtomicU64,
    stall_done: AtomicBool,
    stall: Mutex<()>,
}

impl Origin {
    fn start(fault: Fault) -> Arc<Origin> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Arc::new(Origin {
            port: listener.local_addr().unwrap().port(),
            objects: Mutex::default(),
            fault,
            request_count: AtomicU64::new(0),
            stall_done: AtomicBool::new(false),
            stall: Mutex::default(),
        });
        let shared = Arc::clone(&origin);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let origin = Arc::clone(&shared);
                std::thread::spawn(move || while_open(&origin, stream.unwrap()));
            }
        });
        origin
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/load", self.port)
    }
}

fn while_open(origin: &Origin, stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while answer_one(origin, &mut reader, &mut stream).is_some() {}
}

fn answer_one(
    origin: &Origin,
    reader: &mut BufReader<TcpStream>,
    stream: &mut TcpStream,
) -> Option<()> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let path = target.split('?').next()?.to_owned();
    let mut body_len = 0;
    loop {
        let mut field = String::new();
        reader.read_line(&mut field).ok()?;
        if let Some(len) = field.strip_prefix("Content-Length: ") {
            body_len = len.trim().parse().ok()?;
        }
        if field == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; body_len];
    reader.read_exact(&mut body).ok()?;
    let number = origin.request_count.fetch_add(1, Ordering::Relaxed);
    if let Fault::Stall(duration) = origin.fault {
        let stalled = origin.stall.lock().unwrap();
        if number > 120 && !origin.stall_done.swap(true, Ordering::Relaxed) {
            // The fault itself, not a wait for something: everybody else queues on the lock.
            std::thread::sleep(duration);
        }
        drop(stalled);
    }
    if origin.fault == Fault::Refuse && number % 5 == 4 {
        return write_answer(stream, 503, b"no");
    }
    match method.as_str() {
        "PUT" => {
            origin.objects.lock().unwrap().insert(path, body);
            write_answer(stream, 201, b"")
        }
        "DELETE" => {
            origin.objects.lock().unwrap().remove(&path);
            write_answer(stream, 204, b"")
        }
        _ => answer_get(origin, stream, &path, number),
    }
}

fn answer_get(origin: &Origin, stream: &mut TcpStream, path: &str, number: u64) -> Option<()> {
    let found = origin.objects.lock().unwrap().get(path).cloned();
    let Some(mut body) = found else { return write_answer(stream, 404, b"") };
    let is_segment = path.ends_with(".m4s");
    if origin.fault == Fault::FlipBit && is_segment && number % 5 == 4 {
        let middle = body.len() / 2;
        body[middle] ^= 1;
    }
    if origin.fault == Fault::CutBody && is_segment && number % 5 == 4 {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(&body[..body.len() - 1]).ok()?;
        return None;
    }
    write_answer(stream, 200, &body)
}

fn write_answer(stream: &mut TcpStream, status: u16, body: &[u8]) -> Option<()> {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).ok()
}

fn tapectl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tapectl")).args(args).output().unwrap()
}

fn media(origin: &Origin, more: &[&str]) -> (i32, serde_json::Value) {
    let url = origin.url();
    let mut args = vec!["load", "--url", &url, "--json", "--streams", "2", "--renditions", "2"];
    args.extend(["--segment-duration", "100ms", "--segment-bytes", "20001", "--ramp", "100ms"]);
    args.extend(["--duration", "1s", "--live-readers", "3", "--dvr-readers", "4"]);
    args.extend(["--prefill", "10", "--timeout", "5s"]);
    args.extend(more);
    let output = tapectl(&args);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code().unwrap(), report)
}

fn class<'a>(report: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let classes = report["classes"].as_array().unwrap();
    classes.iter().find(|class| class["class"] == name).unwrap_or(&serde_json::Value::Null)
}

/// No request failed. What a busy machine could not send in time is counted, and told by the code.
fn nothing_failed(code: i32, report: &serde_json::Value) {
    let classes = report["classes"].as_array().unwrap();
    assert!(classes.iter().all(|class| class["error_count"] == 0), "{report:#}");
    let unsent: u64 = classes.iter().map(|class| class["unsent_count"].as_u64().unwrap()).sum();
    assert_eq!(code, i32::from(unsent > 0), "{report:#}");
}

#[test]
fn a_faithful_origin_passes_with_every_class_measured() {
    let origin = Origin::start(Fault::None);
    let (code, report) = media(&origin, &["--ttl", "60s"]);
    nothing_failed(code, &report);
    for name in ["segment_put", "playlist_put", "playlist_get", "live_get", "dvr_get"] {
        let class = class(&report, name);
        assert!(class["ok_count"].as_u64().unwrap() > 0, "{name}: {report:#}");
        assert!(class["latency_us_p50"].as_f64().unwrap() > 0.0);
    }
    // 2 streams x 2 renditions x 10 segments a second for one measured second.
    let puts = class(&report, "segment_put");
    let (ok, unsent) = (puts["ok_count"].as_u64().unwrap(), puts["unsent_count"].as_u64().unwrap());
    assert_eq!(ok + unsent, 40);
    assert_eq!(puts["bytes"], ok * 20_001);
}

#[test]
fn a_second_process_can_check_what_the_first_one_stored() {
    let origin = Origin::start(Fault::None);
    let (code, report) = media(&origin, &["--threads", "2"]);
    nothing_failed(code, &report);
    let report = without_ingest(&origin, "100ms");
    assert!(class(&report, "dvr_get")["ok_count"].as_u64().unwrap() > 0);
    assert!(class(&report, "segment_put").is_null());
}

#[test]
fn without_ingest_the_live_edge_is_read_as_often_as_with_it() {
    let origin = Origin::start(Fault::None);
    let (code, report) = media(&origin, &["--threads", "2"]);
    nothing_failed(code, &report);
    let report = without_ingest(&origin, "10ms");
    let count = |name| class(&report, name)["ok_count"].as_u64().unwrap();
    // Ten polls for each segment; one more at each end for the phase of a reader.
    assert!(count("live_get") > 0);
    assert!(count("live_get") * 5 <= count("playlist_get"), "{report}");
}

fn without_ingest(origin: &Origin, poll: &str) -> serde_json::Value {
    let url = origin.url();
    let mut args = vec!["load", "--url", &url, "--json", "--streams", "2", "--renditions", "2"];
    args.extend(["--no-ingest", "--segment-duration", "100ms", "--segment-bytes", "20001"]);
    args.extend(["--poll-interval", poll, "--duration", "500ms"]);
    let output = tapectl(&args);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    nothing_failed(output.status.code().unwrap(), &report);
    report
}

#[test]
fn a_flipped_bit_is_counted_as_wrong_bytes_and_fails_the_run() {
    let (code, report) = media(&Origin::start(Fault::FlipBit), &[]);
    assert_eq!(code, 1);
    assert!(class(&report, "dvr_get")["errors"]["wrong_bytes"].as_u64().unwrap() > 0);
    assert!(!report["examples"].as_array().unwrap().is_empty());
}

#[test]
fn a_cut_body_and_a_refusal_are_errors_too() {
    let (code, report) = media(&Origin::start(Fault::CutBody), &[]);
    assert_eq!(code, 1);
    assert!(class(&report, "dvr_get")["errors"]["connection"].as_u64().unwrap() > 0);
    let origin = Origin::start(Fault::None);
    let path = format!("{}/x", origin.url());
    assert_eq!(put(&path, "3").0, 0);
    let refusing = Origin::start(Fault::Refuse);
    let (code, report) = put(&format!("{}/x-{{n}}", refusing.url()), "10");
    assert_eq!((code, &class(&report, "put")["errors"]["status_5xx"]), (1, &2.into()));
}

#[test]
fn a_stall_of_the_origin_is_charged_to_every_request_it_made_late() {
    let stall = Duration::from_millis(400);
    let (code, report) = media(&Origin::start(Fault::Stall(stall)), &[]);
    nothing_failed(code, &report);
    let dvr = class(&report, "dvr_get");
    // 4 readers x 10 reads; a stall of 4 intervals touches about 4 of the 10 reads of each. A
    // closed loop would have one slow read per reader, 10 %, and a p90 that looks well.
    assert!(dvr["latency_us_p90"].as_f64().unwrap() > 150_000.0, "{report:#}");
    assert!(dvr["slip_us_max"].as_f64().unwrap() > 100_000.0, "{report:#}");
}

fn put(url: &str, count: &str) -> (i32, serde_json::Value) {
    let output = tapectl(&[
        "load",
        "put",
        "--url",
        url,
        "--bytes",
        "5000",
        "--count",
        count,
        "--connections",
        "2",
        "--json",
    ]);
    let report = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code().unwrap(), report)
}

#[test]
fn the_primitives_write_and_read_back_what_follows_from_the_path() {
    let origin = Origin::start(Fault::None);
    let url = format!("{}/obj-{{n}}", origin.url());
    let (code, report) = put(&url, "20");
    assert_eq!((code, &class(&report, "put")["ok_count"]), (0, &20.into()));
    let read = |url: &str, more: &[&str]| {
        let mut args = vec!["load", "get", "--url", url, "--duration", "300ms", "--json"];
        args.extend(["--connections", "4"]);
        args.extend(more);
        let output = tapectl(&args);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), report)
    };
    let (code, report) = read(&url, &["--objects", "20", "--bytes", "5000", "--rate", "200"]);
    // 60 are due in 300 ms.
    nothing_failed(code, &report);
    let get = class(&report, "get");
    let (ok, unsent) = (get["ok_count"].as_u64().unwrap(), get["unsent_count"].as_u64().unwrap());
    assert_eq!(ok + unsent, 60, "{report:#}");
    let (code, report) = read(&format!("{}/obj-3", origin.url()), &[]);
    assert_eq!(code, 0, "{report:#}");
    assert!(class(&report, "get")["ok_count"].as_u64().unwrap() > 0);
    let (code, _) = read(&url, &["--objects", "20", "--bytes", "4999"]);
    assert_eq!(code, 1, "another length must be noticed");
}

#[test]
fn an_origin_that_is_not_there_is_could_not_run() {
    let begun = Instant::now();
    // A port that was free a moment ago and has no listener.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = tapectl(&["load", "--url", &format!("http://127.0.0.1:{port}/x")]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("is the origin running"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}
