//! Every error this sidecar generates, in one place: what happened, whose side it is, whether the call ran, what to do.
//!
//! An [`Error`] is made where the failure is known best and is never rewritten on its way up; the one retry loop
//! (`dispatch.rs`) reads [`Error::executed`], the doors render it.

use std::fmt;
use std::time::Duration;

use serde_json::json;

/// Whether the app called has run, or may have run, the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executed {
    /// Provably not: the call may be sent again, whatever its method.
    No,
    /// It ran.
    Yes,
    /// Nobody can tell from here.
    Unknown,
}

/// Who produced the failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The sidecar next to the caller.
    Local,
    /// The sidecar next to the app called.
    Remote,
    /// The app called.
    App,
}

/// How far the call had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading and understanding the caller's request.
    Request,
    /// Finding the service and choosing an endpoint.
    Route,
    /// Reaching the sidecar of the endpoint.
    Connect,
    /// The request is out, its answer awaited.
    Wait,
    /// The answer's body is on its way.
    Body,
}

/// Statuses of gRPC (its `doc/statuscodes.md`) that errors of ours are told with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum GrpcStatus {
    /// The caller gave it up.
    Cancelled = 1,
    /// The request is wrong whatever the state of things.
    InvalidArgument = 3,
    /// Too late.
    DeadlineExceeded = 4,
    /// Not for this caller.
    PermissionDenied = 7,
    /// More than may be.
    ResourceExhausted = 8,
    /// There is no such method.
    Unimplemented = 12,
    /// Something is broken.
    Internal = 13,
    /// Not now: clients may try again.
    Unavailable = 14,
}

macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $name:literal, $status:literal, $grpc:ident, $hint:literal; )+) => {
        /// The kinds of generated errors: the value of `x-pillion-error`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ErrorCode { $( $(#[doc = $doc])+ $variant, )+ }

        impl ErrorCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [ErrorCode] = &[ $( ErrorCode::$variant, )+ ];

            /// The name seen by callers and in metrics.
            pub const fn as_str(self) -> &'static str { match self { $( ErrorCode::$variant => $name, )+ } }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> u16 { match self { $( ErrorCode::$variant => $status, )+ } }

            /// The gRPC status that goes with it.
            pub const fn grpc(self) -> GrpcStatus { match self { $( ErrorCode::$variant => GrpcStatus::$grpc, )+ } }

            /// What the caller or its operator can do.
            pub const fn hint(self) -> &'static str { match self { $( ErrorCode::$variant => $hint, )+ } }
        }
    };
}

