//! `TApplicationException`: the failure that every client of Thrift knows, whatever its IDL.

use crate::head::{Reader, put_text, put_varint};
use crate::{Head, MessageType, Protocol};

/// The field that holds the text, and the one that holds the type.
const MESSAGE: u8 = 1;
const TYPE: u8 = 2;
/// Ends a struct.
const STOP: u8 = 0;
/// The protocols' numbers for a string and for a number of 32 bits.
const BINARY_STRING: u8 = 11;
const BINARY_I32: u8 = 8;
const COMPACT_STRING: u8 = 8;
const COMPACT_I32: u8 = 5;

/// What kind of failure it is (`lib/cpp/src/thrift/TApplicationException.h` of Thrift, as in all its libraries).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExceptionType {
    /// The server has no such method.
    UnknownMethod = 1,
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
            out.extend_from_slice(&[BINARY_STRING, 0, MESSAGE]);
            put_text(&mut out, call.protocol, text);
            out.extend_from_slice(&[BINARY_I32, 0, TYPE, 0, 0, 0, number]);
        }
        Protocol::Compact => {
            // How much higher the field's number is than the one before, and its type.
            out.push((MESSAGE << 4) | COMPACT_STRING);
            put_text(&mut out, call.protocol, text);
            out.push(((TYPE - MESSAGE) << 4) | COMPACT_I32);
            // Zigzag: the sign in the lowest bit.
            put_varint(&mut out, u32::from(number) << 1);
        }
    }
    out.push(STOP);
    out
}

/// The number of the type in a message that is an exception; `None`: it is none, is not all here, or says none.
#[must_use]
pub fn exception_type(message: &[u8]) -> Option<i32> {
    let mut reader = Reader(message);
    let Head { protocol, message_type: MessageType::Exception, .. } = reader.head().ok()?? else { return None };
    let mut field = 0;
    // Each round takes a byte at least, and only these two kinds of fields are passed over.
    loop {
        match protocol {
            Protocol::Binary => {
                let kind = reader.byte().filter(|kind| *kind != STOP)?;
                field = i16::from_be_bytes(reader.array()?);
                match kind {
                    BINARY_STRING => {
                        let length = u32::from_be_bytes(reader.array()?);
                        reader.skip(length)?;
                    }
                    BINARY_I32 => {
                        let number = i32::from_be_bytes(reader.array()?);
                        if field == i16::from(TYPE) {
                            return Some(number);
                        }
                    }
                    _ => return None,
                }
            }
            Protocol::Compact => {
                let header = reader.byte().filter(|header| *header != STOP)?;
                field = match header >> 4 {
                    0 => i16::try_from(zigzag(reader.varint().ok()??)).ok()?,
                    higher => field.checked_add(i16::from(higher))?,
                };
                match header & 0xf {
                    COMPACT_STRING => {
                        let length = reader.varint().ok()??;
                        reader.skip(length)?;
                    }
                    COMPACT_I32 => {
                        let number = zigzag(reader.varint().ok()??);
                        if field == i16::from(TYPE) {
                            return Some(number);
                        }
                    }
                    _ => return None,
                }
            }
        }
    }
}

/// The sign is in the lowest bit.
fn zigzag(number: u32) -> i32 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}
