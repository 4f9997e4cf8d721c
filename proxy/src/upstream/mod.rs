//! Where calls go: to other sidecars ([`pool`], [`channel`]) and to the own app ([`http`], [`tcp`]).

pub mod app_pool;
pub mod channel;
pub mod connect;
pub mod http;
pub mod pool;
pub mod tcp;
pub mod transport;
