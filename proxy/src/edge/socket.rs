//! An app's connection: reads heads and bodies, writes, counts bytes.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http1::{Body, Framing, HeadScan, Piece, Refusal};
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::read_error::ReadError;
use super::scratch::{LARGE_PIECE_BYTES, Scratch};
use super::stream::Stream;
use crate::metrics::ByFlow;

/// A body is read in pieces of this size at first, and of up to [`LARGE_PIECE_BYTES`] while it keeps filling them.
const PIECE_BYTES: usize = 16 * 1024;
/// What a caller may send ahead while its call is under way.
const AHEAD_BYTES: usize = 64 * 1024;
/// How long a caller that was refused may take to read that, and to stop sending.
const LINGER: Duration = Duration::from_secs(1);

/// A connection with an app.
#[derive(Debug)]
pub struct Socket {
    stream: RefCell<Stream>,
    input: RefCell<Input>,
    scratch: Scratch,
    received: IntCounter,
    sent: IntCounter,
}

/// What has arrived.
#[derive(Debug)]
struct Input {
    /// Read and not used yet.
    buffer: BytesMut,
    scan: HeadScan,
    /// The message under way.
    body: Body,
    announced: Option<u64>,
    /// How much of a body to read at once.
    piece: usize,
    /// Nobody reads the rest of the body.
    abandoned: bool,
    /// Whoever waits for the body's end.
    waits_for_end: Option<Waker>,
}

/// What [`Socket::poll_head`] found.
#[derive(Debug)]
pub enum Arrived<T> {
    /// A head, as the caller read it.
    Head(T),
    /// The connection ended before a byte of one.
    Closed,
}

impl Socket {
    /// Takes a connection over, on which `scan` looks for heads. Its bytes are counted into `bytes`.
    pub fn new(stream: Stream, scan: HeadScan, scratch: &Scratch, bytes: &ByFlow) -> Socket {
        Socket {
            stream: RefCell::new(stream),
            input: RefCell::new(Input {
                buffer: BytesMut::new(),
                scan,
                body: Body::new(Framing::None, 0),
                announced: None,
                piece: PIECE_BYTES,
                abandoned: false,
                waits_for_end: None,
            }),
            scratch: scratch.clone(),
            received: bytes.received.clone(),
            sent: bytes.sent.clone(),
        }
    }

    /// Waits for the head of the next message, of at most `max` bytes, and hands it to `read`, with the number of its fields.
    ///
    /// `arrived` is called when bytes have come.
    pub fn poll_head<T>(
        &self,
        cx: &mut Context<'_>,
        max: usize,
        arrived: impl FnMut(),
        read: impl FnOnce(&[u8], usize) -> T,
    ) -> Poll<Result<Arrived<T>, ReadError>> {
        let find = |scan: &mut HeadScan, bytes: &[u8]| {
            let found = scan.find(bytes, max)?;
            Ok(found.map(|found| (found.range.end, (found.range.start, found.fields))))
        };
        self.poll_beginning(cx, arrived, find, |bytes, (start, fields)| read(&bytes[start..], fields))
    }

    /// Waits for the first bytes of the next message, where these say how it goes on. `arrived` is called when bytes have come.
    pub fn poll_prefix<const N: usize>(
        &self,
        cx: &mut Context<'_>,
        arrived: impl FnMut(),
    ) -> Poll<Result<Arrived<[u8; N]>, ReadError>> {
        let find = |_: &mut HeadScan, bytes: &[u8]| Ok(bytes.first_chunk().map(|prefix| (N, *prefix)));
        self.poll_beginning(cx, arrived, find, |_, prefix| prefix)
    }

