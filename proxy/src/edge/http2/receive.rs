//! The receiving half of a stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http2::{Broken, Reason, ResponseHead};

use super::Session;
use crate::call::{Body, BodyStream, Part};
use crate::edge::fields;
use crate::edge::receive::{Side, take_what_is_here};
use crate::error::Error;

/// What comes on a stream. Dropped before its end, it tells the other side that nobody reads.
#[derive(Debug)]
pub struct Receiver {
    session: Rc<Session>,
    stream: u32,
}

impl Receiver {
    pub(super) fn new(session: &Rc<Session>, stream: u32) -> Receiver {
        Receiver { session: Rc::clone(session), stream }
    }

    /// The answer's head, and whether that is all of it.
    pub async fn answer(&mut self) -> Result<(ResponseHead, bool), Broken> {
        poll_fn(|cx| {
            let mut inner = self.session.inner.borrow_mut();
            let Some(slot) = inner.slot(self.stream) else { return Poll::Ready(Err(Broken::NotBegun)) };
            match (slot.answer.take(), slot.broken) {
                (Some(answer), _) => Poll::Ready(Ok(answer)),
                (None, Some(why)) => Poll::Ready(Err(why)),
                (None, None) => {
                    slot.receiver.wait(cx);
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The body: whole when all of it is here already and it is not long, else as a stream.
    pub async fn gather(self, side: Side) -> Result<Body, Error> {
        take_what_is_here(Receiving { receiver: self, side }).await
    }

    /// All that comes on the stream, however long it lasts, untouched until it is asked for.
    pub fn receive(self, side: Side) -> Pin<Box<dyn BodyStream>> {
        Box::pin(Receiving { receiver: self, side })
    }

    /// The next part; `None` after the last. Asking says that the part before has been passed on.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Broken>>> {
        let mut inner = self.session.inner.borrow_mut();
        let inner = &mut *inner;
        let Some(slot) = inner.slot(self.stream) else { return Poll::Ready(None) };
        let lent = std::mem::take(&mut slot.lent);
        let part = slot.parts.pop_front();
        match &part {
            Some(Part::Data(data)) => slot.lent = data.len(),
            Some(Part::Trailers(_)) => {}
            // What came whole stays whole, whatever happens to the stream afterwards.
            None if slot.is_received => {}
            None if slot.broken.is_some() => return Poll::Ready(slot.broken.map(Err)),
            None => slot.receiver.wait(cx),
        }
        let is_over = slot.is_received;
        if lent > 0 {
            inner.http2.release(self.stream, lent);
            if inner.http2.wants_transmit() {
                inner.wake_driver();
            }
        }
        match part {
            None if !is_over => Poll::Pending,
            part => Poll::Ready(part.map(Ok)),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        {
            let mut inner = self.session.inner.borrow_mut();
            let inner = &mut *inner;
            if let Some(slot) = inner.slot(self.stream) {
                let unread = slot.parts.iter().map(|part| if let Part::Data(data) = part { data.len() } else { 0 });
                let unread = unread.sum::<usize>() + std::mem::take(&mut slot.lent);
                slot.parts.clear();
                let is_over = slot.is_received || slot.broken.is_some();
                inner.http2.release(self.stream, unread);
                match self.session.is_client() {
                    _ if is_over => {}
                    true => inner.reset(self.stream, Reason::CANCEL),
                    // It may still be answered.
                    false => inner.http2.stop_reading(self.stream),
                }
                if inner.http2.wants_transmit() {
                    inner.wake_driver();
                }
            }
        }
        self.session.let_go(self.stream, |slot| &mut slot.receiver);
    }
}

/// A body that goes on arriving.
#[derive(Debug)]
struct Receiving {
    receiver: Receiver,
    side: Side,
}

impl BodyStream for Receiving {
    fn poll_part(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        let side = self.side;
        self.receiver.poll_part(cx).map(|part| {
            part.map(|part| match part {
                Ok(Part::Trailers(mut trailers)) => {
                    trailers.retain(|field| fields::is_trailer(field.name));
                    Ok(Part::Trailers(trailers))
                }
                Ok(data) => Ok(data),
                Err(why) => Err(side.broke_off(matches!(why, Broken::Malformed(_)), &why)),
            })
        })
    }
}
