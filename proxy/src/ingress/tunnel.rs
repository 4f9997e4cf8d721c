//! What a door does with a connection that carries bytes and no messages: raw TCP, or what came of an upgrade.

use std::future::poll_fn;

use crate::call::Body;
use crate::dispatch;
use crate::edge::{Sending, Socket, Unsent, Watch, tunnel};
use crate::error::{Error, ErrorCode};
use crate::metrics::Metrics;
use crate::record::Record;

/// How a tunnel ended other than in order. Without an error: the caller broke it off, and the record stays "cancelled".
pub type Broken = Option<Error>;

/// Sends the caller `head` and then what the service says, until both directions have ended.
pub async fn carry(socket: &Socket, head: Vec<u8>, body: Body, record: &mut Record) -> Result<(), Broken> {
    let mut sending = Sending::raw(head, body, Passing(record));
    match poll_fn(|cx| sending.poll(socket, cx)).await {
        Ok(()) => {}
        Err(Unsent::Source(error)) if is_callers(&error) => return Err(None),
        Err(Unsent::Source(error)) => return Err(Some(error)),
        Err(Unsent::Socket(_) | Unsent::Body(_)) => return Err(None),
    }
    // The service has said all; the caller may not have.
    if tunnel::end(socket).await { Ok(()) } else { Err(None) }
}

/// Whether it is what the end of the caller's own bytes did to the call.
pub fn is_callers(error: &Error) -> bool {
    error.code() == ErrorCode::RequestAborted
}

/// Writes down how it went. What did not end in order is reset: bytes have no other words for it, so the log has them.
pub fn ended(carried: Result<(), Broken>, socket: &Socket, record: &mut Record, metrics: &Metrics) {
    let Err(broken) = carried else { return record.complete() };
    if let Some(error) = broken {
        record.failed(&error, dispatch::outcome_of(&error));
        tell(&error, metrics);
    }
    socket.reset();
}

/// Says, where people look, why a caller sees a reset.
pub fn tell(error: &Error, metrics: &Metrics) {
    metrics.generated_error(error.code().as_str()).inc();
    tracing::info!(%error, "a caller's connection was reset");
}

/// Counts what the service says.
struct Passing<'a>(&'a mut Record);

impl Watch for Passing<'_> {
    fn passed(&mut self, bytes: usize) {
        self.0.received(bytes);
    }
}
