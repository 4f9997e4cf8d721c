//! The nouns: identifiers, codes, reasons, configuration and events.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::head::{RequestHead, ResponseHead};
use crate::headers::Headers;
use crate::limits;

/// One call on one connection. The first is 1, each next one is higher by one, none is ever used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Chosen by the driver for a stream, handed back with every event of it. On the server side 0 until `set_token`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Token(pub u64);

/// Which end of the connection this is. Only the client opens calls in version 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The side that dialled.
    Client,
    Server,
}

/// What a sidecar says of itself. The driver compares it with the certificate and the endpoint record before `accept_peer`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hello {
    pub service: String,
    pub version: String,
    pub instance: String,
    /// Revision of the table that the sidecar works with.
    pub revision: u64,
    /// For example "pillion/0.1.0".
    pub agent: String,
}

/// How a connection behaves; `Default` is what `limits.rs` says. Values out of their range are brought into it by `Connection::new`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Texts longer than [`limits::HELLO_TEXT_BYTES`] are cut.
    pub hello: Hello,
    /// Calls that the peer may have open here.
    pub max_concurrent: u32,
    /// Decoded names and values of a head that we accept, in bytes; at most [`limits::HEAD_BYTES`].
    pub max_head_bytes: usize,
    /// Credit of a new stream, in bytes.
    pub initial_credit: u32,
    /// What a stream's window doubles up to, in bytes.
    pub max_credit: u32,
    /// Body bytes that we agree to hold for the whole connection.
    pub memory_budget: usize,
    /// Body bytes of all streams together that wait to be sent, at least one DATA frame. See [`limits::SEND_BUDGET_BYTES`].
    pub send_budget: usize,
    /// The dictionary that we keep for the peer's heads, and the most that we use for our own, in bytes. 0: none.
    pub dictionary_bytes: usize,
    /// Silence after which a PING goes out.
    pub ping_interval: Duration,
    /// Without any byte for that long after a PING: [`CloseReason::PeerSilent`].
    pub peer_timeout: Duration,
    pub hello_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hello: Hello::default(),
            max_concurrent: limits::MAX_CONCURRENT,
            max_head_bytes: limits::HEAD_BYTES,
            initial_credit: limits::INITIAL_CREDIT_BYTES,
            max_credit: limits::MAX_CREDIT_BYTES,
            memory_budget: limits::MEMORY_BUDGET_BYTES,
            send_budget: limits::SEND_BUDGET_BYTES,
            dictionary_bytes: limits::DICTIONARY_BYTES,
            ping_interval: limits::PING_INTERVAL,
            peer_timeout: limits::PEER_TIMEOUT,
            hello_timeout: limits::HELLO_TIMEOUT,
        }
    }
}

/// What a connection tells its driver. For each stream there is one last event: an END in its last direction, or one of `Cancelled`,
/// `Nack`, `Error` and `Lost`; after it, and after the driver's own `cancel`, `nack` or `error`, nothing more comes.
#[derive(Debug)]
pub enum Event {
    /// Comes first. Answer with `accept_peer` or `goodbye`.
    Hello(Hello),
    /// Server side: a call arrived. `body` is inline; it is the whole body if not empty. `end`: no more body follows.
    Request { id: RequestId, head: RequestHead, body: Bytes, end: bool },
    /// Client side: the answer's head, with an inline body as in `Request`.
    Response { id: RequestId, token: Token, head: ResponseHead, body: Bytes, end: bool },
    /// Body bytes. Call `consumed` when the app took them: after many small parts no more come until it took them all, the last ones excepted.
    Data { id: RequestId, token: Token, data: Bytes, end: bool },
    /// Ends that direction.
    Trailers { id: RequestId, token: Token, trailers: Headers },
    /// `send_room` is above 0 again, after a call of `send_room` or `send_data` met 0.
    Writable { id: RequestId, token: Token },
    /// The peer cancelled; the stream is gone. With [`Cancel::NoLongerNeeded`] on the client side the answer came whole
    /// before this, and only the upload ends.
    Cancelled { id: RequestId, token: Token, code: Cancel },
    /// Provably not executed; the stream is gone.
    Nack { id: RequestId, token: Token, nack: Nack },
    /// The stream is gone.
    Error { id: RequestId, token: Token, error: ErrorInfo },
    /// The connection is over and with it this stream. `sent` false: no byte of the REQUEST was handed out, it is provably
    /// not executed. Always true on the server side.
    Lost { id: RequestId, token: Token, sent: bool },
    /// The peer drains: it answers calls up to `last`. Own calls above it get their `Nack` with [`NackReason::Draining`] besides.
    Draining { last: RequestId },
    /// The last event.
    Closed(CloseReason),
}

/// Why `open` did not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// The peer is not accepted yet, or this is the server side.
    NotReady,
    /// One of the sides drains.
    Draining,
    Closed,
    /// As many calls are open as the peer allows, or too many bytes wait to be sent, or would with this body.
    TooManyCalls,
    /// The head is larger than the peer accepts.
    HeadTooLarge,
}

/// Why an answer or body bytes were not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendError {
    /// Ended or cancelled meanwhile. What became of it comes, or came, as an event: stop sending, nothing else.
    UnknownStream,
    /// More than `send_room`, or a body that the send budget has no room for; nothing was queued.
    NoRoom,
    /// This direction has been ended, or a second head, or a body before the head.
    AlreadyEnded,
    HeadTooLarge,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "the channel is not ready",
            Self::Draining => "the channel drains",
            Self::Closed => "the channel is closed",
            Self::TooManyCalls => "too many calls on the channel",
            Self::HeadTooLarge => "the head is larger than the peer accepts",
        })
    }
}

