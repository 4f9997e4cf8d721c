//! A peer that means harm. Each attack ends in a bound, a refusal or the end of the connection, never in memory or time
//! that grows with the attacker's wish.

mod common;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::*;
use wire::*;

/// The payload of a REQUEST with nothing in it.
const EMPTY_REQUEST: &[u8] = &[0, 0, 0, 0, 0x40, 0x41, 0x49, 0];

fn give(to: &mut Connection, now: std::time::Instant, bytes: &[u8]) -> Vec<Event> {
    to.handle_input(now, &mut BytesMut::from(bytes));
    std::iter::from_fn(|| to.poll_event()).collect()
}

fn closed(events: &[Event]) -> &CloseReason {
    match events.last() {
        Some(Event::Closed(reason)) => reason,
        other => panic!("not closed: {other:?}"),
    }
}

#[test]
fn a_hundred_thousand_calls_opened_and_cancelled_end_in_flood() {
    let mut pair = Pair::new();
    let mut bytes = Vec::new();
    for id in 1..=100_000_u64 {
        bytes.extend(raw_frame(0x10, 1, id, EMPTY_REQUEST));
        bytes.extend(raw_frame(0x15, 0, id, &[0, 1]));
    }
    let mut delivered = 0;
    let mut reason = None;
    for part in bytes.chunks(limits::FLUSH_BYTES) {
        let mut input = BytesMut::from(part);
        pair.to_server.unsplit(input.split());
        pair.server.handle_input(pair.now, &mut pair.to_server);
        while let Some(event) = pair.server.poll_event() {
            match event {
                Event::Request { .. } => delivered += 1,
                Event::Closed(why) => reason = Some(why),
                Event::Cancelled { .. } | Event::Lost { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(pair.server.live_streams() <= 1);
        assert!(pair.server.audit().queued < 4_096);
    }
    assert_eq!(reason, Some(CloseReason::Flood));
    assert!(delivered <= 2, "{delivered} calls reached the app");
    // The peer is told why.
    pair.server_to_client();
    assert!(matches!(closed(&pair.client_events()), CloseReason::Goodbye { code: 2, .. }));
}

#[test]
fn the_same_slower_with_the_app_s_work_ends_too() {
    let mut pair = Pair::new();
    let mut opened = 0;
    let reason = loop {
        let id = pair.open(Bytes::new(), true);
        opened += 1;
        pair.client_to_server();
        pair.client.cancel(id, Cancel::CallerGone);
        pair.client_to_server();
        pair.advance(Duration::from_micros(50));
        if let Some(Event::Closed(reason)) = pair.server_events().pop() {
            break reason;
        }
        assert!(opened < 20_000);
    };
    assert_eq!(reason, CloseReason::Flood);
}

#[test]
fn calls_that_are_cancelled_at_their_deadlines_are_no_flood() {
    let mut pair = Pair::new();
    for _ in 0..50 {
        let ids: Vec<RequestId> = (0..1_000).map(|_| pair.open(Bytes::new(), true)).collect();
        pair.exchange();
        pair.advance(Duration::from_secs(1));
        for id in ids {
            pair.client.cancel(id, Cancel::DeadlinePassed);
        }
        pair.exchange();
        assert!(!matches!(pair.server_events().last(), Some(Event::Closed(_))));
    }
}

#[test]
fn calls_beyond_the_allowed_number_are_nacked_and_then_a_flood() {
    let mut pair = Pair::with(config(), Config { max_concurrent: 10, ..config() });
    let mut bytes = Vec::new();
    for id in 1..=10_000_u64 {
        bytes.extend(raw_frame(0x10, 1, id, EMPTY_REQUEST));
    }
    let events = give(&mut pair.server, pair.now, &bytes);
    assert_eq!(*closed(&events), CloseReason::Flood);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Request { .. })).count(), 10);
}

#[test]
fn a_peer_that_never_reads_is_cut_off() {
    let mut pair = Pair::new();
    let body = Bytes::from(vec![0; limits::INLINE_BODY_BYTES]);
    let mut most = 0;
    for id in 1..1_000_000_u64 {
        let events = give(&mut pair.server, pair.now, &raw_frame(0x10, 1, id, EMPTY_REQUEST));
        if let Some(Event::Closed(reason)) = events.last() {
            assert_eq!(*reason, CloseReason::Flood);
            assert!(most < limits::SMALL_QUEUE_CEILING_BYTES + 10_000);
            assert!(pair.server.audit().queued < 1_000, "what waited was dropped");
            return;
        }
        pair.server.respond(RequestId(id), &response(200), body.clone(), true).unwrap();
        most = most.max(pair.server.audit().queued);
    }
    panic!("not cut off");
}

