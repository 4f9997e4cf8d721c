//! One end of a connection: its state, and what its driver asks of it.
//!
//! `recv.rs` holds what comes in, `send.rs` what goes out; each is an `impl` of [`Connection`].

mod audit;
mod budget;
mod bulk;
mod events;
mod flood;
mod hello;
mod inbound;
mod liveness;
mod outbox;
mod recv;
mod send;
mod streams;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::dictionary::{Decoder, Encoder};
use crate::frame::FrameType;
use crate::limits::REASON_TEXT_BYTES;
use crate::{CloseReason, Config, Event, Hello, Load, RequestId, Side, Token};

pub use audit::Audit;
use budget::SendBudget;
use bulk::Bulk;
use events::Events;
pub use flood::Flood;
use hello::Peer;
use inbound::Inbound;
use liveness::Liveness;
use outbox::Outbox;
use streams::Stream;

/// How far a connection has come.
///
/// ```text
///               HELLO                 accept_peer
///   AwaitHello ───────► AwaitAccept ──────────────► Open
///       │                    │                        │
///       └────────────────────┴────────────────────────┴──► Closed
///           GOODBYE either way, a violation, silence, the transport's end
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    AwaitHello,
    AwaitAccept,
    Open,
    Closed,
}

/// One end of a connection: give it bytes and the time, take bytes and events from it.
///
/// After any call that changes something, take the events with `poll_event` until it gives `None` (what one stream sends or gives up
/// can make room for another), then bytes with `poll_transmit` while `wants_transmit`, and set a timer to `poll_timeout`.
#[derive(Debug)]
pub struct Connection {
    side: Side,
    config: Config,
    phase: Phase,
    peer: Option<Peer>,
    streams: HashMap<u64, Stream, ahash::RandomState>,
    /// Client: the ID of the next call. Server: the ID that the next REQUEST must have.
    next_id: u64,
    encoder: Encoder,
    decoder: Decoder,
    outbox: Outbox,
    bulk: Bulk,
    budget: SendBudget,
    inbound: Inbound,
    events: Events,
    liveness: Liveness,
    flood: Flood,
    draining: bool,
    /// Only calls up to this are answered, by our own word or by the peer's.
    drained_at: Option<u64>,
    peer_draining: bool,
    /// The beginning of a frame that [`Self::handle_slice`] waits for the rest of.
    partial: BytesMut,
    /// The same, in the buffer of [`Self::handle_input`]: how many bytes of it.
    leftover: usize,
    late_frames: u64,
}

impl Connection {
    /// The HELLO is queued at once.
    #[must_use]
    pub fn new(side: Side, config: Config, now: Instant) -> Self {
        let config = hello::clamp(config);
        let mut outbox = Outbox::default();
        hello::encode(&config, &mut outbox);
        Self {
            side,
            phase: Phase::AwaitHello,
            peer: None,
            streams: HashMap::default(),
            next_id: 1,
            encoder: Encoder::new(0),
            decoder: Decoder::new(config.dictionary_bytes),
            outbox,
            bulk: Bulk::default(),
            budget: SendBudget::new(config.send_budget),
            inbound: Inbound::new(&config),
            events: Events::default(),
            liveness: Liveness::new(side, &config, now),
            flood: Flood::new(config.max_concurrent, now),
            draining: false,
            drained_at: None,
            peer_draining: false,
            partial: BytesMut::new(),
            leftover: 0,
            late_frames: 0,
            config,
        }
    }

