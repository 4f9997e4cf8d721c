//! Plain HTTP/1.1 at the two edges that face an app: the door for its calls and the dial to it share all of this.
//!
//! [`fields`] says which header fields go on and which stay on their hop, [`Socket`] reads heads and bodies off a connection,
//! [`Sending`] writes a message to it. The syntax is the crate `http1`'s.

pub mod fields;
mod receive;
mod scratch;
mod sending;
mod socket;
pub mod tunnel;

pub use receive::{Side, gather};
pub use scratch::Scratch;
pub use sending::{Message, Sending, Unsent, Watch};
pub use socket::{Arrived, ReadError, Socket};