#[test]
fn pings_without_number_get_one_pong() {
    let mut pair = Pair::new();
    pair.server_sent.clear();
    let bytes = raw_frame(0x02, 0, 0, &[7; 16]).repeat(10_000);
    assert!(give(&mut pair.server, pair.now, &bytes).is_empty());
    pair.server_to_client();
    assert_eq!(frames(&pair.server_sent).len(), 1);
}

#[test]
fn a_frame_too_large_is_refused_by_its_header_alone() {
    for (kind, length) in
        [(0x10, 81_921), (0x11, 1 << 24), (0x12, 16_385), (0x13, 90_000), (0x02, u32::MAX), (0xff, 1 << 30)]
    {
        let mut pair = Pair::new();
        let mut header = raw_frame(kind, 0, u64::from(kind & 0x10 != 0), b"");
        header[..4].copy_from_slice(&u32::to_be_bytes(length));
        assert_eq!(*closed(&give(&mut pair.server, pair.now, &header)), CloseReason::Protocol("frame too large"));
    }
}

#[test]
fn a_header_bomb_out_of_the_dictionary_stops_at_the_cap() {
    let mut pair = Pair::new();
    // An entry of 2,000 bytes, then a head that names it 255 times: half a megabyte from 300 bytes.
    let mut payload = vec![0, 0, 0, 0, 0x40, 0x41, 0x49, 1, 0x03, 0, 1, b'x', 0xd0, 0x0f];
    payload.extend([b'y'; 2_000]);
    let events = give(&mut pair.server, pair.now, &raw_frame(0x10, 1, 1, &payload));
    assert!(matches!(&events[..], [Event::Request { head, .. }] if head.headers.text_bytes() == 2_001));
    let mut bomb = vec![0, 0, 0, 0, 0x40, 0x41, 0x49, 0xff, 1];
    bomb.extend([0x80; 255]);
    let events = give(&mut pair.server, pair.now, &raw_frame(0x10, 1, 2, &bomb));
    assert_eq!(*closed(&events), CloseReason::Protocol("head too large"));
}

#[test]
fn a_head_over_the_announced_size_is_refused_in_each_of_its_parts() {
    let long = |text: &mut Vec<u8>, bytes: usize| {
        text.extend([(bytes & 0x7f) as u8 | 0x80, (bytes >> 7) as u8 & 0x7f | 0x80, (bytes >> 14) as u8]);
        text.resize(text.len() + bytes, b'a');
    };
    for part in 0..4 {
        let mut pair = Pair::new();
        let mut payload = vec![0, 0, 0, 0];
        for (at, empty) in [0x40, 0x41, 0x49].into_iter().enumerate() {
            if at == part {
                payload.push(0x20 | at as u8);
                long(&mut payload, limits::HEAD_BYTES + 1);
            } else {
                payload.push(empty);
            }
        }
        if part == 3 {
            payload.extend([1, 0x23]);
            long(&mut payload, limits::HEAD_BYTES - 13);
        } else {
            payload.push(0);
        }
        let events = give(&mut pair.server, pair.now, &raw_frame(0x10, 1, 1, &payload));
        assert_eq!(*closed(&events), CloseReason::Protocol("head too large"), "part {part}");
    }
}

#[test]
fn a_dictionary_over_its_limit_is_refused() {
    let mut pair = Pair::new();
    for slot in 0..5_u64 {
        let mut payload = vec![0, 0, 0, 0, 0x40, 0x41, 0x49, 1, 0x03, slot as u8, 1, b'x', 0xd0, 0x0f];
        payload.extend([b'y'; 2_000]);
        let events = give(&mut pair.server, pair.now, &raw_frame(0x10, 1, slot + 1, &payload));
        if slot < 4 {
            assert_eq!(events.len(), 1);
        } else {
            assert_eq!(*closed(&events), CloseReason::Protocol("dictionary over its limit"));
        }
    }
}

#[test]
fn data_without_credit_of_the_stream() {
    let mut pair = Pair::new();
    pair.opened(false);
    let chunk = raw_frame(0x12, 0, 1, &vec![0; 16_384]);
    for _ in 0..4 {
        assert_eq!(give(&mut pair.server, pair.now, &chunk).len(), 1);
    }
    let events = give(&mut pair.server, pair.now, &raw_frame(0x12, 0, 1, b"x"));
    assert_eq!(*closed(&events), CloseReason::Protocol("DATA without credit"));
}

