//! What our head parser says of every file in the folders given, one line of JSON each: the one
//! side of `differential.py`.

use std::path::PathBuf;

use serde_json::json;
use tapeloop_server::http::head::{Framing, HeadParser, Step, Version};

fn main() {
    let folders = std::env::args_os().skip(1).map(PathBuf::from);
    let entries = folders.flat_map(|folder| std::fs::read_dir(folder).expect("a folder"));
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        let bytes = std::fs::read(&path).expect("a file");
        let verdict = match HeadParser::new().parse(&bytes) {
            Step::NeedMore => json!({ "verdict": "more" }),
            Step::Reject(reject) => json!({ "verdict": "refused", "why": reject.to_string() }),
            Step::Head(head) => json!({
                "verdict": "accepted",
                "len": head.len,
                "method": format!("{:?}", head.method).to_uppercase(),
                "target": String::from_utf8_lossy(head.target),
                "version": if head.version == Version::Http11 { "1.1" } else { "1.0" },
                "framing": match head.framing {
                    Framing::None => "length 0".to_owned(),
                    Framing::Length(len) => format!("length {len}"),
                    Framing::Chunked => "chunked".to_owned(),
                },
            }),
        };
        println!("{}", json!({ "path": path, "ours": verdict }));
    }
}
