//! Where calls go: to other sidecars ([`pool`], [`channel`]) and to the own app ([`http`]).

pub mod app_pool;
pub mod channel;
pub mod connect;
pub mod http;
pub mod pool;
pub mod transport;
