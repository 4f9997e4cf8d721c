//! The rules of RFC 9113, a line a rule, with what must come of it.

use super::*;

#[test]
fn a_server_holds_its_caller_to_the_rules() {
    let stream = |reason| Outcome::Stream(1, reason);
    let get = || request(1, flag::END_STREAM, &GET);
    let post = || request(1, 0, &POST);
    let data = |flags, bytes: &[u8]| frame(kind::DATA, flags, 1, bytes);
    let with_length = |end| request(1, end, &[&POST[..], &[("content-length", "3")]].concat());
    let goes = || Outcome::Goes("");
    for (what, frames, want) in [
        ("a request", get(), goes()),
        ("a body", [post(), data(0, b"abc"), data(flag::END_STREAM, b"")].concat(), goes()),
        ("padding", [post(), data(flag::PADDED | flag::END_STREAM, b"\x02ab\0\0")].concat(), goes()),
        ("trailers", [post(), request(1, flag::END_STREAM, &[("x-a", "1")])].concat(), goes()),
        ("an unknown frame", [frame(0x77, 0xff, 3, b"what"), get()].concat(), goes()),
        ("an unknown setting", settings(&[(0x99, 7)]), goes()),
        ("priority", [frame(kind::PRIORITY, 0, 3, &[0; 5]), get()].concat(), goes()),
        ("a ping's answer", frame(kind::PING, flag::ACK, 0, &[0; 8]), goes()),
        ("a window for a stream that is over", [get(), window_update(1, 5)].concat(), goes()),
        ("as long as announced", [with_length(0), data(flag::END_STREAM, b"abc")].concat(), goes()),
        // Malformed messages are errors of their streams (8.1.1).
        (
            "an upper-case name",
            request(1, flag::END_STREAM, &[&GET[..], &[("X-A", "1")]].concat()),
            stream(Reason::PROTOCOL_ERROR),
        ),
        ("no path", request(1, flag::END_STREAM, &GET[..2]), stream(Reason::PROTOCOL_ERROR)),
        (
            "shorter than announced",
            [with_length(0), data(flag::END_STREAM, b"ab")].concat(),
            stream(Reason::PROTOCOL_ERROR),
        ),
        ("nothing of what is announced", with_length(flag::END_STREAM), stream(Reason::PROTOCOL_ERROR)),
        ("longer than announced", [with_length(0), data(0, b"abcd")].concat(), stream(Reason::PROTOCOL_ERROR)),
        (
            "trailers before the announced end",
            [with_length(0), request(1, flag::END_STREAM, &[("x-a", "1")])].concat(),
            stream(Reason::PROTOCOL_ERROR),
        ),
        (
            "trailers that are not the end",
            [post(), request(1, 0, &[("x-a", "1")])].concat(),
            stream(Reason::PROTOCOL_ERROR),
        ),
        (
            "pseudo trailers",
            [post(), request(1, flag::END_STREAM, &[(":path", "/")])].concat(),
            stream(Reason::PROTOCOL_ERROR),
        ),
        ("a window of nothing", [post(), window_update(1, 0)].concat(), stream(Reason::PROTOCOL_ERROR)),
        ("a window too large", [post(), window_update(1, WINDOW_BYTES)].concat(), stream(Reason::FLOW_CONTROL_ERROR)),
        ("a body behind its end", [get(), data(0, b"abc")].concat(), stream(Reason::STREAM_CLOSED)),
        (
            "fields behind the end",
            [get(), request(1, flag::END_STREAM, &[("x-a", "1")])].concat(),
            stream(Reason::STREAM_CLOSED),
        ),
        // The rest ends the connection.
        ("a body without a head", data(0, b"abc"), Outcome::Connection(Reason::PROTOCOL_ERROR)),
        (
            "a reset before anything",
            frame(kind::RST_STREAM, 0, 1, &[0; 4]),
            Outcome::Connection(Reason::PROTOCOL_ERROR),
        ),
        ("a window before anything", window_update(1, 5), Outcome::Connection(Reason::PROTOCOL_ERROR)),
        ("a server's stream", request(2, flag::END_STREAM, &GET), Outcome::Connection(Reason::STREAM_CLOSED)),
        (
            "a stream going back",
            [request(5, flag::END_STREAM, &GET), request(3, flag::END_STREAM, &GET)].concat(),
            Outcome::Connection(Reason::STREAM_CLOSED),
        ),
        ("data on no stream", frame(kind::DATA, 0, 0, b"abc"), Outcome::Connection(Reason::PROTOCOL_ERROR)),
        ("fields on no stream", request(0, 0, &GET), Outcome::Connection(Reason::PROTOCOL_ERROR)),
        ("settings on a stream", frame(kind::SETTINGS, 0, 1, &[]), Outcome::Connection(Reason::PROTOCOL_ERROR)),
        ("settings by halves", frame(kind::SETTINGS, 0, 0, &[0; 5]), Outcome::Connection(Reason::FRAME_SIZE_ERROR)),
        (
            "an answer to settings that says more",
            frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]),
            Outcome::Connection(Reason::FRAME_SIZE_ERROR),
        ),
        (
            "a first window too large",
            settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)]),
            Outcome::Connection(Reason::FLOW_CONTROL_ERROR),
        ),
        (
            "frames too short",
            settings(&[(setting::MAX_FRAME_SIZE, 16_383)]),
            Outcome::Connection(Reason::PROTOCOL_ERROR),
        ),
        (
            "frames too long",
            settings(&[(setting::MAX_FRAME_SIZE, 1 << 24)]),
            Outcome::Connection(Reason::PROTOCOL_ERROR),
        ),
        ("half a push", settings(&[(setting::ENABLE_PUSH, 2)]), Outcome::Connection(Reason::PROTOCOL_ERROR)),
        ("a ping on a stream", frame(kind::PING, 0, 1, &[0; 8]), Outcome::Connection(Reason::PROTOCOL_ERROR)),
        ("a short ping", frame(kind::PING, 0, 0, &[0; 7]), Outcome::Connection(Reason::FRAME_SIZE_ERROR)),
        (
            "a short reset",
            [post(), frame(kind::RST_STREAM, 0, 1, &[0; 3])].concat(),
            Outcome::Connection(Reason::FRAME_SIZE_ERROR),
        ),
        ("a short window", window_update(0, 5)[..12].to_vec(), Outcome::Goes("it is not whole")),
        ("a window of nothing over all", window_update(0, 0), Outcome::Connection(Reason::PROTOCOL_ERROR)),
        (
            "a window too large over all",
            window_update(0, WINDOW_BYTES),
            Outcome::Connection(Reason::FLOW_CONTROL_ERROR),
        ),
        (
            "a push by a caller",
            frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0; 4]),
            Outcome::Connection(Reason::PROTOCOL_ERROR),
        ),
        ("going away on a stream", frame(kind::GOAWAY, 0, 1, &[0; 8]), Outcome::Connection(Reason::PROTOCOL_ERROR)),
        ("going away shortly", frame(kind::GOAWAY, 0, 0, &[0; 7]), Outcome::Connection(Reason::FRAME_SIZE_ERROR)),
        (
            "more padding than frame",
            [post(), data(flag::PADDED, b"\x05ab\0\0")].concat(),
            Outcome::Connection(Reason::PROTOCOL_ERROR),
        ),
        (
            "padding without a length",
            [post(), data(flag::PADDED, b"")].concat(),
            Outcome::Connection(Reason::FRAME_SIZE_ERROR),
        ),
        ("priority of nothing", frame(kind::PRIORITY, 0, 0, &[0; 5]), Outcome::Connection(Reason::PROTOCOL_ERROR)),
        ("a short priority", frame(kind::PRIORITY, 0, 1, &[0; 4]), Outcome::Connection(Reason::FRAME_SIZE_ERROR)),
        (
            "continuing nothing",
            frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[]),
            Outcome::Connection(Reason::PROTOCOL_ERROR),
        ),
        (
            "another frame within fields",
            [frame(kind::HEADERS, 0, 1, &block(&GET)), frame(kind::PING, 0, 0, &[0; 8])].concat(),
            Outcome::Connection(Reason::PROTOCOL_ERROR),
        ),
        (
            "another's fields within fields",
            [frame(kind::HEADERS, 0, 1, &block(&GET)), frame(kind::CONTINUATION, 0, 3, &[])].concat(),
            Outcome::Connection(Reason::PROTOCOL_ERROR),
        ),
        (
            "fields that refer to nothing",
            frame(kind::HEADERS, flag::END_HEADERS, 1, &[0xff, 0x7f]),
            Outcome::Connection(Reason::COMPRESSION_ERROR),
        ),
        ("a frame too long", frame(kind::DATA, 0, 1, &[0; 20_001]), Outcome::Connection(Reason::FRAME_SIZE_ERROR)),
    ] {
        let mut server = server();
        server.handle_slice(&frames);
        let outcome = outcome(&mut server);
        match want {
            Outcome::Goes(_) => assert!(matches!(outcome, Outcome::Goes(_)), "{what}: {outcome:?}"),
            want => assert_eq!(outcome, want, "{what}"),
        }
        // However it comes, it is the same.
        let mut by_bytes = self::server();
        frames.iter().for_each(|byte| by_bytes.handle_slice(&[*byte]));
        assert_eq!(by_bytes.closed(), server.closed(), "{what}, byte by byte");
        assert_eq!(
            format!("{:?}", events(&mut by_bytes)),
            format!("{:?}", events(&mut server)),
            "{what}, byte by byte"
        );
    }
}

