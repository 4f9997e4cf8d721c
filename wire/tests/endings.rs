//! How calls end other than by their bodies: cancelled, refused, drained, lost.

mod common;

use bytes::Bytes;
use common::*;
use std::time::Duration;
use wire::*;

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
    // The answer's head was ready to go before the cancellation came; the body was not handed out any more.
    assert_eq!((pair.client.late_frames(), pair.server.late_frames()), (1, 0));
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

#[test]
fn a_request_that_was_told_to_be_unsent_is_not_sent_with_the_hello_either() {
    let mut pair = Pair::raw(config(), config());
    pair.server_to_client();
    assert!(matches!(&pair.client_events()[..], [Event::Hello(_)]));
    pair.client.accept_peer();
    // Nothing of ours has been handed out yet, not even the HELLO.
    pair.open(Bytes::new(), true);
    pair.client.goodbye(CloseReason::Finished);
    assert!(matches!(&pair.client_events()[..], [Event::Lost { sent: false, .. }, Event::Closed(_)]));
    pair.client_to_server();
    let kinds: Vec<u8> = frames(&pair.client_sent).iter().map(|frame| frame.0).collect();
    assert_eq!(kinds, [1, 5], "HELLO and GOODBYE");
    let events = pair.server_events();
    assert!(
        matches!(&events[..], [Event::Hello(_), Event::Closed(CloseReason::Goodbye { code: 0, .. })]),
        "{events:?}"
    );
}
