//! Frames by hand against one end; two ends against each other are in `pair.rs`, what is against the rules in `rules.rs`.

mod pair;
mod rules;

use super::*;
use crate::frame::{FrameHead, HEAD_BYTES, flag, put, setting};
use crate::limits::{UNREAD_BYTES, WINDOW_BYTES};
use crate::{Config, PREFACE};
use wire::{Pieces, Text};

const WINDOW: u32 = 100_000;

fn config(side: Side) -> Config {
    Config {
        side,
        stream_window: WINDOW,
        connection_window: 400_000,
        frame_bytes: 20_000,
        list_bytes: 8_000,
        streams: 4,
    }
}

/// A frame as bytes.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, kind, flags, stream, payload);
    out
}

fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(kind::SETTINGS, 0, 0, &payload)
}

/// Fields as literals that no table learns.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
const POST: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

fn request(stream: u32, end: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | end, stream, &block(fields))
}

fn window_update(stream: u32, more: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

/// All that a connection has to say now, frame by frame.
fn said(connection: &mut Connection) -> Vec<(FrameHead, Vec<u8>)> {
    let mut pieces = Pieces::default();
    while connection.poll_transmit(&mut pieces, usize::MAX) {}
    let bytes: Vec<u8> = pieces.slices().collect::<Vec<_>>().concat();
    let mut rest = bytes.strip_prefix(PREFACE).unwrap_or(&bytes);
    let mut frames = Vec::new();
    while let Some(head) = FrameHead::parse(rest) {
        frames.push((head, rest[HEAD_BYTES..HEAD_BYTES + head.length].to_vec()));
        rest = &rest[HEAD_BYTES + head.length..];
    }
    frames
}

fn events(connection: &mut Connection) -> Vec<Event> {
    std::iter::from_fn(|| connection.poll_event()).collect()
}

/// A server whose caller has greeted it.
fn server() -> Connection {
    let mut server = Connection::new(config(Side::Server));
    server.handle_slice(&[&PREFACE[..], &settings(&[])].concat());
    said(&mut server);
    server
}

/// A client whose server has greeted it, with these settings.
fn client(theirs: &[(u16, u32)]) -> Connection {
    let mut client = Connection::new(config(Side::Client));
    client.handle_slice(&settings(theirs));
    said(&mut client);
    client
}

const A_GET: super::Request<'static> =
    super::Request { method: b"GET", scheme: b"http", authority: b"a", path: b"/", protocol: None };

fn no_fields() -> impl Iterator<Item = Text<'static>> {
    std::iter::empty()
}

/// What comes of frames that are against the rules.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Goes(&'static str),
    Stream(u32, Reason),
    Connection(Reason),
}

fn outcome(connection: &mut Connection) -> Outcome {
    let frames = said(connection);
    if let Some(Closed::Violation(reason, _)) = connection.closed() {
        let (head, payload) = frames.last().expect("a word about it");
        assert_eq!((head.kind, &payload[4..8]), (kind::GOAWAY, &reason.0.to_be_bytes()[..]));
        return Outcome::Connection(reason);
    }
    match frames.iter().find(|(head, _)| head.kind == kind::RST_STREAM) {
        Some((head, payload)) => {
            Outcome::Stream(head.stream, Reason(u32::from_be_bytes(payload[..].try_into().expect("a code"))))
        }
        None => Outcome::Goes(""),
    }
}

#[test]
fn more_streams_than_may_be_are_refused_and_one_that_ends_makes_room() {
    let mut server = server();
    let refused = |server: &mut Connection, stream| {
        server.handle_slice(&request(stream, flag::END_STREAM, &GET));
        outcome(server) == Outcome::Stream(stream, Reason::REFUSED_STREAM)
    };
    for stream in [1, 3, 5, 7] {
        assert!(!refused(&mut server, stream), "{stream}");
    }
    assert!(refused(&mut server, 9));
    assert!(server.respond(3, 200, no_fields(), true));
    assert!(!refused(&mut server, 11));
    assert!(refused(&mut server, 13));
    assert_eq!(server.closed(), None);
}

#[test]
fn an_upgraded_connection_begins_with_its_request() {
    let mut server = Connection::new(config(Side::Server));
    let mut fields = Headers::new();
    GET.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
    server.upgrade(fields);
    server.handle_slice(PREFACE);
    assert!(events(&mut server).is_empty());
    server.handle_slice(&settings(&[]));
    assert!(matches!(&events(&mut server)[..], [Event::Request { stream: 1, is_end: true, .. }]));
    assert!(server.respond(1, 200, no_fields(), true));
    server.handle_slice(&request(3, flag::END_STREAM, &GET));
    assert!(matches!(&events(&mut server)[..], [Event::Request { stream: 3, .. }]));
}

