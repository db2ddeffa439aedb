//! `tapectl scrub` and `tapectl top` against an admin plane that says what the test wants: exit
//! codes, and a cycle followed to its end.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// Answers every request with what `answer` makes of its method, path and number, until its
/// process ends.
struct Plane {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Plane {
    fn start(answer: impl Fn(&str, usize) -> Value + Send + 'static) -> Plane {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &log, &answer);
            }
        });
        Plane { url, asked }
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let output = tapectl(&[args, &["--admin", &self.url]].concat());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<String>>, answer: &impl Fn(&str, usize) -> Value) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if !matches!(reader.read_line(&mut line), Ok(1..)) {
            return;
        }
        let mut field = String::new();
        while field != "\r\n" {
            field.clear();
            reader.read_line(&mut field).unwrap();
        }
        let what = line.rsplit_once(' ').unwrap().0.to_owned();
        let number = log.lock().unwrap().len();
        log.lock().unwrap().push(what.clone());
        let body = answer(&what, number).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

fn tapectl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tapectl")).args(args).output().unwrap()
}

/// The document of a store with two volumes, of which each has come so far.
fn scrub(states: [(&str, u64, Option<u64>); 2], damage: &[&str]) -> Value {
    let volume = |(number, (state, cycle, last)): (usize, &(&str, u64, Option<u64>))| {
        let counts = json!({
            "bytes_read": 4096, "objects_read": 3, "objects_damaged": damage.len(),
            "structures_damaged": 0,
        });
        let mut volume = json!({
            "volume": number, "state": state, "cycle": cycle, "progress": 0.25,
            "cause": (*state == "paused").then_some("the volume is fenced read-only: EIO"),
            "cycles_completed": 0, "bytes_read_total": 0, "objects_damaged_total": 0,
            "last": last.map(|last| json!({
                "cycle": last, "ended_wall_ms": 0, "duration_ms": 5, "bytes_read": 4096,
                "objects_read": 3, "objects_damaged": 0, "structures_damaged": 0,
            })),
        });
        volume.as_object_mut().unwrap().extend(counts.as_object().unwrap().clone());
        volume
    };
    let damage: Vec<Value> = damage
        .iter()
        .map(|key| {
            json!({
                "part": "object", "key": key, "key_hash": "00", "volume": 1, "zone": 7, "lap": 2,
                "offset": 4096, "volume_offset": 9_999_872, "bytes": 5, "reason": "it rotted",
                "found_wall_ms": 0,
            })
        })
        .collect();
    json!({
        "share_percent": 5.0, "share_percent_max": 25.0, "cycle_s": 604_800, "omitted_count": 0,
        "damage_count": damage.len(), "damage": damage,
        "volumes": states.iter().enumerate().map(volume).collect::<Vec<Value>>(),
    })
}

const DONE: (&str, u64, Option<u64>) = ("waiting", 4, Some(4));

