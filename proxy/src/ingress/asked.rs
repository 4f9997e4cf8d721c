//! What a request's head asks for, whichever HTTP it came in. Pure, but for the ids that it makes up.

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;
use http1::Field;
use wire::limits::INLINE_BODY_BYTES;
use wire::{Headers, RequestHead, TraceContext};

use crate::call::{Body, Call, Deadline};
use crate::config::{Config, Door, Egress};
use crate::edge::fields::{self, Kind};
use crate::error::{Error, ErrorCode, Phase};
use crate::record::Record;
use crate::route::{self, Names, Own};

/// A request goes so often from a sidecar to an app and on to a sidecar. An app that passes its caller's fields on is one thing; a
/// chain of so many of them is a circle.
const HOPS: u32 = 16;
/// What a sidecar tells its app with each call: one that comes with it has been handed to an app before.
const PEER: &[u8] = b"x-pillion-peer";
/// Room for what is added to a head: the service's name and a request id with their fields' names.
const ADDED_BYTES: usize = 128;
const ADDED_FIELDS: usize = 3;

/// What a request's head asks for.
pub struct Asked {
    /// What travels.
    pub head: RequestHead,
    /// The version of the service.
    pub version: Option<registry::Version>,
    /// When the caller gives up.
    pub deadline: Option<Deadline>,
    /// The connection is to carry bytes, once the app agrees.
    pub tunnel: Option<Tunnel>,
    /// It is a gRPC call.
    pub grpc: bool,
    /// It is no call of a service, but for the sidecar itself to answer.
    pub own: Option<OwnAnswer>,
}

/// What a connection leaves HTTP for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// The protocol that the head says, spoken with an HTTP app (RFC 9110, 7.8).
    Upgrade,
    /// A connection to an app of raw TCP (RFC 9110, 9.3.6).
    Connect,
}

/// What the sidecar answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnAnswer {
    /// JSON-RPC 2.0, to the service that the head names.
    JsonRpc,
    /// That it is up.
    Health,
    /// Who it is.
    Metadata,
    /// A call of a declared host outside: that of this index.
    Egress(usize),
}

impl Asked {
    /// The call, with its body. `announced`: the length that its head announced.
    #[inline]
    pub fn into_call(self, body: Body, announced: Option<u64>, record: &mut Record) -> Call {
        let Asked { mut head, version, deadline, tunnel, grpc, own: _ } = self;
        let length = match &body {
            Body::Whole(bytes) => {
                record.sent(bytes.len());
                // Then it travels behind the head.
                (bytes.len() > INLINE_BODY_BYTES).then_some(bytes.len() as u64)
            }
            Body::Stream(_) => announced,
        };
        if let Some(length) = length {
            head.headers.push_number(b"content-length", length);
        }
        let safe = fields::is_safe(&head.method) && tunnel.is_none();
        let call = Call { head, version, deadline, safe, tunnel: tunnel.is_some(), grpc, body };
        record.describe(&call);
        call
    }
}

/// What a door has read of a head beside its fields.
pub struct Line<'a> {
    /// GET, POST, …
    pub method: &'a str,
    /// The authority of a target in absolute form.
    pub authority: Option<&'a str>,
    /// The port in it.
    pub port: Option<u16>,
    /// The path with its query.
    pub path: &'a str,
    /// The caller says that its body has no bytes.
    pub is_empty: bool,
    /// The connection may be handed over to another protocol.
    pub may_upgrade: bool,
    /// It asks for a connection to an app, by [`Line::authority`].
    pub is_connect: bool,
    /// How long the head is, about, and its number of fields.
    pub size: (usize, usize),
}

