//! The hex examples of docs/protocol.md, read from its text: each is made by a connection and compared, and given to a
//! connection and looked at. An example that no case names, or a case without its example, fails.

mod cases;
#[path = "../common/mod.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::BytesMut;
use common::*;
use wire::dictionary::{FIELDS, NAMES};
use wire::*;

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");

/// The lines of all fences of that kind.
fn fences(kind: &str) -> Vec<Vec<&'static str>> {
    let mut found = Vec::new();
    let mut lines = DOCUMENT.lines();
    while let Some(line) = lines.next() {
        if line == format!("```{kind}") {
            found.push(lines.by_ref().take_while(|line| *line != "```").collect());
        }
    }
    assert!(!found.is_empty(), "no fence {kind}");
    found
}

/// `61*300` is the byte 61, 300 times.
fn unhex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        let (digits, times) = word.split_once('*').unwrap_or((word, "1"));
        assert!(digits.len().is_multiple_of(2), "{text}");
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or_else(|_| panic!("{text}"));
        let run: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
        bytes.extend(run.repeat(times.parse().unwrap_or_else(|_| panic!("{text}"))));
    }
    bytes
}

fn vectors() -> BTreeMap<&'static str, Vec<u8>> {
    let mut vectors = BTreeMap::new();
    for fence in fences("hex") {
        let mut name = "";
        for line in fence {
            let mut hex = line.split('#').next().unwrap();
            if let Some((word, rest)) = hex.split_once(':') {
                (name, hex) = (word, rest);
                assert!(vectors.insert(name, Vec::new()).is_none(), "{name} twice");
            }
            vectors.get_mut(name).unwrap_or_else(|| panic!("no name before {line}")).extend(unhex(hex));
        }
    }
    vectors
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_example_of_the_document_both_ways() {
    let mut vectors = vectors();
    let hello = vectors.remove("hello").expect("an example of HELLO");
    let mut pair = Pair::raw(config(), config());
    let mut out = Vec::new();
    pair.client.poll_transmit(pair.now, &mut out, 1);
    assert_eq!(hex(&out), hex(&hello));
    pair.server.handle_input(pair.now, &mut BytesMut::from(&hello[..]));
    assert!(matches!(&pair.server_events()[..], [Event::Hello(hello)] if *hello == config().hello));
    for case in cases::all() {
        let bytes = vectors.remove(case.name).unwrap_or_else(|| panic!("no example {}", case.name));
        case.check(&bytes);
    }
    assert!(vectors.is_empty(), "examples without a case: {:?}", vectors.keys());
}

#[test]
fn every_code_has_an_example() {
    let vectors = vectors();
    let names = |prefix: &str| vectors.keys().filter(|name| name.starts_with(prefix)).count();
    assert!(names("cancel-") >= Cancel::ALL.len());
    assert!(names("nack-") >= NackReason::ALL.len());
    assert_eq!(names("goodbye-"), GoodbyeCode::ALL.len());
}

fn refused(kind: &str) -> Vec<(&'static str, Vec<u8>)> {
    let split = |line: &'static str| {
        let (text, hex) = line.split_once('|').expect("text | hex");
        (text.trim(), unhex(hex))
    };
    fences(kind).into_iter().flatten().map(split).collect()
}

fn assert_refused(connection: &mut Connection, now: std::time::Instant, text: &str, bytes: &[u8]) {
    connection.handle_input(now, &mut BytesMut::from(bytes));
    let last = std::iter::from_fn(|| connection.poll_event()).last();
    match last {
        Some(Event::Closed(CloseReason::Protocol(found))) => assert_eq!(found, text, "{}", hex(bytes)),
        other => panic!("{text}: {} gave {other:?}", hex(bytes)),
    }
    let mut out = Vec::new();
    assert!(connection.poll_transmit(now, &mut out, 1) || text.is_empty());
    while connection.poll_transmit(now, &mut out, 1) {}
    assert!(connection.is_closed());
    let goodbye = [&raw_frame(0x05, 0, 0, &[])[4..16], &[0, 1], text.as_bytes()].concat();
    assert!(out.ends_with(&goodbye), "{text}: GOODBYE 1 is said");
}

#[test]
fn whatever_the_document_refuses() {
    for (text, bytes) in refused("refused") {
        let mut pair = Pair::new();
        assert_refused(&mut pair.server, pair.now, text, &bytes);
    }
    for (text, bytes) in refused("refused-by-client") {
        let mut pair = Pair::new();
        pair.opened(false);
        assert_refused(&mut pair.client, pair.now, text, &bytes);
    }
    for (text, bytes) in refused("refused-as-hello") {
        let mut pair = Pair::raw(config(), config());
        assert_refused(&mut pair.server, pair.now, text, &bytes);
    }
}

/// The texts of all violations in the source.
fn violations(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            violations(&path, found);
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        for before in ["Err(\"", "ok_or(\"", "map_err(|_| \"", "Violation = \""] {
            let texts = source.split(before).skip(1).filter_map(|rest| rest.split_once('"'));
            found.extend(texts.map(|(text, _)| text.to_owned()));
        }
    }
}

#[test]
fn every_violation_has_its_line_in_the_document() {
    // It takes more calls than a line holds: attacks.rs, data_without_credit_of_the_connection.
    const ELSEWHERE: &str = "more DATA in flight than allowed";
    let mut found = BTreeSet::new();
    violations(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.remove(ELSEWHERE) && DOCUMENT.contains(ELSEWHERE));
    let kinds = ["refused", "refused-by-client", "refused-as-hello"];
    let lines: BTreeSet<String> = kinds.into_iter().flat_map(refused).map(|(text, _)| text.to_owned()).collect();
    assert_eq!(lines, found);
}

#[test]
fn the_static_table_is_the_document_s() {
    let (mut names, mut fields) = (BTreeMap::new(), BTreeMap::new());
    for line in
        DOCUMENT.lines().skip_while(|line| !line.starts_with("## 12")).take_while(|line| !line.starts_with("## 13"))
    {
        let cells: Vec<&str> = line.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`'])).collect();
        let table = if cells.len() == 6 { &mut names } else { &mut fields };
        for pair in cells.chunks(2) {
            if let (Ok(index), Some(text)) = (pair[0].parse::<usize>(), pair.get(1)) {
                table.insert(index, (*text).to_owned());
            }
        }
    }
    let expected: BTreeMap<usize, String> = NAMES.iter().map(|name| (*name).to_owned()).enumerate().collect();
    assert_eq!(names, expected);
    let field = |(name, value): &(u8, &str)| format!("{}: {value}", NAMES[*name as usize]).trim_end().to_owned();
    let expected: BTreeMap<usize, String> = FIELDS.iter().map(field).enumerate().collect();
    assert_eq!(fields, expected);
}
