//! `TApplicationException`: the failure that every client of Thrift knows, whatever its IDL.

use crate::head::{put_text, put_varint};
use crate::{Head, MessageType, Protocol};

/// The field that holds the text, and the one that holds the type.
const MESSAGE: u8 = 1;
const TYPE: u8 = 2;
/// Ends a struct.
const STOP: u8 = 0;

/// What kind of failure it is (`lib/cpp/src/thrift/TApplicationException.h` of Thrift, as in all its libraries).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExceptionType {
    /// The message is not of a type that may stand here.
    InvalidMessageType = 2,
    /// Something else failed.
    InternalError = 6,
    /// Somebody does not keep to the protocol.
    ProtocolError = 7,
}

/// The message, without its frame, that tells the caller of `call` that it failed like this.
#[must_use]
pub fn exception(call: &Head, exception_type: ExceptionType, text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(call.name.len() + text.len() + 40);
    let head = Head { message_type: MessageType::Exception, ..call.clone() };
    head.write(&mut out);
    let number = exception_type as u8;
    match call.protocol {
        Protocol::Binary => {
            const STRING: u8 = 11;
            const I32: u8 = 8;
            out.extend_from_slice(&[STRING, 0, MESSAGE]);
            put_text(&mut out, call.protocol, text);
            out.extend_from_slice(&[I32, 0, TYPE, 0, 0, 0, number]);
        }
        Protocol::Compact => {
            const BINARY: u8 = 8;
            const I32: u8 = 5;
            // How much higher the field's number is than the one before, and its type.
            out.push((MESSAGE << 4) | BINARY);
            put_text(&mut out, call.protocol, text);
            out.push(((TYPE - MESSAGE) << 4) | I32);
            // Zigzag: the sign in the lowest bit.
            put_varint(&mut out, u32::from(number) << 1);
        }
    }
    out.push(STOP);
    out
}
