//! What a peer can make us hold: each thing that grows with the peer's wish has a bound, and those that wait at the bound go on
//! when there is room.

mod common;

use bytes::{Bytes, BytesMut};
use common::*;
use wire::*;

/// A client that gives credit without end, as a hostile one may.
fn generous() -> Config {
    Config { initial_credit: 1 << 30, max_credit: 1 << 30, ..config() }
}

/// Calls that the server's driver knows and has answered with a head.
fn answered(pair: &mut Pair, calls: usize) -> Vec<RequestId> {
    let ids: Vec<RequestId> = (0..calls).map(|_| pair.opened(true)).collect();
    for id in &ids {
        pair.server.respond(*id, &response(200), Bytes::new(), false).unwrap();
    }
    pair.server_to_client();
    ids
}

fn writable(events: Vec<Event>) -> Vec<RequestId> {
    let of = |event: Event| match event {
        Event::Writable { id, .. } => id,
        other => panic!("{other:?}"),
    };
    events.into_iter().map(of).collect()
}

#[test]
fn bodies_that_nobody_reads_wait_within_the_send_budget_and_each_has_its_turn() {
    let mut pair = Pair::with(generous(), config());
    let ids = answered(&mut pair, 400);
    let body = Bytes::from(vec![7; limits::SEND_QUEUE_BYTES]);
    let mut left = vec![body.len(); ids.len()];
    let push = |pair: &mut Pair, left: &mut [usize], at: usize| {
        while left[at] > 0 {
            let room = pair.server.send_room(ids[at]).min(left[at]);
            if room == 0 {
                return;
            }
            left[at] -= room;
            pair.server.send_data(ids[at], body.slice(..room), left[at] == 0).unwrap();
        }
    };
    for at in 0..ids.len() {
        push(&mut pair, &mut left, at);
    }
    let held = pair.server.audit().bodies;
    assert_eq!(held, limits::SEND_BUDGET_BYTES);
    assert_eq!(left.iter().filter(|left| **left == 0).count(), 64);
    assert!(pair.server_events().is_empty());
    // A body with its head does not get past the bound either, one within the head does.
    let late = pair.opened_later();
    assert_eq!(pair.server.respond(late, &response(200), body.clone(), true), Err(SendError::NoRoom));
    pair.server.respond(late, &response(200), body.slice(..limits::INLINE_BODY_BYTES), true).unwrap();
    // The peer reads: all come to their end, and nobody was forgotten or passed by much.
    let mut got = 0;
    let mut order = Vec::new();
    for _ in 0..10_000 {
        pair.server_to_client();
        for event in pair.client_events() {
            if let Event::Data { id, data, .. } = event {
                got += data.len();
                pair.client.consumed(id, data.len());
            }
        }
        pair.client_to_server();
        for id in writable(pair.server_events()) {
            order.push(id);
            push(&mut pair, &mut left, ids.iter().position(|known| *known == id).unwrap());
        }
        assert!(pair.server.audit().bodies <= limits::SEND_BUDGET_BYTES);
    }
    assert_eq!(got, ids.len() * body.len());
    assert_eq!(pair.server.live_streams(), 0);
    assert!(order[..336].is_sorted(), "the line keeps its order");
}

