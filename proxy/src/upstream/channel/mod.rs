//! A multiplexed connection between two sidecars: drives a [`wire::Connection`] over a [`Transport`].
//!
//! One task a channel ([`drive`]) owns the socket. Callers on the same worker reach the protocol state directly through
//! an `Rc`: they encode their frames in place and wake the driver, which sends all that has gathered in one write. No lock,
//! no message passing, no copy of a body on the way.
//!
//! ```text
//! Greeting ──HELLO accepted──▶ Ready ──DRAIN either way──▶ Draining ──last stream ends──▶ Closed
//!     └───────────── refused, timeout, transport error, GOODBYE ─────────────────────────────┘
//! ```

mod drive;
mod halves;

pub use drive::drive;
pub use halves::{RecvHalf, SendHalf};

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;
use tokio::sync::Notify;
use wire::{Cancel, CloseReason, ErrorInfo, Nack, OpenError, RequestHead, RequestId, ResponseHead, Token};

use crate::call::Part;
use crate::metrics::Metrics;

/// Bytes read from a socket at once.
pub const READ_BYTES: usize = 256 * 1024;

/// How often the end of a worker looks for channels that are still closing.
const CLOSED_LOOK: Duration = Duration::from_millis(5);

/// How a stream ended other than by its END flags.
#[derive(Debug, Clone)]
pub enum StreamEnd {
    /// The peer cancelled it.
    Cancelled(Cancel),
    /// The peer guarantees that it was not executed.
    Nack(Nack),
    /// The peer reports a failure.
    Error(ErrorInfo),
    /// The connection ended; `sent` is false if no byte of the request was handed out.
    Lost {
        /// Whether any of the request was handed to the transport.
        sent: bool,
    },
}

/// Buffers and counters that all channels of a worker share.
#[derive(Debug)]
pub struct Shared {
    scratch: RefCell<Vec<u8>>,
    pieces: RefCell<wire::Pieces>,
    metrics: Arc<Metrics>,
    waiting: Rc<Cell<usize>>,
    /// Channels whose tasks have not ended.
    driven: Cell<usize>,
}

impl Shared {
    /// Buffers for one worker.
    pub fn new(metrics: Arc<Metrics>) -> Rc<Shared> {
        Rc::new(Shared {
            scratch: RefCell::new(vec![0; READ_BYTES]),
            pieces: RefCell::default(),
            metrics,
            waiting: Rc::default(),
            driven: Cell::new(0),
        })
    }

    /// Waits until all channels have said their goodbyes, not much longer than one of them may take for it.
    pub async fn all_closed(&self) {
        let deadline = Instant::now() + drive::CLOSING + CLOSED_LOOK;
        while self.driven.get() > 0 && Instant::now() < deadline {
            tokio::time::sleep(CLOSED_LOOK).await;
        }
    }

    /// Requests of this worker that wait for a connection to the app: told to peers as load.
    pub fn waiting(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.waiting)
    }
}

/// A channel, as its callers see it.
#[derive(Debug)]
pub struct Channel {
    side: wire::Side,
    inner: RefCell<Inner>,
    state: Cell<State>,
    /// The transport holds bytes that the socket has not taken.
    unsent: Cell<bool>,
    changed: Notify,
    error: RefCell<Option<std::io::Error>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Greeting,
    Ready,
    Draining,
    Closed,
}

#[derive(Debug)]
struct Inner {
    wire: wire::Connection,
    slots: Slab<Slot>,
    driver: Option<Waker>,
    close_reason: Option<CloseReason>,
}

/// What a caller and the driver share about one stream.
#[derive(Debug)]
struct Slot {
    id: RequestId,
    response: Option<(ResponseHead, Bytes, bool)>,
    parts: VecDeque<Part>,
    /// Bytes handed to the consumer, whose credit goes back when it asks for more.
    lent: usize,
    recv: Direction,
    send: Direction,
    end: Option<StreamEnd>,
    recv_waker: Option<Waker>,
    send_waker: Option<Waker>,
}

/// One direction of a stream, and whether a half still holds it.
#[derive(Debug, Clone, Copy)]
struct Direction {
    ended: bool,
    held: bool,
}

/// A request that arrived on a channel.
#[derive(Debug)]
pub struct Incoming {
    /// The head.
    pub head: RequestHead,
    /// The whole body when `end`, else its beginning.
    pub body: Bytes,
    /// No more body follows.
    pub end: bool,
    /// The rest of the body.
    pub recv: RecvHalf,
    /// Where the answer goes.
    pub send: SendHalf,
}

impl Channel {
    /// A channel whose HELLO is still to come. `revision` is that of the table this side works with.
    pub fn new(side: wire::Side, mut config: wire::Config, revision: u64) -> Rc<Channel> {
        config.hello.revision = revision;
        let wire = wire::Connection::new(side, config, Instant::now());
        Rc::new(Channel {
            side,
            inner: RefCell::new(Inner { wire, slots: Slab::new(), driver: None, close_reason: None }),
            state: Cell::new(State::Greeting),
            unsent: Cell::new(false),
            changed: Notify::new(),
            error: RefCell::new(None),
        })
    }

