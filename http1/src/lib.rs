//! HTTP/1.1 messages (RFC 9112), sans IO: bytes go in, heads and pieces of bodies come out, and the other way round.
//!
//! It is as strict as an intermediary has to be. Whatever two implementations could read in two ways is refused, with the
//! status that goes with it, and the caller is to close the connection: a bare CR or LF, a length beside a transfer coding, two
//! lengths, a coding on HTTP/1.0, a folded line, a signed or overflowing number. Nothing is mended on the way.
//!
//! - [`HeadScan`] finds where a head ends, however its bytes arrive; [`request`] and [`response`] read it.
//! - [`Framing`] says how long the body is; [`Body`] cuts it out of the input.
//! - [`encode`] writes heads; [`Outgoing`] frames a body and holds it to the length that was announced.
//!
//! There is no socket, no clock and no connection in here, and no opinion on which fields are passed on.

mod body;
pub mod encode;
mod head;
mod refusal;
mod scan;
mod target;

pub use body::{Body, Piece, Trailers};
pub use encode::Outgoing;
pub use head::{Connection, Field, Framing, RequestHead, ResponseHead, Version, request, response};
pub use refusal::Refusal;
pub use scan::{HeadScan, Scanned};
