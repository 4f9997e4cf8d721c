//! The end-to-end suites: one file a behaviour. `cargo test -p pillion-tests --test e2e NAME` runs those that match.

mod admin;
mod bad_input;
mod balance;
mod bulk;
mod cancel;
mod clients;
mod config;
mod faults;
mod first_call;
mod harness;
mod http;
mod identity;
mod keepalive;
mod limits;
mod mixups;
mod outage;
mod rolling;
mod rotation;
mod security;
mod shutdown;
mod smuggling;
mod stale;
mod tcp;
mod tool;
mod upgrade;
mod wrapper;