/// Makes a call of a head, whose `fields` each may be one that no dictionary shall hold (RFC 7541, 7.1.3). `stays`: the caller said that the field is for this hop. `bound`: the door leads to one service only.
pub fn read<'a>(
    line: &Line<'a>,
    fields: impl Iterator<Item = (Field<'a>, bool)>,
    stays: impl Fn(&str) -> bool,
    config: &Config,
    bound: Option<&Door>,
) -> Result<Asked, Error> {
    let limits = &config.limits;
    let (bytes, count) = line.size;
    let mut said = Said::default();
    let mut headers = Headers::with_capacity(bytes + ADDED_BYTES, count + ADDED_FIELDS);
    let mut cost = line.path.len();
    for (field, is_sensitive) in fields {
        cost += fields::cost(&field);
        if !said.take(&field)? || stays(field.name) {
            continue;
        }
        match is_sensitive {
            false => headers.push_lower(field.name.as_bytes(), field.value),
            true => headers.push_sensitive(field.name.as_bytes(), field.value),
        }
    }
    if cost > limits.header_bytes || count > limits.header_count {
        let detail = format!(
            "{count} fields of {cost} bytes; limits.header_count is {}, limits.header_bytes {}",
            limits.header_count, limits.header_bytes
        );
        return Err(Error::local(ErrorCode::HeaderTooLarge, Phase::Request, detail));
    }
    let Addressed { service, path, kind, own } = match bound {
        Some(door) => called(door.service.as_str().into(), line.path),
        None => addressed(line, &said, &config.egress)?,
    };
    let version = match (bound.and_then(|door| door.version.clone()), said.version) {
        (Some(version), _) => Some(version),
        (None, None) => None,
        (None, Some(text)) => Some(text.parse().map_err(|error| bad(format!("x-pillion-version: {error}")))?),
    };
    let deadline = match (said.timeout, said.grpc_timeout) {
        (None, None) => None,
        (ours, grpc) => route::deadline_of(ours, grpc, Instant::now())?,
    };
    if let Some(hops) = said.hops {
        if hops >= HOPS {
            let detail = format!("it has passed {hops} apps, from sidecar to sidecar");
            return Err(Error::local(ErrorCode::LoopDetected, Phase::Route, detail));
        }
        headers.push_number(fields::HOPS, u64::from(hops) + 1);
    }
    let trace = said.trace.and_then(parse_traceparent);
    if said.has_trace_state && trace.is_none() {
        // W3C Trace Context, 3.2 and 3.3: an invalid one is to be ignored, and what goes with it.
        headers.remove(b"tracestate");
    }
    // The app called sees the name that its caller used, not the address of the caller's sidecar.
    headers.push(b"host", service.as_bytes());
    if !said.has_request_id {
        push_request_id(&mut headers);
    }
    if line.is_empty {
        // Some apps ask for it where the caller said it.
        headers.push(b"content-length", b"0");
    }
    let upgrade = said.upgrade.filter(|_| line.may_upgrade);
    if let Some(protocol) = upgrade {
        headers.push(b"upgrade", protocol);
    }
    if line.is_connect {
        // What else the head says was for this hop: to the app it is a connection.
        let service = Bytes::copy_from_slice(service.as_bytes());
        let head = RequestHead { kind: wire::Kind::Tcp, trace, service, ..RequestHead::default() };
        return Ok(Asked { head, version, deadline, tunnel: Some(Tunnel::Connect), grpc: false, own });
    }
    let head = RequestHead {
        kind,
        trace: Some(trace.unwrap_or_else(new_trace)),
        service: Bytes::copy_from_slice(service.as_bytes()),
        method: method(line.method),
        path: Bytes::copy_from_slice(path.as_bytes()),
        headers,
        ..RequestHead::default()
    };
    Ok(Asked { head, version, deadline, tunnel: upgrade.map(|_| Tunnel::Upgrade), grpc: said.grpc, own })
}

/// Whom a request is for.
struct Addressed<'a> {
    service: Cow<'a, str>,
    path: &'a str,
    kind: wire::Kind,
    own: Option<OwnAnswer>,
}

fn called<'a>(service: Cow<'a, str>, path: &'a str) -> Addressed<'a> {
    Addressed { service, path, kind: wire::Kind::Http, own: None }
}

