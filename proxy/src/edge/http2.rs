//! HTTP/2 at the two edges that face an app, on the crate `h2`: what the door for its calls and the dial to it share.

mod io;
mod receive;
mod sending;
pub mod websocket;

pub use io::{Io, Opening};
pub use receive::{gather, receive};
pub use sending::{Sending, send_whole};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use wire::Headers;

use super::fields::{self, Kind};
use crate::config::head_bytes;

/// What a connection begins with (RFC 9113, 3.4). To HTTP/1.1 it is a request that nobody sends otherwise.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// That request's head.
pub const PREFACE_HEAD: &[u8] = PREFACE.split_at(18).0;

/// Body bytes that may be on their way on one stream, each direction for itself: what a stream that nobody reads can hold here.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The longest frame taken.
pub const FRAME_BYTES: u32 = 64 * 1024;
/// Bytes of a streamed body that are handed to the connection ahead of its socket.
pub const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// RFC 9113, 10.5.1: what a field counts for beside its text.
const FIELD_OVERHEAD_BYTES: usize = 32;

/// What all streams of a connection together may have on their way: far more than one stream may, so that one that nobody
/// reads stops itself alone.
pub fn connection_window(memory: usize) -> u32 {
    // The largest window that there is (RFC 9113, 6.9.1).
    u32::try_from(memory).unwrap_or(u32::MAX).clamp(STREAM_WINDOW_BYTES, (1 << 31) - 1)
}

/// How large a list of fields may be before it is not read to its end.
pub fn header_list_bytes(bytes: usize, count: usize) -> u32 {
    u32::try_from(head_bytes(bytes) + count * FIELD_OVERHEAD_BYTES).unwrap_or(u32::MAX)
}

/// A request without a body as the frame that it is on stream 1: each field a literal that no table learns (RFC 7541, 6.2.2). `None`: it
/// is too long for one frame.
pub fn headers_frame<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Option<Bytes> {
    const KIND_AND_FLAGS: [u8; 2] = [0x1, 0x4 | 0x1];
    let mut frame = vec![0; 9];
    for (name, value) in fields {
        frame.push(0);
        put_text(&mut frame, &name.to_ascii_lowercase().into_bytes());
        put_text(&mut frame, value);
    }
    let length = u32::try_from(frame.len() - 9).ok().filter(|length| *length <= FRAME_BYTES)?;
    frame[..3].copy_from_slice(&length.to_be_bytes()[1..]);
    frame[3..5].copy_from_slice(&KIND_AND_FLAGS);
    frame[8] = 1;
    Some(frame.into())
}

/// A string literal without Huffman coding (RFC 7541, 5.2), its length in a prefix of seven bits (5.1).
fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    const MOST: usize = 0x7f;
    match text.len().checked_sub(MOST) {
        None => out.push(text.len() as u8),
        Some(mut rest) => {
            out.push(MOST as u8);
            while rest >= 0x80 {
                out.push((rest % 0x80) as u8 | 0x80);
                rest /= 0x80;
            }
            out.push(rest as u8);
        }
    }
    out.extend_from_slice(text);
}

/// The fields of a head or of trailers, for HTTP/2. Those of one hop are left out: they came from a peer's sidecar, which should
/// not have sent them. An error names what is no field.
pub fn to_map(headers: Headers, goes: impl Fn(&[u8]) -> bool) -> Result<HeaderMap, &'static str> {
    let mut map = HeaderMap::with_capacity(headers.len() + 1);
    for field in headers.into_shared() {
        if !goes(&field.name) || fields::kind(&field.name) == Kind::HopByHop {
            continue;
        }
        let name = HeaderName::from_lowercase(&field.name).map_err(|_| "a field's name")?;
        let mut value = HeaderValue::from_maybe_shared(field.value).map_err(|_| "a field's value")?;
        value.set_sensitive(field.sensitive);
        map.try_append(name, value).map_err(|_| "the number of its fields")?;
    }
    Ok(map)
}

/// The fields of a list that go on, with room for so many bytes of text. What no dictionary may hold stays so (RFC 7541, 7.1.3).
pub fn from_map(map: &HeaderMap, text: usize, goes: impl Fn(&[u8]) -> bool) -> Headers {
    let mut headers = Headers::with_capacity(text, map.len() + 1);
    for (name, value) in map {
        let name = name.as_str().as_bytes();
        match (goes(name), value.is_sensitive()) {
            (false, _) => {}
            (true, false) => headers.push(name, value.as_bytes()),
            (true, true) => headers.push_sensitive(name, value.as_bytes()),
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_prefixed_integers() {
        for (length, prefix) in [
            (0, &[0][..]),
            (126, &[126]),
            (127, &[127, 0]),
            (128, &[127, 1]),
            (254, &[127, 127]),
            (255, &[127, 0x80, 1]),
            (1337, &[127, 0xba, 9]),
        ] {
            let mut out = Vec::new();
            put_text(&mut out, &vec![b'x'; length]);
            assert_eq!((&out[..prefix.len()], out.len()), (prefix, prefix.len() + length), "{length}");
        }
    }

    #[test]
    fn a_head_is_a_frame_or_too_long_for_one() {
        let frame = headers_frame([(":method", &b"GET"[..]), ("X-A", b"1")].into_iter()).unwrap();
        assert_eq!(&frame[..], b"\0\0\x14\x01\x05\0\0\0\x01\0\x07:method\x03GET\0\x03x-a\x011");
        let long = vec![b'x'; FRAME_BYTES as usize];
        assert_eq!(headers_frame([("x-a", &long[..])].into_iter()), None);
    }
}
