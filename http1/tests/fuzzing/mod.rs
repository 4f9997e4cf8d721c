//! What the fuzz targets run, here so that the seeds replay as an ordinary test.
#![allow(dead_code, unreachable_pub, reason = "each binary uses its own part")]

#[path = "../common/mod.rs"]
pub mod common;

use bytes::{Bytes, BytesMut};
use common::{End, Fields, MAX_HEAD, MAX_TRAILERS, Message, Reading, Side, gather, read};
use http1::{Body, Field, Framing, HeadScan, Outgoing, Piece, Refusal, Version, encode};

/// One head, a request's and a response's. What is accepted holds no byte that could end a line, and reads the same when it
/// is written anew.
pub fn heads(data: &[u8]) {
    if let Ok(Some(scanned)) = HeadScan::default().find(data, MAX_HEAD) {
        let head = &data[scanned.range];
        let _ = http1::request(head, scanned.fields, |head| {
            let fields = owned(head.fields);
            let mut out = Vec::new();
            encode::request_line(&mut out, head.method.as_bytes(), head.target.as_bytes()).expect("it was read");
            write_fields(&mut out, &fields);
            encode::end_of_head(&mut out, Framing::None);
            let again = read(Side::Requests, &out, &[usize::MAX]);
            match again.messages.first() {
                Some(message) => {
                    assert_eq!(message.start, format!("{} {}", head.method, head.target));
                    assert_eq!(message.fields, fields);
                }
                // It is written as HTTP/1.1, which needs a Host, and may be longer by spaces that were left out.
                None => assert!(head.version == Version::Http10 || out.len() > MAX_HEAD, "{again:?}"),
            }
            assert!(head.framing != Framing::Chunked || head.version == Version::Http11);
        });
    }
    if let Ok(Some(scanned)) = HeadScan::for_responses().find(data, MAX_HEAD) {
        assert_eq!(scanned.range.start, 0);
        for to_head in [false, true] {
            let _ = http1::response(&data[scanned.range.clone()], scanned.fields, to_head, |head| {
                let fields = owned(head.fields);
                let mut out = Vec::new();
                encode::status_line(&mut out, head.status, "").expect("it was read");
                write_fields(&mut out, &fields);
                encode::end_of_head(&mut out, Framing::None);
                let again = read(Side::Responses(&[]), &out, &[usize::MAX]);
                match again.messages.first() {
                    Some(message) => {
                        assert_eq!((&message.start, &message.fields), (&head.status.to_string(), &fields));
                    }
                    // It may be longer by spaces that were left out.
                    None => assert!(out.len() > MAX_HEAD, "{again:?}"),
                }
                let is_last = matches!(head.framing, Framing::UntilClose | Framing::Tunnel);
                assert!(!(is_last && head.keep_alive));
                assert!(!to_head || matches!(head.framing, Framing::None | Framing::Tunnel));
            });
        }
    }
}

/// A body in any framing: the same in any pieces, and the same again when it is framed anew.
pub fn bodies(data: &[u8]) {
    let Some(([kind, step], data)) = data.split_first_chunk::<2>() else { return };
    let framing = match kind % 4 {
        0 => Framing::Length(u64::from(*kind)),
        1 => Framing::UntilClose,
        _ => Framing::Chunked,
    };
    let body = |framing, bytes: &[u8], step| read_alone(Body::new(framing, MAX_TRAILERS), bytes, step);
    let whole = body(framing, data, usize::MAX);
    for step in [1, usize::from(*step) + 1] {
        assert_eq!(body(framing, data, step), whole, "in steps of {step}");
    }
    let Ok(whole) = whole else { return };
    if !whole.is_whole {
        return;
    }
    let framing = match framing {
        Framing::Length(_) => Framing::Length(whole.body.len() as u64),
        other => other,
    };
    let mut out = Vec::new();
    let mut outgoing = Outgoing::new(framing);
    for piece in whole.body.chunks(usize::from(*step) + 1) {
        outgoing.data(Bytes::copy_from_slice(piece), gather(&mut out)).expect("no more than announced");
    }
    let trailers = whole.trailers.iter().map(|(name, value)| (name.as_bytes(), &value[..]));
    outgoing.end(trailers, gather(&mut out)).expect("no less than announced");
    // They may be longer by spaces that were left out.
    let again =
        read_alone(Body::new(framing, 2 * MAX_TRAILERS), &out, usize::MAX).expect("what was written can be read");
    assert_eq!((again.body, again.trailers, again.left), (whole.body, whole.trailers, 0));
}