/// A service by its name; or by what the sidecar's own interfaces mean, where the sidecar itself is called by its address.
fn addressed<'a>(line: &Line<'a>, said: &Said<'a>, egress: &[Egress]) -> Result<Addressed<'a>, Error> {
    let names = Names { header: said.service, authority: line.authority, host: said.host };
    let unnamed = match route::service_called(names) {
        Ok(service) => {
            let own = outside(line, said, &service, egress)?.map(OwnAnswer::Egress);
            return Ok(Addressed { own, ..called(service, line.path) });
        }
        Err(error) => error,
    };
    if unnamed.code() != ErrorCode::NoServiceNamed {
        return Err(unnamed);
    }
    let own = match said.dapr_app {
        Some(service) => Own::Call { service, path: line.path, rpc: false },
        None => route::own(line.path).ok_or(unnamed)?,
    };
    if said.has_origin {
        // Such a path needs nothing that a page of another site could not send.
        let detail = "the request comes from a page in a browser";
        return Err(Error::local(ErrorCode::ForbiddenOrigin, Phase::Route, detail));
    }
    let answered = |service: &'a str, own| Addressed { own: Some(own), ..called(route::lower(service), line.path) };
    match own {
        Own::Call { rpc: true, .. } | Own::JsonRpc { .. } if line.method != "POST" => {
            Err(bad(format!("a procedure is called with POST, not with {}", line.method)))
        }
        Own::Call { service, path, rpc: true } => {
            Ok(Addressed { kind: wire::Kind::Rpc, ..called(route::lower(service), path) })
        }
        Own::Call { service, path, rpc: false } => Ok(called(route::lower(service), path)),
        Own::JsonRpc { service } => Ok(answered(service, OwnAnswer::JsonRpc)),
        Own::Health => Ok(answered("", OwnAnswer::Health)),
        Own::Metadata => Ok(answered("", OwnAnswer::Metadata)),
    }
}

/// The declared host outside that is named, if it is one and no service is named by its own field.
fn outside(line: &Line<'_>, said: &Said<'_>, name: &str, egress: &[Egress]) -> Result<Option<usize>, Error> {
    let found = egress.binary_search_by(|egress| egress.host.as_str().cmp(name)).ok();
    let Some(index) = found.filter(|_| said.service.is_none()) else { return Ok(None) };
    let port = egress[index].port;
    if line.is_connect && line.port != Some(port) {
        let detail = format!("of {name}, port {port} alone is declared");
        return Err(Error::local(ErrorCode::ForbiddenDestination, Phase::Route, detail));
    }
    Ok(Some(index))
}

/// What the fields say to this sidecar.
#[derive(Default)]
struct Said<'a> {
    host: Option<&'a str>,
    service: Option<&'a str>,
    dapr_app: Option<&'a str>,
    version: Option<&'a str>,
    timeout: Option<&'a [u8]>,
    grpc_timeout: Option<&'a [u8]>,
    trace: Option<&'a [u8]>,
    upgrade: Option<&'a [u8]>,
    grpc: bool,
    /// It was handed to an app by a sidecar, so often, and comes from there with its fields.
    hops: Option<u32>,
    has_upgrade: bool,
    has_origin: bool,
    has_trace_state: bool,
    has_request_id: bool,
}

impl<'a> Said<'a> {
    /// Looks at a field. Says whether it goes on as it is.
    #[inline]
    fn take(&mut self, field: &Field<'a>) -> Result<bool, Error> {
        let name = field.name.as_bytes();
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is(b"host") => only(&mut self.host, field)?,
            6 if is(b"origin") => {
                self.has_origin = true;
                return Ok(true);
            }
            7 if is(b"upgrade") => {
                // Twice is a list.
                let first = !std::mem::replace(&mut self.has_upgrade, true);
                self.upgrade = fields::upgrade(field.value).filter(|_| first);
            }
            10 if is(b"tracestate") => {
                self.has_trace_state = true;
                return Ok(true);
            }
            11 if is(b"dapr-app-id") => only(&mut self.dapr_app, field)?,
            // It travels in the head, as do the timeouts.
            11 if is(b"traceparent") => self.trace = self.trace.or(Some(field.value)),
            12 if is(b"grpc-timeout") => self.grpc_timeout = self.grpc_timeout.or(Some(field.value)),
            12 if is(b"x-request-id") => {
                self.has_request_id = true;
                return Ok(true);
            }
            12 if is(b"content-type") => {
                self.grpc = fields::is_grpc(field.value);
                return Ok(true);
            }
            // Framing is each hop's own.
            14 if is(b"content-length") => {}
            14 if is(PEER) => self.hops = self.hops.or(Some(0)),
            14 if is(fields::HOPS) => self.hops = Some(hops(field.value)),
            17 if is(b"x-pillion-service") => only(&mut self.service, field)?,
            17 if is(b"x-pillion-version") => only(&mut self.version, field)?,
            17 if is(b"x-pillion-timeout") => self.timeout = self.timeout.or(Some(field.value)),
            _ => return Ok(fields::kind(name) == Kind::EndToEnd),
        }
        Ok(false)
    }
}

