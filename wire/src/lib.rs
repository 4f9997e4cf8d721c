//! The protocol between two Pillion sidecars, sans IO: bytes and the time go in, bytes, events and the next timeout come out.
//!
//! [`Connection`] is one end of it. `docs/protocol.md` is the byte-exact specification; `tests/vectors/` holds this crate
//! against the examples in its text. There is no socket, no clock, no runtime and no randomness in here.

mod connection;
pub mod dictionary;
mod frame;
mod head;
mod headers;
pub mod limits;
mod transmit;
mod types;

pub use connection::{Audit, Connection, Flood};
pub use head::{Kind, RequestHead, ResponseHead, TraceContext};
pub use headers::{Header, Headers, SharedHeader, Text, Texts, is_sensitive};
pub use transmit::{Pieces, Transmit};
pub use types::{
    Cancel, CloseReason, Config, ErrorInfo, Event, Executed, GoodbyeCode, Hello, Load, Nack, NackReason, OpenError,
    Origin, RequestId, SendError, Side, Token,
};