    /// Reads on until `find` finds the beginning of a message, and says how long that is; `read` makes something of it. (Two steps: what is
    /// read is large, and the less it is moved the better.)
    #[inline]
    fn poll_beginning<F, T>(
        &self,
        cx: &mut Context<'_>,
        mut arrived: impl FnMut(),
        mut find: impl FnMut(&mut HeadScan, &[u8]) -> Result<Option<(usize, F)>, Refusal>,
        read: impl FnOnce(&[u8], F) -> T,
    ) -> Poll<Result<Arrived<T>, ReadError>> {
        let mut input = self.input.borrow_mut();
        let input = &mut *input;
        loop {
            if !input.buffer.is_empty() {
                if let Some((end, found)) = find(&mut input.scan, &input.buffer)? {
                    let result = read(&input.buffer[..end], found);
                    input.buffer.advance(end);
                    return Poll::Ready(Ok(Arrived::Head(result)));
                }
                input.buffer.reserve(PIECE_BYTES);
                match ready!(self.poll_fill(cx, &mut input.buffer))? {
                    0 => return Poll::Ready(Err(ReadError::Refused(Refusal::Truncated))),
                    _ => continue,
                }
            }
            // Most heads come in one piece: read where they lie, nothing is kept.
            let mut scratch = self.scratch.bytes();
            let count = ready!(self.poll_read(cx, &mut scratch))?;
            if count == 0 {
                return Poll::Ready(Ok(Arrived::Closed));
            }
            arrived();
            let bytes = &scratch[..count];
            match find(&mut input.scan, bytes)? {
                Some((end, found)) => {
                    let result = read(&bytes[..end], found);
                    input.buffer.extend_from_slice(&bytes[end..]);
                    return Poll::Ready(Ok(Arrived::Head(result)));
                }
                None => input.buffer.extend_from_slice(bytes),
            }
        }
    }

    /// The head that was read has a body like this.
    pub fn begin_body(&self, framing: Framing, trailer_bytes: usize) {
        let mut input = self.input.borrow_mut();
        input.body = Body::new(framing, trailer_bytes);
        input.announced = input.body.left();
        input.piece = PIECE_BYTES;
        input.abandoned = false;
    }

    /// Nobody reads the rest of the body.
    pub fn abandon_body(&self) {
        let mut input = self.input.borrow_mut();
        if !input.body.is_ended() {
            input.abandoned = true;
            input.wake_waiting();
        }
    }

    /// The next piece of the body; `None` after the last.
    pub fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, ReadError>> {
        let mut input = self.input.borrow_mut();
        let input = &mut *input;
        loop {
            if let Some(piece) = input.body.next(&mut input.buffer)? {
                input.announce_end(&self.scratch);
                return Poll::Ready(Ok(Some(piece)));
            }
            if input.body.is_ended() {
                input.announce_end(&self.scratch);
                return Poll::Ready(Ok(None));
            }
            ready!(self.poll_more(cx, input))?;
        }
    }

    /// Waits until all of a body of known length is here, and takes it in one piece.
    pub fn poll_whole(&self, cx: &mut Context<'_>, length: usize) -> Poll<Result<Option<Piece>, ReadError>> {
        let mut input = self.input.borrow_mut();
        let input = &mut *input;
        while input.buffer.len() < length {
            input.piece = length - input.buffer.len();
            ready!(self.poll_more(cx, input))?;
        }
        Poll::Ready(Ok(input.body.next(&mut input.buffer)?))
    }

    /// What is left of the body, where it is known.
    pub fn body_left(&self) -> Option<u64> {
        self.input.borrow().body.left()
    }

    /// The length of the body that its head announced.
    pub fn body_announced(&self) -> Option<u64> {
        self.input.borrow().announced
    }

    /// Nothing of the message is still to come.
    pub fn is_message_over(&self) -> bool {
        self.input.borrow().body.is_ended()
    }

    /// Bytes as they come, those first that are here already: hands them to `take` where they lie. Gives their number; 0: it is closed.
    pub fn poll_slice(&self, cx: &mut Context<'_>, take: impl FnOnce(&[u8])) -> Poll<io::Result<usize>> {
        // Taken out of a connection that was read for messages before, and never filled again.
        let first = std::mem::take(&mut self.input.borrow_mut().buffer);
        if !first.is_empty() {
            take(&first);
            return Poll::Ready(Ok(first.len()));
        }
        let mut scratch = self.scratch.bytes();
        let count = ready!(self.poll_read(cx, &mut scratch))?;
        take(&scratch[..count]);
        Poll::Ready(Ok(count))
    }

    /// More bytes, behind those in `buffer`, as many as it has room for. Gives their number; 0: the connection is closed.
    pub fn poll_onto(&self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        let first = std::mem::take(&mut self.input.borrow_mut().buffer);
        if !first.is_empty() {
            buffer.extend_from_slice(&first);
            return Poll::Ready(Ok(first.len()));
        }
        self.poll_fill(cx, buffer)
    }

