//! How heads are read: what their fields say about the connection and the body.

use http1::{Body, Framing, HeadScan, Piece, Refusal, Version};

/// Reads a request's head, written without its request line's version and with `;` for a line's end.
#[track_caller]
fn request(head: &str, want: &str) {
    let bytes = format!("{}\r\n\r\n", head.replace(';', "\r\n"));
    let scanned = HeadScan::default().find(bytes.as_bytes(), 4096).unwrap().expect("a whole head");
    let got = http1::request(&bytes.as_bytes()[scanned.range], scanned.fields, |head| {
        let mut said = vec![format!("{} {}", head.method, head.target)];
        said.extend((head.version == Version::Http10).then(|| "1.0".to_owned()));
        said.push(format!("{:?}", head.framing));
        said.extend(head.keep_alive.then(|| "keep".to_owned()));
        said.extend(head.expects_continue.then(|| "expects".to_owned()));
        for name in ["te", "upgrade", "x-a"] {
            said.extend(head.connection.names(name).then(|| format!("names {name}")));
        }
        said.join(", ")
    });
    assert_eq!(got.unwrap_or_else(|refusal| format!("{refusal:?}")), want, "{head}");
}

#[track_caller]
fn response(head: &str, want: &str) {
    let (head, to_head) = head.strip_prefix("HEAD ").map_or((head, false), |head| (head, true));
    let bytes = format!("{}\r\n\r\n", head.replace(';', "\r\n"));
    let scanned = HeadScan::for_responses().find(bytes.as_bytes(), 4096).unwrap().expect("a whole head");
    let got = http1::response(&bytes.as_bytes()[scanned.range], scanned.fields, to_head, |head| {
        let mut said = vec![format!("{} {:?}", head.status, head.framing)];
        said.extend(head.keep_alive.then(|| "keep".to_owned()));
        said.extend(head.connection.names("x-a").then(|| "names x-a".to_owned()));
        said.join(", ")
    });
    assert_eq!(got.unwrap_or_else(|refusal| format!("{refusal:?}")), want, "{head}");
}

#[test]
fn requests() {
    request("GET / HTTP/1.1;host: a", "GET /, None, keep");
    request("get /?a=b HTTP/1.1;HOST:a:80", "get /?a=b, None, keep");
    request("GET / HTTP/1.1;host:", "GET /, None, keep");
    request("OPTIONS * HTTP/1.1;host: a", "OPTIONS *, None, keep");
    request("GET http://a/b HTTP/1.1;host: a", "GET http://a/b, None, keep");
    request("CONNECT a:443 HTTP/1.1;host: a:443", "CONNECT a:443, None, keep");
    request("GET /\u{e4} HTTP/1.1;host: a", "GET /\u{e4}, None, keep");
}

#[test]
fn how_long_a_request_is() {
    request("POST / HTTP/1.1;host: a;content-length: 0", "POST /, Length(0), keep");
    request("POST / HTTP/1.1;host: a;content-length: 5", "POST /, Length(5), keep");
    request("POST / HTTP/1.1;host: a;content-length: 9999999999999999999", "POST /, Length(9999999999999999999), keep");
    request("POST / HTTP/1.1;host: a;content-length: 10000000000000000000", "Length");
    request("GET / HTTP/1.1;host: a;Transfer-Encoding: Chunked", "GET /, Chunked, keep");
    request("POST / HTTP/1.0;content-length: 5", "POST /, 1.0, Length(5)");
    // Alike, and no framing.
    request("POST / HTTP/1.1;host: a;content-lengths: 5;content-lengt: 5;xcontent-length: 5", "POST /, None, keep");
    request("POST / HTTP/1.1;host: a;te: trailers;trailer: x-a", "POST /, None, keep");
}

#[test]
fn how_long_a_connection_lives() {
    request("GET / HTTP/1.0", "GET /, 1.0, None");
    request("GET / HTTP/1.0;connection: keep-alive", "GET /, 1.0, None, keep");
    request("GET / HTTP/1.0;connection: keep-alive, close", "GET /, 1.0, None");
    request("GET / HTTP/1.1;host: a;connection: close", "GET /, None");
    request("GET / HTTP/1.1;host: a;connection: ,\tCLOSE ,", "GET /, None");
    request("GET / HTTP/1.1;host: a;connection: x-a;connection: close", "GET /, None, names x-a");
    request("GET / HTTP/1.1;host: a;connection: not-close, close-not", "GET /, None, keep");
    request("GET / HTTP/1.1;host: a;connection:", "GET /, None, keep");
    request("GET / HTTP/1.1;host: a;proxy-connection: close", "GET /, None, keep");
}

#[test]
fn what_connection_names() {
    request("GET / HTTP/1.1;host: a;connection: TE, Upgrade", "GET /, None, keep, names te, names upgrade");
    request("GET / HTTP/1.1;connection: X-A;host: a;x-a: 1", "GET /, None, keep, names x-a");
    request("GET / HTTP/1.1;host: a;connection: x-a b", "Syntax(\"Connection\")");
    for name in ["host", "Content-Length", "transfer-encoding"] {
        request(&format!("GET / HTTP/1.1;host: a;connection: close, {name}"), "Syntax(\"Connection\")");
    }
    request(&format!("GET / HTTP/1.1;host: a;connection: {}", "x-a,".repeat(32)), "GET /, None, keep, names x-a");
    request(&format!("GET / HTTP/1.1;host: a;connection: {}", "x-a,".repeat(33)), "Syntax(\"Connection\")");
}