#[test]
fn windows_are_kept_both_ways() {
    let mut server = server();
    server.handle_slice(&request(1, 0, &POST));
    // What is read is given again, and no more.
    let piece = frame(kind::DATA, 0, 1, &[7; 10_000]);
    for _ in 0..10 {
        server.handle_slice(&piece);
    }
    assert_eq!(outcome(&mut server), Outcome::Goes(""));
    server.release(1, 50_000);
    let given: Vec<_> = said(&mut server).iter().map(|(head, more)| (head.stream, more.clone())).collect();
    assert_eq!(given, [(1, 50_000_u32.to_be_bytes().to_vec())]);
    (0..5).for_each(|_| server.handle_slice(&piece));
    assert_eq!(outcome(&mut server), Outcome::Goes(""));
    server.handle_slice(&frame(kind::DATA, 0, 1, &[7]));
    assert_eq!(outcome(&mut server), Outcome::Stream(1, Reason::FLOW_CONTROL_ERROR));

    // What the other side lets us send goes out, and what it does not waits.
    let mut server = self::server();
    server.handle_slice(&settings(&[(setting::INITIAL_WINDOW_SIZE, 10)]));
    server.handle_slice(&[request(1, flag::END_STREAM, &GET), request(3, flag::END_STREAM, &GET)].concat());
    said(&mut server);
    let sent = |server: &mut Connection| {
        let frames = said(server).into_iter().filter(|(head, _)| head.kind == kind::DATA);
        frames.map(|(head, data)| (head.stream, data.len(), head.flags)).collect::<Vec<_>>()
    };
    for stream in [1, 3] {
        assert!(server.respond(stream, 200, no_fields(), false));
        assert!(server.send(stream, Bytes::from(vec![1; 25]), true));
    }
    assert_eq!(sent(&mut server), [(1, 10, 0), (3, 10, 0)]);
    assert_eq!((server.queued(1), server.wants_transmit()), (Some(15), false));
    server.handle_slice(&window_update(3, 100));
    assert_eq!(sent(&mut server), [(3, 15, flag::END_STREAM)]);
    assert_eq!(server.queued(3), None, "it is over");
    server.handle_slice(&settings(&[(setting::INITIAL_WINDOW_SIZE, 5)]));
    assert_eq!(sent(&mut server), []);
    server.handle_slice(&settings(&[(setting::INITIAL_WINDOW_SIZE, 24)]));
    assert_eq!(sent(&mut server), [(1, 14, 0)]);
    server.waits_below(1, 1);
    server.handle_slice(&window_update(1, 1));
    assert_eq!(sent(&mut server), [(1, 1, flag::END_STREAM)]);
    assert_eq!(server.live_streams(), 0);
}

#[test]
fn the_connections_window_is_shared_in_turns() {
    let mut server = server();
    server.handle_slice(&settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]));
    for stream in [1, 3] {
        server.handle_slice(&request(stream, flag::END_STREAM, &GET));
        server.respond(stream, 200, no_fields(), false);
        server.send(stream, Bytes::from(vec![1; 100_000]), true);
    }
    let sums = |server: &mut Connection| {
        let frames = said(server);
        [1, 3].map(|stream| {
            let data = frames.iter().filter(|(head, _)| head.kind == kind::DATA && head.stream == stream);
            data.map(|(head, _)| head.length).sum::<usize>()
        })
    };
    let [one, other] = sums(&mut server);
    assert_eq!(one + other, 65_535);
    assert!(one.abs_diff(other) <= 2 * 16_384, "{one} and {other}");
    server.handle_slice(&window_update(0, 40_000));
    assert_eq!(sums(&mut server).iter().sum::<usize>(), 40_000);
    server.handle_slice(&window_update(0, 1 << 20));
    assert_eq!(sums(&mut server).iter().sum::<usize>(), 200_000 - 65_535 - 40_000);
    assert_eq!(server.live_streams(), 0);
}

