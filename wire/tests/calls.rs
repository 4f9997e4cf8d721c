//! Calls between two connections over a perfect link: one behaviour a test.

mod common;

use bytes::Bytes;
use common::*;
use std::time::Duration;
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
fn cancel_by_the_client_ends_both_sides_at_once() {
    let mut pair = Pair::new();
    let id = pair.opened(false);
    pair.server.respond(id, &response(200), Bytes::from(vec![0; 50_000]), false).unwrap();
    pair.client.cancel(id, Cancel::CallerGone);
    assert_eq!(pair.client.live_streams(), 0);
    pair.exchange();
    match &pair.server_events()[..] {
        [Event::Cancelled { id: gone, token, code }] => {
            assert_eq!((*gone, *token, *code), (id, Token(88), Cancel::CallerGone));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(pair.server.live_streams(), 0);
    assert_eq!(pair.server.send_data(id, Bytes::new(), true), Err(SendError::UnknownStream));
    assert!(pair.client_events().is_empty());
    assert!(pair.client.late_frames() > 0 || pair.server.late_frames() == 0);
}

#[test]
fn events_waiting_for_a_call_that_was_cancelled_here_are_not_given() {
    let mut pair = Pair::new();
    let (first, second) = (pair.opened(true), pair.opened(true));
    for id in [first, second] {
        pair.server.respond(id, &response(200), Bytes::new(), false).unwrap();
        pair.server.send_data(id, Bytes::from_static(b"data"), false).unwrap();
    }
    pair.exchange();
    pair.client.cancel(first, Cancel::CallerGone);
    let events = pair.client_events();
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| event.stream() == Some(second)));
}

#[test]
fn a_request_cancelled_before_it_was_delivered_is_never_seen() {
    let mut pair = Pair::new();
    let id = pair.open(Bytes::new(), true);
    pair.client.cancel(id, Cancel::DeadlinePassed);
    let kept = pair.open(Bytes::new(), true);
    pair.exchange();
    let events = pair.server_events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].stream(), Some(kept));
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
fn nack_and_error_arrive_as_they_were_said() {
    let mut pair = Pair::new();
    for reason in NackReason::ALL.iter().copied().chain([NackReason::Other(900)]) {
        let id = pair.opened(true);
        let nack = Nack { reason, retry_after: Some(Duration::from_millis(250)) };
        pair.server.nack(id, nack);
        pair.exchange();
        assert!(matches!(&pair.client_events()[..], [Event::Nack { nack: came, .. }] if *came == nack));
    }
    for (origin, executed) in
        [(Origin::RemoteSidecar, Executed::No), (Origin::App, Executed::Yes), (Origin::App, Executed::Unknown)]
    {
        let id = pair.opened(true);
        let error = ErrorInfo { code: 17, origin, executed, text: "no answer".into() };
        pair.server.error(id, error.clone());
        pair.exchange();
        assert!(matches!(&pair.client_events()[..], [Event::Error { error: came, .. }] if *came == error));
    }
    let id = pair.opened(true);
    let text = "ü".repeat(200);
    pair.server.error(id, ErrorInfo { code: 1, origin: Origin::App, executed: Executed::No, text });
    pair.exchange();
    assert!(matches!(&pair.client_events()[..], [Event::Error { error, .. }] if error.text == "ü".repeat(128)));
    assert_eq!((pair.client.live_streams(), pair.server.live_streams()), (0, 0));
}

