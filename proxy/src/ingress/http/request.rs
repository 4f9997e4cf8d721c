//! A request's head in HTTP/1.1. Pure.

use std::borrow::Cow;

use http::Uri;
use http::uri::Authority;
use http1::{Field, Framing, Refusal, Version};
use wire::Headers;

use crate::config::{Config, Door};
use crate::edge::fields::{self, Kind};
use crate::edge::http2::{Opening, PREFACE_HEAD};
use crate::error::{Error, ErrorCode, Phase};
use crate::ingress::asked::{self, Asked, Line, bad};

/// A request's head, understood or not.
pub struct Request {
    /// What is called; an error says why that cannot be told.
    pub call: Result<Asked, Error>,
    /// What the caller speaks.
    pub version: Version,
    /// How its body is framed.
    pub framing: Framing,
    /// The caller keeps the connection open.
    pub keep_alive: bool,
    /// The caller waits to be told to send its body.
    pub expects_continue: bool,
    /// The answer has no body.
    pub is_head: bool,
    /// The connection is to go on in HTTP/2.
    pub http2: Option<Opening>,
}

/// Reads a request's head, of so many fields. `bound`: the door leads to one service only.
pub fn read(head: &[u8], count: usize, config: &Config, bound: Option<&Door>) -> Request {
    let read = http1::request(head, count, |request| Request {
        call: understand(request, head.len(), config, bound),
        version: request.version,
        framing: request.framing,
        // What stands behind a CONNECT was meant for its tunnel: where that is refused, it is not to be read as a request.
        keep_alive: request.keep_alive && request.method != "CONNECT",
        expects_continue: request.expects_continue,
        is_head: request.method == "HEAD",
        http2: upgrade_to_http2(request),
    });
    read.unwrap_or_else(|refusal| {
        let http2 = (head == PREFACE_HEAD).then_some(Opening::Read(PREFACE_HEAD));
        Request { http2, ..Request::refused(&refusal) }
    })
}

/// Makes a call of a request's head.
fn understand(
    request: &http1::RequestHead<'_>,
    bytes: usize,
    config: &Config,
    bound: Option<&Door>,
) -> Result<Asked, Error> {
    let (authority, path) = target(request)?;
    let line = Line {
        method: request.method,
        authority: authority.as_ref().map(Authority::host),
        port: authority.as_ref().and_then(Authority::port_u16),
        path: &path,
        is_empty: request.framing == Framing::Length(0),
        may_upgrade: may_upgrade(request),
        is_connect: request.method == "CONNECT",
        size: (bytes, request.fields.len()),
    };
    let fields = request.fields.iter().map(|field| (*field, false));
    asked::read(&line, fields, |name| request.connection.names(name), config, bound)
}

/// A request that may hand its connection over: its Upgrade is meant for this hop, and nothing of HTTP comes behind it.
fn may_upgrade(request: &http1::RequestHead<'_>) -> bool {
    request.method == "GET"
        && request.version == Version::Http11
        && request.framing == Framing::None
        && request.connection.names("upgrade")
}

/// What a caller asks for that would rather speak HTTP/2 (RFC 7540, 3.2; RFC 9113 no longer has it, and curl still asks). It is this
/// sidecar that will: nothing passes that it has not looked at. Like any Upgrade it may be declined, by an answer in HTTP/1.1.
fn upgrade_to_http2(request: &http1::RequestHead<'_>) -> Option<Opening> {
    // Few requests come further.
    if !request.connection.names("http2-settings") {
        return None;
    }
    let mut asks = false;
    let mut settings = 0;
    for field in request.fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        asks |= is("upgrade") && field.value.eq_ignore_ascii_case(b"h2c");
        settings += usize::from(is("http2-settings"));
    }
    let is_plain = request.version == Version::Http11 && request.framing == Framing::None;
    if !asks || !request.connection.names("upgrade") || !is_plain || settings != 1 || !request.target.starts_with('/') {
        return None;
    }
    let host = request.fields.iter().find(|field| field.name.eq_ignore_ascii_case("host"))?;
    let mut fields = Headers::with_capacity(request.target.len(), request.fields.len() + 4);
    fields.push(b":method", request.method.as_bytes());
    fields.push(b":scheme", b"http");
    fields.push(b":authority", host.value);
    fields.push(b":path", request.target.as_bytes());
    let goes = |field: &&Field<'_>| {
        let name = field.name.as_bytes();
        !name.eq_ignore_ascii_case(b"host")
            && fields::kind(name) != Kind::HopByHop
            && !request.connection.names(field.name)
    };
    request.fields.iter().filter(goes).for_each(|field| fields.push_lower(field.name.as_bytes(), field.value));
    Some(Opening::Upgrade(fields))
}

impl Request {
    /// What came is no request.
    pub fn refused(refusal: &Refusal) -> Request {
        let code = match refusal.status() {
            _ if *refusal == Refusal::Host => ErrorCode::NoServiceNamed,
            431 => ErrorCode::HeaderTooLarge,
            501 => ErrorCode::UnsupportedCoding,
            505 => ErrorCode::UnsupportedVersion,
            _ => ErrorCode::BadRequest,
        };
        Request {
            call: Err(Error::local(code, Phase::Request, refusal.to_string())),
            version: Version::Http11,
            framing: Framing::None,
            keep_alive: false,
            expects_continue: false,
            is_head: false,
            http2: None,
        }
    }
}

/// The authority, where the target is in absolute form, and the path with its query.
fn target<'a>(request: &http1::RequestHead<'a>) -> Result<(Option<Authority>, Cow<'a, str>), Error> {
    let target = request.target;
    if request.method == "CONNECT" {
        if request.framing != Framing::None {
            // Where it would end and the tunnel begin, servers disagree.
            return Err(bad("CONNECT with a body"));
        }
        let authority = target.parse().map_err(|_| bad("the target is no authority"))?;
        return Ok((Some(authority), Cow::Borrowed("")));
    }
    if target.starts_with('/') || (target == "*" && request.method == "OPTIONS") {
        return Ok((None, Cow::Borrowed(target)));
    }
    let uri: Uri = target.parse().map_err(|_| bad("the target is neither a path nor an absolute URI"))?;
    let (Some(authority), Some(_)) = (uri.authority(), uri.scheme()) else {
        return Err(bad("the target is neither a path nor an absolute URI"));
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((Some(authority.clone()), Cow::Owned(path.to_owned())))
}
