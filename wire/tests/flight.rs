//! What is under way: how much of it there may be, and what it holds up.

mod common;

use bytes::{Bytes, BytesMut};
use common::*;
use wire::*;

/// Which end sends bulk.
#[derive(Clone, Copy, Debug)]
enum Bulk {
    Up,
    Down,
    Both,
}

/// Queues as much as there is room for, in pieces that leave a short tail behind their full frames.
fn fill(connection: &mut Connection, id: RequestId) {
    const PIECE: usize = 4 * limits::DATA_CHUNK_BYTES + 500;
    loop {
        let room = connection.send_room(id).min(PIECE);
        if room == 0 {
            return;
        }
        connection.send_data(id, Bytes::from(vec![0; room]), false).unwrap();
    }
}

fn hand_out(connection: &mut Connection, now: std::time::Instant, link: &mut BytesMut) {
    let mut out = Vec::new();
    while connection.poll_transmit(now, &mut out, limits::FLUSH_BYTES) {
        link.extend_from_slice(&out);
        out.clear();
    }
}

fn take(connection: &mut Connection) {
    while let Some(event) = connection.poll_event() {
        if let Event::Data { id, data, .. } = event {
            connection.consumed(id, data.len());
        }
    }
}

/// One round trip of a long way: all that may be is under way before any of it arrives. Gives the most under way, up and down.
fn round_trip(pair: &mut Pair, id: RequestId, bulk: Bulk) -> [u64; 2] {
    if matches!(bulk, Bulk::Up | Bulk::Both) {
        fill(&mut pair.client, id);
    }
    if matches!(bulk, Bulk::Down | Bulk::Both) {
        fill(&mut pair.server, id);
    }
    hand_out(&mut pair.client, pair.now, &mut pair.to_server);
    hand_out(&mut pair.server, pair.now, &mut pair.to_client);
    let under_way = [&pair.client, &pair.server].map(|end| end.audit().in_flight);
    pair.server.handle_input(pair.now, &mut pair.to_server);
    pair.client.handle_input(pair.now, &mut pair.to_client);
    take(&mut pair.server);
    take(&mut pair.client);
    under_way
}

#[test]
fn bulk_alone_widens_the_flight_and_one_small_call_narrows_it() {
    for bulk in [Bulk::Up, Bulk::Down, Bulk::Both] {
        let mut pair = Pair::new();
        let id = pair.opened(false);
        pair.server.respond(id, &response(200), Bytes::new(), false).unwrap();
        let mut most = [0; 2];
        for _ in 0..40 {
            most = round_trip(&mut pair, id, bulk);
        }
        let wide = most.map(|bytes| bytes > limits::FLIGHT_SMALL_BYTES);
        let expected = match bulk {
            Bulk::Up => [true, false],
            Bulk::Down => [false, true],
            Bulk::Both => [true, true],
        };
        assert_eq!(wide, expected, "{bulk:?}: {most:?}");
        let small = pair.open(Bytes::new(), true);
        let _ = round_trip(&mut pair, id, bulk);
        pair.server.respond(small, &response(200), Bytes::new(), true).unwrap();
        let _ = round_trip(&mut pair, id, bulk);
        let most = round_trip(&mut pair, id, bulk);
        assert!(most.iter().all(|bytes| *bytes <= limits::FLIGHT_SMALL_BYTES), "{bulk:?}: {most:?}");
    }
}

#[test]
fn a_lone_small_message_narrows_the_flight_too() {
    let mut pair = Pair::new();
    let (bulk, chat) = (pair.opened(true), pair.opened(true));
    for id in [bulk, chat] {
        pair.server.respond(id, &response(200), Bytes::new(), false).unwrap();
    }
    let mut most = 0;
    for _ in 0..40 {
        most = round_trip(&mut pair, bulk, Bulk::Down)[1];
    }
    assert!(most > limits::FLIGHT_SMALL_BYTES, "{most}");
    pair.server.send_data(chat, Bytes::from_static(b"hello"), false).unwrap();
    pair.exchange();
    let most = round_trip(&mut pair, bulk, Bulk::Down)[1];
    assert!(most <= limits::FLIGHT_SMALL_BYTES, "{most}");
}