#[test]
fn a_turn_that_is_not_used_calls_the_next() {
    let server = Config { send_budget: 40_000, ..config() };
    type Act = fn(&mut Pair, RequestId);
    let cases: [(&str, Act); 5] = [
        ("cancelled here", |pair, id| pair.server.cancel(id, Cancel::Overload)),
        ("cancelled there", |pair, id| {
            pair.client.cancel(id, Cancel::CallerGone);
            pair.client_to_server();
            assert!(matches!(pair.server.poll_event(), Some(Event::Cancelled { id: gone, .. }) if gone == id));
        }),
        ("ended", |pair, id| pair.server.send_data(id, Bytes::new(), true).unwrap()),
        ("ended by trailers", |pair, id| pair.server.send_trailers(id, &Headers::new()).unwrap()),
        ("failed", |pair, id| {
            pair.server.error(id, ErrorInfo { code: 1, origin: Origin::App, executed: Executed::Yes, text: "".into() });
        }),
    ];
    for (name, act) in cases {
        let mut pair = Pair::with(config(), server.clone());
        let ids = answered(&mut pair, 6);
        assert_eq!(pair.server.send_room(ids[0]), 40_000);
        pair.server.send_data(ids[0], Bytes::from(vec![0; 40_000]), false).unwrap();
        for id in &ids[1..] {
            assert_eq!(pair.server.send_room(*id), 0);
        }
        // One that left the line while it stood in it is not called.
        act(&mut pair, ids[2]);
        assert!(pair.server_events().is_empty(), "{name}");
        pair.server.cancel(ids[0], Cancel::Overload);
        // With nothing queued all are called at once.
        assert_eq!(writable(pair.server_events()), [ids[1], ids[3], ids[4], ids[5]], "{name}");
        assert_eq!(pair.server.send_room(ids[4]), 40_000);
        pair.server.send_data(ids[4], Bytes::from(vec![0; 30_000]), false).unwrap();
        assert_eq!(pair.server.send_room(ids[3]), 10_000);
        pair.server.send_data(ids[3], Bytes::from(vec![0; 10_000]), false).unwrap();
        // Too late: these stand in line again, and one of them gives up.
        assert_eq!((pair.server.send_room(ids[5]), pair.server.send_room(ids[1])), (0, 0));
        pair.server.cancel(ids[4], Cancel::Overload);
        assert_eq!(writable(pair.server_events()), [ids[1]], "{name}");
        act(&mut pair, ids[1]);
        assert_eq!(writable(pair.server_events()), [ids[5]], "{name}: the turn was lost");
        let _ = pair.server.audit();
    }
}

#[test]
fn a_driver_that_does_nothing_with_its_turn_holds_nobody_up() {
    let mut pair = Pair::with(config(), Config { send_budget: 40_000, ..config() });
    let ids = answered(&mut pair, 3);
    pair.server.send_data(ids[0], Bytes::from(vec![0; 40_000]), false).unwrap();
    assert_eq!(pair.server.send_room(ids[1]), 0);
    pair.server_to_client();
    assert_eq!(writable(pair.server_events()), [ids[1]]);
    // It stays silent, and another comes that never waited.
    assert_eq!(pair.server.send_room(ids[2]), 40_000);
    pair.server.send_data(ids[2], Bytes::from(vec![0; 20_000]), false).unwrap();
    assert_eq!((pair.server.send_room(ids[1]), pair.server.send_room(ids[0])), (20_000, 0));
    pair.server_to_client();
    assert_eq!(writable(pair.server_events()), [ids[0]]);
    let _ = pair.server.audit();
}

#[test]
fn answers_that_nobody_reads_cut_the_peer_off() {
    type Act = fn(&mut Pair, RequestId, &Headers) -> Result<(), SendError>;
    let cases: [(&str, Act); 2] = [
        ("heads", |pair, id, large| {
            let head = ResponseHead { status: 200, headers: large.clone() };
            pair.server.respond(id, &head, Bytes::new(), true)
        }),
        ("trailers", |pair, id, large| {
            pair.server.respond(id, &response(200), Bytes::from_static(b"body"), false)?;
            pair.server.send_trailers(id, large)
        }),
    ];
    let mut large = Headers::new();
    large.push(b"x-large", &vec![b'a'; 20_000]);
    for (name, act) in cases {
        let mut pair = Pair::new();
        // All calls are there before the first answer: no further REQUEST will notice what waits.
        let ids: Vec<RequestId> = (0..4_000).map(|_| pair.opened(true)).collect();
        let refused = ids.iter().position(|id| act(&mut pair, *id, &large).is_err());
        let answered = refused.unwrap_or_else(|| panic!("{name}: not cut off"));
        assert!((1_600..1_700).contains(&answered), "{name}: {answered}");
        let events = pair.server_events();
        assert!(matches!(events.last(), Some(Event::Closed(CloseReason::Flood))), "{name}");
        assert!(events.iter().any(|event| event.stream() == Some(ids[answered])), "{name}: the call is lost");
        assert!(pair.server.audit().queued < 1_000, "{name}: what waited was dropped");
    }
}

