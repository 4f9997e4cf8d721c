//! Where calls go: to other sidecars ([`pool`], [`channel`]) and to the own app ([`app`]).

pub mod app;
pub mod app_pool;
pub mod channel;
pub mod connect;
pub mod health;
pub mod http;
pub mod http2;
mod jsonrpc;
pub mod lent;
pub mod limits;
pub mod own_call;
pub mod pool;
pub mod reflection;
pub mod target;
pub mod tcp;
pub mod thrift;
pub mod transcode;
pub mod transport;