#[test]
fn ends_need_no_flight() {
    type End = fn(&mut Connection, RequestId);
    let cases: [(&str, (u8, usize), End); 2] = [
        ("half-close", (0x12, 0), |server, id| server.send_data(id, Bytes::new(), true).unwrap()),
        ("trailers", (0x13, 1), |server, id| server.send_trailers(id, &Headers::new()).unwrap()),
    ];
    for (name, frame, end) in cases {
        let mut pair = Pair::with(Config { initial_credit: 1 << 20, ..config() }, config());
        let (bulk, short) = (pair.opened(true), pair.opened(true));
        for id in [bulk, short] {
            pair.server.respond(id, &response(200), Bytes::new(), false).unwrap();
        }
        // No flight is left, and what has been sent never arrives.
        for _ in 0..4 {
            fill(&mut pair.server, bulk);
            hand_out(&mut pair.server, pair.now, &mut pair.to_client);
        }
        assert!(!pair.server.wants_transmit());
        end(&mut pair.server, short);
        assert!(pair.server.wants_transmit(), "{name}");
        let mut link = BytesMut::new();
        hand_out(&mut pair.server, pair.now, &mut link);
        assert_eq!(frames(&link), [(frame.0, 1, short.0, frame.1)], "{name}");
        assert_eq!(pair.server.live_streams(), 1, "{name}");
        assert_eq!(pair.server.audit().bodies, limits::SEND_QUEUE_BYTES, "{name}: bulk waits all the same");
    }
}

#[test]
fn what_a_small_call_waits_behind() {
    let mut pair = Pair::with(Config { initial_credit: 1 << 20, ..config() }, config());
    let ids: Vec<RequestId> = (0..32).map(|_| pair.opened(true)).collect();
    for id in &ids {
        pair.server.respond(*id, &response(200), Bytes::new(), false).unwrap();
    }
    let frame = limits::DATA_CHUNK_BYTES + limits::FRAME_HEADER_BYTES;
    let data = |bytes: &[u8]| -> usize { frames(bytes).iter().filter(|it| it.0 == 0x12).map(|it| it.3).sum() };
    // The first small call comes after bulk alone, the others while small calls are about.
    for (round, most) in [limits::FLIGHT_BULK_BYTES, limits::FLIGHT_SMALL_BYTES, limits::FLIGHT_SMALL_BYTES]
        .into_iter()
        .map(|bytes| bytes as usize)
        .enumerate()
    {
        for _ in 0..if round == 0 { 10 } else { 1 } {
            for id in &ids {
                fill(&mut pair.server, *id);
            }
            hand_out(&mut pair.server, pair.now, &mut pair.to_client);
            pair.client.handle_input(pair.now, &mut pair.to_client);
            take(&mut pair.client);
            hand_out(&mut pair.client, pair.now, &mut pair.to_server);
            pair.server.handle_input(pair.now, &mut pair.to_server);
            while pair.server.poll_event().is_some() {}
        }
        // All that may be is handed out, a flush bound a turn, and has not arrived.
        let mut ahead = Vec::new();
        for id in &ids {
            fill(&mut pair.server, *id);
        }
        let mut turn = Vec::new();
        while pair.server.poll_transmit(pair.now, &mut turn, limits::FLUSH_BYTES) {
            assert!(turn.len() < limits::FLUSH_BYTES + frame, "{} in one turn", turn.len());
            ahead.append(&mut turn);
        }
        let before = data(&ahead);
        let not_given_back = limits::FLIGHT_RETURN_BYTES as usize;
        assert!(before <= most && before > most - not_given_back - frame, "round {round}: behind {before}");
        // More bulk waits, and the small call goes before it.
        assert!(pair.server.audit().bodies > limits::FLUSH_BYTES);
        let small = pair.open(Bytes::new(), true);
        pair.client_to_server();
        while pair.server.poll_event().is_some() {}
        pair.server.respond(small, &response(200), Bytes::from_static(b"quick"), true).unwrap();
        pair.server.poll_transmit(pair.now, &mut turn, limits::FLUSH_BYTES);
        assert_eq!(frames(&turn)[0].2, small.0, "round {round}");
        pair.to_client.extend_from_slice(&ahead);
        pair.to_client.extend_from_slice(&turn);
        pair.client.handle_input(pair.now, &mut pair.to_client);
        take(&mut pair.client);
    }
}
