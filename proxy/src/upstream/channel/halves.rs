//! The two halves of a stream, as its user holds them. Dropped before their end they cancel the stream.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use wire::{Cancel, ErrorInfo, Nack, RequestId, ResponseHead, SendError};

use super::{Channel, Slot, StreamEnd, remember};
use crate::call::Part;

/// The receiving half of a stream. Dropped early, it cancels the stream.
#[derive(Debug)]
pub struct RecvHalf {
    pub(super) channel: Rc<Channel>,
    pub(super) token: usize,
}

impl RecvHalf {
    /// The answer's head, the beginning of its body, and whether that is all.
    pub async fn response(&mut self) -> Result<(ResponseHead, Bytes, bool), StreamEnd> {
        poll_fn(|cx| {
            let mut inner = self.channel.inner.borrow_mut();
            let slot = &mut inner.slots[self.token];
            if let Some(response) = slot.response.take() {
                return Poll::Ready(Ok(response));
            }
            if let Some(end) = &slot.end {
                return Poll::Ready(Err(end.clone()));
            }
            remember(&mut slot.recv_waker, cx);
            Poll::Pending
        })
        .await
    }

    /// The next part of the body; `None` after the last. Asking says that the part before has been passed on.
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, StreamEnd>>> {
        let mut inner = self.channel.inner.borrow_mut();
        let inner = &mut *inner;
        let slot = &mut inner.slots[self.token];
        if slot.lent > 0 {
            let lent = std::mem::take(&mut slot.lent);
            inner.wire.consumed(slot.id, lent);
            // Credit to be sent, or parts that waited for these to be taken.
            if inner.wire.wants_transmit() || inner.wire.has_events() {
                inner.wake_driver();
            }
        }
        let slot = &mut inner.slots[self.token];
        if let Some(part) = slot.parts.pop_front() {
            if let Part::Data(data) = &part {
                slot.lent = data.len();
            }
            return Poll::Ready(Some(Ok(part)));
        }
        // An end that came whole stays whole, whatever happens to the other direction afterwards.
        if slot.recv.ended {
            return Poll::Ready(None);
        }
        if let Some(end) = &slot.end {
            return Poll::Ready(Some(Err(end.clone())));
        }
        remember(&mut slot.recv_waker, cx);
        Poll::Pending
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        let mut inner = self.channel.inner.borrow_mut();
        let inner = &mut *inner;
        let slot = &mut inner.slots[self.token];
        slot.recv.held = false;
        slot.parts.clear();
        let (id, lent, unfinished) = (slot.id, std::mem::take(&mut slot.lent), !slot.recv.ended);
        if lent > 0 {
            inner.wire.consumed(id, lent);
        }
        // Nobody reads any more. A client has no use for the rest; a server may still be answering.
        if unfinished {
            match self.channel.side {
                wire::Side::Client => inner.abort(self.token, Cancel::CallerGone),
                wire::Side::Server if inner.slots[self.token].send.ended => {
                    inner.abort(self.token, Cancel::NoLongerNeeded);
                }
                wire::Side::Server => {}
            }
        }
        inner.release(self.token);
    }
}

/// The sending half of a stream. Dropped before its end, it cancels the stream.
#[derive(Debug)]
pub struct SendHalf {
    pub(super) channel: Rc<Channel>,
    pub(super) token: usize,
}

impl SendHalf {
    /// Answers a request. `end`: `body` is all of it.
    pub fn respond(&mut self, head: &ResponseHead, body: Bytes, end: bool) -> Result<(), SendError> {
        self.with(|wire, slot| {
            wire.respond(slot.id, head, body, end)?;
            slot.send.ended |= end;
            Ok(())
        })
    }

    /// Says that the request was provably not executed.
    pub fn nack(self, nack: Nack) {
        self.end(|wire, id| wire.nack(id, nack));
    }

    /// Says that the request failed.
    pub fn error(self, error: ErrorInfo) {
        self.end(|wire, id| wire.error(id, error));
    }

    /// Sends all of `data`, waiting for credit as often as needed; `end`: nothing follows.
    pub async fn send(&mut self, mut data: Bytes, end: bool) -> Result<(), StreamEnd> {
        loop {
            if data.is_empty() && !end {
                return Ok(());
            }
            if data.is_empty() {
                return self.send_now(data, true);
            }
            let room = poll_fn(|cx| self.poll_room(cx)).await?;
            let piece = data.split_to(room.min(data.len()));
            let last = end && data.is_empty();
            self.send_now(piece, last)?;
            if last {
                return Ok(());
            }
        }
    }

    /// Sends the trailers, and with them the end.
    pub fn trailers(&mut self, trailers: &wire::Headers) -> Result<(), StreamEnd> {
        self.with(|wire, slot| {
            let result = wire.send_trailers(slot.id, trailers);
            slot.send.ended = true;
            match result {
                Ok(()) => Ok(()),
                Err(_) => Err(slot.end.clone().unwrap_or(StreamEnd::Cancelled(Cancel::CallerGone))),
            }
        })
    }

    /// Resolves when the stream was ended by the peer or with the connection.
    pub async fn ended(&self) -> StreamEnd {
        poll_fn(|cx| {
            let mut inner = self.channel.inner.borrow_mut();
            let slot = &mut inner.slots[self.token];
            match &slot.end {
                Some(end) => Poll::Ready(end.clone()),
                None => {
                    remember(&mut slot.send_waker, cx);
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, StreamEnd>> {
        let mut inner = self.channel.inner.borrow_mut();
        let inner = &mut *inner;
        let slot = &mut inner.slots[self.token];
        if let Some(end) = &slot.end {
            return Poll::Ready(Err(end.clone()));
        }
        match inner.wire.send_room(slot.id) {
            0 => {
                remember(&mut slot.send_waker, cx);
                Poll::Pending
            }
            room => Poll::Ready(Ok(room)),
        }
    }

    fn send_now(&mut self, data: Bytes, end: bool) -> Result<(), StreamEnd> {
        self.with(|wire, slot| match wire.send_data(slot.id, data, end) {
            Ok(()) => {
                slot.send.ended |= end;
                Ok(())
            }
            Err(_) => Err(slot.end.clone().unwrap_or(StreamEnd::Cancelled(Cancel::CallerGone))),
        })
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut wire::Connection, &mut Slot) -> T) -> T {
        let mut inner = self.channel.inner.borrow_mut();
        let inner = &mut *inner;
        let result = act(&mut inner.wire, &mut inner.slots[self.token]);
        inner.wake_driver();
        result
    }

    fn end(self, act: impl FnOnce(&mut wire::Connection, RequestId)) {
        let mut inner = self.channel.inner.borrow_mut();
        let inner = &mut *inner;
        let slot = &mut inner.slots[self.token];
        if !slot.is_over() {
            act(&mut inner.wire, slot.id);
            slot.end = Some(StreamEnd::Cancelled(Cancel::NoLongerNeeded));
            slot.wake_recv();
            inner.wake_driver();
        }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        let mut inner = self.channel.inner.borrow_mut();
        let inner = &mut *inner;
        let slot = &mut inner.slots[self.token];
        slot.send.held = false;
        if !slot.send.ended {
            inner.abort(self.token, Cancel::CallerGone);
        }
        inner.release(self.token);
    }
}
