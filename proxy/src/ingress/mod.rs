//! The doors: each takes connections of one kind and makes a `Call` of what arrives.

pub mod asked;
pub mod caller;
pub mod crew;
pub mod date;
pub mod http;
pub mod http2;
pub mod jsonrpc;
pub mod kept;
pub mod listener;
pub mod own;
pub mod patience;
pub mod peer;
pub mod procedure;
pub mod tcp;
pub mod thrift;
pub mod tunnel;
