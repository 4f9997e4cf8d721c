//! HTTP/2 (RFC 9113), sans IO: bytes go in, the events of streams come out, and the other way round.
//!
//! - [`Connection`] is one end of a connection: frames, streams, windows, and what a peer must not do.
//! - [`hpack`] packs lists of fields (RFC 7541).
//!
//! It is as strict as an intermediary has to be: what is malformed ends its stream, what nobody could follow any further ends the
//! connection, and what leads to nothing may come a bounded number of times.
//!
//! There is no socket, no clock and no task in here, no server push and no priorities (RFC 9113, 5.3.2), and no opinion on which
//! fields are passed on.

mod connection;
mod frame;
mod head;
pub mod hpack;
pub mod limits;
mod reason;

pub use connection::{Broken, Closed, Connection, Event, NotOpened, Request};
pub use head::{FIELD_OVERHEAD_BYTES, RequestHead, ResponseHead};
pub use reason::Reason;

/// What a connection begins with (RFC 9113, 3.4). To HTTP/1.1 it is a request that nobody sends otherwise.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Begins streams.
    Client,
    /// Answers them.
    Server,
}

/// What one end lets the other do.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which end this is.
    pub side: Side,
    /// Bytes of a body that may be on their way on one stream, unread.
    pub stream_window: u32,
    /// The same, over all streams; not below [`limits::FIRST_WINDOW_BYTES`].
    pub connection_window: u32,
    /// The longest payload of a frame, from [`limits::FIRST_FRAME_BYTES`] to [`limits::FRAME_BYTES`].
    pub frame_bytes: u32,
    /// The longest list of fields, each counting [`FIELD_OVERHEAD_BYTES`] beside its text.
    pub list_bytes: usize,
    /// Server: streams at a time.
    pub streams: u32,
}
