//! HTTP/2 at the two edges that face an app: what the door for its calls and the dial to it share.

mod receive;
mod sending;
mod session;
pub mod websocket;

pub use receive::Receiver;
pub use sending::{Sender, Sending};
pub use session::{Incoming, Session};

use http2::{Config, FIELD_OVERHEAD_BYTES, PREFACE, Side};
use wire::{Header, Headers, Text};

use super::fields::{self, Kind};
use crate::config::{Limits, head_bytes};

/// To HTTP/1.1 a connection's beginning is a request that nobody sends otherwise: its head.
pub const PREFACE_HEAD: &[u8] = PREFACE.split_at(18).0;

/// Body bytes that may be on their way on one stream, each direction for itself: what a stream that nobody reads can hold here.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The longest frame taken.
const FRAME_BYTES: u32 = 64 * 1024;

/// How a connection begins.
#[derive(Debug)]
pub enum Opening {
    /// This has been read of it.
    Read(&'static [u8]),
    /// It comes out of HTTP/1.1 by an upgrade: these are the fields that the request which asked for it would have had.
    Upgrade(Headers),
}

/// What one end of a connection lets the other do. A list of fields that is longer by much than `limits` has it is not read to its end.
pub fn config(side: Side, limits: &Limits) -> Config {
    // Far more over all streams than on one, so that one that nobody reads stops itself alone.
    let all = u32::try_from(limits.channel_memory).unwrap_or(u32::MAX);
    Config {
        side,
        stream_window: STREAM_WINDOW_BYTES,
        connection_window: all.clamp(STREAM_WINDOW_BYTES, http2::limits::WINDOW_BYTES),
        frame_bytes: FRAME_BYTES,
        list_bytes: head_bytes(limits.header_bytes) + limits.header_count * FIELD_OVERHEAD_BYTES,
        streams: u32::try_from(limits.calls).unwrap_or(u32::MAX),
    }
}

/// The fields of a head that go on in HTTP/2. Those of one hop are left out: they came from a peer's sidecar, which should not have sent
/// them.
pub fn going<'a>(headers: &'a Headers, goes: impl Fn(&[u8]) -> bool + 'a) -> impl Iterator<Item = Text<'a>> + 'a {
    headers.texts().filter(move |field| goes(field.name()) && fields::kind(field.name()) != Kind::HopByHop)
}

/// Whether all these fields may stand in a message; an error names what is no field.
pub fn check(headers: &Headers) -> Result<(), &'static str> {
    for Header { name, value, .. } in headers.iter() {
        let is_name = |byte: &u8| http1::encode::is_token(*byte) && !byte.is_ascii_uppercase();
        if name.is_empty() || !name.iter().all(is_name) {
            return Err("a field's name");
        }
        if !http1::encode::is_text(value) {
            return Err("a field's value");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_field_is_found() {
        let check = |name: &str, value: &str| {
            let mut headers = Headers::new();
            headers.push(b"x-good", b"1");
            headers.push(name.as_bytes(), value.as_bytes());
            check(&headers)
        };
        assert_eq!(check("x-a", "a b\t\u{e4}"), Ok(()));
        for (name, value) in
            [("", "1"), ("x a", "1"), (":path", "/"), ("x-a\r\n", "1"), ("x-a", "1\r\nx-b: 2"), ("x-a", "\0")]
        {
            assert!(check(name, value).is_err(), "{name:?}: {value:?}");
        }
    }
}
