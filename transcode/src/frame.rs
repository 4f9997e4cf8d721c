//! Messages on a gRPC stream: each behind a byte that says whether it is compressed, and its length in four (gRPC over HTTP/2,
//! "Length-Prefixed-Message").

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

/// What stands before a message. Bytes.
pub const PREFIX_BYTES: usize = 5;

/// A message behind its prefix.
pub fn encode(message: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(PREFIX_BYTES + message.len());
    frame.push(0);
    // No message is that long: see `limits`.
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(message);
    frame.into()
}

/// What is wrong with a stream of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The app compressed a message, which nobody asked for.
    Compressed,
    /// A message of so many bytes.
    TooLong(usize),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Compressed => f.write_str("a compressed message, which nobody asked for"),
            FrameError::TooLong(length) => write!(f, "a message of {length} bytes"),
        }
    }
}

/// Takes bytes in as they come and gives messages out.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    /// The longest message. Bytes.
    limit: usize,
}

impl Frames {
    /// None yet; a message may be `limit` bytes long.
    pub fn new(limit: usize) -> Frames {
        Frames { buffer: BytesMut::new(), limit }
    }

    /// More bytes.
    pub fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next message that is here whole.
    ///
    /// # Errors
    /// It is compressed or too long. Nothing that follows can be read then.
    pub fn take(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some((&[compressed, a, b, c, d], _)) = self.buffer.split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        match compressed {
            0 if length > self.limit => Err(FrameError::TooLong(length)),
            0 if self.buffer.len() - PREFIX_BYTES < length => Ok(None),
            0 => {
                self.buffer.advance(PREFIX_BYTES);
                Ok(Some(self.buffer.split_to(length).freeze()))
            }
            _ => Err(FrameError::Compressed),
        }
    }

    /// Bytes that wait for their message to be whole.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing of a message is left.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_however_the_bytes_were_cut() {
        let stream = [encode(b"first"), encode(b""), encode(&[7; 300])].concat();
        for piece in 1..stream.len() {
            let mut frames = Frames::new(300);
            let mut seen = Vec::new();
            for data in stream.chunks(piece) {
                frames.push(data);
                while let Some(message) = frames.take().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, [&b"first"[..], b"", &[7; 300]], "cut into {piece}");
            assert!(frames.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_its_prefix() {
        let refused = |prefix: &[u8]| {
            let mut frames = Frames::new(10);
            frames.push(prefix);
            frames.take()
        };
        assert_eq!(refused(&[0, 0, 0, 0]), Ok(None));
        assert_eq!(refused(&[1, 0, 0, 0, 1]), Err(FrameError::Compressed));
        assert_eq!(refused(&[0, 0, 0, 0, 11]), Err(FrameError::TooLong(11)));
        assert_eq!(refused(&[0, 0, 0, 0, 10]), Ok(None));
    }
}