    /// Resolves when the peer has been accepted (`Ok`) or the channel is closed.
    pub async fn ready(&self) -> Result<(), CloseReason> {
        loop {
            let changed = self.changed.notified();
            match self.state.get() {
                State::Ready | State::Draining => return Ok(()),
                State::Closed => return Err(self.close_reason()),
                State::Greeting => changed.await,
            }
        }
    }

    /// Resolves when the channel is closed.
    pub async fn closed(&self) -> CloseReason {
        loop {
            let changed = self.changed.notified();
            if self.state.get() == State::Closed {
                return self.close_reason();
            }
            changed.await;
        }
    }

    /// What the socket or TLS said when the transport broke.
    pub fn take_error(&self) -> Option<std::io::Error> {
        self.error.borrow_mut().take()
    }

    /// New calls may be opened.
    pub fn is_ready(&self) -> bool {
        self.state.get() == State::Ready
    }

    /// Resolves when a channel that drains has no stream any more and all of it is sent, or is closed.
    pub async fn quiet(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state.get() == State::Closed || self.is_quiet(&self.inner.borrow()) {
                return;
            }
            changed.await;
        }
    }

    fn is_quiet(&self, inner: &Inner) -> bool {
        inner.wire.live_streams() == 0 && !self.unsent.get()
    }

    /// Opens a call. `end`: `body` is all of it; else the returned [`SendHalf`] sends the rest.
    pub fn open(
        self: &Rc<Self>,
        now: Instant,
        head: &RequestHead,
        body: Bytes,
        end: bool,
    ) -> Result<(RecvHalf, Option<SendHalf>), OpenError> {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let entry = inner.slots.vacant_entry();
        let token = entry.key();
        let id = inner.wire.open(now, head, body, end, Token(token as u64))?;
        entry.insert(Slot::new(id, Direction { ended: false, held: true }, Direction { ended: end, held: !end }));
        inner.wake_driver();
        let recv = RecvHalf { channel: Rc::clone(self), token };
        let send = (!end).then(|| SendHalf { channel: Rc::clone(self), token });
        Ok((recv, send))
    }

    /// Tells the peer that no more calls are taken (server) or sent (client).
    pub fn drain(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.wire.drain();
        inner.wake_driver();
        drop(inner);
        self.leave_ready();
    }

    /// Ends the channel, with its streams.
    pub fn goodbye(&self, reason: CloseReason) {
        let mut inner = self.inner.borrow_mut();
        inner.wire.goodbye(reason);
        inner.wake_driver();
    }

    fn close_reason(&self) -> CloseReason {
        self.inner.borrow().close_reason.clone().unwrap_or(CloseReason::Transport)
    }

    fn leave_ready(&self) {
        if matches!(self.state.get(), State::Ready | State::Greeting) {
            self.state.set(State::Draining);
            self.changed.notify_waiters();
        }
    }
}

impl Inner {
    fn wake_driver(&self) {
        if let Some(waker) = &self.driver {
            waker.wake_by_ref();
        }
    }

    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        usize::try_from(token.0).ok().and_then(|key| self.slots.get_mut(key))
    }

    /// Ends a stream that the peer or the connection ended.
    fn finish(&mut self, token: Token, end: StreamEnd) {
        if let Some(slot) = self.slot(token) {
            slot.end = Some(end);
            slot.wake_recv();
            slot.wake_send();
        }
    }

    /// Ends a stream from this side, unless it is over.
    fn abort(&mut self, token: usize, code: Cancel) {
        let slot = &mut self.slots[token];
        if slot.is_over() {
            return;
        }
        slot.end = Some(StreamEnd::Cancelled(code));
        slot.wake_recv();
        slot.wake_send();
        let id = slot.id;
        self.wire.cancel(id, code);
        self.wake_driver();
    }

    /// Frees a slot that nobody holds; cancels the stream if it is not over.
    fn release(&mut self, token: usize) {
        let slot = &self.slots[token];
        if slot.recv.held || slot.send.held {
            return;
        }
        self.abort(token, Cancel::NoLongerNeeded);
        self.slots.remove(token);
    }
}

impl Slot {
    fn new(id: RequestId, recv: Direction, send: Direction) -> Slot {
        Slot {
            id,
            response: None,
            parts: VecDeque::new(),
            lent: 0,
            recv,
            send,
            end: None,
            recv_waker: None,
            send_waker: None,
        }
    }

    /// No more events come for it.
    fn is_over(&self) -> bool {
        self.end.is_some() || (self.recv.ended && self.send.ended)
    }

    fn wake_recv(&mut self) {
        if let Some(waker) = self.recv_waker.take() {
            waker.wake();
        }
    }

    fn wake_send(&mut self) {
        if let Some(waker) = self.send_waker.take() {
            waker.wake();
        }
    }
}

fn remember(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *place = Some(cx.waker().clone()),
    }
}