/// Messages one behind another, both ways: the same in any pieces, and each the same again when it is written anew.
pub fn messages(data: &[u8]) {
    let Some((cuts, bytes)) = data.split_first_chunk::<4>() else { return };
    let cuts = cuts.map(|cut| usize::from(cut) + 1);
    for side in [Side::Requests, Side::Responses(&["HEAD", "GET", "HEAD"])] {
        let whole = read(side, bytes, &[usize::MAX]);
        assert_eq!(read(side, bytes, &cuts), whole, "in pieces of {cuts:?}");
        assert_eq!(read(side, bytes, &[1]), whole, "byte for byte");
        if matches!(side, Side::Requests) {
            written_anew(&whole);
        }
    }
}

/// What a proxy passes on of requests that were read is read by the next one as the same requests, and as no other.
pub fn written_anew(reading: &Reading) {
    // One of HTTP/1.0 without a Host is given one, so it does not stay the same.
    // Trailers may be longer by spaces that were left out.
    let is_passed_on = |message: &&Message| {
        let trailers: usize = message.trailers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        message.is_whole && message.fields.iter().any(|(name, _)| name == "host") && trailers + 2 <= MAX_TRAILERS
    };
    for message in reading.messages.iter().filter(is_passed_on) {
        let written = write(message);
        let again = read(Side::Requests, &written, &[usize::MAX]);
        let [only] = &again.messages[..] else {
            // It may be longer by spaces that were left out.
            assert!(written.len() > MAX_HEAD && again.messages.is_empty(), "{message:?} became {again:?}");
            continue;
        };
        let without =
            |fields: &Fields| -> Fields { fields.iter().filter(|(name, _)| !is_framing(name)).cloned().collect() };
        assert_eq!((&only.start, &only.body, &only.trailers), (&message.start, &message.body, &message.trailers));
        assert_eq!(without(&only.fields), without(&message.fields));
        assert!(matches!(again.end, End::Idle | End::Closed), "{:?}", again.end);
    }
}

/// The request as it is passed on: framing is written and not copied.
fn write(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    let (method, target) = message.start.split_once(' ').expect("a method and a target");
    encode::request_line(&mut out, method.as_bytes(), target.as_bytes()).expect("it was read");
    for (name, value) in message.fields.iter().filter(|(name, _)| !is_framing(name)) {
        encode::field(&mut out, name.as_bytes(), value).expect("it was read");
    }
    let framing = match message.fields.iter().find(|(name, _)| is_framing(name)) {
        Some((name, _)) if name == "content-length" => Framing::Length(message.body.len() as u64),
        Some(_) => Framing::Chunked,
        None => Framing::None,
    };
    encode::end_of_head(&mut out, framing);
    let mut outgoing = Outgoing::new(framing);
    outgoing.data(Bytes::copy_from_slice(&message.body), gather(&mut out)).expect("no more than announced");
    let trailers = message.trailers.iter().map(|(name, value)| (name.as_bytes(), &value[..]));
    outgoing.end(trailers, gather(&mut out)).expect("no less than announced");
    out
}

fn is_framing(name: &str) -> bool {
    matches!(name, "content-length" | "transfer-encoding")
}

fn owned(fields: &[Field<'_>]) -> Fields {
    fields.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())).collect()
}

fn write_fields(out: &mut Vec<u8>, fields: &Fields) {
    for (name, value) in fields {
        encode::field(out, name.as_bytes(), value).expect("it was read");
    }
}

/// A body that was read alone.
#[derive(Debug, PartialEq, Eq)]
pub struct Alone {
    pub body: Vec<u8>,
    pub trailers: Fields,
    pub is_whole: bool,
    /// Bytes behind it.
    pub left: usize,
}

/// Reads one body that arrives in pieces of `step` bytes.
fn read_alone(mut body: Body, bytes: &[u8], step: usize) -> Result<Alone, (Vec<u8>, Refusal)> {
    let mut alone = Alone { body: Vec::new(), trailers: Vec::new(), is_whole: false, left: 0 };
    let mut input = BytesMut::new();
    for piece in bytes.chunks(step.min(bytes.len().max(1))) {
        input.extend_from_slice(piece);
        loop {
            match body.next(&mut input) {
                Ok(Some(Piece::Data(data))) => alone.body.extend_from_slice(&data),
                Ok(Some(Piece::Trailers(trailers))) => {
                    trailers.each(|name, value| alone.trailers.push((name.to_ascii_lowercase(), value.to_vec())));
                }
                Ok(None) => break,
                Err(refusal) => return Err((alone.body, refusal)),
            }
        }
    }
    alone.is_whole = body.handle_close().is_ok();
    alone.left = input.len();
    Ok(alone)
}
