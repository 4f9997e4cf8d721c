//! The frames that go ahead of all bulk: control frames and heads, in one buffer, in the order in which they were encoded.

use crate::frame::{FrameHeader, FrameType, put_header};
use crate::limits::FRAME_HEADER_BYTES;

/// A buffer of a driver that grew with bulk is not taken over for the sake of a few bytes.
const SWAP_CAPACITY_BYTES: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    buffer: Vec<u8>,
    /// What of it has been handed out; always the beginning of a frame.
    start: usize,
    /// All bytes ever handed out.
    given: u64,
}

impl Outbox {
    pub(super) fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Where the next frame will begin, counted from the first byte ever.
    pub(super) fn position(&self) -> u64 {
        self.given + self.pending() as u64
    }

    /// Bytes handed out, counted from the first byte ever.
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// One frame with a payload of fixed parts.
    pub(super) fn frame(&mut self, kind: FrameType, flags: u8, id: u64, parts: &[&[u8]]) {
        put_frame(&mut self.buffer, kind, flags, id, parts);
    }

    /// Drops what has not been handed out.
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
        self.start = 0;
    }

    /// Drops what has not been handed out, but for the HELLO: what follows is understood only behind it.
    pub(super) fn clear_behind_hello(&mut self) {
        // Whole frames are handed out, and the HELLO is the first.
        match FrameHeader::parse(&self.buffer) {
            Some(hello) if self.given == 0 => self.buffer.truncate(FRAME_HEADER_BYTES + hello.length),
            _ => self.clear(),
        }
    }

    /// Hands out whole frames, about `max` bytes and at least one frame.
    pub(super) fn give(&mut self, out: &mut Vec<u8>, max: usize) {
        let pending = self.pending();
        if pending <= max {
            if self.start == 0 && out.is_empty() && out.capacity() <= SWAP_CAPACITY_BYTES {
                std::mem::swap(out, &mut self.buffer);
            } else {
                out.extend_from_slice(&self.buffer[self.start..]);
                self.clear();
                self.keep_small();
            }
            self.given += pending as u64;
            return;
        }
        let mut end = self.start;
        // Ends after the first frame that passes the bound; the headers are our own.
        while let Some(header) = FrameHeader::parse(&self.buffer[end..]) {
            end += FRAME_HEADER_BYTES + header.length;
            if end - self.start >= max {
                break;
            }
        }
        out.extend_from_slice(&self.buffer[self.start..end]);
        self.given += (end - self.start) as u64;
        self.start = end;
        if self.pending() == 0 {
            self.clear();
            self.keep_small();
        } else if self.start >= self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
    }

    /// Emptied, it keeps no large buffer.
    fn keep_small(&mut self) {
        if self.buffer.capacity() > SWAP_CAPACITY_BYTES {
            self.buffer = Vec::new();
        }
    }

    /// Gives back what is not needed now.
    pub(super) fn shrink(&mut self) {
        self.buffer.shrink_to_fit();
    }
}

/// Adds one frame with a payload of fixed parts.
pub(super) fn put_frame(out: &mut Vec<u8>, kind: FrameType, flags: u8, id: u64, parts: &[&[u8]]) {
    put_header(out, kind, flags, id, parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
}
