//! What is written down of one call, when it ends, however it ends: metrics and the access log.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::balance::EndpointState;
use bytes::Bytes;
use wire::{Kind, RequestHead};

use crate::call::Call;
use crate::error::{Error, Executed, Phase};
use crate::logging::access::{self, Access, AccessEntry};
use crate::metrics::{CallMetrics, Direction, InFlight, Outcome};

/// The record of one call. It is written when it is dropped; a call that nobody brought to an end was cancelled.
#[derive(Debug)]
pub struct Record {
    direction: Direction,
    started: Instant,
    calls: CallMetrics,
    in_flight: Option<InFlight>,
    outcome: Option<Outcome>,
    status: u16,
    grpc: GrpcEnd,
    /// The path of a procedure: it is counted by its method. Boxed, as most calls are none, and records are moved.
    procedure: Option<Box<Bytes>>,
    forgotten: bool,
    attempts: u32,
    endpoint: Option<Arc<EndpointState>>,
    phase: Phase,
    /// Whether an attempt that has failed may have run the call, and whether the one under way may have.
    ran: [Executed; 2],
    sent: u64,
    /// Bytes of a streamed request, counted where they pass.
    uploaded: Option<Rc<Cell<u64>>>,
    received: u64,
    shown: Option<Box<Shown>>,
}

/// What only the access log needs; kept only while it is switched on.
#[derive(Debug)]
struct Shown {
    service: Bytes,
    method: Bytes,
    path: Bytes,
    request_id: Vec<u8>,
    peer: String,
}

impl Record {
    /// A call that begins. `unrouted` counts it until [`Record::route`] names its service.
    pub fn new(direction: Direction, unrouted: &CallMetrics) -> Record {
        Record {
            direction,
            started: Instant::now(),
            calls: unrouted.clone(),
            in_flight: None,
            outcome: None,
            status: 0,
            grpc: GrpcEnd::Fine,
            procedure: None,
            forgotten: false,
            attempts: 0,
            endpoint: None,
            phase: Phase::Route,
            ran: [Executed::No; 2],
            sent: 0,
            uploaded: None,
            received: 0,
            shown: None,
        }
    }

    /// The service is known.
    pub fn route(&mut self, calls: CallMetrics) {
        self.in_flight = Some(calls.started());
        self.calls = calls;
    }

    /// It is no call: nothing is to be written down of it.
    pub fn forget(&mut self) {
        self.forgotten = true;
    }

    /// What is called.
    pub fn describe(&mut self, call: &Call) {
        self.describe_head(&call.head, call.grpc, None);
    }

    /// The same for a request that came from `peer`.
    pub fn describe_head(&mut self, head: &RequestHead, grpc: bool, peer: Option<&str>) {
        if grpc || head.kind == Kind::Rpc {
            self.procedure = Some(Box::new(head.path.clone()));
        }
        if Access::enabled() {
            self.shown = Some(Box::new(Shown {
                service: head.service.clone(),
                method: head.method.clone(),
                path: head.path.clone(),
                request_id: head.headers.get(b"x-request-id").unwrap_or_default().to_vec(),
                peer: peer.unwrap_or_default().to_owned(),
            }));
        }
    }

    /// An endpoint is tried.
    pub fn attempt(&mut self, endpoint: &Arc<EndpointState>) {
        self.attempts += 1;
        self.endpoint = Some(Arc::clone(endpoint));
        self.phase = Phase::Connect;
    }

    /// It goes to a host outside, once.
    pub fn outside(&mut self) {
        self.attempts = 1;
    }

    /// The request of this attempt is on its way: from now on nobody can tell here whether it runs.
    pub fn sent_out(&mut self) {
        self.phase = Phase::Wait;
        self.ran[1] = Executed::Unknown;
    }

    /// This attempt has failed, and what is known of it.
    pub fn attempt_failed(&mut self, executed: Executed) {
        self.ran = [self.ran[0].or(executed), Executed::No];
    }