#[test]
fn drain_lets_the_old_ones_end_and_nacks_the_new_ones() {
    let mut pair = Pair::new();
    let old = pair.opened(true);
    pair.server.drain();
    // Opened before the DRAIN is heard of.
    let new = pair.open(Bytes::new(), true);
    pair.exchange();
    match &pair.client_events()[..] {
        [Event::Draining { last }, Event::Nack { id, nack, .. }] => {
            assert_eq!((*last, *id, nack.reason), (old, new, NackReason::Draining));
        }
        other => panic!("{other:?}"),
    }
    assert!(pair.server_events().is_empty());
    assert!(pair.client.is_draining() && pair.server.is_draining());
    assert_eq!(pair.client.open(pair.now, &request("/"), Bytes::new(), true, Token(1)), Err(OpenError::Draining));
    assert!(!pair.server.is_drained());
    pair.server.respond(old, &response(200), Bytes::new(), true).unwrap();
    assert!(pair.server.is_drained());
    pair.server.goodbye(CloseReason::Finished);
    pair.exchange();
    match &pair.client_events()[..] {
        [Event::Response { .. }, Event::Closed(reason)] => assert!(reason.is_normal(), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(&pair.server_events()[..], [Event::Closed(CloseReason::Finished)]));
    assert!(pair.client.is_closed() && pair.server.is_closed());
}

#[test]
fn an_idle_connection_hears_of_a_drain_too() {
    let mut pair = Pair::new();
    pair.server.drain();
    pair.exchange();
    assert!(matches!(&pair.client_events()[..], [Event::Draining { last: RequestId(0) }]));
}

#[test]
fn lost_says_whether_a_byte_of_the_request_left() {
    let mut pair = Pair::new();
    let first = pair.opened(true);
    let second = pair.open(Bytes::new(), true);
    pair.client.handle_transport_closed(pair.now);
    match &pair.client_events()[..] {
        [
            Event::Lost { id: a, sent: true, token: Token(77) },
            Event::Lost { id: b, sent: false, .. },
            Event::Closed(CloseReason::Transport),
        ] => assert_eq!((*a, *b), (first, second)),
        other => panic!("{other:?}"),
    }
    assert!(pair.client.is_closed());
    assert_eq!(pair.client.poll_timeout(), None);
    assert_eq!(pair.client.open(pair.now, &request("/"), Bytes::new(), true, Token(1)), Err(OpenError::Closed));
    pair.server.handle_transport_closed(pair.now);
    assert!(matches!(
        &pair.server_events()[..],
        [Event::Lost { sent: true, token: Token(88), .. }, Event::Closed(CloseReason::Transport)]
    ));
}

#[test]
fn a_request_that_was_told_to_be_unsent_is_never_sent_by_the_goodbye() {
    let mut pair = Pair::new();
    pair.open(Bytes::new(), true);
    pair.client.goodbye(CloseReason::Finished);
    assert!(matches!(&pair.client_events()[..], [Event::Lost { sent: false, .. }, Event::Closed(_)]));
    pair.exchange();
    assert!(matches!(&pair.server_events()[..], [Event::Closed(CloseReason::Goodbye { code: 0, .. })]));
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

#[test]
fn nothing_comes_of_a_call_after_the_driver_ended_it_even_if_it_was_over_already() {
    type Act = fn(&mut Pair);
    const ONE: RequestId = RequestId(1);
    fn failure() -> ErrorInfo {
        ErrorInfo { code: 1, origin: Origin::App, executed: Executed::Yes, text: String::new() }
    }
    let nack = Nack { reason: NackReason::Policy, retry_after: None };
    // What the other side does, and how this side's driver ends the call before it looks.
    let at_client: [(&str, Act); 5] = [
        ("answer", |pair| pair.server.respond(ONE, &response(200), Bytes::from(vec![0; 9_000]), true).unwrap()),
        ("nack", |pair| pair.server.nack(ONE, Nack { reason: NackReason::Policy, retry_after: None })),
        ("error", |pair| pair.server.error(ONE, failure())),
        ("cancel", |pair| pair.server.cancel(ONE, Cancel::Overload)),
        ("lost", |pair| pair.client.handle_transport_closed(pair.now)),
    ];
    for (name, act) in at_client {
        let mut pair = Pair::new();
        pair.opened(true);
        act(&mut pair);
        pair.exchange();
        assert_eq!((pair.client.live_streams(), pair.client.has_events()), (0, true), "{name}");
        pair.client.cancel(ONE, Cancel::CallerGone);
        let events = pair.client_events();
        assert!(events.iter().all(|event| event.stream().is_none()), "{name}: {events:?}");
    }
    let at_server: [(&str, Act); 3] = [
        ("cancel", |pair| pair.server.cancel(ONE, Cancel::Overload)),
        ("nack", |pair| pair.server.nack(ONE, Nack { reason: NackReason::Policy, retry_after: None })),
        ("error", |pair| pair.server.error(ONE, failure())),
    ];
    for (name, act) in at_server {
        let mut pair = Pair::new();
        pair.opened(false);
        pair.client.send_data(ONE, Bytes::from_static(b"data"), false).unwrap();
        pair.client_to_server();
        pair.client.cancel(ONE, Cancel::CallerGone);
        pair.client_to_server();
        assert_eq!((pair.server.live_streams(), pair.server.has_events()), (0, true), "{name}");
        // Another call goes on.
        let other = pair.open(Bytes::new(), true);
        pair.client_to_server();
        act(&mut pair);
        let events = pair.server_events();
        assert!(matches!(&events[..], [Event::Request { id, .. }] if *id == other), "{name}: {events:?}");
        pair.server.nack(other, nack);
        pair.exchange();
        assert_eq!(pair.client_events().len(), 1, "{name}");
    }
}