codes! {
    /// The request cannot be understood.
    BadRequest = "bad-request", 400, InvalidArgument, "correct the request; the detail says which part of it";
    /// Neither Host, nor the absolute form, nor `x-pillion-service` names a service.
    NoServiceNamed = "no-service-named", 400, InvalidArgument, "name the service called: send 'Host: SERVICE' or 'x-pillion-service: SERVICE'";
    /// The name is not a service name.
    BadServiceName = "bad-service-name", 400, InvalidArgument, "a service name is lower-case letters, digits, '-', '_' and '.', at most 63 characters";
    /// The destination is not a registered service and must not be reached through this sidecar.
    ForbiddenDestination = "forbidden-destination", 403, PermissionDenied, "only registered services are reachable; addresses are not";
    /// A page in a browser calls the sidecar by its address.
    ForbiddenOrigin = "forbidden-origin", 403, PermissionDenied, "pages may not call services through this port; call from a program, without an Origin header";
    /// The registry knows nobody by that name.
    UnknownService = "unknown-service", 404, Unavailable, "check the spelling, and with 'pillionctl services' whether the service is registered";
    /// The request has passed through too many sidecars: it goes in a circle.
    LoopDetected = "loop-detected", 508, Internal, "the request comes back to where it was sent from; does an app or its --app address lead to a sidecar's outbound port?";
    /// The arguments of a procedure are not what its method takes, or cannot be given to the app.
    BadArguments = "bad-arguments", 400, InvalidArgument, "correct the arguments; the detail says what is wrong with them, and in which field of a message";
    /// No method of the service called is meant by the request, or several may be.
    UnknownMethod = "unknown-method", 404, Unimplemented, "call POST /{package.Service}/{Method}, or as the method's google.api.http says; the detail has what there is";
    /// The JSON of a message is longer than it may be.
    ArgumentsTooLarge = "arguments-too-large", 413, ResourceExhausted, "a message may be 4 MiB of JSON; send less at once, or call the method with gRPC";
    /// The heads of the request exceed `limits.header_bytes` or `limits.header_count`.
    HeaderTooLarge = "header-too-large", 431, ResourceExhausted, "send fewer or smaller headers, or raise limits.header_bytes / limits.header_count on both sidecars";
    /// The request's body comes in a coding other than `chunked`.
    UnsupportedCoding = "unsupported-coding", 501, Internal, "send the body with Content-Length or with 'Transfer-Encoding: chunked'";
    /// The request is neither HTTP/1.0 nor HTTP/1.1.
    UnsupportedVersion = "unsupported-version", 505, Internal, "speak HTTP/1.1 to this port";
    /// The service is known, but no instance (of the version asked for) is there.
    NoEndpoints = "no-endpoints", 503, Unavailable, "start an instance, or look at 'pillionctl endpoints SERVICE' and the admin port's /table";
    /// The registry did not answer and nothing is known of the service.
    DiscoveryTimeout = "discovery-timeout", 503, Unavailable, "the registry is unreachable and this service is in no snapshot; see pillion_registry_connected";
    /// Too many services are being looked up or followed.
    DiscoveryBusy = "discovery-busy", 503, Unavailable, "many unknown services are being called at once; raise limits.services if they are real";
    /// No channel to an endpoint's sidecar came about.
    ConnectFailed = "connect-failed", 503, Unavailable, "is the sidecar of the endpoint up and reachable? the detail has its address and the system's error";
    /// The peer reached is not the service called.
    WrongPeer = "wrong-peer", 502, Unavailable, "the peer's certificate or HELLO names another service; check the record and the peer's identity directory";
    /// The connection to the peer's sidecar ended before the answer.
    ChannelLost = "channel-lost", 502, Unavailable, "the peer's sidecar went away in mid-call; send again if the call is idempotent";
    /// The caller's own deadline passed.
    DeadlineExceeded = "deadline-exceeded", 504, DeadlineExceeded, "the time given by x-pillion-timeout or grpc-timeout is over; allow more, or find what is slow";
    /// No first byte of the answer within `timeouts.response`.
    ResponseTimeout = "response-timeout", 504, DeadlineExceeded, "raise timeouts.response, or send x-pillion-timeout with the call";
    /// The caller's body ended before it was whole.
    RequestAborted = "request-aborted", 400, Cancelled, "the request body ended early";
    /// The peer's sidecar cannot reach its app.
    AppNotConnected = "app-not-connected", 503, Unavailable, "the app behind the peer's sidecar does not accept connections; is it running on its --app address?";
    /// The peer's sidecar is at a bound.
    RemoteOverloaded = "remote-overloaded", 503, Unavailable, "the peer's sidecar or app is at its limit; slow down and try again";
    /// The peer's sidecar is shutting down.
    RemoteDraining = "remote-draining", 503, Unavailable, "the instance is stopping; send the call again";
    /// The peer's sidecar does not serve that service.
    RemoteNoSuchService = "remote-no-such-service", 503, Unavailable, "the record points to a sidecar that has no such app; it leaves the table soon";
    /// The peer's sidecar refused by policy.
    RemotePolicy = "remote-policy", 403, PermissionDenied, "the policy of the service called does not admit this caller";
    /// The peer's sidecar found the protocol violated.
    RemoteProtocol = "remote-protocol", 502, Internal, "the sidecars disagree about the protocol; are their versions compatible?";
    /// The app called does not speak the caller's protocol.
    WrongProtocol = "wrong-protocol", 502, Internal, "a service with a tcp:// or thrift:// app is reached through an [[outbound]] port of that protocol, any other through an HTTP port";
    /// No connection to a declared host outside.
    EgressNotConnected = "egress-not-connected", 503, Unavailable, "the host of [[egress]] was not reached, or its certificate is not trusted; the detail says which";
    /// A declared host outside broke off, or does not speak what it is called in.
    EgressFailed = "egress-failed", 502, Unavailable, "the host of [[egress]] closed the connection or answered what is no HTTP; it may have run the call";
    /// The app closed the connection without answering.
    AppClosed = "app-closed", 502, Unavailable, "the app closed its connection before it answered; see its log. It may have run the call";
    /// What the app answered is not the HTTP or the Thrift that it is called in.
    AppBadResponse = "app-bad-response", 502, Internal, "the app's answer is not valid; is --app the right port, and of the right protocol? An app that speaks HTTP/2, as gRPC does, is given as h2c://HOST:PORT, framed Thrift as thrift://HOST:PORT";
    /// The head of the app's answer exceeds the limits.
    AppHeaderTooLarge = "app-header-too-large", 502, ResourceExhausted, "the answer's headers exceed limits.header_bytes / limits.header_count of a sidecar on the way";
}