    /// Bytes are here that belong to no message yet.
    pub fn has_surplus(&self) -> bool {
        !self.input.borrow().buffer.is_empty()
    }

    /// Resolves when the other side has closed, or its connection broke. What it sends ahead is kept, within bounds.
    pub fn poll_hangup(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Until then, whoever reads the body learns it.
        ready!(self.poll_message_over(cx));
        self.poll_hangup_before_body(cx)
    }

    /// The same, as long as nobody reads a body that has been begun.
    pub fn poll_hangup_before_body(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut input = self.input.borrow_mut();
        let input = &mut *input;
        let mut scratch = self.scratch.bytes();
        while input.buffer.len() < AHEAD_BYTES {
            match ready!(self.poll_read(cx, &mut scratch)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                // The rest of a body that nobody wants.
                Ok(_) if input.abandoned => {}
                Ok(count) => input.buffer.extend_from_slice(&scratch[..count]),
            }
        }
        Poll::Pending
    }

    /// Resolves when all of the message has been read, or nobody reads it any more.
    pub fn poll_message_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut input = self.input.borrow_mut();
        if input.body.is_ended() || input.abandoned {
            return Poll::Ready(());
        }
        input.waits_for_end = Some(cx.waker().clone());
        Poll::Pending
    }

    /// See [`Stream::is_stale`].
    pub fn is_stale(&self) -> bool {
        self.stream.borrow_mut().is_stale()
    }

    /// See [`Stream::poll_stale`].
    pub fn poll_stale(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.borrow_mut().poll_stale(cx)
    }

    /// Writes what the socket takes of `slices` now.
    pub fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.borrow_mut();
        let stream = Pin::new(&mut *stream);
        let count = match slices {
            // The plain call is the cheaper one.
            [slice] => ready!(stream.poll_write(cx, slice))?,
            slices => ready!(stream.poll_write_vectored(cx, slices))?,
        };
        self.sent.inc_by(count as u64);
        Poll::Ready(Ok(count))
    }

    /// Says that nothing more comes, and gives the other side a moment to read and to stop: a socket closed with input
    /// unread is reset, which takes the answer from who has not read it yet.
    pub async fn linger(&self) {
        let closing = async {
            poll_fn(|cx| self.poll_shutdown(cx)).await?;
            while poll_fn(|cx| self.poll_read(cx, &mut self.scratch.bytes())).await? > 0 {}
            io::Result::Ok(())
        };
        // However it ends, it is closed now.
        let _ = tokio::time::timeout(LINGER, closing).await;
    }

    /// Says that nothing more comes. The other side may go on sending.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)
    }

    /// Closed from now on, the connection is reset ([`Stream::reset`]).
    pub fn reset(&self) {
        self.stream.borrow().reset();
    }

    /// Reads more of a body.
    fn poll_more(&self, cx: &mut Context<'_>, input: &mut Input) -> Poll<Result<(), ReadError>> {
        let wanted = input.body.left().and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
        let wanted = wanted.saturating_sub(input.buffer.len()).clamp(1, input.piece);
        self.scratch.reserve(&mut input.buffer, wanted);
        let count = ready!(self.poll_fill(cx, &mut input.buffer))?;
        if count == 0 {
            return Poll::Ready(input.body.handle_close().map_err(ReadError::from));
        }
        if count >= input.piece {
            input.piece = (input.piece * 2).min(LARGE_PIECE_BYTES);
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn poll_read(&self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(into);
        ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, &mut buffer))?;
        let count = buffer.filled().len();
        self.received.inc_by(count as u64);
        Poll::Ready(Ok(count))
    }

    fn poll_fill(&self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.borrow_mut();
        let count = ready!(pin!(stream.read_buf(into)).poll(cx))?;
        self.received.inc_by(count as u64);
        Poll::Ready(Ok(count))
    }
}

impl Input {
    fn announce_end(&mut self, scratch: &Scratch) {
        if self.body.is_ended() {
            if self.piece > PIECE_BYTES && self.buffer.is_empty() {
                // What a long body made it grow to is not for an idle connection to hold.
                scratch.keep(std::mem::take(&mut self.buffer));
            }
            self.wake_waiting();
        }
    }

    fn wake_waiting(&mut self) {
        if let Some(waker) = self.waits_for_end.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests;
