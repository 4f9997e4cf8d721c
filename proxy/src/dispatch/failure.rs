//! What failures mean: those of channels, streams and peers as errors, errors as numbers for peers and as outcomes. Pure.

use wire::{Cancel, NackReason, OpenError};

use crate::call::{Call, Deadline};
use crate::discovery::Service;
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::metrics::Outcome;
use crate::upstream::channel::StreamEnd;

/// Whether the failure says something about the endpoint, and not about this call or a bound of ours.
pub(super) fn is_endpoint_failure(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ChannelLost
            | ErrorCode::AppNotConnected
            | ErrorCode::RemoteDraining
            | ErrorCode::RemoteNoSuchService
    )
}

/// Why no endpoint could be picked.
pub(super) fn no_endpoint(call: &Call, service: &Service) -> Error {
    match &call.version {
        None if service.is_unknown() => Error::local(
            ErrorCode::UnknownService,
            Phase::Route,
            format!("the registry lists no instance of '{}'", service.name),
        ),
        None => Error::local(ErrorCode::NoEndpoints, Phase::Route, format!("'{}' has no instance", service.name)),
        Some(version) => Error::local(
            ErrorCode::NoEndpoints,
            Phase::Route,
            format!("'{}' has {} instances, none of version {version}", service.name, service.endpoints(None).len()),
        ),
    }
}

/// Why no stream could be opened.
pub(super) fn not_opened(error: OpenError) -> Error {
    match error {
        OpenError::TooManyCalls => Error::new(
            ErrorCode::RemoteOverloaded,
            Origin::Local,
            Phase::Connect,
            Executed::No,
            "as many calls are open on the channel as the peer allows (its limits.calls)",
        ),
        OpenError::HeadTooLarge => Error::local(
            ErrorCode::HeaderTooLarge,
            Phase::Request,
            "the head exceeds what the peer's sidecar accepts (its limits.header_bytes)",
        ),
        OpenError::NotReady | OpenError::Draining | OpenError::Closed => {
            Error::new(ErrorCode::ConnectFailed, Origin::Local, Phase::Connect, Executed::No, error.to_string())
        }
    }
}

/// What the end of a stream means for its call.
pub(super) fn ended(end: StreamEnd, phase: Phase, deadline: Option<Deadline>) -> Error {
    match end {
        StreamEnd::Lost { sent } => {
            let executed = if sent { Executed::Unknown } else { Executed::No };
            Error::new(
                ErrorCode::ChannelLost,
                Origin::Local,
                phase,
                executed,
                "the channel to the peer's sidecar broke",
            )
        }
        // Ours: its body broke off, and with it the stream.
        StreamEnd::Cancelled(Cancel::CallerGone) => Error::new(
            ErrorCode::RequestAborted,
            Origin::Local,
            phase,
            Executed::Unknown,
            "the request's body broke off",
        ),
        StreamEnd::Cancelled(code) => Error::new(
            ErrorCode::ChannelLost,
            Origin::Remote,
            phase,
            Executed::Unknown,
            format!("the peer's sidecar cancelled the call: {code:?}"),
        ),
        StreamEnd::Nack(nack) => {
            let (code, detail) = match nack.reason {
                NackReason::Draining => (ErrorCode::RemoteDraining, "it drains"),
                NackReason::Overloaded => (ErrorCode::RemoteOverloaded, "it is at its limit"),
                NackReason::NoSuchService => (ErrorCode::RemoteNoSuchService, "it does not serve that service"),
                NackReason::AppNotConnected => (ErrorCode::AppNotConnected, "its app does not accept connections"),
                NackReason::DeadlinePassed => (ErrorCode::DeadlineExceeded, "the deadline had passed on arrival"),
                NackReason::Policy => (ErrorCode::RemotePolicy, "its policy does not admit the call"),
                NackReason::Other(_) => (ErrorCode::RemoteOverloaded, "it gave a reason this version does not know"),
            };
            Error::new(code, Origin::Remote, phase, Executed::No, about(code, deadline, detail))
                .retry_after(nack.retry_after)
        }
        StreamEnd::Error(error) => {
            let code = remote_code(error.code).unwrap_or(ErrorCode::RemoteProtocol);
            let origin = match error.origin {
                wire::Origin::App => Origin::App,
                wire::Origin::RemoteSidecar => Origin::Remote,
            };
            let executed = match error.executed {
                wire::Executed::No => Executed::No,
                wire::Executed::Yes => Executed::Yes,
                wire::Executed::Unknown => Executed::Unknown,
            };
            Error::new(code, origin, phase, executed, about(code, deadline, &error.text))
        }
    }
}

/// The peer's words; where they are about the caller's deadline, with the name that it has here.
fn about(code: ErrorCode, deadline: Option<Deadline>, text: &str) -> String {
    match (code, deadline) {
        (ErrorCode::DeadlineExceeded, Some(Deadline { setting, .. })) => format!("{setting}: {text}"),
        _ => text.to_owned(),
    }
}

/// The numbers under which a sidecar reports its app's failures to its peer (docs/protocol.md, ERROR codes).
const REMOTE_CODES: &[(u16, ErrorCode)] = &[
    (1, ErrorCode::AppClosed),
    (2, ErrorCode::AppBadResponse),
    (3, ErrorCode::AppHeaderTooLarge),
    (4, ErrorCode::DeadlineExceeded),
    (5, ErrorCode::RemoteProtocol),
    (6, ErrorCode::RequestAborted),
    (7, ErrorCode::HeaderTooLarge),
    (8, ErrorCode::WrongProtocol),
    (9, ErrorCode::BadArguments),
    (10, ErrorCode::UnknownMethod),
    (11, ErrorCode::ArgumentsTooLarge),
    (12, ErrorCode::RemoteOverloaded),
];

fn remote_code(number: u16) -> Option<ErrorCode> {
    REMOTE_CODES.iter().find(|(known, _)| *known == number).map(|(_, code)| *code)
}

/// The number for an error code; those without one of their own are protocol failures to the peer.
pub fn remote_number(code: ErrorCode) -> u16 {
    REMOTE_CODES.iter().find(|(_, known)| *known == code).map_or(5, |(number, _)| *number)
}

/// How a failed call counts.
pub fn outcome_of(error: &Error) -> Outcome {
    match (error.code(), error.origin()) {
        (ErrorCode::DeadlineExceeded | ErrorCode::ResponseTimeout, _) => Outcome::Deadline,
        (_, Origin::Local) => Outcome::Local,
        (_, Origin::Remote) => Outcome::Remote,
        (_, Origin::App) => Outcome::AppError,
    }
}