    /// Time has come to [`Self::poll_timeout`]. Too early a call does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.phase != Phase::Closed
            && let Some(reason) = self.liveness.handle_timeout(now, &mut self.outbox)
        {
            self.close(reason);
        }
        if self.streams.is_empty() {
            self.shrink();
        }
    }

    /// An idle connection keeps nothing of what a busy time made it grow to.
    fn shrink(&mut self) {
        self.streams.shrink_to_fit();
        self.events.shrink();
        self.outbox.shrink();
        self.bulk.shrink();
    }

    /// The transport ended (EOF or error): every live stream ends with [`Event::Lost`], then comes [`Event::Closed`].
    pub fn handle_transport_closed(&mut self, _now: Instant) {
        if self.phase != Phase::Closed {
            self.close(CloseReason::Transport);
        }
        self.outbox.clear();
    }

    /// The driver accepts the peer's HELLO; before this no Request is delivered and `open` fails with `NotReady`.
    pub fn accept_peer(&mut self) {
        if self.phase == Phase::AwaitAccept {
            self.phase = Phase::Open;
            self.return_flight();
        }
    }

    /// The next event, if any.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.poll(matches!(self.phase, Phase::Open | Phase::Closed))
    }

    /// Whether events wait for [`Self::poll_event`].
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// When to call `handle_timeout`, if nothing else happens before. It may move forward between calls; waking up early does no harm.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.phase != Phase::Closed).then(|| self.liveness.next_timeout())
    }

    /// Closed, and all events and bytes have been given out: drop the transport.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed && self.outbox.pending() == 0 && self.events.is_empty()
    }

    /// One of the sides drains: no new calls.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining || self.peer_draining
    }

    /// A side drains and every call has ended: time for [`Self::goodbye`].
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.is_draining() && self.streams.is_empty() && self.phase != Phase::Closed
    }

    /// Calls that have not ended, including answers that still wait to be sent.
    #[must_use]
    pub fn live_streams(&self) -> usize {
        self.streams.len()
    }

    /// Server side, right after [`Event::Request`]: what all further events of this stream carry, also those that wait already.
    pub fn set_token(&mut self, id: RequestId, token: Token) {
        let waiting = match self.streams.get_mut(&id.0) {
            Some(stream) => {
                stream.token = token;
                !self.events.is_polled(stream.last_event)
            }
            // It is gone already: the event that says so may wait.
            None => true,
        };
        if waiting {
            self.events.set_token(id.0, token);
        }
    }

    /// Told to the peer in PING and PONG.
    pub fn set_load(&mut self, load: Load) {
        self.liveness.load = load;
    }

    /// Anchors the clock sample of PING and PONG to the wall clock: at `now` it is `unix_micros`. Without this, samples count from
    /// the connection's start and [`Self::clock_offset`] means little.
    pub fn set_clock(&mut self, now: Instant, unix_micros: u64) {
        self.liveness.set_clock(now, unix_micros);
    }

    /// DRAIN goes out at once with the last ID accepted. Server side: later requests are NACKed by the connection itself.
    /// Client side: no call is opened any more.
    pub fn drain(&mut self) {
        if self.draining || self.phase == Phase::Closed {
            return;
        }
        self.draining = true;
        let last = match self.side {
            Side::Client => 0,
            Side::Server => self.next_id - 1,
        };
        if self.side == Side::Server {
            self.drained_at = Some(last);
        }
        self.outbox.frame(FrameType::Drain, 0, 0, &[&last.to_be_bytes()]);
    }

    /// GOODBYE and close. Live streams end with [`Event::Lost`].
    pub fn goodbye(&mut self, reason: CloseReason) {
        if self.phase != Phase::Closed {
            self.close(reason);
        }
    }

    /// What the peer said of itself.
    #[must_use]
    pub fn peer_hello(&self) -> Option<&Hello> {
        self.peer.as_ref().map(|peer| &peer.hello)
    }

    /// The last load that the peer told.
    #[must_use]
    pub fn peer_load(&self) -> Option<Load> {
        self.liveness.peer_load
    }

    /// The last PING's way there and back.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.liveness.rtt
    }

    /// The peer's clock minus ours, in microseconds, by the last PONG; see [`Self::set_clock`].
    #[must_use]
    pub fn clock_offset(&self) -> Option<i64> {
        self.liveness.clock_offset
    }

    /// Frames for streams that had ended, since the start.
    #[must_use]
    pub fn late_frames(&self) -> u64 {
        self.late_frames
    }

    /// Queues an event of a live stream, unless the driver is done with that stream.
    fn tell(&mut self, id: u64, event: impl FnOnce(Token) -> Event) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.silent
        {
            stream.last_event = self.events.push(event(stream.token));
        }
    }

    /// Takes a stream out of every account, and gives the number of its last event.
    fn remove(&mut self, id: u64) -> Option<u64> {
        let mut stream = self.streams.remove(&id)?;
        self.inbound.forget(&stream);
        self.budget.forget(id, &mut stream);
        self.bulk.forget(&stream, &self.streams);
        self.return_flight();
        self.call_waiting();
        Some(stream.last_event)
    }

    /// The one way into [`Phase::Closed`].
    fn close(&mut self, reason: CloseReason) {
        let accepted = self.phase == Phase::Open;
        self.phase = Phase::Closed;
        let mut lost: Vec<(u64, Stream)> = self.streams.drain().collect();
        lost.sort_unstable_by_key(|(id, _)| *id);
        if accepted {
            let given = self.outbox.given();
            for (id, mut stream) in lost.into_iter().filter(|(_, stream)| !stream.silent) {
                if !stream.held.is_empty() {
                    let data = stream.take_held();
                    self.events.push(Event::Data { id: RequestId(id), token: stream.token, data, end: false });
                }
                let sent = self.side == Side::Server || stream.request_at < given;
                self.events.push(Event::Lost { id: RequestId(id), token: stream.token, sent });
            }
        } else {
            self.events.clear();
        }
        self.bulk = Bulk::default();
        self.budget = SendBudget::new(self.config.send_budget);
        // A client has just told its driver that these requests were never sent; a server's finished answers still go
        // out, unless the peer is not worth it.
        let keep = match (&reason, self.side) {
            (CloseReason::Flood | CloseReason::Protocol(_), _) | (_, Side::Client) => false,
            (_, Side::Server) => true,
        };
        if !keep {
            self.outbox.clear_behind_hello();
        }
        if !matches!(reason, CloseReason::Transport | CloseReason::Goodbye { .. }) {
            let text = match &reason {
                CloseReason::Protocol(text) => text,
                CloseReason::WrongPeer(text) => text.as_str(),
                _ => "",
            };
            let text = hello::cut(text, REASON_TEXT_BYTES);
            let code = reason.code().code().to_be_bytes();
            self.outbox.frame(FrameType::Goodbye, 0, 0, &[&code, text.as_bytes()]);
        } else {
            self.outbox.clear();
        }
        self.events.close(reason);
    }
}
