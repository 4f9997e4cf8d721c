//! The sidecar as a library, so that what counts instructions (`bench/counts`) reaches its parts. The program is
//! `main.rs`; no other crate of the product depends on this one, and its interface promises nothing.

mod admin;
mod admit;
mod alarm;
pub mod app;
mod balance;
mod call;
pub mod cli;
mod clock;
mod config;
mod discovery;
mod dispatch;
mod drain;
mod edge;
mod error;
mod ingress;
mod logging;
mod metrics;
mod record;
mod route;
mod tls;
mod upstream;
mod worker;
mod wrapper;

/// What is counted by itself, and what it is called with.
pub mod parts {
    pub use crate::balance::{EndpointState, default as default_balancer, pick};
    pub use crate::call::{Body, Call};
    pub use crate::config::{Inputs, LocalAddress, load};
    pub use crate::route::{Names, deadline_of, service_called};
}