#[test]
fn who_waits_for_100() {
    request("PUT / HTTP/1.1;host: a;content-length: 5;expect: 100-Continue", "PUT /, Length(5), keep, expects");
    request("PUT / HTTP/1.1;host: a;transfer-encoding: chunked;expect: 100-continue", "PUT /, Chunked, keep, expects");
    request("PUT / HTTP/1.1;host: a;content-length: 5;expect: x, 100-continue", "PUT /, Length(5), keep, expects");
    // There is nothing to wait for, or nothing that 1.0 would understand, or it is something else.
    request("PUT / HTTP/1.1;host: a;content-length: 0;expect: 100-continue", "PUT /, Length(0), keep");
    request("GET / HTTP/1.1;host: a;expect: 100-continue", "GET /, None, keep");
    request("PUT / HTTP/1.0;content-length: 5;expect: 100-continue", "PUT /, 1.0, Length(5)");
    request("PUT / HTTP/1.1;host: a;content-length: 5;expect: 100-continued", "PUT /, Length(5), keep");
    request("PUT / HTTP/1.1;host: a;content-length: 5;expect:", "PUT /, Length(5), keep");
}

#[test]
fn responses() {
    response("HTTP/1.1 200 OK", "200 UntilClose");
    response("HTTP/1.1 200 OK;content-length: 5", "200 Length(5), keep");
    response("HTTP/1.1 200 OK;transfer-encoding: chunked", "200 Chunked, keep");
    response("HTTP/1.0 200 OK;content-length: 5", "200 Length(5)");
    response("HTTP/1.0 200 OK;content-length: 5;connection: keep-alive", "200 Length(5), keep");
    response("HTTP/1.1 200 OK;content-length: 5;connection: close, x-a", "200 Length(5), names x-a");
    response("HEAD HTTP/1.1 200 OK", "200 None, keep");
    response("HEAD HTTP/1.1 200 OK;content-length: 5", "200 None, keep");
    response("HEAD HTTP/1.1 200 OK;transfer-encoding: chunked", "200 None, keep");
    response("HTTP/1.1 304 Not Modified;content-length: 5", "304 None, keep");
    response("HTTP/1.1 204 No Content", "204 None, keep");
    response("HTTP/1.1 204 No Content;content-length: 0", "204 None, keep");
    response("HTTP/1.1 204 No Content;content-length: 5", "204 None");
    response("HTTP/1.1 204 No Content;transfer-encoding: chunked", "204 None");
    response("HTTP/1.1 205 Reset Content;content-length: 0", "205 Length(0), keep");
    response("HTTP/1.1 100 Continue", "100 None, keep");
    response("HTTP/1.1 101 Switching Protocols;connection: upgrade", "101 Tunnel");
    response("HEAD HTTP/1.1 101 Switching Protocols;content-length: 0", "101 Tunnel");
    response("HTTP/1.1 103 Early Hints;content-length: 5", "Syntax(\"a body announced by an interim response\")");
    response("HEAD HTTP/1.1 200 OK;content-length: 5;transfer-encoding: chunked", "LengthBesideCoding");
    response("HTTP/1.1 304 Not Modified;content-length: x", "Length");
    response("HTTP/1.1 200;content-length: 0", "200 Length(0), keep");
}

/// No limit on their number but the head's own length: the caller counts first.
#[test]
fn as_many_fields_as_there_are() {
    for count in [99, 100, 101, 1_000] {
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "a:\r\n".repeat(count - 1));
        let scanned = HeadScan::default().find(head.as_bytes(), usize::MAX).unwrap().unwrap();
        assert_eq!(scanned.fields, count);
        assert_eq!(http1::request(head.as_bytes(), count, |head| head.fields.len()), Ok(count));
    }
}

#[test]
fn each_refusal_has_its_status_and_its_words() {
    for (refusal, status) in [
        (Refusal::BareLineEnd, 400),
        (Refusal::Syntax("x"), 400),
        (Refusal::HeadTooLong(1), 431),
        (Refusal::TooManyFields(1), 431),
        (Refusal::Version, 505),
        (Refusal::Host, 400),
        (Refusal::Length, 400),
        (Refusal::LengthBesideCoding, 400),
        (Refusal::CodingOnOldVersion, 400),
        (Refusal::Coding, 501),
        (Refusal::ChunkSize, 400),
        (Refusal::ChunkTooLong, 400),
        (Refusal::Truncated, 400),
    ] {
        assert_eq!(refusal.status(), status, "{refusal}");
        assert!(!refusal.to_string().is_empty());
    }
}

#[test]
fn what_is_left_of_a_body_is_known_where_it_was_announced() {
    let mut input = bytes::BytesMut::from("hello, and more");
    let mut body = Body::new(Framing::Length(5), 0);
    assert_eq!((body.left(), body.is_ended()), (Some(5), false));
    assert_eq!(body.handle_close(), Err(Refusal::Truncated));
    assert_eq!(body.next(&mut input), Ok(Some(Piece::Data("hello".into()))));
    assert_eq!((body.left(), body.is_ended()), (Some(0), true));
    assert_eq!(body.next(&mut input), Ok(None));
    assert_eq!(body.handle_close(), Ok(()));
    assert_eq!(&input[..], b", and more");
    // Without room for trailers there is room for none.
    let mut input = bytes::BytesMut::from("0\r\n\r\n");
    let mut body = Body::new(Framing::Chunked, 0);
    assert_eq!((body.left(), body.next(&mut input), body.is_ended()), (None, Ok(None), true));
    for framing in [Framing::None, Framing::Tunnel, Framing::Length(0)] {
        assert!(Body::new(framing, 0).is_ended());
    }
}