#[test]
fn what_does_not_begin_as_http2_does_is_none() {
    for (bytes, want) in [
        (&b"GET / HTTP/1.1\r\n"[..], Outcome::Connection(Reason::PROTOCOL_ERROR)),
        (&PREFACE[..10], Outcome::Goes("so far")),
        (&[&PREFACE[..], &frame(kind::PING, 0, 0, &[0; 8])].concat(), Outcome::Connection(Reason::PROTOCOL_ERROR)),
        (
            &[&PREFACE[..], &frame(kind::SETTINGS, flag::ACK, 0, &[])].concat(),
            Outcome::Connection(Reason::PROTOCOL_ERROR),
        ),
    ] {
        let mut server = Connection::new(config(Side::Server));
        said(&mut server);
        server.handle_slice(bytes);
        match want {
            Outcome::Goes(_) => assert_eq!((server.closed(), server.is_between_messages()), (None, false)),
            want => assert_eq!(outcome(&mut server), want),
        }
    }
}

#[test]
fn a_client_holds_its_server_to_the_rules() {
    let stream = |reason| Outcome::Stream(1, reason);
    let answer = |end, fields: &[(&str, &str)]| request(1, end, fields);
    let end = flag::END_STREAM;
    for (method, what, frames, want) in [
        ("GET", "an answer", answer(end, &[(":status", "200")]), Outcome::Goes("")),
        (
            "GET",
            "hints, and an answer",
            [answer(0, &[(":status", "103")]), answer(end, &[(":status", "200")])].concat(),
            Outcome::Goes(""),
        ),
        (
            "HEAD",
            "a length without a body",
            answer(end, &[(":status", "200"), ("content-length", "5")]),
            Outcome::Goes(""),
        ),
        ("GET", "not modified", answer(end, &[(":status", "304"), ("content-length", "5")]), Outcome::Goes("")),
        (
            "GET",
            "a length without a body",
            answer(end, &[(":status", "200"), ("content-length", "5")]),
            stream(Reason::PROTOCOL_ERROR),
        ),
        (
            "HEAD",
            "a body",
            [answer(0, &[(":status", "200")]), frame(kind::DATA, end, 1, b"abc")].concat(),
            stream(Reason::PROTOCOL_ERROR),
        ),
        ("GET", "hints and no answer", answer(end, &[(":status", "103")]), stream(Reason::PROTOCOL_ERROR)),
        ("GET", "switching", answer(0, &[(":status", "101")]), stream(Reason::PROTOCOL_ERROR)),
        ("GET", "no status", answer(end, &[("x-a", "1")]), stream(Reason::PROTOCOL_ERROR)),
        ("GET", "a body without a head", frame(kind::DATA, end, 1, b"abc"), stream(Reason::PROTOCOL_ERROR)),
        (
            "GET",
            "a push",
            frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0; 4]),
            Outcome::Connection(Reason::PROTOCOL_ERROR),
        ),
        ("GET", "a push allowed", settings(&[(setting::ENABLE_PUSH, 1)]), Outcome::Connection(Reason::PROTOCOL_ERROR)),
        (
            "GET",
            "an answer to nothing",
            request(3, end, &[(":status", "200")]),
            Outcome::Connection(Reason::STREAM_CLOSED),
        ),
        ("GET", "a stream of its own", request(2, end, &GET), Outcome::Connection(Reason::STREAM_CLOSED)),
    ] {
        let mut client = client(&[]);
        let asked = super::Request { method: method.as_bytes(), ..A_GET };
        client.open(asked, no_fields(), true).unwrap();
        said(&mut client);
        client.handle_slice(&frames);
        let outcome = outcome(&mut client);
        match want {
            Outcome::Goes(_) => assert!(matches!(outcome, Outcome::Goes(_)), "{what}: {outcome:?}"),
            want => assert_eq!(outcome, want, "{what}"),
        }
        match outcome {
            Outcome::Goes(_) => {}
            _ => assert!(matches!(events(&mut client).last(), Some(Event::Broken { stream: 1, .. })), "{what}"),
        }
    }
}