#[test]
fn scrub_exits_0_when_clean_1_with_damage_and_2_without_an_origin() {
    let plane = Plane::start(|_, _| scrub([DONE, DONE], &[]));
    let (code, text, _) = plane.run(&["scrub"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with("\nclean\n"), "{text}");

    let plane = Plane::start(|_, _| scrub([DONE, DONE], &["live/a.ts", "live/b.ts"]));
    let (code, text, _) = plane.run(&["scrub"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("volume 1 zone 7 lap 2 offset 4096"), "{text}");
    assert!(text.contains("key live/b.ts: it rotted") && text.ends_with("\n2 damaged\n"), "{text}");
    let (code, text, _) = plane.run(&["scrub", "--json"]);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &document["damage"][1]["key"]), (1, &"live/b.ts".into()));

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = tapectl(&["scrub", "--admin", &format!("http://127.0.0.1:{port}")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is the origin running"));
    let plane = Plane::start(|_, _| json!({"something": "else"}));
    assert_eq!(plane.run(&["scrub"]).0, 2);
    assert_eq!(plane.run(&["scrub", "--json"]).0, 2);
}

#[test]
fn scrub_now_begins_a_cycle_and_waits_until_every_volume_has_ended_it() {
    let plane = Plane::start(|what, number| match (what, number) {
        ("POST /api/v1/scrub", 0) => {
            json!({"cycles": [{"volume": 0, "cycle": 5}, {"volume": 1, "cycle": 9}]})
        }
        // The old cycle's end is not the end of this one.
        ("GET /api/v1/scrub", 1) => scrub([DONE, ("running", 9, Some(8))], &[]),
        ("GET /api/v1/scrub", 2) => scrub([("running", 5, None), ("running", 9, Some(8))], &[]),
        ("GET /api/v1/scrub", 3) => scrub([("waiting", 5, Some(5)), ("running", 9, None)], &[]),
        ("GET /api/v1/scrub", _) => {
            scrub([("waiting", 5, Some(5)), ("waiting", 9, Some(9))], &["live/x"])
        }
        other => panic!("{other:?}"),
    });
    let (code, text, plan) = plane.run(&["scrub", "--now"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("live/x"), "what was found at the end: {text}");
    assert!(plan.contains("nothing is written"), "it says what it will do: {plan}");
    let asked = plane.asked.lock().unwrap().clone();
    assert_eq!(asked.iter().filter(|what| what.starts_with("POST")).count(), 1, "{asked:?}");
    assert!(asked.len() >= 6, "{asked:?}");
}

#[test]
fn scrub_now_on_a_store_that_is_closing_could_not_run() {
    let plane = Plane::start(|what, _| match what {
        "POST /api/v1/scrub" => json!({"cycles": [{"volume": 0, "cycle": 5}]}),
        _ => scrub([("stopped", 4, None), DONE], &[]),
    });
    let (code, _, error) = plane.run(&["scrub", "--now"]);
    assert_eq!(code, 2);
    assert!(error.contains("volume 0: stopped"), "{error}");
}

fn status(bytes: u64, health: &str) -> Value {
    json!({
        "version": "0.1.0", "uptime_s": 60, "is_stopping": false, "health": health,
        "health_cause": (health != "ok").then_some("EIO"),
        "store": {
            "capacity_bytes": 1_073_741_824u64, "zones": 16, "zones_free": 8, "zones_open": 2,
            "zones_sealed": 6, "zones_bad": 0, "index_entries": 99, "backlog": 0,
            "volumes": [
                {
                    "volume": 0, "path": "/srv/a", "state": "ok", "cause": null, "zones_free": 8,
                    "zones_open": 2, "zones_sealed": 6, "zones_bad": 0,
                },
                {
                    "volume": 1, "path": null, "state": "missing", "cause": "missing",
                    "zones_free": 0, "zones_open": 0, "zones_sealed": 0, "zones_bad": 0,
                },
            ],
        },
        "data_plane": {
            "connections_open": 3, "gets": 0, "puts": bytes, "answers_5xx": 0,
            "bytes_received": bytes * 1_000_000, "bytes_sent": 0,
        },
        "scrub": { "damage_count": 0, "volumes": [
            {"volume": 0, "state": "running", "cycle": 2, "progress": 0.5},
        ] },
    })
}

#[test]
fn top_once_shows_rates_between_two_looks_and_its_exit_code_says_whether_all_is_well() {
    let plane = Plane::start(|_, number| status(number as u64 * 50, "ok"));
    let (code, text, _) = plane.run(&["top", "--once", "--json"]);
    let glance: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &glance["fill_percent"]), (0, &50.0.into()), "{text}");
    // 50 MB in a second and a little more.
    let rate = glance["ingest_bytes_per_s"].as_f64().unwrap();
    assert!(rate > 0.0 && rate <= 50_000_000.0, "{rate}");

    let plane = Plane::start(|_, _| status(0, "fenced"));
    let (code, text, _) = plane.run(&["top"]);
    assert_eq!(code, 1, "without a terminal one look is enough");
    assert!(text.contains("fenced (EIO)") && text.contains("cycle 2 at 50.0 %"), "{text}");
    assert!(text.contains("volume 0 ok: 6 sealed") && text.contains("/srv/a"), "{text}");
    assert!(text.contains("volume 1 missing: 0 sealed, 0 open, 0 free, 0 bad\n"), "{text}");
    assert!(!text.contains('\x1b'), "no terminal, no control bytes");
}
