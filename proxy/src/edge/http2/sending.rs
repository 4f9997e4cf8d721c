//! A message's body on its way out on a stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;

use super::to_map;
use crate::call::{BodyStream, Part};
use crate::edge::fields;
use crate::edge::sending::{Unsent, Watch};

/// Sends a body that is all here, and with it the end. What the other side does not take yet waits in the connection: it is
/// small, and nobody has to wait for it.
pub fn send_whole(stream: &mut SendStream<Bytes>, body: Bytes) -> Result<(), Unsent> {
    stream.send_data(body, true).map_err(broken)
}

/// A streamed body being sent. Drop it before its end, and the stream is reset.
pub struct Sending<W: Watch> {
    stream: SendStream<Bytes>,
    source: Option<Pin<Box<dyn BodyStream>>>,
    /// Taken from the source and not sent yet.
    pending: Bytes,
    watch: W,
}

impl<W: Watch> Sending<W> {
    /// Sends what `source` gives, within the stream's credit.
    pub fn new(stream: SendStream<Bytes>, source: Pin<Box<dyn BodyStream>>, watch: W) -> Sending<W> {
        Sending { stream, source: Some(source), pending: Bytes::new(), watch }
    }

    /// The stream itself, to say how it ends.
    pub fn stream(&mut self) -> &mut SendStream<Bytes> {
        &mut self.stream
    }

    /// Sends on. `Ready`: all of it is with the connection.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        let result = ready!(self.poll_on(cx));
        self.watch.ended(result.as_ref().err());
        Poll::Ready(result)
    }

    fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        loop {
            while !self.pending.is_empty() {
                let room = ready!(self.poll_room(cx))?;
                let piece = self.pending.split_to(room.min(self.pending.len()));
                self.stream.send_data(piece, false).map_err(broken)?;
            }
            let Some(source) = &mut self.source else { return Poll::Ready(Ok(())) };
            let Poll::Ready(part) = source.as_mut().poll_part(cx) else {
                // While the source is silent, the other side may give the stream up.
                return match ready!(self.stream.poll_reset(cx)) {
                    Ok(reason) => Poll::Ready(Err(broken(reason.into()))),
                    Err(error) => Poll::Ready(Err(broken(error))),
                };
            };
            match part {
                Some(Ok(Part::Data(data))) => {
                    self.watch.passed(data.len());
                    self.pending = data;
                    continue;
                }
                Some(Ok(Part::Trailers(trailers))) => {
                    self.watch.trailers(&trailers);
                    let map = to_map(trailers, fields::is_trailer)
                        .map_err(|what| Unsent::Body(http1::Refusal::Syntax(what)))?;
                    self.stream.send_trailers(map).map_err(broken)?;
                }
                None => self.stream.send_data(Bytes::new(), true).map_err(broken)?,
                Some(Err(error)) => return Poll::Ready(Err(Unsent::Source(error))),
            }
            self.source = None;
        }
    }

    /// How much may be sent, more than nothing.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Unsent>> {
        self.stream.reserve_capacity(self.pending.len());
        loop {
            // `poll_capacity` tells of changes only.
            match self.stream.capacity() {
                0 => {}
                room => return Poll::Ready(Ok(room)),
            }
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(Unsent::Socket(io::ErrorKind::BrokenPipe.into()))),
            }
        }
    }
}

fn broken(error: h2::Error) -> Unsent {
    Unsent::Socket(io::Error::other(error))
}
