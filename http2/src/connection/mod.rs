//! One end of a connection: its state, and what its driver asks of it.
//!
//! `receive.rs` and `fields.rs` hold what comes in, `send.rs` what goes out; each is an `impl` of [`Connection`].

mod fields;
mod receive;
mod send;
mod settings;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;

use bytes::{Bytes, BytesMut};
use wire::Headers;

use crate::frame::{self, kind};
use crate::head::{RequestHead, ResponseHead};
use crate::hpack::{Decoder, Encoder, TABLE_BYTES};
use crate::limits::{FIRST_WINDOW_BYTES, IGNORED_BYTES, RESET_STREAMS, USELESS_FRAMES};
use crate::{Config, Reason, Side};

pub use send::{NotOpened, Request};
use settings::Peer;
use stream::Stream;

/// How far a connection has come.
///
/// ```text
///            the preface            SETTINGS
///   Preface ─────────────► Greeting ─────────► Open
///      │ (a client begins here: ▲)              │
///      └──────────┴─────────────────────────────┴──► Closed
///           a violation, GOAWAY with an error of ours, the transport's end
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Preface,
    Greeting,
    Open,
    Closed(Closed),
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The transport ended.
    Transport,
    /// What came is against the protocol, or more than may come.
    Violation(Reason, &'static str),
    /// By our own word.
    Ours(Reason),
}

/// What has happened on a stream, each named by its number.
#[derive(Debug)]
pub enum Event {
    /// A call. `is_end`: nothing comes behind its head.
    Request { stream: u32, head: RequestHead, is_end: bool },
    /// The answer begins.
    Response { stream: u32, head: ResponseHead, is_end: bool },
    /// A piece of a body. It takes credit until [`Connection::release`] gives it back.
    Data { stream: u32, data: Bytes, is_end: bool },
    /// The body is over, and this stood behind it.
    Trailers { stream: u32, fields: Headers },
    /// There is room again, see [`Connection::waits_below`].
    Writable { stream: u32 },
    /// The stream has ended before its time. Nothing else comes of it.
    Broken { stream: u32, why: Broken },
}

/// Why a stream ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The other side reset it.
    Reset(Reason),
    /// The other side has not begun it: it goes away and says so (RFC 9113, 6.8), or takes no more.
    NotBegun,
    /// We reset it: what came on it is against the protocol.
    Malformed(&'static str),
    /// The connection is closed.
    Closed(Closed),
}

/// One end of a connection: give it bytes, take events and bytes from it.
///
/// After any call that changes something, take the events with `poll_event` until it gives `None`, then bytes with `poll_transmit` as
/// long as it gives some.
#[derive(Debug)]
pub struct Connection {
    config: Config,
    phase: Phase,
    peer: Peer,
    streams: HashMap<u32, Stream, ahash::RandomState>,
    /// The highest stream that the other side has begun (server), or the next of ours (client).
    stream_id: u32,
    encoder: Encoder,
    decoder: Decoder,
    events: VecDeque<Event>,
    /// A frame that is not whole yet, if anything.
    input: BytesMut,
    /// A list of fields that is not whole yet.
    block: Option<fields::Block>,
    /// A request that stands behind the other side's first frame, as if it had come there.
    upgraded: Option<Headers>,
    /// What may still come, over all streams, and what has been read and not been given again.
    window: i64,
    read: u32,
    /// Frames that go ahead of bodies: all but DATA, and DATA right behind its head.
    output: Vec<u8>,
    /// What may go out, over all streams.
    send_window: i64,
    /// Streams that have something to send and may.
    line: VecDeque<u32>,
    /// Frames that may still lead to nothing.
    useless: u32,
    /// Streams that we have reset lately.
    reset: VecDeque<u32>,
    /// Client: the other side begins no stream any more.
    goes_away: bool,
}

impl Connection {
    /// Its first bytes are queued at once.
    #[must_use]
    pub fn new(config: Config) -> Connection {
        let mut connection = Connection {
            phase: if config.side == Side::Server { Phase::Preface } else { Phase::Greeting },
            peer: Peer::default(),
            streams: HashMap::default(),
            stream_id: if config.side == Side::Server { 0 } else { 1 },
            encoder: Encoder::new(),
            decoder: Decoder::new(TABLE_BYTES),
            events: VecDeque::new(),
            input: BytesMut::new(),
            block: None,
            upgraded: None,
            window: FIRST_WINDOW_BYTES.into(),
            read: 0,
            output: Vec::new(),
            send_window: FIRST_WINDOW_BYTES.into(),
            line: VecDeque::new(),
            useless: USELESS_FRAMES,
            reset: VecDeque::new(),
            goes_away: false,
            config,
        };
        connection.greet();
        connection
    }

    /// Server: the connection comes out of HTTP/1.1 by an upgrade, and these are the fields, pseudo fields first, that the request which
    /// asked for it would have had. It is stream 1, half closed (RFC 7540, 3.2).
    pub fn upgrade(&mut self, request: Headers) {
        self.upgraded = Some(request);
    }

