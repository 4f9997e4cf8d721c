//! Between hyper's types and ours. Only this file, `ingress/http.rs` and `upstream/http.rs` know hyper; another HTTP/1.1
//! codec replaces these three.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use wire::Headers;

use crate::call::{Body, BodyStream, Part};
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};

/// Header fields that one hop says to the next (RFC 9110, 7.6.1), and those that the sidecars answer themselves.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::TRANSFER_ENCODING
            | header::UPGRADE
            | header::TE
            | header::EXPECT
            | header::PROXY_AUTHORIZATION
            | header::PROXY_AUTHENTICATE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// Room for what is added to a head on its way: a request id, the name of the service.
const ADDED_TEXT: usize = 96;
const ADDED_FIELDS: usize = 2;

/// The end-to-end fields of `map`. `drop` names further fields to leave out.
pub fn end_to_end(map: &HeaderMap, drop: impl Fn(&str) -> bool) -> Headers {
    let named_by_connection: Vec<&str> = map
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
        .collect();
    let text: usize = map.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let mut headers = Headers::with_capacity(text + ADDED_TEXT, map.len() + ADDED_FIELDS);
    for (name, value) in map {
        let text = name.as_str();
        let dropped = is_hop_by_hop(name)
            || named_by_connection.iter().any(|token| token.eq_ignore_ascii_case(text))
            || drop(text);
        if !dropped {
            headers.push(text.as_bytes(), value.as_bytes());
        }
    }
    headers
}

/// Fields for which hyper keeps room on the stack; beyond it allocates and clears 16 KiB for every head.
const INLINE_FIELDS: usize = 100;

/// How many fields hyper is to parse: a few more than `limit`, so that ours, which says what to do, is met first.
pub fn parser_fields(limit: usize) -> usize {
    let some_more = limit + 4;
    if some_more <= INLINE_FIELDS { INLINE_FIELDS } else { some_more + limit }
}

/// Whether the connection stays open after this message (RFC 9112, 9.3).
pub fn keeps_alive(version: Version, map: &HeaderMap) -> bool {
    let says = |word: &str| {
        let mut values = map.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(word)))
    };
    if version == Version::HTTP_11 { !says("close") } else { says("keep-alive") }
}

