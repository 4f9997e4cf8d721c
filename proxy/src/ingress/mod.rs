//! The doors: each takes connections of one kind and makes a `Call` of what arrives.

pub mod crew;
pub mod http;
pub mod listener;
pub mod patience;
pub mod peer;
pub mod tcp;
pub mod tunnel;
