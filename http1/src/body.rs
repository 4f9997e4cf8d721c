//! Bodies as they arrive.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use crate::head::Framing;
use crate::refusal::Refusal;
use crate::scan::{HeadScan, Scanned};

/// A chunk's size line may be so long, extensions included.
const CHUNK_LINE_BYTES: usize = 256;
/// What the chunk extensions of one message may come to: nobody uses them, and they cost reading.
const EXTENSION_BYTES: usize = 16 * 1024;
/// Fields in a trailer section.
const TRAILERS: usize = 64;

/// Cuts a body out of the input.
#[derive(Debug, Clone)]
pub struct Body {
    state: State,
    /// Looks for the end of the trailers.
    scan: HeadScan,
    /// Bytes that a trailer section may take.
    trailer_bytes: usize,
    /// Bytes of chunk extensions so far.
    extensions: usize,
}

/// ```text
/// Length(n) ──n bytes──▶ Ended          UntilClose ──the connection ends──▶ Ended
/// Size ──line──▶ Chunk(n) ──n bytes──▶ ChunkEnd ──CR LF──▶ Size
///   └──"0"──▶ Trailers ──empty line──▶ Ended
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    Size,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    Ended,
}

/// A part of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of it, never empty.
    Data(Bytes),
    /// The trailer fields; the body has ended.
    Trailers(Trailers),
}

/// A trailer section, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailers(Bytes);

impl Trailers {
    /// Hands each field to `take`, name in whatever case.
    pub fn each(&self, mut take: impl FnMut(&str, &[u8])) {
        let mut room = [httparse::EMPTY_HEADER; TRAILERS];
        // It has been parsed before.
        if let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&self.0, &mut room) {
            for field in fields {
                take(field.name, field.value);
            }
        }
    }
}

impl Body {
    /// A body that begins. Its trailers, if any, may be `trailer_bytes` long.
    #[must_use]
    pub fn new(framing: Framing, trailer_bytes: usize) -> Body {
        let state = match framing {
            Framing::None | Framing::Length(0) | Framing::Tunnel => State::Ended,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size,
            Framing::UntilClose => State::UntilClose,
        };
        // The empty line that ends them is always needed.
        Body { state, scan: HeadScan::for_trailers(), trailer_bytes: trailer_bytes.max(2), extensions: 0 }
    }

    /// Nothing of it is still to come.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The bytes still to come, where they are announced.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Ended => Some(0),
            _ => None,
        }
    }

    /// Takes the next piece off the front of `input`, without a copy. `None`: more input is needed, or the body has ended.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Refusal> {
        loop {
            self.state = match self.state {
                State::Ended => return Ok(None),
                State::UntilClose if input.is_empty() => return Ok(None),
                State::UntilClose => return Ok(Some(Piece::Data(input.split().freeze()))),
                State::Length(left) => {
                    let Some((data, left)) = take(input, left) else { return Ok(None) };
                    self.state = if left == 0 { State::Ended } else { State::Length(left) };
                    return Ok(Some(Piece::Data(data)));
                }
                State::Chunk(left) => {
                    let Some((data, left)) = take(input, left) else { return Ok(None) };
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                    return Ok(Some(Piece::Data(data)));
                }
                State::ChunkEnd => match input.get(..2) {
                    Some(b"\r\n") => {
                        input.advance(2);
                        State::Size
                    }
                    None if matches!(&input[..], [] | [b'\r']) => return Ok(None),
                    _ => return Err(Refusal::Syntax("the end of a chunk")),
                },
                State::Size => {
                    let Some(size) = self.size(input)? else { return Ok(None) };
                    if size == 0 { State::Trailers } else { State::Chunk(size) }
                }
                State::Trailers => {
                    let Some(section) = self.trailers(input)? else { return Ok(None) };
                    self.state = State::Ended;
                    return Ok((section.len() > 2).then_some(Piece::Trailers(Trailers(section))));
                }
            };
        }
    }

    /// The connection has ended: so has a body that it delimits; any other is cut short.
    pub fn handle_close(&mut self) -> Result<(), Refusal> {
        match self.state {
            State::UntilClose | State::Ended => {
                self.state = State::Ended;
                Ok(())
            }
            _ => Err(Refusal::Truncated),
        }
    }

    /// The size line of a chunk.
    fn size(&mut self, input: &mut BytesMut) -> Result<Option<u64>, Refusal> {
        let seen = &input[..input.len().min(CHUNK_LINE_BYTES)];
        let Some(end) = memchr(b'\n', seen) else {
            return if seen.len() == CHUNK_LINE_BYTES { Err(Refusal::ChunkTooLong) } else { Ok(None) };
        };
        let Some(line) = seen[..end].strip_suffix(b"\r") else { return Err(Refusal::BareLineEnd) };
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extension) = line.split_at(digits);
        if digits.is_empty() || digits.len() > 15 {
            return Err(Refusal::ChunkSize);
        }
        // Spaces may stand before an extension, and nowhere else (RFC 9112, 7.1.1).
        let visible = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        match extension.trim_ascii_start().first() {
            None if extension.is_empty() => {}
            Some(b';') if extension.iter().all(visible) => {}
            _ => return Err(Refusal::ChunkSize),
        }
        self.extensions += extension.len();
        if self.extensions > EXTENSION_BYTES {
            return Err(Refusal::ChunkTooLong);
        }
        let size = digits.iter().fold(0, |size, digit| size << 4 | u64::from(hex(*digit)));
        input.advance(end + 1);
        Ok(Some(size))
    }

    /// The fields behind the last chunk, with the empty line that ends them.
    fn trailers(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, Refusal> {
        let found = self.scan.find(input, self.trailer_bytes).map_err(|refusal| match refusal {
            Refusal::HeadTooLong(_) => Refusal::ChunkTooLong,
            Refusal::Syntax(_) => TRAILER,
            other => other,
        })?;
        let Some(Scanned { range, fields }) = found else { return Ok(None) };
        if fields > TRAILERS {
            return Err(Refusal::ChunkTooLong);
        }
        let section = input.split_to(range.end).freeze();
        if fields == 0 {
            return Ok(Some(section));
        }
        let mut room = [httparse::EMPTY_HEADER; TRAILERS];
        match httparse::parse_headers(&section, &mut room) {
            Ok(httparse::Status::Complete((length, _))) if length == section.len() => Ok(Some(section)),
            _ => Err(TRAILER),
        }
    }
}

const TRAILER: Refusal = Refusal::Syntax("a trailer");

/// Takes what is there of `left` bytes.
fn take(input: &mut BytesMut, left: u64) -> Option<(Bytes, u64)> {
    if input.is_empty() {
        return None;
    }
    let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
    Some((input.split_to(count).freeze(), left - count as u64))
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}