/// What the fields cost against `limits.header_bytes`: text and four bytes a line for `: ` and the line's end.
pub fn header_cost(map: &HeaderMap) -> usize {
    map.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// Fields as hyper wants them, values without a copy. Hop-by-hop ones are left out here too: a peer's sidecar should not
/// have sent them, and framing is not its to decide.
pub fn to_hyper(headers: Headers, into: &mut HeaderMap) -> Result<(), InvalidField> {
    let (text, fields) = headers.into_parts();
    into.reserve(fields.len());
    for field in fields {
        let (name, value) = (field.0, field.1);
        let name = HeaderName::from_bytes(&text[name]).map_err(|_| InvalidField)?;
        let value = HeaderValue::from_maybe_shared(text.slice(value)).map_err(|_| InvalidField)?;
        if !is_hop_by_hop(&name) {
            into.append(name, value);
        }
    }
    Ok(())
}

/// A field that HTTP/1.1 cannot carry.
#[derive(Debug, Clone, Copy)]
pub struct InvalidField;

/// Sets the length that goes with an answer's `body`: hyper trusts a Content-Length beside a whole body, so it must not be
/// the peer's word. An answer to HEAD, and one without a body by its status, keeps or drops it as RFC 9110 says.
pub fn settle_answer(headers: &mut HeaderMap, body: &Body, head_request: bool, status: StatusCode) {
    let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if bodiless || (matches!(body, Body::Whole(_)) && !head_request) {
        headers.remove(header::CONTENT_LENGTH);
    }
}

/// The same for a request. A length of 0 is said where the caller said it or the method has a body by its meaning (RFC
/// 9110, 8.6): some apps ask for it. A stream without a length is chunked, also where hyper would expect no body.
pub fn settle_request(headers: &mut HeaderMap, body: &Body, method: &Method) {
    match body {
        Body::Whole(bytes) => {
            let said = headers.remove(header::CONTENT_LENGTH).is_some();
            let meant = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
            if said || meant || !bytes.is_empty() {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
            }
        }
        Body::Stream(_) if content_length(headers).is_none() => {
            headers.remove(header::CONTENT_LENGTH);
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Body::Stream(_) => {}
    }
}

/// The length that a head announces.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Fields that the sidecars alone say to each other and to the app: from anybody else they are dropped.
pub fn is_internal(name: &[u8]) -> bool {
    name.get(..INTERNAL.len()).is_some_and(|start| start.eq_ignore_ascii_case(INTERNAL))
}

const INTERNAL: &[u8] = b"x-pillion-";

/// Whether RFC 9110 calls the method safe (9.2.1): sending it twice does no harm.
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// Whoever wants to know what became of a body.
pub trait Watch {
    /// Bytes were passed on.
    fn passed(&mut self, _bytes: usize) {}
    /// The body came to its end, or to an error. Not called when it is dropped before.
    fn ended(&mut self, _error: Option<&Error>) {}
}

/// A body of ours for hyper to send. Its watcher is dropped as soon as it ends.
#[derive(Debug)]
pub struct Outgoing<W: Watch> {
    body: Body,
    /// What is left of the announced length. hyper does not ask on once it has all of that.
    left: Option<u64>,
    watch: Option<W>,
}

impl<W: Watch> Outgoing<W> {
    /// Wraps `body`, which goes with `headers`.
    pub fn new(body: Body, headers: &HeaderMap, watch: W) -> Outgoing<W> {
        let left = match &body {
            Body::Whole(bytes) => Some(bytes.len() as u64),
            Body::Stream(_) => content_length(headers),
        };
        let mut outgoing = Outgoing { body, left, watch: Some(watch) };
        // hyper does not ask a body that has ended for its parts.
        if left == Some(0) {
            outgoing.ended(None);
        }
        outgoing
    }

    fn ended(&mut self, error: Option<&Error>) {
        if let Some(mut watch) = self.watch.take() {
            watch.ended(error);
        }
    }
}

impl<W: Watch + Unpin> http_body::Body for Outgoing<W> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let part = match &mut this.body {
            Body::Whole(bytes) if bytes.is_empty() => None,
            Body::Whole(bytes) => Some(Ok(Part::Data(std::mem::take(bytes)))),
            Body::Stream(source) => ready!(source.as_mut().poll_part(cx)),
        };
        match &part {
            None => this.ended(None),
            Some(Err(error)) => this.ended(Some(error)),
            Some(Ok(Part::Trailers(_))) => {}
            Some(Ok(Part::Data(data))) => {
                if let Some(watch) = &mut this.watch {
                    watch.passed(data.len());
                }
                if let Some(left) = &mut this.left {
                    *left = left.saturating_sub(data.len() as u64);
                    if *left == 0 {
                        this.ended(None);
                    }
                }
            }
        }
        Poll::Ready(part.map(to_frame))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Stream(_) => SizeHint::default(),
        }
    }
}

fn to_frame(part: Result<Part, Error>) -> Result<Frame<Bytes>, Error> {
    Ok(match part? {
        Part::Data(data) => Frame::data(data),
        Part::Trailers(trailers) => {
            let mut map = HeaderMap::new();
            to_hyper(public(trailers), &mut map).map_err(|InvalidField| {
                Error::new(
                    ErrorCode::RemoteProtocol,
                    Origin::Remote,
                    Phase::Body,
                    Executed::Yes,
                    "a trailer is invalid",
                )
            })?;
            Frame::trailers(map)
        }
    })
}

/// Trailers without what is internal: in them it can only come from an app, or from a peer that makes it up.
fn public(mut trailers: Headers) -> Headers {
    trailers.retain(|field| !is_internal(field.name));
    trailers
}

/// Whose body it is: decides what an error in it means.
#[derive(Debug, Clone, Copy)]
pub enum Side {
    /// The caller's request.
    Caller,
    /// The app's answer.
    App,
}

