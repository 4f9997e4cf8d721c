//! A dribble costs no more than the same bytes at once: what was looked at is not looked at again. Shown by spoiling the
//! bytes that have been seen: whoever looked back would refuse them.

use bytes::BytesMut;
use http1::{Body, Framing, HeadScan, Piece};

/// Beginning and end of what has been seen may be looked at again: the first line's first bytes, a CR before an LF.
const EDGE: usize = 2;

/// A head's or a trailer section's bytes up to its last line, with many short lines.
fn lines(first: &str) -> Vec<u8> {
    [first.as_bytes(), &b"a: b\r\n".repeat(2_000)].concat()
}

fn spoil(seen: &mut [u8]) {
    let end = seen.len().saturating_sub(EDGE);
    if end > EDGE {
        seen[EDGE..end].fill(b'\n');
    }
}

#[test]
fn a_dribbled_head_is_looked_at_once() {
    for (mut scan, first) in
        [(HeadScan::default(), "GET / HTTP/1.1\r\n"), (HeadScan::for_responses(), "HTTP/1.1 200 OK\r\n")]
    {
        let bytes = lines(first);
        let mut have = Vec::with_capacity(bytes.len());
        for byte in bytes {
            spoil(&mut have);
            have.push(byte);
            assert_eq!(scan.find(&have, usize::MAX), Ok(None));
        }
        have.extend_from_slice(b"\r\n");
        assert_eq!(scan.find(&have, usize::MAX).unwrap().unwrap().fields, 2_000);
    }
}

#[test]
fn dribbled_trailers_are_looked_at_once() {
    let mut body = Body::new(Framing::Chunked, usize::MAX);
    let mut input = BytesMut::from("0\r\n");
    for byte in lines("") {
        assert_eq!(body.next(&mut input), Ok(None));
        spoil(&mut input);
        input.extend_from_slice(&[byte]);
    }
    assert_eq!(body.next(&mut input), Ok(None));
}

/// Of a chunk's size line nothing but the line is looked at again, and that has a bound.
#[test]
fn a_dribbled_size_line_is_short() {
    let mut body = Body::new(Framing::Chunked, 0);
    let mut input = BytesMut::from("1;");
    let steps = (0..).take_while(|_| {
        input.extend_from_slice(b"a");
        body.next(&mut input) == Ok(None)
    });
    assert!(steps.count() < 256);
}

/// Data is taken off the input as it comes, however small the pieces, and never copied.
#[test]
fn data_is_not_gathered() {
    for (framing, start) in [(Framing::Length(5_000), ""), (Framing::UntilClose, ""), (Framing::Chunked, "1388\r\n")] {
        let mut body = Body::new(framing, 0);
        let mut input = BytesMut::from(start);
        assert_eq!(body.next(&mut input), Ok(None));
        for _ in 0..5_000 {
            input.extend_from_slice(b"x");
            let address = input.as_ptr();
            let Ok(Some(Piece::Data(data))) = body.next(&mut input) else { panic!("no data") };
            assert_eq!((&data[..], data.as_ptr(), input.len()), (&b"x"[..], address, 0));
        }
    }
}
