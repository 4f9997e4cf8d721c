//! The access log: one line a call, at target `pillion::access`, when it is switched on.

use std::{
    fmt,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::metrics::{Direction, Outcome};

/// The target of access log lines.
pub const TARGET: &str = "pillion::access";

static ENABLED: AtomicBool = AtomicBool::new(false);

/// The switch of the access log, one for the process.
#[derive(Debug, Clone, Copy)]
pub struct Access;

impl Access {
    /// Whether calls are to be recorded: one relaxed load, for the hot path. A call that sees an old value is one
    /// line more or less.
    #[inline]
    #[must_use]
    pub fn enabled() -> bool {
        ENABLED.load(Ordering::Relaxed)
    }

    /// Switches it.
    pub fn set(on: bool) {
        ENABLED.store(on, Ordering::Relaxed);
    }
}

/// One call that ended. Texts are borrowed from the call.
#[derive(Debug, Clone, Copy)]
pub struct AccessEntry<'a> {
    /// Which way.
    pub direction: Direction,
    /// The service called.
    pub service: &'a str,
    /// HTTP method.
    pub method: &'a str,
    /// Path, with or without its query: [`record`] leaves the query out, since queries carry secrets.
    pub path: &'a str,
    /// HTTP status; `None`: there was no answer.
    pub status: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// From the request's head to the end of the answer.
    pub duration: Duration,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// Inbound: the caller's proven service. Empty: none.
    pub peer: &'a str,
    /// Outbound: the endpoint of the last attempt.
    pub endpoint: Option<SocketAddr>,
    /// `x-request-id`.
    pub request_id: &'a str,
    /// How often it was tried; 0: it was never sent.
    pub attempts: u32,
}

/// Writes one line. The caller asks [`Access::enabled`] first, so that nothing is prepared in vain.
pub fn record(entry: &AccessEntry<'_>) {
    let path = entry.path.split(['?', '#']).next().unwrap_or_default();
    // Text values are written quoted and escaped: no header or path can forge a line.
    tracing::info!(
        target: TARGET,
        direction = entry.direction.as_str(),
        service = entry.service,
        method = entry.method,
        path,
        status = entry.status,
        outcome = entry.outcome.as_str(),
        duration_us = u64::try_from(entry.duration.as_micros()).unwrap_or(u64::MAX),
        request_bytes = entry.request_bytes,
        response_bytes = entry.response_bytes,
        peer = entry.peer,
        endpoint = entry.endpoint.as_ref().map(|endpoint| tracing::field::display(Shown(endpoint))),
        request_id = entry.request_id,
        attempts = entry.attempts,
    );
}

struct Shown<'a>(&'a SocketAddr);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