/// A failed call. Boxed inside: it is made on cold paths only and must not widen hot futures.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    code: ErrorCode,
    origin: Origin,
    phase: Phase,
    executed: Executed,
    endpoint: Option<String>,
    attempts: u32,
    revision: u64,
    detail: String,
    retry_after: Option<Duration>,
}

impl Error {
    /// An error of this sidecar; the call was not executed.
    pub fn local(code: ErrorCode, phase: Phase, detail: impl Into<String>) -> Error {
        Error::new(code, Origin::Local, phase, Executed::No, detail)
    }

    /// An error with all that decides about it.
    pub fn new(code: ErrorCode, origin: Origin, phase: Phase, executed: Executed, detail: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            code,
            origin,
            phase,
            executed,
            endpoint: None,
            attempts: 0,
            revision: 0,
            detail: detail.into(),
            retry_after: None,
        }))
    }

    /// Adds where the call went and how often it was tried.
    pub fn at(mut self, endpoint: Option<String>, attempts: u32, revision: u64) -> Error {
        if endpoint.is_some() {
            self.0.endpoint = endpoint;
        }
        self.0.attempts = attempts;
        self.0.revision = revision;
        self
    }

    /// The call may have been executed by an earlier attempt.
    pub fn executed_at_worst(mut self, executed: Executed) -> Error {
        self.0.executed = self.0.executed.or(executed);
        self
    }

    /// Adds the peer's hint when to come back.
    pub fn retry_after(mut self, after: Option<Duration>) -> Error {
        self.0.retry_after = after;
        self
    }

    /// What kind it is.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// Whose side it is.
    pub fn origin(&self) -> Origin {
        self.0.origin
    }

    /// Whether the call ran.
    pub fn executed(&self) -> Executed {
        self.0.executed
    }

    /// How far the call had come.
    pub fn phase(&self) -> Phase {
        self.0.phase
    }

    /// Where the call went, if anywhere.
    pub fn endpoint(&self) -> Option<&str> {
        self.0.endpoint.as_deref()
    }

    /// How often it was tried, and by which revision of the table.
    pub fn tries(&self) -> (u32, u64) {
        (self.0.attempts, self.0.revision)
    }

    /// The particulars, in words.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// When the peer said to come back.
    pub fn retry_after_hint(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The same as `Retry-After` says it: whole seconds are all that the field can say (RFC 9110, 10.2.3).
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.0.retry_after.map(|after| u64::try_from(after.as_millis().div_ceil(1000)).unwrap_or(u64::MAX))
    }

    /// The JSON body of the generated answer (DESIGN: code, origin, phase, executed, endpoint, attempts, revision, hint).
    pub fn to_json(&self) -> Vec<u8> {
        let inner = &*self.0;
        let value = json!({
            "code": inner.code.as_str(),
            "origin": inner.origin.as_str(),
            "phase": inner.phase.as_str(),
            "executed": inner.executed.as_str(),
            "endpoint": inner.endpoint,
            "attempts": inner.attempts,
            "revision": inner.revision,
            "detail": inner.detail,
            "hint": inner.code.hint(),
        });
        let mut body = value.to_string().into_bytes();
        body.push(b'\n');
        body
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        write!(
            f,
            "{} ({}, {}, executed: {})",
            inner.code.as_str(),
            inner.origin.as_str(),
            inner.phase.as_str(),
            inner.executed.as_str()
        )?;
        if !inner.detail.is_empty() {
            write!(f, ": {}", inner.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl Executed {
    /// What holds of two attempts together.
    pub fn or(self, other: Executed) -> Executed {
        match (self, other) {
            (Executed::Yes, _) | (_, Executed::Yes) => Executed::Yes,
            (Executed::No, Executed::No) => Executed::No,
            _ => Executed::Unknown,
        }
    }

    /// As in the JSON body.
    pub const fn as_str(self) -> &'static str {
        match self {
            Executed::No => "no",
            Executed::Yes => "yes",
            Executed::Unknown => "unknown",
        }
    }
}

impl GrpcStatus {
    /// As gRPC's documents write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            GrpcStatus::Cancelled => "CANCELLED",
            GrpcStatus::InvalidArgument => "INVALID_ARGUMENT",
            GrpcStatus::DeadlineExceeded => "DEADLINE_EXCEEDED",
            GrpcStatus::PermissionDenied => "PERMISSION_DENIED",
            GrpcStatus::ResourceExhausted => "RESOURCE_EXHAUSTED",
            GrpcStatus::Unimplemented => "UNIMPLEMENTED",
            GrpcStatus::Internal => "INTERNAL",
            GrpcStatus::Unavailable => "UNAVAILABLE",
        }
    }
}

