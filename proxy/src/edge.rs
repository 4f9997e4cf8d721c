//! The two edges that face an app: the doors for its calls and the dials to it share all of this.
//!
//! [`fields`] says which header fields go on and which stay on their hop. For HTTP/1.1 [`Socket`] reads heads and bodies off a
//! connection, [`Sending`] writes a message to it; the syntax is the crate `http1`'s. [`http2`] does the same on streams, [`thrift`]
//! for messages of Thrift's, whose syntax is the crate `thrift`'s.

pub mod fields;
pub mod http2;
pub mod jsonrpc;
mod read_error;
mod receive;
mod scratch;
mod sending;
mod socket;
mod stream;
pub mod thrift;
pub mod tunnel;

pub use read_error::ReadError;
pub use receive::{Side, gather};
pub use scratch::Scratch;
pub use sending::{Message, Sending, Unsent, Watch};
pub use socket::{Arrived, Socket};
pub use stream::{Detached, Stream};
