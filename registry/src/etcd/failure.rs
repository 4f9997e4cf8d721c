//! What an error of etcd means for us.

use std::error::Error as _;
use std::time::Duration;

use etcd_client::Error;

use crate::source::RegistryError;

/// A call to etcd failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// This member is not reached, does not answer, or has no leader: on to the next one.
    Unreachable(String),
    /// The revision that was asked for is not kept any more.
    Compacted,
    /// The lease is not known (any more).
    LeaseGone,
    /// The answer is longer than a message may be: ask for less.
    TooLarge,
    /// etcd says no, and another member would say so too.
    Refused(String),
}

impl Failure {
    pub(super) fn text(&self) -> String {
        match self {
            Failure::Unreachable(text) | Failure::Refused(text) => text.clone(),
            Failure::Compacted => "the revision was compacted".to_owned(),
            Failure::LeaseGone => "the lease is gone".to_owned(),
            Failure::TooLarge => "a record is too large to be read".to_owned(),
        }
    }
}

impl From<Failure> for RegistryError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(text) => RegistryError::Unavailable(text),
            other => RegistryError::Refused(other.text()),
        }
    }
}

// gRPC's status codes, by number: the crate that names them is not one of ours.
const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const FAILED_PRECONDITION: i32 = 9;
const OUT_OF_RANGE: i32 = 11;
const UNIMPLEMENTED: i32 = 12;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = text(&error);
        match &error {
            Error::GRpcStatus(status) => {
                let message = status.message();
                match status.code() as i32 {
                    OUT_OF_RANGE if message.contains("compacted") => Failure::Compacted,
                    OUT_OF_RANGE | RESOURCE_EXHAUSTED
                        if message.contains("too large") || message.contains("larger than max") =>
                    {
                        Failure::TooLarge
                    }
                    NOT_FOUND if message.contains("lease not found") => Failure::LeaseGone,
                    INVALID_ARGUMENT | NOT_FOUND | PERMISSION_DENIED | RESOURCE_EXHAUSTED | FAILED_PRECONDITION
                    | OUT_OF_RANGE | UNIMPLEMENTED => Failure::Refused(text),
                    // Unavailable, no answer, an expired login that could not be renewed: a new connection helps.
                    _ => Failure::Unreachable(text),
                }
            }
            Error::LeaseKeepAliveError(reason) if reason.contains("not found") => Failure::LeaseGone,
            Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => Failure::Refused(text),
            _ => Failure::Unreachable(text),
        }
    }
}

/// One bounded line, with the cause, for 'transport error' alone helps nobody.
fn text(error: &Error) -> String {
    const CAUSES: usize = 6;
    const CHARS: usize = 240;
    let (mut text, mut cause) = match error {
        Error::GRpcStatus(status) => (status.message().to_owned(), status.source()),
        other => (other.to_string(), other.source()),
    };
    for _ in 0..CAUSES {
        let Some(deeper) = cause else { break };
        let more = deeper.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = deeper.source();
    }
    if text.is_empty() {
        text = error.to_string();
    }
    text.chars().take(CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `call`, but not for longer than `bound`.
///
/// # Errors
/// The call's failure; [`Failure::Unreachable`] when the time is over.
pub(super) async fn within<T>(
    bound: Duration,
    doing: &str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(bound, call).await {
        Ok(answer) => answer.map_err(Failure::from),
        Err(_) => Err(Failure::Unreachable(format!("{doing}: no answer within {bound:?}"))),
    }
}
