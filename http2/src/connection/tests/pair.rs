//! Two ends against each other.

use super::*;
use proptest::prelude::*;

#[test]
fn a_list_longer_than_a_frame_goes_on_in_others() {
    let (mut client, mut server) = (
        Connection::new(config(Side::Client)),
        Connection::new(Config { list_bytes: 100_000, ..config(Side::Server) }),
    );
    exchange(&mut client, &mut server, usize::MAX);
    let mut fields = Headers::new();
    (0..400).for_each(|number| fields.push(b"x-filler", format!("{number:0100}").as_bytes()));
    client.open(A_GET, fields.texts(), true).unwrap();
    exchange(&mut client, &mut server, 1_000);
    let events = events(&mut server);
    let [Event::Request { head, is_end: true, .. }] = &events[..] else { panic!("{events:?}") };
    assert!(head.fields().map(|field| field.value.to_vec()).eq(fields.iter().map(|field| field.value.to_vec())));
}

/// Hands what each has to say to the other, in pieces of so many bytes, until neither has any more.
fn exchange(one: &mut Connection, other: &mut Connection, piece: usize) {
    let mut pieces = Pieces::default();
    loop {
        let mut moved = false;
        for turn in 0..2 {
            let (from, to) = if turn == 0 { (&mut *one, &mut *other) } else { (&mut *other, &mut *one) };
            pieces.clear();
            if from.poll_transmit(&mut pieces, 30_000) {
                moved = true;
                let bytes: Vec<u8> = pieces.slices().collect::<Vec<_>>().concat();
                for part in bytes.chunks(piece) {
                    match to.input().is_empty() {
                        true => to.handle_slice(part),
                        false => {
                            to.input().extend_from_slice(part);
                            to.handle_input();
                        }
                    }
                }
            }
        }
        if !moved {
            return;
        }
    }
}

/// A call: bytes of its request's body and its answer's, and whether each ends in trailers.
type Call = ((usize, bool), (usize, bool));

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Every body arrives whole, whatever its length, however the bytes between are cut, whoever is slow to read.
    #[test]
    fn bodies_arrive_whole(
        calls in proptest::collection::vec(((0..300_000_usize, any::<bool>()), (0..300_000_usize, any::<bool>())), 1..4),
        piece in prop_oneof![1..40_usize, 1_000..70_000_usize],
        room in 1..200_000_usize,
    ) {
        check_bodies(&calls, piece, room);
    }
}

fn check_bodies(calls: &[Call], piece: usize, room: usize) {
    let (mut client, mut server) = (Connection::new(config(Side::Client)), Connection::new(config(Side::Server)));
    exchange(&mut client, &mut server, piece);
    let body = |seed: u32, length: usize| Bytes::from_iter((0..length).map(|at| (at as u32).wrapping_mul(seed) as u8));
    let mut trailers = Headers::new();
    trailers.push(b"x-checksum", b"1");
    let send = |connection: &mut Connection, stream: u32, seed: u32, (length, has_trailers): (usize, bool)| {
        let mut rest = body(seed, length);
        while !rest.is_empty() {
            assert!(connection.send(stream, rest.split_to(rest.len().min(room)), false));
        }
        let ended = match has_trailers {
            true => connection.send_trailers(stream, trailers.clone()),
            false => connection.send(stream, Bytes::new(), true),
        };
        assert!(ended);
    };
    for (asked, _) in calls {
        let stream = client.open(super::Request { method: b"POST", ..A_GET }, no_fields(), false).unwrap();
        send(&mut client, stream, stream, *asked);
    }
    let mut got: HashMap<(bool, u32), (Vec<u8>, bool)> = HashMap::new();
    let mut unread = Vec::new();
    for _ in 0..2_000 {
        exchange(&mut client, &mut server, piece);
        // What arrived before is read only now: in between the windows are as full as they get.
        for (is_server, stream, bytes) in unread.drain(..) {
            if is_server { server.release(stream, bytes) } else { client.release(stream, bytes) }
        }
        for is_server in [true, false] {
            let connection = if is_server { &mut server } else { &mut client };
            for event in events(connection) {
                match event {
                    Event::Request { stream, .. } => {
                        server_answers(&mut server, stream, |server| {
                            send(server, stream, stream + 1, calls[(stream / 2) as usize].1);
                        });
                    }
                    Event::Data { stream, data, .. } => {
                        unread.push((is_server, stream, data.len()));
                        got.entry((is_server, stream)).or_default().0.extend_from_slice(&data);
                    }
                    Event::Trailers { stream, fields } => {
                        assert_eq!(fields.get(b"x-checksum"), Some(&b"1"[..]));
                        got.entry((is_server, stream)).or_default().1 = true;
                    }
                    Event::Response { head, .. } => assert_eq!(head.status, 200),
                    Event::Writable { .. } => {}
                    Event::Broken { .. } => panic!("{event:?}"),
                }
            }
        }
        if client.live_streams() + server.live_streams() == 0 && unread.is_empty() {
            break;
        }
    }
    assert_eq!((client.live_streams(), server.live_streams()), (0, 0));
    for (number, (asked, answered)) in calls.iter().enumerate() {
        let stream = 2 * number as u32 + 1;
        for (is_server, seed, (length, has_trailers)) in [(true, stream, *asked), (false, stream + 1, *answered)] {
            let (bytes, trailed) = got.remove(&(is_server, stream)).unwrap_or_default();
            assert!(bytes == body(seed, length), "{stream}: {} of {length}", bytes.len());
            assert_eq!(trailed, has_trailers);
        }
    }
}

fn server_answers(server: &mut Connection, stream: u32, send: impl FnOnce(&mut Connection)) {
    assert!(server.respond(stream, 200, no_fields(), false));
    send(server);
}
