//! What waits to be sent, of all streams together.
//!
//! A stream's own queue is bounded, and thousands of bounded queues are not: a peer that gives credit to each stream and none to
//! the connection would have us hold them all. So the sum has a bound too, and streams that meet it stand in line. Whoever
//! is called from the line has room kept for it, nobody passes the line, and a place that is not used calls the next.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::limits::{DATA_CHUNK_BYTES, SEND_QUEUE_BYTES};
use crate::{Event, RequestId};

use super::Connection;
use super::streams::{Stream, Wait};

#[derive(Debug)]
pub(super) struct SendBudget {
    limit: usize,
    /// Body bytes that wait, of all live streams.
    queued: usize,
    /// Encoded trailers that wait behind bodies.
    trailers: usize,
    /// Streams with [`Wait::Line`], longest wait first.
    line: VecDeque<u64>,
    /// Streams with [`Wait::Called`].
    called: usize,
}

impl SendBudget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, queued: 0, trailers: 0, line: VecDeque::new(), called: 0 }
    }

    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    pub(super) fn trailers(&self) -> usize {
        self.trailers
    }

    /// What is left for those that were not called. With nothing queued nothing would ever call again, so no room is kept then: a driver
    /// that does not use its turn holds nobody up.
    fn spare(&self) -> usize {
        if self.queued == 0 {
            return self.limit;
        }
        self.limit.saturating_sub(self.queued).saturating_sub(self.called.saturating_mul(SEND_QUEUE_BYTES))
    }

    /// Body bytes that a stream which never waited may queue: none while others stand in line.
    pub(super) fn room_for_new(&self) -> usize {
        if self.line.is_empty() { self.spare() } else { 0 }
    }

    /// Body bytes that a stream may queue now.
    pub(super) fn room(&self, stream: &Stream) -> usize {
        let left = match stream.wait {
            Wait::Called => self.limit.saturating_sub(self.queued),
            Wait::Line => 0,
            Wait::No | Wait::Credit => self.room_for_new(),
        };
        stream.room().min(left)
    }

    /// The driver met a room of 0: it will be told when there is some.
    pub(super) fn wait(&mut self, id: u64, stream: &mut Stream) {
        if stream.room() == 0 {
            self.leave(id, stream);
            stream.wait = Wait::Credit;
            return;
        }
        match std::mem::replace(&mut stream.wait, Wait::Line) {
            Wait::Line => {}
            Wait::No | Wait::Credit => self.line.push_back(id),
            // Others were called at the same time and took it all: it was the first and stays the first.
            Wait::Called => {
                self.called -= 1;
                self.line.push_front(id);
            }
        }
    }

    /// A stream waits for nothing any more.
    pub(super) fn leave(&mut self, id: u64, stream: &mut Stream) {
        match std::mem::replace(&mut stream.wait, Wait::No) {
            Wait::Called => self.called -= 1,
            Wait::Line => self.line.retain(|waiting| *waiting != id),
            Wait::No | Wait::Credit => {}
        }
    }

    pub(super) fn queue(&mut self, stream: &mut Stream, data: Bytes) {
        self.queued += data.len();
        stream.queue(data);
    }

    pub(super) fn put_trailers(&mut self, stream: &mut Stream, trailers: Vec<u8>) {
        self.trailers += trailers.len();
        stream.trailers = Some(trailers);
    }

    /// A stream sent: `before` is what [`Stream::waiting`] said of it.
    pub(super) fn sent(&mut self, before: (usize, usize), stream: &Stream) {
        let (queued, trailers) = stream.waiting();
        self.queued -= before.0 - queued;
        self.trailers -= before.1 - trailers;
    }

    /// What a stream has queued will not be sent.
    pub(super) fn forget(&mut self, id: u64, stream: &mut Stream) {
        let (queued, trailers) = stream.waiting();
        self.queued -= queued;
        self.trailers -= trailers;
        self.leave(id, stream);
    }

    /// The next of the line, if there is room for a frame.
    fn call(&mut self) -> Option<u64> {
        if self.line.is_empty() || self.spare() < DATA_CHUNK_BYTES {
            return None;
        }
        let id = self.line.pop_front()?;
        self.called += 1;
        Some(id)
    }

    /// Panics when the line and the states of the streams do not agree. `lined`, `called`: as the streams say it.
    pub(super) fn audit(&self, lined: usize, called: usize) {
        assert_eq!((self.line.len(), self.called), (lined, called), "the line");
        assert!(self.line.is_empty() || self.spare() < DATA_CHUNK_BYTES, "the line was forgotten");
    }
}

impl Connection {
    /// Room for more in this stream's own queue: its driver is told, or stands in line for the connection's.
    pub(super) fn tell_room(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.wait != Wait::Credit || stream.room() == 0 {
            return;
        }
        if self.budget.room(stream) == 0 {
            self.budget.wait(id, stream);
        } else {
            stream.wait = Wait::No;
            self.tell(id, |token| Event::Writable { id: RequestId(id), token });
        }
    }

    /// The send budget has room, or somebody left the line.
    pub(super) fn call_waiting(&mut self) {
        while let Some(id) = self.budget.call() {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.wait = Wait::Called;
                self.tell(id, |token| Event::Writable { id: RequestId(id), token });
            }
        }
    }

    /// Bytes of heads, control frames and trailers that wait: what no credit bounds.
    pub(super) fn small_waiting(&self) -> usize {
        self.outbox.pending() + self.budget.trailers()
    }
}