#[test]
fn data_without_credit_of_the_connection() {
    // A budget so small that unread streams hold the connection's credit back.
    let mut pair = Pair::with(config(), Config { memory_budget: 100_000, ..config() });
    let ids: Vec<RequestId> = (0..8).map(|_| pair.opened(false)).collect();
    let mut sent = 0;
    for id in ids {
        for _ in 0..4 {
            let events = give(&mut pair.server, pair.now, &raw_frame(0x12, 0, id.0, &vec![0; 16_384]));
            sent += 16_384;
            if let Some(Event::Closed(reason)) = events.last() {
                assert_eq!(*reason, CloseReason::Protocol("more DATA in flight than allowed"));
                assert!(sent > 131_072 && sent <= 100_000 + 131_072 + 2 * 65_536, "{sent}");
                return;
            }
            let _ = pair.server.audit();
        }
    }
    panic!("not refused");
}

#[test]
fn stalled_readers_hold_no_more_than_the_budget_and_small_calls_go_on() {
    let budget = 4_000_000;
    let client = Config { memory_budget: budget, ..config() };
    let mut pair = Pair::with(client, config());
    let ids: Vec<RequestId> = (0..200).map(|_| pair.opened(true)).collect();
    for id in &ids {
        pair.server.respond(*id, &response(200), Bytes::new(), false).unwrap();
    }
    // Every server stream sends whatever it may; nobody reads.
    for _ in 0..200 {
        for id in &ids {
            let room = pair.server.send_room(*id);
            pair.server.send_data(*id, Bytes::from(vec![0; room]), false).unwrap();
        }
        pair.exchange();
        let _ = (pair.client_events(), pair.server_events());
    }
    let held = pair.client.audit().unconsumed;
    assert!(held > budget && held <= budget + limits::FLIGHT_BULK_BYTES as usize, "{held}");
    let id = pair.opened(true);
    pair.server.respond(id, &response(200), Bytes::from_static(b"still here"), true).unwrap();
    pair.exchange();
    assert!(matches!(&pair.client_events()[..], [Event::Response { end: true, .. }]));
    // Those that go away give back what they held, and the rest moves again.
    for id in &ids[..100] {
        pair.client.cancel(*id, Cancel::CallerGone);
    }
    pair.exchange();
    assert!(pair.client.audit().unconsumed <= budget + limits::FLIGHT_BULK_BYTES as usize);
    assert!(pair.client_events().iter().any(|event| matches!(event, Event::Data { .. })));
}

#[test]
fn windows_grow_only_within_the_budget() {
    let budget = 8_388_608;
    let mut pair = Pair::with(Config { memory_budget: budget, ..config() }, config());
    let ids: Vec<RequestId> = (0..32).map(|_| pair.opened(true)).collect();
    for id in &ids {
        pair.server.respond(*id, &response(200), Bytes::new(), false).unwrap();
    }
    for _ in 0..100 {
        for id in &ids {
            let room = pair.server.send_room(*id);
            pair.server.send_data(*id, Bytes::from(vec![0; room]), false).unwrap();
        }
        pair.exchange();
        for event in pair.client_events() {
            if let Event::Data { id, data, .. } = event {
                pair.client.consumed(id, data.len());
            }
        }
        let _ = pair.server_events();
        let windows = pair.client.audit().windows;
        assert!(windows <= budget / 2, "{windows}");
    }
    assert!(pair.client.audit().windows > budget / 4);
}

#[test]
fn aborted_streams_leak_no_credit() {
    let mut pair = Pair::new();
    // 1,000 answers of which nobody reads a byte: many times all credit there is.
    for round in 0..1_000 {
        let id = pair.opened(true);
        pair.server.respond(id, &response(200), Bytes::from(vec![0; 65_536]), false).unwrap();
        pair.server_to_client();
        assert!(pair.client_events().len() > 1, "stuck in round {round}");
        if round % 2 == 0 {
            pair.client.cancel(id, Cancel::CallerGone);
        } else {
            pair.server.cancel(id, Cancel::Overload);
        }
        pair.exchange();
        let _ = (pair.client_events(), pair.server_events());
        // A thousand young cancellations are a flood, unless time passes.
        pair.advance(Duration::from_millis(10));
    }
    assert_eq!(pair.client.audit().unconsumed, 0);
    assert!(pair.server.audit().in_flight < limits::FLIGHT_RETURN_BYTES);
    assert_eq!(pair.server.audit().in_flight, pair.client.audit().unreturned);
}

#[test]
fn frames_after_the_end_of_a_call_are_counted_and_dropped() {
    let mut pair = Pair::new();
    pair.opened(false);
    pair.client.cancel(RequestId(1), Cancel::CallerGone);
    pair.exchange();
    let _ = pair.server_events();
    for (kind, payload) in [(0x12, &b"late"[..]), (0x14, &[0, 0, 0, 9]), (0x15, &[0, 1]), (0x13, &[0])] {
        let flags = u8::from(kind == 0x13);
        assert!(give(&mut pair.server, pair.now, &raw_frame(kind, flags, 1, payload)).is_empty());
    }
    assert_eq!(pair.server.late_frames(), 4);
}