impl std::error::Error for OpenError {}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownStream => "the stream has ended",
            Self::NoRoom => "no room to send",
            Self::AlreadyEnded => "this direction has been ended",
            Self::HeadTooLarge => "the head is larger than the peer accepts",
        })
    }
}

impl std::error::Error for SendError {}

/// Declares an enum of u16 codes with an `Other` for those that a later version may add.
macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
            /// A code that this version has no name for.
            Other(u16),
        }

        impl $name {
            /// All codes that have a name.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The number in the frame.
            #[must_use]
            pub fn code(self) -> u16 {
                match self { $(Self::$variant => $code,)* Self::Other(code) => code }
            }

            #[must_use]
            pub fn from_code(code: u16) -> Self {
                match code { $($code => Self::$variant,)* code => Self::Other(code) }
            }

            /// A short name for metrics and logs.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* Self::Other(_) => "other" }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Other(code) => write!(f, "other ({code})"),
                    known => f.write_str(known.as_str()),
                }
            }
        }
    };
}

codes! {
    /// Why a call was cancelled.
    Cancel {
        /// Whoever made the call is gone.
        CallerGone = 1 "caller-gone",
        DeadlinePassed = 2 "deadline-passed",
        /// The answer is complete, the rest of the upload is not needed.
        NoLongerNeeded = 3 "no-longer-needed",
        /// The app at the sender's end broke its protocol.
        Protocol = 4 "protocol",
        Overload = 5 "overload",
    }
}

codes! {
    /// Why a call was not even tried.
    NackReason {
        Draining = 1 "draining",
        Overloaded = 2 "overloaded",
        NoSuchService = 3 "no-such-service",
        AppNotConnected = 4 "app-not-connected",
        DeadlinePassed = 5 "deadline-passed",
        Policy = 6 "policy",
    }
}

codes! {
    /// Why a connection ended, as GOODBYE says it.
    GoodbyeCode {
        /// Drained, idle or otherwise done with.
        Finished = 0 "finished",
        Protocol = 1 "protocol",
        Flood = 2 "flood",
        WrongPeer = 3 "wrong-peer",
        PeerSilent = 4 "peer-silent",
        HelloTimeout = 5 "hello-timeout",
        Version = 6 "version",
        Internal = 7 "internal",
    }
}

/// 'Guaranteed not executed', and when another try may have better luck.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nack {
    pub reason: NackReason,
    /// In whole milliseconds on the wire.
    pub retry_after: Option<Duration>,
}

/// Where an error was born.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// The sidecar at the other end of this connection.
    RemoteSidecar,
    /// The app behind it.
    App,
}

/// Whether the app ran the call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Executed {
    No,
    Yes,
    Unknown,
}

/// What an ERROR carries. The codes are those of the sidecar's own list of errors; this crate only passes them on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorInfo {
    pub code: u16,
    pub origin: Origin,
    pub executed: Executed,
    /// Cut to [`limits::REASON_TEXT_BYTES`] bytes.
    pub text: String,
}

/// How busy a sidecar is, told in PING and PONG.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    pub in_flight: u32,
    pub queued: u32,
}

/// Why a connection is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// Nothing came for `peer_timeout` after a PING.
    PeerSilent,
    /// No HELLO in time.
    HelloTimeout,
    /// The transport ended without a GOODBYE.
    Transport,
    /// The peer broke the protocol; the text says how.
    Protocol(&'static str),
    /// The peer said so.
    Goodbye { code: u16, text: String },
    /// Drained, idle or otherwise done with, by our own decision.
    Finished,
    /// The peer is not who it should be, by the driver's decision.
    WrongPeer(String),
    /// The peer opened and cancelled calls, or sent without reading, beyond all bounds.
    Flood,
    /// The peer speaks no version that we speak.
    Version,
}

impl CloseReason {
    /// The code of the GOODBYE that tells the peer, or that the peer told.
    #[must_use]
    pub fn code(&self) -> GoodbyeCode {
        match self {
            Self::PeerSilent => GoodbyeCode::PeerSilent,
            Self::HelloTimeout => GoodbyeCode::HelloTimeout,
            Self::Transport => GoodbyeCode::Internal,
            Self::Protocol(_) => GoodbyeCode::Protocol,
            Self::Goodbye { code, .. } => GoodbyeCode::from_code(*code),
            Self::Finished => GoodbyeCode::Finished,
            Self::WrongPeer(_) => GoodbyeCode::WrongPeer,
            Self::Flood => GoodbyeCode::Flood,
            Self::Version => GoodbyeCode::Version,
        }
    }

    /// A short name for metrics: bounded in number.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Goodbye { .. } => "goodbye",
            other => other.code().as_str(),
        }
    }

    /// Nothing went wrong: one of the sides was done with the connection.
    #[must_use]
    pub fn is_normal(&self) -> bool {
        !matches!(self, Self::Transport) && self.code() == GoodbyeCode::Finished
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerSilent => f.write_str("the peer fell silent"),
            Self::HelloTimeout => f.write_str("the peer did not say HELLO in time"),
            Self::Transport => f.write_str("the transport ended"),
            Self::Protocol(what) => write!(f, "protocol error: {what}"),
            Self::Goodbye { code, text } if text.is_empty() => {
                write!(f, "the peer said goodbye: {}", GoodbyeCode::from_code(*code))
            }
            Self::Goodbye { code, text } => {
                write!(f, "the peer said goodbye: {}: {text}", GoodbyeCode::from_code(*code))
            }
            Self::Finished => f.write_str("finished"),
            Self::WrongPeer(text) => write!(f, "wrong peer: {text}"),
            Self::Flood => f.write_str("flooded by the peer"),
            Self::Version => f.write_str("no common protocol version"),
        }
    }
}
