//! What WebSocket's handshake has in HTTP/1.1 and not in HTTP/2 (RFC 8441, 5): a key, and the proof that it was read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// The field in which a caller gives its key, in HTTP/1.1.
pub const KEY: &str = "sec-websocket-key";
/// The field that answers it.
pub const ACCEPT: &str = "sec-websocket-accept";
/// The protocol as `Upgrade` and `:protocol` name it.
pub const PROTOCOL: &[u8] = b"websocket";

/// RFC 6455, 1.3
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key, for an app that is to be asked in HTTP/1.1: 16 bytes at random (RFC 6455, 4.1).
pub fn new_key() -> String {
    STANDARD.encode(fastrand::u128(..).to_be_bytes())
}

/// The answer to a key: that whoever gives it means WebSocket.
pub fn accept(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(STANDARD.decode(new_key()).unwrap().len(), 16);
    }
}