#[test]
fn unknown_frames_with_the_bit_are_skipped_and_without_it_refused() {
    let mut pair = Pair::new();
    for kind in 0x80..=0xff {
        assert!(give(&mut pair.server, pair.now, &raw_frame(kind, 0xff, 42, &[1; 100])).is_empty());
    }
    pair.opened(true);
    let known = [0x01, 0x02, 0x03, 0x04, 0x05, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17];
    for kind in (0..0x80).filter(|kind| !known.contains(kind)) {
        let mut pair = Pair::new();
        let events = give(&mut pair.server, pair.now, &raw_frame(kind, 0, 1, b""));
        assert_eq!(*closed(&events), CloseReason::Protocol("unknown frame type"));
    }
}

#[test]
fn every_reserved_bit_of_every_frame_is_checked() {
    let allowed = |kind: u8| match kind {
        0x10..=0x13 => 0x81,
        0x15 => 0x82,
        _ => 0x80_u8,
    };
    for kind in [0x02, 0x03, 0x04, 0x05, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17] {
        let id = u64::from(kind >= 0x10);
        for bit in 0..8 {
            let flags = 1 << bit;
            if flags & allowed(kind) == 0 {
                let mut pair = Pair::new();
                let events = give(&mut pair.server, pair.now, &raw_frame(kind, flags, id, b""));
                assert_eq!(*closed(&events), CloseReason::Protocol("reserved flag set"));
            }
        }
        for bit in 0..16 {
            let mut pair = Pair::new();
            let mut frame = raw_frame(kind, 0, id, b"");
            frame[6..8].copy_from_slice(&(1_u16 << bit).to_be_bytes());
            let events = give(&mut pair.server, pair.now, &frame);
            assert_eq!(*closed(&events), CloseReason::Protocol("reserved header bits set"));
        }
    }
}

#[test]
fn a_hello_of_another_version() {
    let hello = |least: u16, most: u16| {
        let mut pair = Pair::raw(config(), config());
        pair.client_to_server();
        let mut bytes = pair.client_sent.clone();
        bytes[20..22].copy_from_slice(&least.to_be_bytes());
        bytes[22..24].copy_from_slice(&most.to_be_bytes());
        let mut pair = Pair::raw(config(), config());
        give(&mut pair.server, pair.now, &bytes)
    };
    assert_eq!(*closed(&hello(2, 9)), CloseReason::Version);
    assert!(matches!(&hello(1, 9)[..], [Event::Hello(_)]));
}

#[test]
fn a_hello_that_is_longer_than_ours_and_one_that_dribbles() {
    let mut pair = Pair::raw(config(), config());
    pair.client_to_server();
    let mut bytes = pair.client_sent.clone();
    bytes.extend(b"of a later version");
    let length = bytes.len() as u32 - 16;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    let mut pair = Pair::raw(config(), config());
    for (at, byte) in bytes.iter().enumerate() {
        pair.to_server.extend_from_slice(&[*byte]);
        pair.server.handle_input(pair.now, &mut pair.to_server);
        assert_eq!(pair.server.poll_event().is_some(), at + 1 == bytes.len());
    }
    // A byte a second does not put off the deadline.
    let mut pair = Pair::raw(config(), config());
    for byte in &bytes[..5] {
        pair.to_server.extend_from_slice(&[*byte]);
        pair.server.handle_input(pair.now, &mut pair.to_server);
        pair.advance(Duration::from_secs(1));
        pair.server.handle_timeout(pair.now);
    }
    assert!(matches!(&pair.server_events()[..], [Event::Closed(CloseReason::HelloTimeout)]));
}

#[test]
fn requests_before_the_peer_is_accepted_wait_within_a_bound() {
    let mut pair = Pair::raw(config(), config());
    pair.exchange();
    assert!(matches!(pair.server.poll_event(), Some(Event::Hello(_))));
    let mut payload = vec![0, 0, 0, 0, 0x40, 0x41, 0x49, 1, 0x26, 0xe0, 0x5d];
    payload.extend([b'a'; 12_000]);
    for id in 1..=1_000 {
        pair.server.handle_input(pair.now, &mut BytesMut::from(&raw_frame(0x10, 1, id, &payload)[..]));
    }
    assert!(pair.server.poll_event().is_none());
    let waiting = pair.server.live_streams();
    assert!(waiting * payload.len() <= limits::UNACCEPTED_BYTES && waiting > 80, "{waiting}");
    pair.server.accept_peer();
    assert_eq!(pair.server_events().len(), waiting);
}
