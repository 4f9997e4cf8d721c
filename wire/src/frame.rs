//! The frame header, the frame types, and the smallest pieces of a payload.
//!
//! ```text
//!  0        4     5     6         8                16
//!  | length | type| flag| reserved| request ID     | payload …
//!    u32      u8    u8    u16 = 0   u64              length bytes
//! ```

use crate::limits::{EXTENSION_BYTES, FRAME_HEADER_BYTES};

/// An unknown type with this bit may be skipped; one without it is a protocol error.
pub(crate) const MAY_SKIP: u8 = 0x80;

/// This direction of the stream ends with the frame.
pub(crate) const END: u8 = 0x01;
/// On CANCEL from the server: only the direction towards the sender ends, the answer goes on.
pub(crate) const KEEP: u8 = 0x02;
/// The payload begins with an extension block.
pub(crate) const EXT: u8 = 0x80;

macro_rules! frame_types {
    ($($name:ident = $code:literal, flags $flags:expr, stream $stream:expr;)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum FrameType { $($name,)* }

        impl FrameType {
            pub(crate) fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            pub(crate) const fn code(self) -> u8 {
                match self { $(Self::$name => $code,)* }
            }

            /// The flags that may be set on this type.
            const fn flags(self) -> u8 {
                match self { $(Self::$name => $flags | EXT,)* }
            }

            /// Whether the frame belongs to a stream (`Some`), and must then have its ID, or to the connection. CREDIT is either.
            const fn of_stream(self) -> Option<bool> {
                match self { $(Self::$name => $stream,)* }
            }
        }
    };
}

frame_types! {
    Hello = 0x01, flags 0, stream Some(false);
    Ping = 0x02, flags 0, stream Some(false);
    Pong = 0x03, flags 0, stream Some(false);
    Drain = 0x04, flags 0, stream Some(false);
    Goodbye = 0x05, flags 0, stream Some(false);
    Request = 0x10, flags END, stream Some(true);
    Response = 0x11, flags END, stream Some(true);
    Data = 0x12, flags END, stream Some(true);
    Trailers = 0x13, flags END, stream Some(true);
    Credit = 0x14, flags 0, stream None;
    Cancel = 0x15, flags KEEP, stream Some(true);
    Nack = 0x16, flags 0, stream Some(true);
    Error = 0x17, flags 0, stream Some(true);
}

/// A header as it stands in the bytes, before its parts are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHeader {
    pub(crate) length: usize,
    pub(crate) code: u8,
    pub(crate) flags: u8,
    pub(crate) reserved: u16,
    pub(crate) id: u64,
}

/// Why a frame is refused: the text goes into GOODBYE.
pub(crate) type Violation = &'static str;

pub(crate) const TOO_LARGE: Violation = "frame too large";

impl FrameHeader {
    /// `None`: fewer bytes than a header.
    #[inline]
    pub(crate) fn parse(input: &[u8]) -> Option<Self> {
        let header = input.first_chunk::<FRAME_HEADER_BYTES>()?;
        let first = u64::from_be_bytes(*header.first_chunk()?);
        let id = u64::from_be_bytes(*header.last_chunk()?);
        Some(Self {
            length: (first >> 32) as usize,
            code: (first >> 24) as u8,
            flags: (first >> 16) as u8,
            reserved: first as u16,
            id,
        })
    }

    /// The type, if all bits of the header are as they must be. `Ok(None)`: skip the frame.
    pub(crate) fn check(&self) -> Result<Option<FrameType>, Violation> {
        if self.reserved != 0 {
            return Err("reserved header bits set");
        }
        let Some(kind) = FrameType::from_code(self.code) else {
            return if self.code & MAY_SKIP != 0 { Ok(None) } else { Err("unknown frame type") };
        };
        if self.flags & !kind.flags() != 0 {
            return Err("reserved flag set");
        }
        match kind.of_stream() {
            Some(true) if self.id == 0 => Err("frame of a stream without request ID"),
            Some(false) if self.id != 0 => Err("frame of the connection with a request ID"),
            _ => Ok(Some(kind)),
        }
    }
}

/// Writes the header of a frame with a payload of `length` bytes.
#[inline]
pub(crate) fn put_header(out: &mut Vec<u8>, kind: FrameType, flags: u8, id: u64, length: usize) {
    let first = (length as u64) << 32 | u64::from(kind.code()) << 24 | u64::from(flags) << 16;
    out.extend_from_slice((u128::from(first) << 64 | u128::from(id)).to_be_bytes().as_slice());
}

/// Writes a header whose length is filled in by [`finish`]; gives the place.
#[inline]
pub(crate) fn begin(out: &mut Vec<u8>, kind: FrameType, flags: u8, id: u64) -> usize {
    let at = out.len();
    put_header(out, kind, flags, id, 0);
    at
}

/// Fills in the length of the frame begun at `at`.
#[inline]
pub(crate) fn finish(out: &mut [u8], at: usize) {
    let length = (out.len() - at - FRAME_HEADER_BYTES) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// An unsigned number in groups of 7 bits, lowest first; the high bit says that another follows. At most 5 bytes, and the shortest form.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
pub(crate) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_varint(out, text.len() as u32);
    out.extend_from_slice(text);
}

/// Takes a payload apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

const SHORT: Violation = "payload too short";

impl<'a> Reader<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) -> Result<&'a [u8], Violation> {
        let (head, rest) = self.rest.split_at_checked(bytes).ok_or(SHORT)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Violation> {
        let (first, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Violation> {
        self.array().map(u64::from_be_bytes)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, Violation> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u32::from(first));
        }
        let mut value = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let byte = self.u8()?;
            if shift == 28 && byte > 0x0f {
                return Err("number too large");
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return if byte == 0 { Err("number not in its shortest form") } else { Ok(value) };
            }
        }
        Err("number too large")
    }

    #[inline]
    pub(crate) fn text(&mut self) -> Result<&'a [u8], Violation> {
        let length = self.varint()?;
        self.take(length as usize)
    }

    /// A payload of fixed form must be used up.
    pub(crate) fn end(self) -> Result<(), Violation> {
        if self.rest.is_empty() { Ok(()) } else { Err("payload too long") }
    }

    /// Checks the extension block that EXT announces, and passes over it: this version knows no extension.
    pub(crate) fn skip_extensions(&mut self) -> Result<(), Violation> {
        let length = self.varint()? as usize;
        if length > EXTENSION_BYTES {
            return Err("extension block too large");
        }
        let mut block = Reader::new(self.take(length)?);
        while !block.rest.is_empty() {
            block.varint()?;
            block.text()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_both_ways_and_only_in_their_shortest_form() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, 1 << 21, u32::MAX - 1, u32::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.varint(), Ok(value));
            assert!(reader.rest().is_empty());
        }
        for bad in [&[0x80, 0x00][..], &[0xff, 0xff, 0xff, 0xff, 0x1f], &[0x80], &[0xff, 0xff, 0xff, 0xff, 0x8f, 0]] {
            assert!(Reader::new(bad).varint().is_err(), "{bad:?}");
        }
    }
}