#[test]
fn what_leads_to_nothing_may_come_some_times() {
    let often = |frames: &[u8], count: usize| {
        let mut server = server();
        server.handle_slice(&request(1, 0, &POST));
        for _ in 0..count {
            server.handle_slice(frames);
            said(&mut server);
        }
        server.closed()
    };
    let calm = |what| Some(Closed::Violation(Reason::ENHANCE_YOUR_CALM, what));
    let nothing = "too many frames that lead to nothing";
    for frames in [frame(kind::DATA, 0, 1, &[]), settings(&[]), frame(0x77, 0, 0, &[])] {
        assert_eq!(often(&frames, 500), None);
        assert_eq!(often(&frames, 2_000), calm(nothing));
    }
    assert_eq!(often(&frame(kind::DATA, 0, 1, &[]), 2_000), calm(nothing));
    // Streams that we have to reset (made you reset, CVE-2025-8671).
    let mut server = server();
    let fill = (0..5_000_u32).map(|number| 2 * number + 1);
    let ended = fill.into_iter().find(|stream| {
        server.handle_slice(&[request(*stream, 0, &POST), window_update(*stream, 0)].concat());
        said(&mut server);
        server.closed().is_some()
    });
    assert_eq!(ended, None, "each of them was a call: whoever makes them counts");
    // Fields without end.
    let endless = |payload: &[u8]| {
        let mut server = self::server();
        server.handle_slice(&frame(kind::HEADERS, 0, 1, &block(&GET)));
        (0..10_000).find(|_| {
            server.handle_slice(&frame(kind::CONTINUATION, 0, 1, payload));
            server.closed().is_some()
        })
    };
    assert_eq!(endless(&[]), Some(64));
    assert_eq!(endless(&block(&[("x-filler", &"f".repeat(100))]).repeat(100)), Some(1));
}

#[test]
fn a_peer_that_does_not_read_is_not_read() {
    let mut server = server();
    let ping = frame(kind::PING, 0, 0, &[0; 8]);
    let count = (0..100_000).take_while(|_| {
        server.handle_slice(&ping);
        server.may_read()
    });
    let count = count.count();
    assert!(count * ping.len() < UNREAD_BYTES && count > 1_000);
    said(&mut server);
    assert!(server.may_read());
}

#[test]
fn a_list_that_is_too_long_is_a_request_that_says_so() {
    let mut server = server();
    let filler = "f".repeat(120);
    let fields: Vec<_> = GET.into_iter().chain(std::iter::repeat_n(("x-filler", filler.as_str()), 60)).collect();
    server.handle_slice(&request(1, flag::END_STREAM, &fields));
    let events = events(&mut server);
    assert!(matches!(&events[..], [Event::Request { head, .. }] if head.is_oversized), "{events:?}");
}

#[test]
fn an_answer_that_needs_no_more_ends_the_request() {
    let mut server = server();
    server.handle_slice(&request(1, 0, &POST));
    server.respond(1, 413, no_fields(), true);
    assert_eq!(outcome(&mut server), Outcome::Goes(""), "it may still be read");
    server.stop_reading(1);
    let piece = |flags| frame(kind::DATA, flags, 1, &[7; 16_384]);
    server.handle_slice(&[piece(0), piece(0)].concat());
    assert_eq!(outcome(&mut server), Outcome::Goes(""), "a little is let go");
    server.handle_slice(&piece(0));
    assert_eq!(outcome(&mut server), Outcome::Stream(1, Reason::NO_ERROR));
    // What is still on its way means nothing.
    server.handle_slice(&piece(flag::END_STREAM));
    assert_eq!((outcome(&mut server), server.live_streams()), (Outcome::Goes(""), 0));
    assert!(events(&mut server).iter().all(|event| matches!(event, Event::Request { .. })));
}

#[test]
fn a_client_asks_within_what_its_server_takes() {
    let mut client = client(&[(setting::MAX_CONCURRENT_STREAMS, 2), (setting::ENABLE_CONNECT_PROTOCOL, 1)]);
    assert!(client.takes_extended_connect());
    assert_eq!(client.open(A_GET, no_fields(), true), Ok(1));
    assert_eq!(client.open(A_GET, no_fields(), true), Ok(3));
    assert_eq!(client.open(A_GET, no_fields(), true), Err(NotOpened::TooMany));
    client.handle_slice(&request(1, flag::END_STREAM, &[(":status", "200")]));
    assert_eq!(client.open(A_GET, no_fields(), false), Ok(5));
    // It goes away: what it has not begun is said.
    client.handle_slice(&frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]));
    assert_eq!(client.open(A_GET, no_fields(), true), Err(NotOpened::GoesAway));
    client.handle_slice(&request(3, flag::END_STREAM, &[(":status", "404")]));
    let events = events(&mut client);
    assert!(
        matches!(
            &events[..],
            [
                Event::Response { stream: 1, .. },
                Event::Broken { stream: 5, why: Broken::NotBegun },
                Event::Response { stream: 3, .. },
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn the_end_of_the_transport_is_told_to_every_stream() {
    let mut client = client(&[]);
    for _ in 0..3 {
        client.open(A_GET, no_fields(), false).unwrap();
    }
    client.handle_transport_closed();
    let why = Broken::Closed(Closed::Transport);
    let streams: Vec<u32> = events(&mut client)
        .iter()
        .map(|event| match event {
            Event::Broken { stream, why: known } if *known == why => *stream,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(streams, [1, 3, 5]);
    assert!(said(&mut client).is_empty());
    assert_eq!(client.open(A_GET, no_fields(), false), Err(NotOpened::GoesAway));
}