    /// How far the call has come, and whether it may have run.
    pub fn progress(&self) -> (Phase, Executed) {
        (self.phase, self.ran[0].or(self.ran[1]))
    }

    /// Attempts so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The endpoint of the last attempt.
    pub fn endpoint(&self) -> Option<String> {
        self.endpoint.as_ref().map(|endpoint| endpoint.address().to_string())
    }

    /// When the call began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Time since the call began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Where the bytes of a streamed request are counted.
    pub fn upload(&mut self) -> Rc<Cell<u64>> {
        Rc::clone(self.uploaded.get_or_insert_default())
    }

    /// Bytes of the request's body that went out in one piece.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// The app answered with `status`; bytes and end are still to come.
    pub fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// How a gRPC call went, as its trailers say it. What is the service's fault counts as an error of the app: those statuses that
    /// OpenTelemetry calls errors of a server (semantic conventions for gRPC spans).
    pub fn grpc_status(&mut self, value: Option<&[u8]>) {
        self.grpc = match value {
            Some(b"12") => GrpcEnd::Unimplemented,
            // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS. Without a status the call broke off.
            None | Some(b"2" | b"4" | b"13" | b"14" | b"15") => GrpcEnd::Failed,
            Some(_) => GrpcEnd::Fine,
        };
    }

    /// Bytes of the answer's body were passed on.
    pub fn received(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// The answer is complete.
    pub fn complete(&mut self) {
        let failed = self.status >= 500 || self.grpc != GrpcEnd::Fine;
        self.outcome.get_or_insert(if failed { Outcome::AppError } else { Outcome::Ok });
    }

    /// Whether the service has the method called, as far as is known: it did not say that it has not.
    fn has_method(&self) -> bool {
        let unknown = matches!(self.status, 404 | 405 | 501) || self.grpc == GrpcEnd::Unimplemented;
        self.in_flight.is_some() && !unknown
    }

    /// The call ended with a generated error.
    pub fn failed(&mut self, error: &Error, outcome: Outcome) {
        self.status = error.code().status();
        self.outcome = Some(outcome);
    }
}

/// How gRPC says that a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GrpcEnd {
    /// Well, or by the caller's fault.
    Fine,
    /// By the service's fault.
    Failed,
    /// There is no such method.
    Unimplemented,
}

/// The method that a procedure's path names: without the first slash, and without a query.
fn method_of(path: &[u8]) -> &[u8] {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    path.split(|byte| *byte == b'?').next().unwrap_or_default()
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.forgotten {
            return;
        }
        let (outcome, duration) = (self.outcome.unwrap_or(Outcome::Cancelled), self.started.elapsed());
        self.calls.finished(outcome, duration.as_secs_f64());
        if let Some(path) = &self.procedure {
            self.calls.method_finished(method_of(path), self.has_method(), outcome, duration.as_secs_f64());
        }
        let sent = self.sent + self.uploaded.as_ref().map_or(0, |uploaded| uploaded.get());
        if let Some(shown) = &self.shown {
            let text = |bytes| std::str::from_utf8(bytes).unwrap_or("?");
            access::record(&AccessEntry {
                direction: self.direction,
                service: text(&shown.service),
                method: text(&shown.method),
                path: text(&shown.path),
                status: Some(self.status).filter(|status| *status != 0),
                outcome,
                duration,
                request_bytes: sent,
                response_bytes: self.received,
                peer: &shown.peer,
                endpoint: self.endpoint.as_ref().map(|endpoint| endpoint.address()),
                request_id: text(&shown.request_id),
                attempts: self.attempts,
            });
        }
        if sent | self.received != 0 {
            self.calls.body_bytes(sent, self.received);
        }
    }
}

/// Counts a call over all workers as long as it lives: the shutdown waits for these.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// Counts one up.
    pub fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Relaxed);
        Counted(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