#[test]
fn a_flood_of_single_bytes_is_held_in_few_parts_and_arrives_whole() {
    const CALLS: u64 = 20;
    let mut pair = Pair::new();
    for _ in 0..CALLS {
        pair.opened(false);
    }
    let mut parts = vec![0; 1 + CALLS as usize];
    let mut taken = vec![Vec::new(); 1 + CALLS as usize];
    let mut events = |pair: &mut Pair, take: bool| {
        for event in pair.server_events() {
            let Event::Data { id, data, .. } = event else { panic!("{event:?}") };
            parts[id.0 as usize] += 1;
            taken[id.0 as usize].extend_from_slice(&data);
            if take {
                pair.server.consumed(id, data.len());
            }
        }
        parts.iter().sum::<usize>()
    };
    let sent: Vec<u8> = (0..20_000).map(|at| (at % 251) as u8).collect();
    for (at, byte) in sent.iter().enumerate() {
        let mut input = BytesMut::new();
        for id in 1..=CALLS {
            input.extend_from_slice(&raw_frame(0x12, 0, id, &[*byte]));
        }
        pair.server.handle_input(pair.now, &mut input);
        // The driver passes on what comes, and its app takes nothing.
        let delivered = events(&mut pair, false);
        assert!(delivered <= CALLS as usize * limits::SMALL_PARTS as usize, "{delivered} parts after {at} bytes");
    }
    assert_eq!(pair.server.audit().unconsumed, sent.len() * CALLS as usize);
    // Now it takes all; what was gathered comes in one piece, and then all goes as before.
    for id in 1..=CALLS {
        pair.server.consumed(RequestId(id), limits::SMALL_PARTS as usize - 1);
    }
    assert!(!pair.server.has_events(), "not all was taken yet");
    for id in 1..=CALLS {
        pair.server.consumed(RequestId(id), 1);
    }
    assert_eq!(events(&mut pair, true), CALLS as usize * (limits::SMALL_PARTS as usize + 1));
    assert_eq!(pair.server.audit().unconsumed, 0);
    pair.server.handle_input(pair.now, &mut BytesMut::from(&raw_frame(0x12, 0, 1, b"x")[..]));
    assert!(pair.server.has_events());
    drop(pair);
    for taken in &taken[1..] {
        assert!(*taken == sent);
    }
}

#[test]
fn what_was_held_comes_before_the_end_of_its_call() {
    type End = fn(&mut Pair);
    let cases: [(&str, End); 6] = [
        ("data", |pair| pair.to_client.extend_from_slice(&raw_frame(0x12, 1, 1, b"!"))),
        ("half-close", |pair| pair.to_client.extend_from_slice(&raw_frame(0x12, 1, 1, b""))),
        ("trailers", |pair| pair.to_client.extend_from_slice(&raw_frame(0x13, 1, 1, &[0]))),
        ("cancel", |pair| pair.to_client.extend_from_slice(&raw_frame(0x15, 0, 1, &[0, 4]))),
        ("error", |pair| pair.to_client.extend_from_slice(&raw_frame(0x17, 0, 1, &[0, 1, 0, 1]))),
        ("lost", |pair| pair.client.handle_transport_closed(pair.now)),
    ];
    for (name, end) in cases {
        let mut pair = Pair::new();
        pair.opened(true);
        pair.to_client.extend_from_slice(&raw_frame(0x11, 0, 1, &[0, 200, 0]));
        for byte in 0..100 {
            pair.to_client.extend_from_slice(&raw_frame(0x12, 0, 1, &[byte]));
        }
        pair.client.handle_input(pair.now, &mut pair.to_client);
        assert_eq!(pair.client_events().len(), 1 + limits::SMALL_PARTS as usize, "{name}");
        end(&mut pair);
        pair.client.handle_input(pair.now, &mut pair.to_client);
        let events = pair.client_events();
        let Some(Event::Data { data, .. }) = events.first() else { panic!("{name}: {events:?}") };
        let held: Vec<u8> = (limits::SMALL_PARTS as u8..100).collect();
        assert!(data.starts_with(&held), "{name}");
        let ended = match events.last() {
            Some(Event::Data { end, .. }) => *end,
            Some(Event::Trailers { .. } | Event::Cancelled { .. } | Event::Error { .. } | Event::Closed(_)) => true,
            other => panic!("{name}: {other:?}"),
        };
        assert!(ended, "{name}");
    }
}

