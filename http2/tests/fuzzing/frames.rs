//! Any bytes as frames.

use bytes::Bytes;
use http2::{Config, Connection, Event, PREFACE, Request, Side};
use wire::{Pieces, Text};

const STREAMS: u32 = 8;

/// The first byte says which end reads, the second in what pieces; the rest are frames behind what a connection begins with.
pub fn frames(data: &[u8]) {
    let [end, piece, bytes @ ..] = data else { return };
    let side = if end % 2 == 0 { Side::Server } else { Side::Client };
    // In pieces they are the same.
    let pieces = usize::from(*piece) % 64 + 1;
    assert_eq!(read(side, bytes, bytes.len().max(1)), read(side, bytes, pieces));
    answer(side, bytes, pieces);
}

fn begun(side: Side) -> Connection {
    const NO_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let mut connection = Connection::new(Config {
        side,
        stream_window: 1_000,
        connection_window: 66_000,
        frame_bytes: 16_384,
        list_bytes: 2_000,
        streams: STREAMS,
    });
    if side == Side::Server {
        connection.handle_slice(PREFACE);
    }
    connection.handle_slice(&NO_SETTINGS);
    if side == Side::Client {
        for method in [&b"GET"[..], b"HEAD", b"POST"] {
            let request = Request { method, scheme: b"http", authority: b"a", path: b"/", protocol: None };
            let _ = connection.open(request, no_fields(), method != b"POST");
        }
    }
    connection
}

fn no_fields() -> impl Iterator<Item = Text<'static>> {
    std::iter::empty()
}

fn feed(connection: &mut Connection, bytes: &[u8], owned: bool) {
    if owned && !connection.input().is_empty() {
        connection.input().extend_from_slice(bytes);
        connection.handle_input();
    } else {
        connection.handle_slice(bytes);
    }
}

/// What comes of them, and what is said to them, where nobody does anything.
fn read(side: Side, bytes: &[u8], pieces: usize) -> (String, Vec<u8>) {
    let mut connection = begun(side);
    for (number, part) in bytes.chunks(pieces).enumerate() {
        feed(&mut connection, part, number % 2 == 0);
    }
    let events: Vec<Event> = std::iter::from_fn(|| connection.poll_event()).collect();
    (format!("{events:?} {:?}", connection.closed()), said(&mut connection))
}

fn said(connection: &mut Connection) -> Vec<u8> {
    let mut pieces = Pieces::default();
    while connection.poll_transmit(&mut pieces, 10_000) {}
    pieces.slices().collect::<Vec<_>>().concat()
}

/// The same where what is asked is answered: whatever comes, there are no more streams than may be, and each ends once.
fn answer(side: Side, bytes: &[u8], pieces: usize) {
    let mut connection = begun(side);
    let mut ended = std::collections::HashSet::new();
    for part in bytes.chunks(pieces) {
        connection.handle_slice(part);
        while let Some(event) = connection.poll_event() {
            match event {
                Event::Request { stream, is_end, .. } => {
                    connection.respond(stream, 200, no_fields(), false);
                    connection.send(stream, Bytes::from_static(&[7; 3_000]), is_end);
                    connection.waits_below(stream, 10);
                }
                Event::Data { stream, data, is_end } => {
                    connection.release(stream, data.len());
                    if is_end {
                        connection.send(stream, Bytes::new(), true);
                    }
                }
                Event::Broken { stream, .. } => assert!(ended.insert(stream), "{stream} ends twice"),
                Event::Response { .. } | Event::Trailers { .. } | Event::Writable { .. } => {}
            }
        }
        said(&mut connection);
        assert!(connection.live_streams() <= STREAMS as usize);
    }
    connection.handle_transport_closed();
    while let Some(event) = connection.poll_event() {
        if let Event::Broken { stream, .. } = event {
            assert!(ended.insert(stream), "{stream} ends twice");
        }
    }
    assert_eq!(connection.live_streams(), 0);
}