/// A body that hyper receives.
struct Receiving {
    incoming: Incoming,
    first: Option<Bytes>,
    side: Side,
}

impl BodyStream for Receiving {
    fn poll_part(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Part::Data(first))));
        }
        loop {
            let side = self.side;
            return match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                None => Poll::Ready(None),
                Some(Err(error)) => Poll::Ready(Some(Err(side.broken(&error)))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => Poll::Ready(Some(Ok(Part::Data(data)))),
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) => Poll::Ready(Some(Ok(Part::Trailers(public(end_to_end(&trailers, |_| false)))))),
                        Err(_) => continue,
                    },
                },
            };
        }
    }
}

impl Side {
    fn broken(self, error: &hyper::Error) -> Error {
        match self {
            Side::Caller => {
                Error::local(ErrorCode::RequestAborted, Phase::Request, format!("the caller's body broke off: {error}"))
            }
            Side::App => Error::new(
                ErrorCode::AppClosed,
                Origin::App,
                Phase::Body,
                Executed::Yes,
                format!("the app's answer broke off: {error}"),
            ),
        }
    }
}

/// Takes a body in: whole when it is known to be small or is all here already, else as a stream. Only a body that
/// announces a small length is waited for; what arrives bit by bit is passed on bit by bit.
pub async fn gather(mut incoming: Incoming, side: Side) -> Result<Body, Error> {
    if incoming.is_end_stream() {
        return Ok(Body::EMPTY);
    }
    let small = incoming.size_hint().exact().is_some_and(|length| length <= wire::limits::INLINE_BODY_BYTES as u64);
    let mut first: Option<Bytes> = None;
    loop {
        let polled = std::future::poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut incoming).poll_frame(cx) {
                Poll::Pending if small => return Poll::Pending,
                other => other,
            })
        })
        .await;
        match polled {
            Poll::Pending => break,
            Poll::Ready(None) => return Ok(Body::Whole(first.unwrap_or_default())),
            Poll::Ready(Some(Err(error))) => return Err(side.broken(&error)),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    let gathered = match first.take() {
                        None => data,
                        Some(before) => Bytes::from([before, data].concat()),
                    };
                    let is_end = incoming.is_end_stream();
                    let fits = gathered.len() <= wire::limits::INLINE_BODY_BYTES;
                    first = Some(gathered).filter(|bytes| !bytes.is_empty());
                    if !fits {
                        break;
                    }
                    if is_end {
                        return Ok(Body::Whole(first.unwrap_or_default()));
                    }
                }
                Err(frame) => {
                    // Trailers so soon: rare, and only the streamed form carries them.
                    let trailers = frame.into_trailers().ok().map(|map| public(end_to_end(&map, |_| false)));
                    return Ok(Body::stream(Ending { data: first, trailers }));
                }
            },
        }
    }
    Ok(Body::stream(Receiving { incoming, first, side }))
}

/// A short body with trailers, all of it here.
struct Ending {
    data: Option<Bytes>,
    trailers: Option<Headers>,
}