    /// The next event, if any.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The transport ended: every live stream ends with [`Event::Broken`].
    pub fn handle_transport_closed(&mut self) {
        self.close(Closed::Transport);
        self.output.clear();
    }

    /// Says why, and closes.
    pub fn go_away(&mut self, reason: Reason) {
        self.close(Closed::Ours(reason));
    }

    /// Why it is closed, if it is.
    #[must_use]
    pub fn closed(&self) -> Option<Closed> {
        match self.phase {
            Phase::Closed(why) => Some(why),
            _ => None,
        }
    }

    fn is_closed(&self) -> bool {
        self.closed().is_some()
    }

    /// The other side has said what it takes.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Client: the other side begins no stream any more.
    #[must_use]
    pub fn goes_away(&self) -> bool {
        self.goes_away
    }

    /// Streams that have not ended.
    #[must_use]
    pub fn live_streams(&self) -> usize {
        self.streams.len()
    }

    /// Nothing has come that is not whole.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.input.is_empty() && self.block.is_none() && self.phase != Phase::Preface
    }

    /// What its streams and its output take, in bytes: what [`Self::rest`] gives back, for the most part.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.streams.capacity() * size_of::<Stream>() + self.output.capacity()
    }

    /// Nothing goes on: gives back the memory that was for more.
    pub fn rest(&mut self) {
        self.encoder.shrink();
        self.decoder.shrink();
        self.streams.shrink_to_fit();
        self.events.shrink_to_fit();
        self.line.shrink_to_fit();
        self.reset.shrink_to_fit();
        self.output.shrink_to_fit();
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    /// Takes a stream out of every account.
    fn forget(&mut self, id: u32) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        if stream.send.is_in_line {
            self.line.retain(|other| *other != id);
        }
        Some(stream)
    }

    /// Forgets a stream that is over: in both directions, or answered where nobody reads the rest of the request, and there is much of it
    /// (RFC 9113, 8.1). Of a little the end is waited for: some clients lose the answer over the reset (curl before 8).
    fn forget_if_over(&mut self, id: u32) {
        let Some(stream) = self.streams.get(&id).filter(|stream| stream.send.is_ended) else { return };
        if stream.receive.is_ended {
            self.forget(id);
        } else if stream.receive.ignored > IGNORED_BYTES && self.config.side == Side::Server {
            self.forget(id);
            self.put_reset(id, Reason::NO_ERROR);
        }
    }

    /// Ends a stream before its time, and says so to both sides.
    fn break_off(&mut self, id: u32, reason: Reason, what: &'static str) {
        self.put_reset(id, reason);
        if self.forget(id).is_some() {
            self.events.push_back(Event::Broken { stream: id, why: Broken::Malformed(what) });
        }
    }

    fn put_reset(&mut self, id: u32, reason: Reason) {
        frame::put(&mut self.output, kind::RST_STREAM, 0, id, &reason.0.to_be_bytes());
        if self.reset.len() == RESET_STREAMS {
            self.reset.pop_front();
        }
        self.reset.push_back(id);
    }

    fn put_goaway(&mut self, reason: Reason) {
        // A client has accepted none of the other side's streams.
        let last = if self.config.side == Side::Server { self.stream_id } else { 0 };
        let payload = [last.to_be_bytes(), reason.0.to_be_bytes()];
        frame::put(&mut self.output, kind::GOAWAY, 0, 0, payload.as_flattened());
    }

    /// The one way into [`Phase::Closed`].
    fn close(&mut self, why: Closed) {
        if self.is_closed() {
            return;
        }
        match why {
            Closed::Transport => {}
            Closed::Violation(reason, _) | Closed::Ours(reason) => self.put_goaway(reason),
        }
        self.phase = Phase::Closed(why);
        self.line.clear();
        self.block = None;
        self.input = BytesMut::new();
        let mut streams: Vec<u32> = self.streams.drain().map(|(id, _)| id).collect();
        streams.sort_unstable();
        for stream in streams {
            self.events.push_back(Event::Broken { stream, why: Broken::Closed(why) });
        }
    }

    /// A frame led to nothing. False: there were too many of them.
    fn spend(&mut self) -> bool {
        self.useless = self.useless.saturating_sub(1);
        self.useless > 0
    }

    fn earn(&mut self) {
        self.useless = (self.useless + 1).min(USELESS_FRAMES);
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Closed::Transport => f.write_str("the connection ended"),
            Closed::Violation(reason, what) => write!(f, "the connection was closed over what came: {what} ({reason})"),
            Closed::Ours(reason) => write!(f, "the connection was closed ({reason})"),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Reset(reason) => write!(f, "the stream was reset ({reason})"),
            Broken::NotBegun => {
                f.write_str("the stream was not begun: the connection goes away, or takes no more of them")
            }
            Broken::Malformed(what) => write!(f, "the stream was reset over what came: {what}"),
            Broken::Closed(why) => why.fmt(f),
        }
    }
}
