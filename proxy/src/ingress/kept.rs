//! What lives until an answer is out, and writes down how that went.

use wire::Headers;

use crate::dispatch;
use crate::edge::{Unsent, Watch};
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::record::{Counted, Record};

/// The record of a call whose answer is on its way to the caller.
#[derive(Debug)]
pub struct Kept {
    record: Record,
    grpc: bool,
    _counted: Counted,
}

impl Kept {
    /// Of a call that `counted` counts. `grpc`: how it went stands in its answer's trailers.
    pub fn new(record: Record, grpc: bool, counted: Counted) -> Kept {
        Kept { record, grpc, _counted: counted }
    }
}

impl Watch for Kept {
    fn passed(&mut self, bytes: usize) {
        self.record.received(bytes);
    }

    fn trailers(&mut self, trailers: &Headers) {
        if self.grpc {
            self.record.grpc_status(trailers.get(b"grpc-status"));
        }
    }

    fn ended(&mut self, failure: Option<&Unsent>) {
        match failure {
            None => self.record.complete(),
            Some(Unsent::Source(error)) => self.record.failed(error, dispatch::outcome_of(error)),
            Some(Unsent::Body(refusal)) => {
                let error = Error::new(
                    ErrorCode::RemoteProtocol,
                    Origin::Remote,
                    Phase::Body,
                    Executed::Yes,
                    refusal.to_string(),
                );
                self.record.failed(&error, dispatch::outcome_of(&error));
            }
            // The caller is gone: the record stays "cancelled".
            Some(Unsent::Socket(_)) => {}
        }
    }
}
