//! What waits for the driver.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::{CloseReason, Event, Hello, RequestId, Token};

#[derive(Debug, Default)]
pub(super) struct Events {
    hello: Option<Hello>,
    queue: VecDeque<Event>,
    /// What the requests in the queue take, and all heads and trailers in it, in bytes.
    requests: usize,
    heads: usize,
    closed: Option<CloseReason>,
    /// How many were ever queued and taken out: the number of an event is its place in this count.
    pushed: u64,
    polled: u64,
    /// Streams that the driver ended while events of them were waiting; those are passed over. Emptied with the queue, and never longer than it.
    muted: HashSet<u64, ahash::RandomState>,
    /// Tokens that were set while events waited, which may be of those streams. Emptied with the queue.
    tokens: HashMap<u64, Token, ahash::RandomState>,
}

impl Events {
    pub(super) fn hello(&mut self, hello: Hello) {
        self.hello = Some(hello);
    }

    pub(super) fn close(&mut self, reason: CloseReason) {
        self.closed = Some(reason);
    }

    /// Queues an event and gives its number.
    pub(super) fn push(&mut self, event: Event) -> u64 {
        let (requests, heads) = event.memory();
        self.requests += requests;
        self.heads += heads;
        self.queue.push_back(event);
        self.pushed += 1;
        self.pushed
    }

    /// Bytes of requests that wait.
    pub(super) fn requests(&self) -> usize {
        self.requests
    }

    /// Bytes of heads and trailers that wait, requests included.
    pub(super) fn heads(&self) -> usize {
        self.heads
    }

    /// Whether the event of that number was taken by the driver.
    pub(super) fn is_polled(&self, number: u64) -> bool {
        number <= self.polled
    }

    /// Passes over the waiting events of a stream, the last of which has that number.
    pub(super) fn mute(&mut self, id: u64, last: u64) {
        if !self.is_polled(last) {
            self.muted.insert(id);
        }
    }

    /// As [`Self::mute`], for a stream that is gone already.
    pub(super) fn mute_gone(&mut self, id: u64) {
        if self.queue.iter().any(|event| event.stream() == Some(RequestId(id))) {
            self.muted.insert(id);
        }
    }

    /// Gives back memory that is not needed now.
    pub(super) fn shrink(&mut self) {
        self.queue.shrink_to_fit();
        self.muted.shrink_to_fit();
        self.tokens.shrink_to_fit();
    }

    /// Drops all that wait, since no driver ever accepted the peer.
    pub(super) fn clear(&mut self) {
        self.polled = self.pushed;
        self.queue.clear();
        (self.requests, self.heads) = (0, 0);
        self.muted.clear();
        self.tokens.clear();
    }

    /// Events of that stream which wait already shall have the token too.
    pub(super) fn set_token(&mut self, id: u64, token: Token) {
        if !self.queue.is_empty() {
            self.tokens.insert(id, token);
        }
    }

    /// The next one. `streams`: whether events of streams may be given out yet.
    pub(super) fn poll(&mut self, streams: bool) -> Option<Event> {
        if let Some(hello) = self.hello.take() {
            return Some(Event::Hello(hello));
        }
        if streams {
            // Looked at where it lies: it is large, and moved once.
            while let Some(event) = self.queue.front_mut() {
                let (requests, heads) = event.memory();
                self.polled += 1;
                self.requests -= requests;
                self.heads -= heads;
                let stream = event.stream();
                let muted = !self.muted.is_empty() && stream.is_some_and(|id| self.muted.contains(&id.0));
                if !self.tokens.is_empty()
                    && let Some(late) = stream.and_then(|id| self.tokens.get(&id.0))
                {
                    event.put_token(*late);
                }
                if !muted {
                    return self.queue.pop_front();
                }
                self.queue.pop_front();
            }
            self.muted.clear();
            self.tokens.clear();
        }
        self.closed.take().map(Event::Closed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hello.is_none() && self.closed.is_none() && self.queue.is_empty()
    }
}

impl Event {
    fn put_token(&mut self, late: Token) {
        match self {
            Self::Hello(_) | Self::Draining { .. } | Self::Closed(_) | Self::Request { .. } => {}
            Self::Response { token, .. }
            | Self::Data { token, .. }
            | Self::Trailers { token, .. }
            | Self::Writable { token, .. }
            | Self::Cancelled { token, .. }
            | Self::Nack { token, .. }
            | Self::Error { token, .. }
            | Self::Lost { token, .. } => *token = late,
        }
    }

    /// What it takes as a request, and as a head or trailers of any kind, in bytes.
    pub(super) fn memory(&self) -> (usize, usize) {
        match self {
            Self::Request { head, body, .. } => {
                let bytes = size_of::<Self>() + head.memory() + body.len();
                (bytes, bytes)
            }
            Self::Response { head, body, .. } => (0, size_of::<Self>() + head.headers.memory() + body.len()),
            Self::Trailers { trailers, .. } => (0, size_of::<Self>() + trailers.memory()),
            _ => (0, 0),
        }
    }

    /// The stream that the event is about.
    #[must_use]
    pub fn stream(&self) -> Option<RequestId> {
        match self {
            Self::Hello(_) | Self::Draining { .. } | Self::Closed(_) => None,
            Self::Request { id, .. }
            | Self::Response { id, .. }
            | Self::Data { id, .. }
            | Self::Trailers { id, .. }
            | Self::Writable { id, .. }
            | Self::Cancelled { id, .. }
            | Self::Nack { id, .. }
            | Self::Error { id, .. }
            | Self::Lost { id, .. } => Some(*id),
        }
    }
}
