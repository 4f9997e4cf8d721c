//! An app's connection as the crate `h2` wants it, and how far its peer has come in what it sends.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::PREFACE;
use crate::edge::Socket;

/// Before the payload of each frame (RFC 9113, 4.1).
const FRAME_HEAD_BYTES: usize = 9;
const HEADERS: u8 = 0x1;
const PUSH_PROMISE: u8 = 0x5;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// How a connection begins.
#[derive(Debug)]
pub enum Opening {
    /// Nothing of it has been read.
    Whole,
    /// This has.
    Read(&'static [u8]),
    /// It comes out of HTTP/1.1 by an upgrade: this is the request that asked for it, as the frame that it would have been. It is
    /// stream 1, half closed (RFC 7540, 3.2).
    Upgrade(Bytes),
}

/// A connection. Tells whether its peer has stopped in the middle of something, each time bytes came.
pub struct Io<T> {
    socket: Rc<Socket>,
    /// Read from the connection before, or in place of it.
    first: Bytes,
    /// What is to be read behind the peer's first frame, as if it had come there.
    insert: Bytes,
    frames: Frames,
    told: T,
}

impl<T> fmt::Debug for Io<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("frames", &self.frames).finish_non_exhaustive()
    }
}

impl<T: FnMut(bool)> Io<T> {
    /// A connection of which `first` has been read already. `told` learns whether what came ends between two messages.
    pub fn new(socket: Rc<Socket>, opening: Opening, told: T) -> Io<T> {
        let (first, insert) = match opening {
            Opening::Whole => (Bytes::new(), Bytes::new()),
            Opening::Read(first) => (Bytes::from_static(first), Bytes::new()),
            Opening::Upgrade(request) => (Bytes::new(), request),
        };
        Io { socket, first, insert, frames: Frames::default(), told }
    }

    /// Before what is to be inserted: no further than to the end of the frame that it stands behind.
    fn poll_before_insert(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut room = [0; 64];
        let count = self.frames.missing().min(into.remaining()).min(room.len());
        let mut part = ReadBuf::new(&mut room[..count]);
        ready!(self.socket.poll_bytes(cx, &mut part))?;
        into.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl<T: FnMut(bool) + Unpin> AsyncRead for Io<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = into.filled().len();
        if this.frames.begun > 0 && this.frames.is_between() && !this.insert.is_empty() {
            this.first = std::mem::take(&mut this.insert);
        }
        if !this.first.is_empty() {
            let count = this.first.len().min(into.remaining());
            into.put_slice(&this.first[..count]);
            this.first.advance(count);
        } else if !this.insert.is_empty() {
            ready!(this.poll_before_insert(cx, into))?;
        } else {
            ready!(this.socket.poll_bytes(cx, into))?;
        }
        let came = &into.filled()[before..];
        if !came.is_empty() {
            this.frames.feed(came);
            (this.told)(this.frames.is_between());
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Unpin> AsyncWrite for Io<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.socket.poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_shutdown(cx)
    }
}

/// Where the frames that come begin and end. It only counts: what they mean, and whether they may be, is for `h2` to say.
#[derive(Debug)]
struct Frames {
    /// What is left of a payload.
    payload: usize,
    head: [u8; FRAME_HEAD_BYTES],
    /// Of which so much is here.
    head_bytes: usize,
    /// A list of fields has begun and goes on in the next frame.
    in_fields: bool,
    /// Frames whose head has come.
    begun: u64,
}

impl Default for Frames {
    fn default() -> Frames {
        Frames { payload: PREFACE.len(), head: [0; FRAME_HEAD_BYTES], head_bytes: 0, in_fields: false, begun: 0 }
    }
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let count = self.payload.min(bytes.len());
                self.payload -= count;
                bytes = &bytes[count..];
                continue;
            }
            let count = bytes.len().min(FRAME_HEAD_BYTES - self.head_bytes);
            self.head[self.head_bytes..][..count].copy_from_slice(&bytes[..count]);
            self.head_bytes += count;
            bytes = &bytes[count..];
            if self.head_bytes == FRAME_HEAD_BYTES {
                let [high, middle, low, kind, flags, ..] = self.head;
                self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                if matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
                    self.in_fields = flags & END_HEADERS == 0;
                }
                self.head_bytes = 0;
                self.begun += 1;
            }
        }
    }

    /// What comes at least before the next thing begins.
    fn missing(&self) -> usize {
        if self.payload > 0 { self.payload } else { FRAME_HEAD_BYTES - self.head_bytes }
    }

    /// Nothing has begun that is not whole.
    fn is_between(&self) -> bool {
        self.payload == 0 && self.head_bytes == 0 && !self.in_fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn what_has_begun_is_told_from_what_is_whole_however_it_comes() {
        let whole = |parts: &[Vec<u8>]| [PREFACE.to_vec(), parts.concat()].concat();
        let settings = frame(0x4, 0, &[]);
        for (bytes, between) in [
            (PREFACE[..10].to_vec(), false),
            (PREFACE.to_vec(), true),
            (whole(std::slice::from_ref(&settings)), true),
            (whole(&[settings.clone(), frame(HEADERS, END_HEADERS, b"fields")]), true),
            (whole(&[settings.clone(), frame(HEADERS, 0, b"fields")]), false),
            (whole(&[settings.clone(), frame(HEADERS, 0, b"a"), frame(CONTINUATION, 0, b"b")]), false),
            (whole(&[settings.clone(), frame(HEADERS, 0, b"a"), frame(CONTINUATION, END_HEADERS, b"b")]), true),
            (whole(&[settings.clone(), frame(0, 0, b"data")[..11].to_vec()]), false),
            (whole(&[settings.clone(), settings[..5].to_vec()]), false),
        ] {
            for size in 1..=bytes.len() {
                let mut frames = Frames::default();
                bytes.chunks(size).for_each(|piece| frames.feed(piece));
                assert_eq!(frames.is_between(), between, "{bytes:?} by {size}");
            }
        }
    }
}