/// A head of one insertion that fills the dictionary, and one of 14 bytes that decodes to 64 KiB of it. `fixed`: what stands before the fields.
fn bomb(fixed: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut fill = [fixed, &[1, 0x03, 0, 1, b'x', 0xd0, 0x3e]].concat();
    fill.extend([b'y'; 8_016]);
    (fill, [fixed, &[8, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80]].concat())
}

const BOMB_BYTES: usize = 8 * 8_017;

#[test]
fn requests_out_of_the_dictionary_wait_within_their_bounds_and_the_rest_is_refused() {
    let (fill, reference) = bomb(&[0, 0, 0, 0, 0x40, 0x41, 0x49]);
    for (accepted, bound) in [(false, limits::UNACCEPTED_BYTES), (true, limits::WAITING_REQUESTS_BYTES)] {
        let mut pair = if accepted { Pair::new() } else { Pair::raw(config(), config()) };
        pair.exchange();
        let _ = pair.server_events();
        pair.server_sent.clear();
        let mut input = BytesMut::from(&raw_frame(0x10, 1, 1, &fill)[..]);
        for id in 2..=2_000 {
            input.extend_from_slice(&raw_frame(0x10, 1, id, &reference));
        }
        pair.server.handle_input(pair.now, &mut input);
        let waiting = pair.server.live_streams();
        // The first is small.
        assert!((waiting - 1) * BOMB_BYTES <= bound && waiting > bound / BOMB_BYTES / 2, "{waiting} wait");
        pair.server_to_client();
        let nacks = frames(&pair.server_sent).iter().filter(|frame| frame.0 == 0x16).count();
        assert_eq!(nacks, 2_000 - waiting);
        // Once the driver has them they wait no more, and others may.
        pair.server.accept_peer();
        assert_eq!(pair.server_events().len(), waiting);
        pair.server.handle_input(pair.now, &mut BytesMut::from(&raw_frame(0x10, 1, 2_001, &reference)[..]));
        assert!(matches!(&pair.server_events()[..], [Event::Request { .. }]));
    }
}

#[test]
fn answers_out_of_the_dictionary_end_the_connection_at_their_bound() {
    let (fill, reference) = bomb(&[0, 200]);
    let mut pair = Pair::new();
    for _ in 0..2_000 {
        pair.opened(true);
    }
    let mut input = BytesMut::from(&raw_frame(0x11, 1, 1, &fill)[..]);
    for id in 2..=2_000 {
        input.extend_from_slice(&raw_frame(0x11, 1, id, &reference));
    }
    pair.client.handle_input(pair.now, &mut input);
    let events = pair.client_events();
    assert!(matches!(events.last(), Some(Event::Closed(CloseReason::Flood))));
    let answers = events.iter().filter(|event| matches!(event, Event::Response { .. })).count();
    assert!(answers * BOMB_BYTES <= limits::WAITING_HEADS_BYTES + BOMB_BYTES && answers > 500, "{answers} were held");
}
