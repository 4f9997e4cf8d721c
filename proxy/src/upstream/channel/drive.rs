//! The task that owns a channel's socket: reads, hands events to their streams, writes what has gathered.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use slab::Slab;
use tokio::time::Sleep;
use wire::{CloseReason, Event, Hello, Load, Token};

use super::{Channel, Direction, Incoming, Inner, RecvHalf, SendHalf, Shared, Slot, State, StreamEnd, remember};
use crate::call::Part;
use crate::metrics;
use crate::upstream::transport::Transport;

/// Reads in one turn of a driver, before others get theirs.
const READS_PER_TURN: usize = 4;
/// How long a closing channel may take to send what is left and its GOODBYE, and to see the peer close too.
pub(super) const CLOSING: Duration = Duration::from_millis(500);

/// Drives a channel until it is closed.
///
/// `on_hello` decides about the peer before anything is delivered; `on_request` takes what arrives (server side).
pub async fn drive(
    channel: Rc<Channel>,
    transport: Transport,
    shared: Rc<Shared>,
    on_hello: impl FnMut(&Hello) -> Result<(), CloseReason> + Unpin,
    on_request: impl FnMut(Incoming) + Unpin,
) -> CloseReason {
    let driven = Rc::clone(&shared);
    let _driven = Driven::new(&driven.driven);
    let mut driver = Driver {
        channel,
        transport,
        shared,
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        timer_at: None,
        transport_over: false,
        unsent: false,
        on_hello,
        on_request,
        arrived: Vec::new(),
        streams: 0,
        late_frames: 0,
    };
    driver.begin();
    let reason = poll_fn(|cx| driver.poll(cx)).await;
    let channel = Rc::clone(&driver.channel);
    driver.measure(&channel.inner.borrow());
    // What is left to say (finished answers, GOODBYE, close_notify) gets a moment; a peer that does not read is not
    // waited for.
    let _ = tokio::time::timeout(CLOSING, driver.say_goodbye()).await;
    channel.inner.borrow_mut().driver = None;
    reason
}

/// Counts a driver as long as it lives.
struct Driven<'a>(&'a Cell<usize>);