impl BodyStream for Ending {
    fn poll_part(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        let data = self.data.take().map(Part::Data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Part::Trailers)).map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_about_framing_does_not_reach_the_app() {
        let mut headers = Headers::new();
        for (name, value) in
            [("transfer-encoding", "chunked"), ("connection", "upgrade"), ("upgrade", "websocket"), ("x-kept", "1")]
        {
            headers.push(name.as_bytes(), value.as_bytes());
        }
        let mut map = HeaderMap::new();
        to_hyper(headers, &mut map).unwrap();
        assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn a_field_that_would_break_a_line_is_refused() {
        for (name, value) in [("x-a", "1\r\nx-b: 2"), ("x a", "1"), ("x-a\r\n", "1"), ("x-a", "\0")] {
            let mut headers = Headers::new();
            headers.push(name.as_bytes(), value.as_bytes());
            assert!(to_hyper(headers, &mut HeaderMap::new()).is_err(), "{name:?}: {value:?}");
        }
    }

    #[test]
    fn the_length_beside_a_whole_body_is_never_the_peers_word() {
        let lengths = |body: &Body, head_request: bool, status: u16| {
            let mut map = HeaderMap::new();
            map.insert(header::CONTENT_LENGTH, HeaderValue::from_static("5"));
            settle_answer(&mut map, body, head_request, StatusCode::from_u16(status).unwrap());
            map.contains_key(header::CONTENT_LENGTH)
        };
        let whole = Body::Whole(Bytes::from_static(b"four"));
        assert!(!lengths(&whole, false, 200));
        assert!(lengths(&Body::EMPTY, true, 200), "an answer to HEAD says what GET would have had");
        assert!(!lengths(&Body::EMPTY, true, 304));
    }

    #[test]
    fn fields_named_by_connection_stay_on_their_hop() {
        let mut map = HeaderMap::new();
        map.insert(header::CONNECTION, HeaderValue::from_static("close, X-Mine"));
        map.insert("x-mine", HeaderValue::from_static("1"));
        map.insert("x-yours", HeaderValue::from_static("2"));
        let kept = end_to_end(&map, |name| name == "x-dropped");
        assert_eq!(kept.iter().map(|field| field.name).collect::<Vec<_>>(), [b"x-yours"]);
    }

    #[test]
    fn a_request_says_its_length_where_an_app_may_ask_for_it() {
        let settled = |method: Method, said: Option<&'static str>, body: Body| {
            let mut map = HeaderMap::new();
            if let Some(said) = said {
                map.insert(header::CONTENT_LENGTH, HeaderValue::from_static(said));
            }
            settle_request(&mut map, &body, &method);
            let text = |name| map.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
            (text(header::CONTENT_LENGTH), text(header::TRANSFER_ENCODING))
        };
        let whole = || Body::Whole(Bytes::from_static(b"four"));
        let stream = || Body::stream(Ending { data: None, trailers: None });
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(settled(Method::GET, None, Body::EMPTY), (None, None));
        assert_eq!(settled(Method::GET, Some("0"), Body::EMPTY), (some("0"), None));
        assert_eq!(settled(Method::POST, None, Body::EMPTY), (some("0"), None));
        assert_eq!(settled(Method::POST, Some("9"), whole()), (some("4"), None), "never the peer's word");
        assert_eq!(settled(Method::POST, Some("9000"), stream()), (some("9000"), None));
        assert_eq!(settled(Method::GET, None, stream()), (None, some("chunked")));
        assert_eq!(settled(Method::GET, Some("lies"), stream()), (None, some("chunked")));
    }

    #[test]
    fn internal_fields_are_known_in_any_case() {
        for name in ["x-pillion-peer", "X-Pillion-Peer", "X-PILLION-TIMEOUT"] {
            assert!(is_internal(name.as_bytes()), "{name}");
        }
        for name in ["x-pillio", "x-pillionaire", "x-request-id", ""] {
            assert!(!is_internal(name.as_bytes()), "{name}");
        }
    }

    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Watch for &mut Seen {
        fn passed(&mut self, bytes: usize) {
            self.0.push(bytes.to_string());
        }
        fn ended(&mut self, error: Option<&Error>) {
            self.0.push(if error.is_none() { "ended" } else { "failed" }.to_owned());
        }
    }

    #[test]
    fn a_body_has_ended_with_its_announced_length() {
        let data = Bytes::from_static(b"twelve bytes");
        let mut map = HeaderMap::new();
        map.insert(header::CONTENT_LENGTH, HeaderValue::from(data.len()));
        let mut seen = Seen::default();
        let body = Body::stream(Ending { data: Some(data), trailers: None });
        let mut outgoing = Outgoing::new(body, &map, &mut seen);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // hyper asks no more than this.
        assert!(matches!(Pin::new(&mut outgoing).poll_frame(&mut cx), Poll::Ready(Some(Ok(_)))));
        assert!(http_body::Body::is_end_stream(&outgoing));
        drop(outgoing);
        assert_eq!(seen.0, ["12", "ended"]);
    }
}