impl Origin {
    /// As in the JSON body.
    pub const fn as_str(self) -> &'static str {
        match self {
            Origin::Local => "local-sidecar",
            Origin::Remote => "remote-sidecar",
            Origin::App => "app",
        }
    }
}

impl Phase {
    /// As in the JSON body.
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Request => "request",
            Phase::Route => "route",
            Phase::Connect => "connect",
            Phase::Wait => "wait",
            Phase::Body => "body",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_statuses_are_errors() {
        let mut seen = std::collections::BTreeSet::new();
        for code in ErrorCode::ALL {
            assert!(seen.insert(code.as_str()), "{} stands twice", code.as_str());
            assert!((400..600).contains(&code.status()), "{}", code.as_str());
            assert!(!code.hint().is_empty());
        }
    }

    #[test]
    fn the_document_lists_every_code_with_its_status() {
        let document = include_str!("../../docs/errors.md");
        let listed: std::collections::BTreeSet<String> = document
            .lines()
            .filter_map(|line| {
                let mut cells = line.split('|').map(str::trim).skip(1);
                let code = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
                let status: u16 = cells.next()?.parse().ok()?;
                Some(format!("{code} {status} {}", cells.next()?))
            })
            .collect();
        let row = |code: &ErrorCode| {
            format!("{} {} {} {}", code.as_str(), code.status(), code.grpc() as u8, code.grpc().as_str())
        };
        let known = ErrorCode::ALL.iter().map(row).collect();
        assert_eq!(listed, known);
    }

    #[test]
    fn the_body_has_every_field_a_caller_may_rely_on() {
        let error =
            Error::local(ErrorCode::ConnectFailed, Phase::Connect, "refused").at(Some("10.0.0.1:4143".into()), 2, 77);
        let value: serde_json::Value = serde_json::from_slice(&error.to_json()).unwrap();
        for (key, want) in [
            ("code", json!("connect-failed")),
            ("origin", json!("local-sidecar")),
            ("phase", json!("connect")),
            ("executed", json!("no")),
            ("endpoint", json!("10.0.0.1:4143")),
            ("attempts", json!(2)),
            ("revision", json!(77)),
            ("detail", json!("refused")),
        ] {
            assert_eq!(value[key], want, "{key}");
        }
        assert!(value["hint"].as_str().unwrap().contains("sidecar"));
    }
}
