//! The state of one stream.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::Token;
use crate::limits::{COPY_BELOW_BYTES, SEND_QUEUE_BYTES, SMALL_PARTS};

/// What we still send on a stream.
///
/// ```text
///            server: respond          END queued           END handed out
///   Head ─────────────────────► Body ────────────► Ending ───────────────► Ended
///    │  └─ respond with a whole inline body ───────────────────────────────► ▲
///    │                            │                  └─ client: the server wants no more ──► Ended
///    │    client: open ──────────►│
///    │                            └─ client: the server wants no more ──► Stopped
///    └─ nack, error, cancel: the stream is gone
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SendState {
    /// The answer's head has not been given.
    Head,
    Body,
    /// Nothing more is taken, not all is sent.
    Ending,
    Ended,
    /// The peer wants no more of it.
    Stopped,
}

/// What the peer still sends on a stream.
///
/// ```text
///             RESPONSE             END
///   Head ──────────────► Body ────────────► Ended
///    (client)             │                  ▲
///                         │ server: no longer needed
///                         └────► Discarding ─┘ END
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RecvState {
    Head,
    Body,
    Ended,
    /// What comes is dropped.
    Discarding,
}

/// What a driver that met a room of 0 waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    No,
    /// Credit, or room in its own queue.
    Credit,
    /// Room in the send budget of the connection.
    Line,
    /// It was told of room in the budget, which is kept for it.
    Called,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) token: Token,
    pub(super) send: SendState,
    pub(super) recv: RecvState,

    /// Body bytes accepted from the driver and not yet sent.
    pub(super) queue: VecDeque<Bytes>,
    pub(super) queued: usize,
    /// The next DATA is the first since the queue was last empty.
    pub(super) first: bool,
    /// The encoded trailer block, to be sent behind the queue.
    pub(super) trailers: Option<Vec<u8>>,
    /// Body bytes that the peer lets us send.
    pub(super) credit: u64,
    /// It stands in one of the lists of the round robin.
    pub(super) listed: bool,
    /// It stands in the list of those that have nothing but their end to send.
    pub(super) ending: bool,
    /// What is left of this stream's turn.
    pub(super) deficit: isize,
    /// The driver met a room of 0 and waits for Writable.
    pub(super) wait: Wait,

    /// What the peer may have unacknowledged at most.
    pub(super) window: u32,
    /// Body bytes that the peer may still send.
    pub(super) granted: u64,
    /// Came and not yet consumed by the app.
    pub(super) unconsumed: usize,
    /// Consumed, not yet given back.
    pub(super) unreturned: u32,
    /// Small parts that were delivered since the app had last taken all.
    pub(super) parts: u32,
    /// What of `unconsumed` waits in one piece, since the driver has so many small parts already.
    pub(super) held: BytesMut,
    /// The last DATA that came was larger than a small call's body: a small one that follows is its tail.
    pub(super) after_large: bool,
    /// A DATA frame came: the window counts as memory.
    pub(super) counted: bool,

    pub(super) opened: Instant,
    /// Where the REQUEST begins in the stream of small frames.
    pub(super) request_at: u64,
    /// Numbers of the REQUEST's event and of the last one.
    pub(super) first_event: u64,
    pub(super) last_event: u64,
    /// The driver is done with it: no more events.
    pub(super) silent: bool,
}

impl Stream {
    pub(super) fn new(send: SendState, recv: RecvState, credit: u32, window: u32, now: Instant) -> Self {
        Self {
            token: Token::default(),
            send,
            recv,
            queue: VecDeque::new(),
            queued: 0,
            first: false,
            trailers: None,
            credit: u64::from(credit),
            listed: false,
            ending: false,
            deficit: 0,
            wait: Wait::No,
            window,
            granted: u64::from(window),
            unconsumed: 0,
            unreturned: 0,
            parts: 0,
            held: BytesMut::new(),
            after_large: false,
            counted: false,
            opened: now,
            request_at: 0,
            first_event: 0,
            last_event: 0,
            silent: false,
        }
    }

    /// Both directions are over.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.send, SendState::Ended | SendState::Stopped)
            && matches!(self.recv, RecvState::Ended | RecvState::Discarding)
    }

    /// There is a body frame that may be sent now, as far as this stream's credit goes.
    pub(super) fn sendable(&self) -> bool {
        self.queued > 0 && self.credit > 0
    }

    /// Only trailers or an empty DATA with END are left: they need neither credit nor flight.
    pub(super) fn at_end(&self) -> bool {
        self.queued == 0 && self.send == SendState::Ending
    }

    /// Body bytes that may be queued now, as far as this stream alone goes.
    pub(super) fn room(&self) -> usize {
        if self.send != SendState::Body {
            return 0;
        }
        let credit = usize::try_from(self.credit).unwrap_or(usize::MAX);
        credit.min(SEND_QUEUE_BYTES).saturating_sub(self.queued)
    }

    /// Bytes of body and of trailers that wait to be sent.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.queued, self.trailers.as_ref().map_or(0, Vec::len))
    }

    pub(super) fn queue(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.first |= self.queued == 0;
            self.queued += data.len();
            self.queue.push_back(data);
        }
    }

    /// What of a DATA payload is delivered now: all, nothing, or at the end all that was held.
    pub(super) fn part(&mut self, data: Bytes, end: bool) -> Option<Bytes> {
        if !self.held.is_empty() {
            self.held.extend_from_slice(&data);
            return end.then(|| self.take_held());
        }
        if data.len() < COPY_BELOW_BYTES && !end {
            if self.parts == SMALL_PARTS {
                self.held.extend_from_slice(&data);
                return None;
            }
            self.parts += 1;
        }
        Some(data)
    }

    pub(super) fn take_held(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }

    /// The driver has given its END and has been told the peer's: what happens on the way to the peer is not its concern
    /// any more, and its token may stand for something else by then.
    pub(super) fn silence_if_done(&mut self) {
        if self.recv == RecvState::Ended && matches!(self.send, SendState::Ending | SendState::Ended) {
            self.silent = true;
        }
    }

    /// The peer wants no more: drops what has not been sent.
    pub(super) fn stop(&mut self) {
        self.send = if self.send == SendState::Ending { SendState::Ended } else { SendState::Stopped };
        self.queue = VecDeque::new();
        self.queued = 0;
        self.trailers = None;
    }
}
