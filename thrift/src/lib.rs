//! Apache Thrift's messages, sans IO, as far as an intermediary reads them: where a frame ends, and the head of the message in
//! it. The arguments and results behind the head pass as they are, unread.
//!
//! - [`frame_length`] reads the four bytes that stand before a message (`doc/specs/thrift-rpc.md` of Thrift: *framed*).
//! - [`Head::read`] reads the head, however its bytes arrive: of the binary protocol in its strict form
//!   (`thrift-binary-protocol.md`) and of the compact one (`thrift-compact-protocol.md`), which its first byte tells.
//! - [`exception`] writes the message that every client of Thrift understands as a failure: `TApplicationException`; [`exception_type`] reads what
//!   kind of failure one is.
//!
//! There is no socket, no clock and no connection in here. The old form of the binary protocol is refused: it begins with the length
//! of the name, which any four bytes are.

mod exception;
mod head;
mod refusal;

pub use exception::{ExceptionType, exception, exception_type};
pub use head::{Head, MessageType, Protocol};
pub use refusal::{Instead, Refusal};

/// A frame may be this long, without the length before it: what Thrift's own libraries allow by default
/// (`TConfiguration::DEFAULT_MAX_FRAME_SIZE`). Bytes.
pub const FRAME_BYTES: usize = 16_384_000;
/// The name of a method may be this long, with that of its service where several share a port (`Service:method`). Bytes.
pub const NAME_BYTES: usize = 1024;
/// Within so many bytes a head is whole or refused: the name, and at most twelve beside it.
pub const HEAD_BYTES: usize = NAME_BYTES + 12;
/// The bytes before a message that say how long it is.
pub const PREFIX_BYTES: usize = 4;

/// How long the message is that follows `prefix`: a number in network byte order. In bytes, never 0.
pub fn frame_length(prefix: [u8; PREFIX_BYTES]) -> Result<usize, Refusal> {
    let length = u32::from_be_bytes(prefix);
    match usize::try_from(length) {
        Ok(0) => Err(Refusal::Truncated),
        Ok(length) if length <= FRAME_BYTES => Ok(length),
        _ => Err(match Instead::of(prefix) {
            Some(instead) => Refusal::NotFramed(instead),
            None => Refusal::FrameTooLong(length),
        }),
    }
}

/// What stands before a message of `length` bytes; one of more than [`FRAME_BYTES`] must not be sent.
#[must_use]
pub fn prefix(length: usize) -> [u8; PREFIX_BYTES] {
    debug_assert!(length <= FRAME_BYTES);
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_long_as_it_says_or_refused() {
        assert_eq!(frame_length([0, 0, 0, 1]), Ok(1));
        assert_eq!(frame_length([0, 0, 0, 0]), Err(Refusal::Truncated));
        assert_eq!(frame_length(prefix(FRAME_BYTES)), Ok(FRAME_BYTES));
        let over = u32::try_from(FRAME_BYTES + 1).unwrap();
        assert_eq!(frame_length(over.to_be_bytes()), Err(Refusal::FrameTooLong(over)));
    }

    #[test]
    fn what_is_no_frame_is_called_by_its_name() {
        for (prefix, instead) in [
            (*b"\x80\x01\x00\x01", Instead::Unframed),
            (*b"\x82\x21\x00\x04", Instead::Unframed),
            (*b"POST", Instead::Http),
            (*b"GET ", Instead::Http),
            (*b"\x16\x03\x01\x02", Instead::Tls),
        ] {
            assert_eq!(frame_length(prefix), Err(Refusal::NotFramed(instead)), "{prefix:?}");
        }
        assert_eq!(frame_length([0xff; 4]), Err(Refusal::FrameTooLong(u32::MAX)));
    }
}
