//! The sending half of a stream, and a message's body on its way out.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http2::{Broken, Reason};
use wire::{Headers, Text};

use super::{Session, check};
use crate::call::{BodyStream, Part};
use crate::edge::fields;
use crate::edge::sending::{Unsent, Watch};

/// Bytes of a streamed body that are handed to the connection ahead of its socket.
const QUEUE_BYTES: usize = 64 * 1024;

/// Where a stream is answered, or where a request's body goes. Dropped before its end, it cancels the stream.
#[derive(Debug)]
pub struct Sender {
    session: Rc<Session>,
    stream: u32,
}

impl Sender {
    pub(super) fn new(session: &Rc<Session>, stream: u32) -> Sender {
        Sender { session: Rc::clone(session), stream }
    }

    /// The answer's head. `is_end`: it has no body. An error: the other side gave it up.
    pub fn respond<'a>(
        &mut self,
        status: u16,
        fields: impl Iterator<Item = Text<'a>>,
        is_end: bool,
    ) -> Result<(), Unsent> {
        self.act(is_end, |http2, stream| http2.respond(stream, status, fields, is_end))
    }

    /// A piece of the body, and perhaps its end. What the other side does not take yet waits in the connection.
    pub fn send(&mut self, data: Bytes, is_end: bool) -> Result<(), Unsent> {
        self.act(is_end, |http2, stream| http2.send(stream, data, is_end))
    }

    /// The end, with trailers.
    pub fn send_trailers(&mut self, trailers: Headers) -> Result<(), Unsent> {
        self.act(true, |http2, stream| http2.send_trailers(stream, trailers))
    }

    /// Ends the stream before its time.
    pub fn reset(&mut self, reason: Reason) {
        self.session.inner.borrow_mut().reset(self.stream, reason);
    }

    fn act(&mut self, is_end: bool, act: impl FnOnce(&mut http2::Connection, u32) -> bool) -> Result<(), Unsent> {
        let mut inner = self.session.inner.borrow_mut();
        let inner = &mut *inner;
        let is_done = act(&mut inner.http2, self.stream);
        if let Some(slot) = inner.slot(self.stream) {
            slot.is_sent |= is_end && is_done;
            if !is_done {
                return Err(broken(slot.broken.unwrap_or(Broken::Reset(Reason::CANCEL))));
            }
        }
        inner.wake_driver();
        Ok(())
    }

    /// Resolves when the stream has ended before its time.
    pub fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        let mut inner = self.session.inner.borrow_mut();
        let Some(slot) = inner.slot(self.stream) else { return Poll::Pending };
        match slot.broken {
            Some(why) => Poll::Ready(why),
            None => {
                slot.sender.wait(cx);
                Poll::Pending
            }
        }
    }

    /// Resolves when more may be sent without holding much here.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        let mut inner = self.session.inner.borrow_mut();
        let inner = &mut *inner;
        match inner.http2.queued(self.stream) {
            Some(queued) if queued < QUEUE_BYTES => return Poll::Ready(Ok(())),
            Some(_) => inner.http2.waits_below(self.stream, QUEUE_BYTES),
            None => {}
        }
        let Some(slot) = inner.slot(self.stream) else { return Poll::Pending };
        if let Some(why) = slot.broken {
            return Poll::Ready(Err(broken(why)));
        }
        slot.sender.wait(cx);
        Poll::Pending
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let is_unfinished = self.session.inner.borrow_mut().slot(self.stream).is_some_and(|slot| !slot.is_sent);
        if is_unfinished {
            self.reset(Reason::CANCEL);
        }
        self.session.let_go(self.stream, |slot| &mut slot.sender);
    }
}

/// A streamed body being sent. Drop it before its end, and the stream is reset.
pub struct Sending<W: Watch> {
    sender: Sender,
    source: Option<Pin<Box<dyn BodyStream>>>,
    watch: W,
}

impl<W: Watch> Sending<W> {
    /// Sends what `source` gives, as fast as the other side takes it.
    pub fn new(sender: Sender, source: Pin<Box<dyn BodyStream>>, watch: W) -> Sending<W> {
        Sending { sender, source: Some(source), watch }
    }

    /// The stream itself, to say how it ends.
    pub fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// Sends on. `Ready`: all of it is with the connection.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        let result = ready!(self.poll_on(cx));
        self.watch.ended(result.as_ref().err());
        Poll::Ready(result)
    }

    fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        while let Some(source) = &mut self.source {
            ready!(self.sender.poll_room(cx))?;
            let Poll::Ready(part) = source.as_mut().poll_part(cx) else {
                // While the source is silent, the other side may give the stream up.
                return self.sender.poll_broken(cx).map(|why| Err(broken(why)));
            };
            match part {
                Some(Ok(Part::Data(data))) => {
                    self.watch.passed(data.len());
                    self.sender.send(data, false)?;
                    continue;
                }
                Some(Ok(Part::Trailers(mut trailers))) => {
                    self.watch.trailers(&trailers);
                    trailers.retain(|field| fields::is_trailer(field.name));
                    check(&trailers).map_err(|what| Unsent::Body(http1::Refusal::Syntax(what)))?;
                    self.sender.send_trailers(trailers)?;
                }
                None => self.sender.send(Bytes::new(), true)?,
                Some(Err(error)) => return Poll::Ready(Err(Unsent::Source(error))),
            }
            self.source = None;
        }
        Poll::Ready(Ok(()))
    }
}

fn broken(why: Broken) -> Unsent {
    Unsent::Socket(io::Error::other(why.to_string()))
}