impl<'a> Driven<'a> {
    fn new(count: &'a Cell<usize>) -> Driven<'a> {
        count.set(count.get() + 1);
        Driven(count)
    }
}

impl Drop for Driven<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

struct Driver<H, R> {
    channel: Rc<Channel>,
    transport: Transport,
    shared: Rc<Shared>,
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Instant>,
    transport_over: bool,
    /// The transport holds bytes that the socket has not taken.
    unsent: bool,
    on_hello: H,
    on_request: R,
    arrived: Vec<Incoming>,
    /// What of this channel is in the metrics.
    streams: usize,
    late_frames: u64,
}

impl<H, R> Driver<H, R>
where
    H: FnMut(&Hello) -> Result<(), CloseReason> + Unpin,
    R: FnMut(Incoming) + Unpin,
{
    /// Takes what came together with the end of the handshake: no readiness of the socket will announce it.
    fn begin(&mut self) {
        let now = Instant::now();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut inner = self.channel.inner.borrow_mut();
        inner.wire.set_clock(now, u64::try_from(unix.as_micros()).unwrap_or(u64::MAX));
        let result = self.transport.take_early(&mut |plain| inner.wire.handle_slice(now, plain));
        drop(inner);
        if let Err(error) = result {
            self.transport_ended(now, Some(error));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let channel = Rc::clone(&self.channel);
        let now = Instant::now();
        remember(&mut channel.inner.borrow_mut().driver, cx);
        self.read(cx, now);
        self.events(&channel);
        for incoming in self.arrived.drain(..) {
            (self.on_request)(incoming);
        }
        self.tick(cx, now);
        self.finish_drained();
        self.write(cx, now);
        // Writing may have noticed the end of the transport, a timeout may have closed: say so to the streams.
        self.events(&channel);
        let closed = {
            let inner = channel.inner.borrow();
            self.measure(&inner);
            channel.unsent.set(self.unsent);
            if channel.state.get() == State::Draining && channel.is_quiet(&inner) {
                channel.changed.notify_waiters();
            }
            // Whatever is still to be sent: to a peer that does not read it would wait for ever.
            inner.close_reason.is_some()
        };
        if closed {
            let reason = channel.close_reason();
            channel.state.set(State::Closed);
            channel.changed.notify_waiters();
            return Poll::Ready(reason);
        }
        Poll::Pending
    }

    /// A client whose peer drains has no use for the channel once its last stream is over: the peer waits for that.
    fn finish_drained(&self) {
        let mut inner = self.channel.inner.borrow_mut();
        let drained = self.channel.state.get() == State::Draining && inner.wire.live_streams() == 0;
        if drained && self.channel.side == wire::Side::Client && inner.close_reason.is_none() {
            inner.wire.goodbye(CloseReason::Finished);
        }
    }

    fn measure(&mut self, inner: &Inner) {
        let (counted, live, late) = (&self.shared.metrics, inner.wire.live_streams(), inner.wire.late_frames());
        if live != self.streams {
            let direction = match self.channel.side {
                wire::Side::Client => metrics::Direction::Outbound,
                wire::Side::Server => metrics::Direction::Inbound,
            };
            counted.streams_open.of(direction).add(live as i64 - self.streams as i64);
            self.streams = live;
        }
        if late != self.late_frames {
            counted.late_frames.inc_by(late - self.late_frames);
            self.late_frames = late;
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, now: Instant) {
        if self.transport_over {
            return;
        }
        let shared = Rc::clone(&self.shared);
        let mut scratch = shared.scratch.borrow_mut();
        for turn in 0.. {
            if turn == READS_PER_TURN {
                cx.waker().wake_by_ref();
                return;
            }
            let channel = &self.channel;
            let read = self.transport.poll_read(cx, &mut scratch, &mut |plain| {
                channel.inner.borrow_mut().wire.handle_slice(now, plain);
            });
            match read {
                Poll::Pending => return,
                Poll::Ready(Ok(count)) if count > 0 => self.shared.metrics.channel_bytes.received.inc_by(count as u64),
                Poll::Ready(result) => {
                    self.transport_ended(now, result.err());
                    return;
                }
            }
        }
    }

    fn transport_ended(&mut self, now: Instant, error: Option<std::io::Error>) {
        self.transport_over = true;
        *self.channel.error.borrow_mut() = error;
        self.channel.inner.borrow_mut().wire.handle_transport_closed(now);
    }

    fn events(&mut self, channel: &Rc<Channel>) {
        let mut inner = channel.inner.borrow_mut();
        let inner = &mut *inner;
        while let Some(event) = inner.wire.poll_event() {
            match event {
                Event::Hello(hello) => match (self.on_hello)(&hello) {
                    Ok(()) => {
                        inner.wire.accept_peer();
                        if channel.state.get() == State::Greeting {
                            channel.state.set(State::Ready);
                        }
                        channel.changed.notify_waiters();
                    }
                    Err(reason) => inner.wire.goodbye(reason),
                },
                Event::Request { id, head, body, end } => {
                    let slot =
                        Slot::new(id, Direction { ended: end, held: true }, Direction { ended: false, held: true });
                    let token = inner.slots.insert(slot);
                    inner.wire.set_token(id, Token(token as u64));
                    let recv = RecvHalf { channel: Rc::clone(channel), token };
                    let send = SendHalf { channel: Rc::clone(channel), token };
                    self.arrived.push(Incoming { head, body, end, recv, send });
                }
                Event::Response { token, head, body, end, .. } => {
                    if let Some(slot) = inner.slot(token) {
                        slot.recv.ended |= end;
                        slot.response = Some((head, body, end));
                        slot.wake_recv();
                    }
                }
                Event::Data { id, token, data, end } => match inner.slot(token) {
                    Some(slot) if slot.recv.held => {
                        slot.recv.ended |= end;
                        if !data.is_empty() {
                            slot.parts.push_back(Part::Data(data));
                        }
                        slot.wake_recv();
                    }
                    Some(slot) => {
                        // A server that answers without reading the rest: the bytes are dropped, their credit kept.
                        slot.recv.ended |= end;
                    }
                    None => inner.wire.consumed(id, data.len()),
                },
                Event::Trailers { token, trailers, .. } => {
                    if let Some(slot) = inner.slot(token) {
                        slot.recv.ended = true;
                        slot.parts.push_back(Part::Trailers(trailers));
                        slot.wake_recv();
                    }
                }
                Event::Writable { token, .. } => {
                    if let Some(slot) = inner.slot(token) {
                        slot.wake_send();
                    }
                }
                Event::Cancelled { token, code, .. } => inner.finish(token, StreamEnd::Cancelled(code)),
                Event::Nack { token, nack, .. } => inner.finish(token, StreamEnd::Nack(nack)),
                Event::Error { token, error, .. } => inner.finish(token, StreamEnd::Error(error)),
                Event::Lost { token, sent, .. } => inner.finish(token, StreamEnd::Lost { sent }),
                Event::Draining { .. } => channel.leave_ready(),
                Event::Closed(reason) => inner.close_reason = Some(reason),
            }
        }
    }

    fn tick(&mut self, cx: &mut Context<'_>, now: Instant) {
        let mut inner = self.channel.inner.borrow_mut();
        loop {
            let Some(at) = inner.wire.poll_timeout() else { return };
            if at <= now {
                let bounded = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
                let in_flight = bounded(inner.wire.live_streams());
                inner.wire.set_load(Load { in_flight, queued: bounded(self.shared.waiting.get()) });
                inner.wire.handle_timeout(now);
                // An idle channel keeps no table of what was once open on it.
                if inner.slots.is_empty() {
                    inner.slots = Slab::new();
                }
                if inner.wire.poll_timeout().is_some_and(|next| next <= now) {
                    // A timeout that does not move would spin here.
                    return;
                }
                continue;
            }
            // Deadlines mostly move later with traffic: an early alarm is cheaper than setting it anew on each call.
            if self.timer_at.is_none_or(|set| at < set || set <= now) {
                self.timer.as_mut().reset(at.into());
                self.timer_at = Some(at);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.timer_at = None;
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, now: Instant) {
        if self.transport_over {
            return;
        }
        match self.transmit(cx, now) {
            Poll::Pending => self.unsent = true,
            Poll::Ready(Ok(more)) => {
                self.unsent = more;
                if more {
                    // One flush bound a turn: others on this worker come first.
                    cx.waker().wake_by_ref();
                }
            }
            Poll::Ready(Err(error)) => {
                self.unsent = false;
                self.transport_ended(now, Some(error));
            }
        }
    }

    /// Hands at most one flush bound to the socket. Says whether there is more; pending: the socket is full.
    fn transmit(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<io::Result<bool>> {
        ready!(self.flush(cx))?;
        let more = {
            let mut pieces = self.shared.pieces.borrow_mut();
            let mut inner = self.channel.inner.borrow_mut();
            if !inner.wire.poll_transmit(now, &mut *pieces, wire::limits::FLUSH_BYTES) {
                return Poll::Ready(Ok(false));
            }
            let queued = self.transport.queue(&pieces);
            // Bodies are let go of at once.
            pieces.clear();
            queued?;
            inner.wire.wants_transmit()
        };
        ready!(self.flush(cx))?;
        Poll::Ready(Ok(more))
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (written, flushed) = self.transport.poll_flush(cx);
        self.shared.metrics.channel_bytes.sent.inc_by(written as u64);
        flushed
    }

    /// Sends what is left, says that nothing more comes, and waits for the peer to say so too: closing a socket before
    /// its input is read resets it, and takes from the peer what is on its way.
    async fn say_goodbye(&mut self) -> io::Result<()> {
        if self.transport_over {
            return Ok(());
        }
        while poll_fn(|cx| self.transmit(cx, Instant::now())).await? {}
        self.transport.close_notify();
        poll_fn(|cx| self.flush(cx)).await?;
        poll_fn(|cx| self.transport.poll_shutdown(cx)).await?;
        let shared = Rc::clone(&self.shared);
        while poll_fn(|cx| self.transport.poll_discard(cx, &mut shared.scratch.borrow_mut())).await? > 0 {}
        Ok(())
    }
}
