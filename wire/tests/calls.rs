//! Calls between two connections over a perfect link: one behaviour a test.

mod common;

use bytes::Bytes;
use common::*;
use wire::*;

#[test]
fn a_small_call_is_one_frame_each_way() {
    let mut pair = Pair::new();
    pair.client_sent.clear();
    pair.server_sent.clear();
    let id = pair.open(Bytes::from_static(b"ping"), true);
    assert_eq!(id, RequestId(1));
    pair.exchange();
    match pair.server.poll_event() {
        Some(Event::Request { id, head, body, end }) => {
            assert_eq!((id, &body[..], end), (RequestId(1), &b"ping"[..], true));
            assert_eq!(head, request("/x"));
        }
        other => panic!("{other:?}"),
    }
    pair.server.respond(id, &response(200), Bytes::from_static(b"pong"), true).unwrap();
    assert_eq!(pair.server.live_streams(), 0);
    pair.exchange();
    match pair.client.poll_event() {
        Some(Event::Response { token, head, body, end, .. }) => {
            assert_eq!((token, &body[..], end), (Token(77), &b"pong"[..], true));
            assert_eq!(head, response(200));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(pair.client.live_streams(), 0);
    assert!(pair.client_events().is_empty() && pair.server_events().is_empty());
    assert_eq!(frames(&pair.client_sent).len(), 1);
    assert_eq!(frames(&pair.server_sent).len(), 1);
}

#[test]
fn bodies_of_any_length_arrive_whole_both_ways_with_trailers() {
    for length in [0, 1, 4096, 4097, 16_368, 16_369, 65_536, 1_000_000] {
        let mut pair = Pair::new();
        let sent: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let id = pair.open(Bytes::copy_from_slice(&sent), true);
        let (mut got, mut ended) = (Vec::new(), false);
        while !ended {
            pair.exchange();
            for event in pair.server_events() {
                let (data, end) = match event {
                    Event::Request { body, end, .. } => (body, end),
                    Event::Data { data, end, .. } => (data, end),
                    other => panic!("{other:?}"),
                };
                pair.server.consumed(id, data.len());
                got.extend_from_slice(&data);
                ended |= end;
            }
        }
        assert!(got == sent, "{length} up");
        pair.server.respond(id, &response(200), Bytes::new(), false).unwrap();
        let mut trailers = Headers::new();
        trailers.push(b"grpc-status", b"0");
        trailers.push(b"x-checksum", b"abc");
        let (mut left, mut back, mut last) = (Bytes::from(sent.clone()), Vec::new(), None);
        let mut given = false;
        while last.is_none() {
            let room = pair.server.send_room(id).min(left.len());
            if room > 0 {
                pair.server.send_data(id, left.split_to(room), false).unwrap();
            }
            if left.is_empty() && !given {
                pair.server.send_trailers(id, &trailers).unwrap();
                given = true;
            }
            pair.exchange();
            for event in pair.client_events() {
                match event {
                    Event::Response { body, end, .. } => assert!(body.is_empty() && !end),
                    Event::Data { data, end, .. } => {
                        assert!(!end);
                        pair.client.consumed(id, data.len());
                        back.extend_from_slice(&data);
                    }
                    Event::Trailers { trailers, .. } => last = Some(trailers),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(back == sent, "{length} down");
        assert_eq!(last, Some(trailers));
        assert_eq!((pair.client.live_streams(), pair.server.live_streams()), (0, 0));
    }
}

#[test]
fn a_stalled_reader_stops_its_own_sender_and_writable_comes_back() {
    let mut pair = Pair::new();
    let id = pair.opened(true);
    pair.server.respond(id, &response(200), Bytes::new(), false).unwrap();
    let room = pair.server.send_room(id);
    assert_eq!(room, 65_536);
    pair.server.send_data(id, Bytes::from(vec![0; room]), false).unwrap();
    pair.exchange();
    assert_eq!(pair.server.send_room(id), 0);
    assert_eq!(pair.server.send_data(id, Bytes::from_static(b"x"), false), Err(SendError::NoRoom));
    pair.exchange();
    assert!(pair.server_events().is_empty());
    assert!(!pair.client_events().is_empty());
    // Other calls are not concerned.
    let other = pair.opened(true);
    pair.server.respond(other, &response(200), Bytes::from(vec![1; 30_000]), true).unwrap();
    pair.exchange();
    assert!(matches!(pair.client_events().last(), Some(Event::Data { end: true, .. })));
    pair.client.consumed(id, 32_767);
    pair.exchange();
    assert_eq!(pair.server.send_room(id), 0);
    pair.client.consumed(id, 1);
    pair.exchange();
    match &pair.server_events()[..] {
        [Event::Writable { id: writable, token }] => assert_eq!((*writable, *token), (id, Token(88))),
        other => panic!("{other:?}"),
    }
    // Half of the window given back, and the window doubled.
    assert_eq!(pair.server.send_room(id), 32_768 + 65_536);
}

#[test]
fn an_answer_that_is_complete_survives_the_end_of_its_upload() {
    for overtaken in [false, true] {
        let mut pair = Pair::new();
        let id = pair.opened(false);
        let room = pair.client.send_room(id);
        pair.client.send_data(id, Bytes::from(vec![0; room]), false).unwrap();
        pair.exchange();
        let _ = pair.server_events();
        // 200,000 bytes do not fit the credit: END is still waiting when the upload is refused.
        let body = if overtaken { 200_000 } else { 10 };
        pair.server.respond(id, &response(413), Bytes::from(vec![7; body]), true).unwrap();
        pair.server.cancel(id, Cancel::NoLongerNeeded);
        let (mut got, mut ended, mut told) = (0, false, false);
        while !told {
            pair.exchange();
            let events = pair.client_events();
            assert!(!events.is_empty(), "stuck at {got}");
            for event in events {
                match event {
                    Event::Response { body, end, .. } => {
                        got += body.len();
                        ended |= end;
                    }
                    Event::Data { data, end, .. } => {
                        got += data.len();
                        pair.client.consumed(id, data.len());
                        ended |= end;
                        if !ended {
                            // The upload stands still, and what is sent all the same goes nowhere.
                            assert_eq!(pair.client.send_room(id), 0);
                            // The connection may have seen the answer's end, though its event waits.
                            let sent = pair.client.send_data(id, Bytes::from_static(b"x"), false);
                            assert!(matches!(sent, Ok(()) | Err(SendError::UnknownStream)), "{sent:?}");
                        }
                    }
                    Event::Cancelled { code, .. } => {
                        assert_eq!(code, Cancel::NoLongerNeeded);
                        assert!(ended, "the answer comes whole first");
                        told = true;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(got, body);
        pair.exchange();
        assert_eq!((pair.client.live_streams(), pair.server.live_streams()), (0, 0));
        assert!(pair.server_events().is_empty());
    }
}

#[test]
fn an_upload_that_is_not_wanted_and_ends_by_itself_needs_no_cancellation() {
    let mut pair = Pair::new();
    let id = pair.opened(false);
    pair.server.respond(id, &response(413), Bytes::from(vec![7; 50_000]), true).unwrap();
    pair.server.cancel(id, Cancel::NoLongerNeeded);
    // The cancellation overtakes the answer's body.
    let mut out = Vec::new();
    pair.server.poll_transmit(pair.now, &mut out, 1);
    pair.to_client.extend_from_slice(&out);
    pair.client.handle_input(pair.now, &mut pair.to_client);
    pair.client.send_data(id, Bytes::from_static(b"the last"), true).unwrap();
    pair.exchange();
    let events = pair.client_events();
    assert!(matches!(events.last(), Some(Event::Data { end: true, .. })), "{events:?}");
    assert_eq!((pair.client.live_streams(), pair.server.live_streams()), (0, 0));
}

#[test]
fn half_close_one_way_then_much_the_other_way() {
    let mut pair = Pair::new();
    let id = pair.opened(false);
    pair.server.respond(id, &response(200), Bytes::new(), false).unwrap();
    pair.client.send_data(id, Bytes::new(), true).unwrap();
    assert_eq!(pair.client.send_data(id, Bytes::new(), true), Err(SendError::AlreadyEnded));
    let (mut left, mut got) = (10_000_000_usize, 0);
    while got < 10_000_000 {
        let room = pair.server.send_room(id).min(left);
        left -= room;
        pair.server.send_data(id, Bytes::from(vec![1; room]), left == 0).ok();
        pair.exchange();
        let _ = pair.server_events();
        for event in pair.client_events() {
            if let Event::Data { data, .. } = event {
                got += data.len();
                pair.client.consumed(id, data.len());
            }
        }
    }
    pair.exchange();
    assert_eq!((pair.client.live_streams(), pair.server.live_streams()), (0, 0));
}

#[test]
fn nothing_is_delivered_before_the_peer_is_accepted() {
    let mut pair = Pair::raw(config(), config());
    assert_eq!(pair.client.open(pair.now, &request("/"), Bytes::new(), true, Token(1)), Err(OpenError::NotReady));
    pair.exchange();
    assert!(matches!(pair.client.poll_event(), Some(Event::Hello(hello)) if hello == config().hello));
    assert_eq!(pair.client.open(pair.now, &request("/"), Bytes::new(), true, Token(1)), Err(OpenError::NotReady));
    pair.client.accept_peer();
    pair.open(Bytes::new(), true);
    pair.exchange();
    assert!(matches!(&pair.server_events()[..], [Event::Hello(_)]));
    let mut refused = Pair::raw(config(), config());
    refused.exchange();
    refused.client.accept_peer();
    let _ = refused.client_events();
    refused.open(Bytes::new(), true);
    refused.exchange();
    refused.server.goodbye(CloseReason::WrongPeer("not orders".into()));
    assert!(matches!(&refused.server_events()[..], [Event::Hello(_), Event::Closed(CloseReason::WrongPeer(_))]));
    refused.exchange();
    match &refused.client_events()[..] {
        [Event::Lost { .. }, Event::Closed(CloseReason::Goodbye { code, text })] => {
            assert_eq!((GoodbyeCode::from_code(*code), text.as_str()), (GoodbyeCode::WrongPeer, "not orders"));
        }
        other => panic!("{other:?}"),
    }
    pair.server.accept_peer();
    assert!(matches!(&pair.server_events()[..], [Event::Request { .. }]));
}

#[test]
fn as_many_calls_as_the_peer_allows() {
    let server = Config { max_concurrent: 2, ..config() };
    let mut pair = Pair::with(config(), server);
    pair.open(Bytes::new(), true);
    let second = pair.open(Bytes::new(), true);
    let more = pair.client.open(pair.now, &request("/"), Bytes::new(), true, Token(1));
    assert_eq!(more, Err(OpenError::TooManyCalls));
    pair.client.cancel(second, Cancel::CallerGone);
    pair.open(Bytes::new(), true);
    pair.exchange();
    assert_eq!(pair.server_events().len(), 2);
    assert_eq!(pair.server.live_streams(), 2);
}

#[test]
fn heads_up_to_the_limit_pass_and_larger_ones_are_refused_here() {
    let server = Config { max_head_bytes: 10_000, ..config() };
    let mut pair = Pair::with(config(), server);
    let fixed = request("/x").text_bytes() + "x-large".len();
    for (value, fits) in [(10_000 - fixed, true), (10_001 - fixed, false)] {
        let mut head = request("/x");
        head.headers.push(b"x-large", &vec![b'a'; value]);
        let opened = pair.client.open(pair.now, &head, Bytes::new(), true, Token(1));
        assert_eq!(opened.is_ok(), fits, "{opened:?}");
        pair.exchange();
        assert_eq!(pair.server_events().len(), usize::from(fits));
    }
    let id = pair.opened(true);
    let mut head = response(200);
    head.headers.push(b"x-large", &vec![b'a'; limits::HEAD_BYTES]);
    assert_eq!(pair.server.respond(id, &head, Bytes::new(), true), Err(SendError::HeadTooLarge));
    pair.server.respond(id, &response(502), Bytes::new(), true).unwrap();
    let mut many = request("/");
    for _ in 0..limits::HEAD_FIELDS {
        many.headers.push(b"x", b"y");
    }
    assert_eq!(pair.client.open(pair.now, &many, Bytes::new(), true, Token(1)), Err(OpenError::HeadTooLarge));
}

#[test]
fn small_frames_go_ahead_of_bulk() {
    let mut pair = Pair::new();
    let bulk = pair.opened(true);
    pair.server.respond(bulk, &response(200), Bytes::from(vec![0; 60_000]), true).unwrap();
    let small = pair.opened_later();
    pair.server.respond(small, &response(200), Bytes::from_static(b"quick"), true).unwrap();
    let mut out = Vec::new();
    pair.server.poll_transmit(pair.now, &mut out, limits::FLUSH_BYTES);
    let order: Vec<u64> = frames(&out).iter().map(|frame| frame.2).collect();
    assert_eq!(order[..3], [bulk.0, small.0, bulk.0]);
}

#[test]
fn bulk_streams_take_turns() {
    let mut pair = Pair::with(Config { initial_credit: 1_048_576, ..config() }, config());
    let ids = [pair.opened(true), pair.opened(true), pair.opened(true)];
    for id in ids {
        pair.server.respond(id, &response(200), Bytes::from(vec![0; 500_000]), true).unwrap();
    }
    let mut out = Vec::new();
    pair.server.poll_transmit(pair.now, &mut out, 3 * limits::QUANTUM_BYTES);
    let data: Vec<u64> = frames(&out).iter().filter(|frame| frame.0 == 0x12).map(|frame| frame.2).collect();
    // The flight of 256 KiB holds two quanta.
    assert_eq!(data.iter().filter(|id| **id == ids[0].0).count(), 8);
    assert_eq!(data[8], ids[1].0);
}
