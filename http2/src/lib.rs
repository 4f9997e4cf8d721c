//! HTTP/2 (RFC 9113), sans IO: bytes go in, the events of streams come out, and the other way round.
//!
//! There is no socket, no clock and no task in here.

pub mod hpack;
