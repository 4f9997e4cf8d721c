//! Why bytes are no message of Thrift's, and what whoever sent them can do.

use std::fmt;

use crate::{FRAME_BYTES, NAME_BYTES};

/// Why what came is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The first four bytes are no length.
    NotFramed(Instead),
    /// The length is more than [`FRAME_BYTES`].
    FrameTooLong(u32),
    /// The frame ended within the head, or was empty.
    Truncated,
    /// The first byte is that of neither protocol.
    UnknownProtocol(u8),
    /// The protocol is known, its version is not.
    UnknownVersion(u8),
    /// There is no such type of message.
    UnknownType(u8),
    /// A number of more than 32 bits.
    NumberTooLong,
    /// The name is longer than [`NAME_BYTES`]; how long it says that it is.
    NameTooLong(u32),
    /// The name is empty or not UTF-8.
    BadName,
}

/// What stands where a frame's length should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// The message itself.
    Unframed,
    /// A request of HTTP.
    Http,
    /// A handshake of TLS.
    Tls,
}

impl Instead {
    /// Looks at four bytes that are no length.
    pub(crate) fn of(prefix: [u8; 4]) -> Option<Instead> {
        match prefix {
            [0x80, 0x01, _, _] => Some(Instead::Unframed),
            [0x82, second, _, _] if second & 0x1f == 1 => Some(Instead::Unframed),
            [0x16, 0x03, _, _] => Some(Instead::Tls),
            // A method of HTTP, of three letters and a space or of more.
            [a, b, c, d] if [a, b, c].iter().all(u8::is_ascii_uppercase) && (d == b' ' || d.is_ascii_uppercase()) => {
                Some(Instead::Http)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotFramed(Instead::Unframed) => {
                f.write_str("a message without a frame around it: use the framed transport (TFramedTransport)")
            }
            Refusal::NotFramed(Instead::Http) => {
                f.write_str("a request of HTTP and no frame of Thrift's: Thrift over HTTP goes through an HTTP port")
            }
            Refusal::NotFramed(Instead::Tls) => {
                f.write_str("a handshake of TLS and no frame of Thrift's: the sidecars speak TLS, connect without it")
            }
            Refusal::FrameTooLong(length) => {
                write!(
                    f,
                    "a frame of {length} bytes; at most {FRAME_BYTES} may be. Or it is none: is it framed Thrift?"
                )
            }
            Refusal::Truncated => f.write_str("a frame that ends within the head of its message"),
            Refusal::UnknownProtocol(first) => write!(
                f,
                "a message that begins with {first:#04x}: neither the binary protocol in its strict form (strictWrite) nor the compact one"
            ),
            Refusal::UnknownVersion(version) => write!(f, "version {version} of a known protocol; only 1 is known"),
            Refusal::UnknownType(number) => write!(f, "a message of the type {number}; there are 1 to 4"),
            Refusal::NumberTooLong => f.write_str("a number of more than 32 bits"),
            Refusal::NameTooLong(length) => {
                write!(f, "a method's name of {length} bytes; at most {NAME_BYTES} may be")
            }
            Refusal::BadName => f.write_str("a method's name that is empty or not UTF-8"),
        }
    }
}

impl std::error::Error for Refusal {}
