//! HELLO's deadline, PING and PONG, silence.

mod common;

use bytes::{Bytes, BytesMut};
use common::*;
use std::time::Duration;
use wire::*;

const SECOND: Duration = Duration::from_secs(1);

/// Lets time pass as a driver would: to each timeout, with or without the link. Gives the time after which each side closed.
fn run(pair: &mut Pair, total: Duration, linked: bool) -> [Option<Duration>; 2] {
    let start = pair.now;
    let end = start + total;
    let mut closed = [None; 2];
    loop {
        let next = [pair.client.poll_timeout(), pair.server.poll_timeout()].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= end) else { break };
        pair.now = next.max(pair.now);
        pair.client.handle_timeout(pair.now);
        pair.server.handle_timeout(pair.now);
        if linked {
            pair.exchange();
        }
        for (at, side) in closed.iter_mut().zip([&pair.client, &pair.server]) {
            if side.poll_timeout().is_none() {
                at.get_or_insert(pair.now - start);
            }
        }
    }
    pair.now = end;
    closed
}

#[test]
fn an_idle_connection_lives_and_tells_load_rtt_and_clock() {
    let mut pair = Pair::new();
    pair.client.set_clock(pair.now, 1_000_000_000);
    pair.server.set_clock(pair.now, 1_000_250_000);
    pair.client.set_load(Load { in_flight: 3, queued: 1 });
    pair.server.set_load(Load { in_flight: 9, queued: 4 });
    run(&mut pair, Duration::from_secs(600), true);
    assert!(pair.client_events().is_empty() && pair.server_events().is_empty());
    assert_eq!(pair.client.peer_load(), Some(Load { in_flight: 9, queued: 4 }));
    assert_eq!(pair.server.peer_load(), Some(Load { in_flight: 3, queued: 1 }));
    assert_eq!(pair.client.rtt(), Some(Duration::ZERO));
    assert_eq!(pair.client.clock_offset(), Some(250_000));
    // One PING for two seconds, and only the client's.
    let pings = frames(&pair.client_sent).iter().filter(|frame| frame.0 == 2).count();
    assert!((295..=300).contains(&pings), "{pings}");
    assert_eq!(frames(&pair.server_sent).iter().filter(|frame| frame.0 == 2).count(), 0);
}

#[test]
fn a_stream_that_is_silent_for_ten_minutes_survives() {
    let mut pair = Pair::new();
    let id = pair.opened(false);
    run(&mut pair, Duration::from_secs(600), true);
    pair.server.respond(id, &response(200), Bytes::new(), true).unwrap();
    pair.exchange();
    assert!(matches!(&pair.client_events()[..], [Event::Response { .. }]));
}

#[test]
fn a_dead_peer_is_noticed_by_both_sides_within_seconds() {
    let mut pair = Pair::new();
    pair.opened(true);
    let closed = run(&mut pair, 10 * SECOND, false);
    // The client's PING goes out after 2 s, the server's after 3 s of silence; each waits 5 s for an answer.
    assert_eq!(closed, [Some(7 * SECOND), Some(8 * SECOND)]);
    assert!(matches!(
        &pair.client_events()[..],
        [Event::Lost { sent: true, .. }, Event::Closed(CloseReason::PeerSilent)]
    ));
    assert!(matches!(&pair.server_events()[..], [Event::Lost { .. }, Event::Closed(CloseReason::PeerSilent)]));
}

#[test]
fn bytes_of_any_kind_keep_a_peer_alive() {
    let mut pair = Pair::new();
    for _ in 0..60 {
        // Frames that may be skipped, instead of the PONG that is due.
        pair.advance(SECOND);
        pair.client.handle_timeout(pair.now);
        pair.to_client.extend_from_slice(&raw_frame(0xf0, 0, 0, b""));
        pair.client.handle_input(pair.now, &mut pair.to_client);
    }
    assert!(pair.client_events().is_empty());
}

#[test]
fn a_process_that_stood_still_reads_before_it_judges() {
    let mut pair = Pair::new();
    pair.advance(2 * SECOND);
    pair.client.handle_timeout(pair.now);
    // Stopped for a minute; its timer fires before the peer's bytes are read.
    pair.advance(60 * SECOND);
    pair.client.handle_timeout(pair.now);
    assert!(pair.client_events().is_empty());
    pair.advance(SECOND / 2);
    pair.exchange();
    pair.advance(SECOND / 2);
    pair.client.handle_timeout(pair.now);
    assert!(pair.client_events().is_empty());
    // With nothing to read, the end comes a second later.
    pair.advance(2 * SECOND);
    pair.client.handle_timeout(pair.now);
    pair.advance(60 * SECOND);
    pair.client.handle_timeout(pair.now);
    pair.advance(SECOND);
    pair.client.handle_timeout(pair.now);
    assert!(matches!(&pair.client_events()[..], [Event::Closed(CloseReason::PeerSilent)]));
}

#[test]
fn a_hello_that_does_not_come_in_time() {
    let mut pair = Pair::raw(config(), config());
    run(&mut pair, 6 * SECOND, false);
    for events in [pair.client_events(), pair.server_events()] {
        assert!(matches!(&events[..], [Event::Closed(CloseReason::HelloTimeout)]));
    }
    // The GOODBYE is still given out, behind the HELLO.
    pair.client_to_server();
    let kinds: Vec<u8> = frames(&pair.client_sent).iter().map(|frame| frame.0).collect();
    assert_eq!(kinds, [1, 5]);
    assert!(pair.client.is_closed());
}

#[test]
fn a_pong_passes_everything_but_the_hello() {
    let ping = raw_frame(0x02, 0, 0, &[7; 16]);
    let kinds = |connection: &mut Connection, now, max| {
        let mut out = Vec::new();
        connection.poll_transmit(now, &mut out, max);
        frames(&out).iter().map(|frame| frame.0).collect::<Vec<u8>>()
    };
    let mut pair = Pair::new();
    // Heads and bodies wait, and one of the heads gets out with the PONG.
    let first = pair.open(Bytes::from(vec![0; 60_000]), true);
    let second = pair.open(Bytes::new(), true);
    pair.client.handle_input(pair.now, &mut BytesMut::from(&ping[..]));
    assert_eq!(kinds(&mut pair.client, pair.now, 1), [0x03, 0x10]);
    // It does not count among what says which requests left.
    pair.client.handle_transport_closed(pair.now);
    let events = pair.client_events();
    let sent =
        |of: RequestId| events.iter().any(|event| matches!(event, Event::Lost { id, sent: true, .. } if *id == of));
    assert_eq!((sent(first), sent(second)), (true, false), "{events:?}");
    // A PING that came before anything of ours had left.
    let mut pair = Pair::raw(config(), config());
    pair.client_to_server();
    pair.server.handle_input(pair.now, &mut BytesMut::from(&ping[..]));
    assert_eq!(kinds(&mut pair.server, pair.now, limits::FLUSH_BYTES), [0x01, 0x03]);
    assert!(!pair.server.wants_transmit());
}