/// What is no number is as good as too many.
fn hops(value: &[u8]) -> u32 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(HOPS)
}

/// The only value of a field; two of them are an attempt to mean two things at once.
fn only<'a>(place: &mut Option<&'a str>, field: &Field<'a>) -> Result<(), Error> {
    let name = field.name;
    let value = std::str::from_utf8(field.value).map_err(|_| bad(format!("{name} is not plain text")))?;
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad(format!("{name} stands more than once"))),
    }
}

/// The method, without a copy where it is one of the usual ones.
fn method(name: &str) -> Bytes {
    const USUAL: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"];
    match USUAL.into_iter().find(|usual| *usual == name) {
        Some(usual) => Bytes::from_static(usual.as_bytes()),
        None => Bytes::copy_from_slice(name.as_bytes()),
    }
}

/// An id for a call whose caller gave it none.
pub fn push_request_id(headers: &mut Headers) {
    headers.push(b"x-request-id", hex(fastrand::u64(..), &mut [0; 16]));
}

/// A trace for a call whose caller gave it none.
pub fn new_trace() -> TraceContext {
    TraceContext {
        trace_id: (fastrand::u128(..) | 1).to_be_bytes(),
        span_id: (fastrand::u64(..) | 1).to_be_bytes(),
        flags: 0,
    }
}

/// Version 00: `00-{32 hex}-{16 hex}-{2 hex}`, neither id all zeros.
fn parse_traceparent(value: &[u8]) -> Option<TraceContext> {
    let text = std::str::from_utf8(value).ok()?;
    if text.len() != 55
        || !text.starts_with("00-")
        || text.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'+')
    {
        return None;
    }
    let mut parts = text.split('-').skip(1);
    let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
    if (trace.len(), span.len(), flags.len()) != (32, 16, 2) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
    let span = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some(TraceContext { trace_id: trace.to_be_bytes(), span_id: span.to_be_bytes(), flags })
}

fn hex(number: u64, into: &mut [u8; 16]) -> &[u8] {
    for (index, digit) in into.iter_mut().enumerate() {
        let nibble = (number >> (60 - 4 * index)) & 0xf;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
    into
}

/// The request cannot be understood.
pub fn bad(detail: impl Into<String>) -> Error {
    Error::local(ErrorCode::BadRequest, Phase::Request, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent() {
        let good = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = parse_traceparent(good).unwrap();
        assert_eq!(context.trace_id[..2], [0x0a, 0xf7]);
        assert_eq!(context.span_id[..2], [0xb7, 0xad]);
        assert_eq!(context.flags, 1);
        for bad in [
            "",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01-",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(parse_traceparent(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn hex_digits() {
        assert_eq!(hex(0x0123_4567_89ab_cdef, &mut [0; 16]), b"0123456789abcdef");
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        let field = |value| Field { name: "X-Pillion-Service", value };
        let said = |fields: &[Field<'static>]| {
            let mut said = Said::default();
            fields.iter().try_for_each(|field| said.take(field).map(|_| ()))?;
            Ok::<_, Error>(said)
        };
        assert_eq!(said(&[field(b"a")]).unwrap().service, Some("a"));
        assert_eq!(said(&[field(b"a"), field(b"a")]).err().map(|error| error.code()), Some(ErrorCode::BadRequest));
        assert_eq!(said(&[field(b"\xff")]).err().map(|error| error.code()), Some(ErrorCode::BadRequest));
    }
}
