//! Conversations as text: what is sent, what must come back. See `scripts/README.md` for the words.

mod common;

use common::{Answer, Client, Server};
use std::path::Path;

#[test]
fn every_scripted_conversation_holds() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts: Vec<_> = std::fs::read_dir(dir)
        .expect("the scripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 5, "the scripts are found");
    let server = Server::start();
    for script in scripts {
        let text = std::fs::read_to_string(&script).expect("readable");
        let name = script.file_name().expect("a name").to_string_lossy().into_owned();
        run(&server, &name, &text);
    }
}

fn run(server: &Server, name: &str, text: &str) {
    let mut client = server.connect();
    let mut answer: Option<Answer> = None;
    let mut is_head = false;
    for (number, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", number + 1);
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" | "#" => {}
            ">" => {
                is_head |= rest.starts_with("HEAD ");
                client.send([&unescape(rest)[..], b"\r\n"].concat());
            }
            "raw" => client.send(unescape(rest)),
            "connect" => client = server.connect(),
            "half-close" => client.end_sending(),
            "<" => {
                let got = client.answer(is_head);
                assert_eq!(got.status.to_string(), rest, "{place}: {got:?}");
                is_head &= got.status == 100;
                answer = Some(got);
            }
            "header" => {
                let (header, wanted) = rest.split_once(": ").expect("name: value");
                let got = answer.as_ref().expect("an answer").header(header);
                let ok = if wanted == "*" { got.is_some() } else { got == Some(wanted) };
                assert!(ok, "{place}: {header} is {got:?}");
            }
            "no-header" => {
                let got = answer.as_ref().expect("an answer").header(rest);
                assert_eq!(got, None, "{place}: {rest}");
            }
            "body" => {
                let body = &answer.as_ref().expect("an answer").body;
                let (got, wanted) = (body.escape_ascii().to_string(), unescape(rest));
                assert_eq!(got, wanted.escape_ascii().to_string(), "{place}");
            }
            "detail" => {
                let body = &answer.as_ref().expect("an answer").body;
                let body = String::from_utf8_lossy(body);
                assert!(body.contains(rest), "{place}: {body}");
                assert_eq!(body.trim_end().lines().count(), 1, "{place}: one line of cause");
            }
            "closed" => check_closed(&mut client, &place),
            other => panic!("{place}: no such word: {other:?}"),
        }
    }
}

fn check_closed(client: &mut Client, place: &str) {
    let (rest, _) = client.end();
    assert!(rest.is_empty(), "{place}: more came: {}", rest.escape_ascii());
}

/// `\r`, `\n`, `\t`, `\0`, `\\`, `\xHH`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next().expect("an escape") {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let digits = [rest.next().expect("a digit"), rest.next().expect("two digits")];
                let digits = std::str::from_utf8(&digits).expect("ASCII");
                u8::from_str_radix(digits, 16).expect("hexadecimal")
            }
            other => panic!("no such escape: {}", char::from(other)),
        });
    }
    bytes
}
