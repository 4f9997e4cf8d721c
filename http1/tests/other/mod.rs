//! How others read the same bytes, and in what that differs from our reading.
#![allow(dead_code, unreachable_pub, reason = "each binary uses its own part")]

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::corpus;
use crate::fuzzing::common::{End, Fields, MAX_HEAD, Message, Reading, Side, read};

/// What hyper made of the bytes.
#[derive(Debug, Default)]
pub struct Other {
    pub messages: Vec<Message>,
    pub end: OtherEnd,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum OtherEnd {
    /// Between messages, or after the last.
    #[default]
    Clean,
    /// The bytes ended within a message.
    Incomplete,
    Refused,
}

/// Reads them with a real hyper server that answers each request when it is whole.
pub fn read_by_hyper(bytes: &[u8]) -> Other {
    block_on(serve(bytes))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

async fn serve(bytes: &[u8]) -> Other {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let seen = Rc::new(RefCell::new(Other::default()));
    let service = service_fn(|request| record(request, Rc::clone(&seen)));
    // Room for as many fields as our limit of bytes has: their number is the caller's to limit.
    let connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .max_headers(MAX_HEAD / 4)
        .serve_connection(TokioIo::new(server), service);
    let talk = async {
        // It may have gone before it has read everything.
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        let mut answers = Vec::new();
        let _ = client.read_to_end(&mut answers).await;
    };
    let (ended, ()) = tokio::join!(connection, talk);
    let mut other = seen.take();
    if let Err(error) = ended
        && other.end == OtherEnd::Clean
    {
        other.end = if error.is_incomplete_message() { OtherEnd::Incomplete } else { OtherEnd::Refused };
    }
    other
}

async fn record(request: Request<Incoming>, seen: Rc<RefCell<Other>>) -> Result<Response<Empty<Bytes>>, hyper::Error> {
    let (head, mut body) = request.into_parts();
    let mut answer = Response::new(Empty::new());
    // A tunnel is not what is compared.
    if head.method == Method::CONNECT {
        *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    }
    let mut message = Message {
        start: format!("{} {}", head.method, head.uri),
        fields: fields(&head.headers),
        body: Vec::new(),
        trailers: Vec::new(),
        is_whole: false,
    };
    let result = loop {
        match body.frame().await {
            None => break Ok(answer),
            Some(Err(error)) => break Err(error),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => message.body.extend_from_slice(&data),
                Err(frame) => message.trailers = fields(frame.trailers_ref().expect("data or trailers")),
            },
        }
    };
    let mut seen = seen.borrow_mut();
    message.is_whole = result.is_ok();
    if let Err(error) = &result {
        // An end within the body comes as an error of the reader below.
        let is_cut = std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some_and(|source| source.kind() == std::io::ErrorKind::UnexpectedEof);
        seen.end = if is_cut || error.is_incomplete_message() { OtherEnd::Incomplete } else { OtherEnd::Refused };
    }
    seen.messages.push(message);
    result
}

fn fields(map: &HeaderMap) -> Fields {
    map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

/// How another's reading, which `read.py` has written down, comes back.
pub fn parse(lines: &[&str]) -> Other {
    let mut other = Other::default();
    for line in lines {
        let (mark, rest) = line.split_at(1);
        let rest = corpus::unescape(rest.strip_prefix(' ').unwrap_or(rest));
        let field = |text: &[u8]| {
            let at = text.iter().position(|byte| *byte == b':').expect("a field");
            (String::from_utf8_lossy(&text[..at]).into_owned(), text[at + 1..].trim_ascii().to_vec())
        };
        let last = other.messages.last_mut();
        match mark {
            "=" | "~" => {
                let mut parts = rest.splitn(3, |byte| *byte == b' ');
                let start = [parts.next(), parts.next()].map(|part| String::from_utf8_lossy(part.expect("a start")));
                other.messages.push(Message {
                    start: start.join(" "),
                    fields: Vec::new(),
                    body: parts.next().unwrap_or_default().to_vec(),
                    trailers: Vec::new(),
                    is_whole: mark == "=",
                });
            }
            "-" => last.expect("a message").fields.push(field(&rest)),
            "+" => last.expect("a message").trailers.push(field(&rest)),
            "!" => {
                other.end = match &rest[..] {
                    b"clean" => OtherEnd::Clean,
                    b"incomplete" => OtherEnd::Incomplete,
                    b"refused" => OtherEnd::Refused,
                    _ => panic!("no such end: {line}"),
                };
            }
            _ => panic!("no such mark: {line}"),
        }
    }
    other
}

/// How another reading differs from ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Not at all.
    Same,
    /// The same messages, and then we refuse what the other takes, or waits for.
    WeRefuse,
    /// The same messages, and then the other refuses what we take.
    TheyRefuse,
    /// Neither refuses, and they do not see the same.
    Otherwise,
}

/// Compares the whole messages, in their order, and what came after them.
pub fn compare(ours: &Reading, theirs: &Other) -> Difference {
    let we: Vec<_> = ours.messages.iter().filter(|message| message.is_whole).collect();
    let they: Vec<_> = theirs.messages.iter().filter(|message| message.is_whole).collect();
    if we.iter().zip(&they).any(|(we, they)| !is_same(we, they)) {
        return Difference::Otherwise;
    }
    let we_refuse = matches!(ours.end, End::Refused(_));
    // What stands behind the last message is read by nobody here, and refused by some.
    let they_refuse = theirs.end == OtherEnd::Refused && !(ours.end == End::Closed && we.len() == they.len());
    match we.len().cmp(&they.len()) {
        std::cmp::Ordering::Less if we_refuse => Difference::WeRefuse,
        std::cmp::Ordering::Greater if they_refuse => Difference::TheyRefuse,
        std::cmp::Ordering::Equal => match (we_refuse, they_refuse) {
            (true, false) => Difference::WeRefuse,
            // They never saw it whole either; but what they refuse we still wait for.
            (false, true) => Difference::TheyRefuse,
            (true, true) => Difference::Same,
            (false, false) if (ours.end == End::Incomplete) != (theirs.end == OtherEnd::Incomplete) => {
                Difference::Otherwise
            }
            (false, false) => Difference::Same,
        },
        _ => Difference::Otherwise,
    }
}

pub fn is_same(we: &Message, they: &Message) -> bool {
    let sorted = |fields: &Fields| {
        let mut fields = fields.clone();
        // h11 writes codings in small letters.
        for (_, value) in fields.iter_mut().filter(|(name, _)| name == "transfer-encoding") {
            value.make_ascii_lowercase();
        }
        // hyper's map keeps the order of one name's values only.
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        fields
    };
    is_same_target(&we.start, &they.start)
        && we.body == they.body
        && sorted(&we.fields) == sorted(&they.fields)
        && sorted(&we.trailers) == sorted(&they.trailers)
}

/// hyper writes an absolute target's empty path as `/`, and its scheme in small letters.
fn is_same_target(we: &str, they: &str) -> bool {
    let plain = |start: &str| match start.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            let slash = if path.starts_with('/') { "" } else { "/" };
            let (method, scheme) = scheme.split_once(' ').unwrap_or_default();
            format!("{method} {}://{authority}{slash}{path}", scheme.to_ascii_lowercase())
        }
        None => start.to_owned(),
    };
    we == they || (!we.contains(" /") && plain(we) == plain(they))
}

/// Reads by both. What we take and hyper does not is in the README's list.
pub fn check_against_hyper(bytes: &[u8]) {
    // Half an empty line at the end is the beginning of something here, and nothing to hyper.
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let ours = read(Side::Requests, bytes, &[usize::MAX]);
    let theirs = read_by_hyper(bytes);
    match compare(&ours, &theirs) {
        Difference::Same | Difference::WeRefuse => {}
        Difference::TheyRefuse if ours.messages.iter().any(|message| has_odd_marks(&message.start)) => {}
        // It does not wait for the end of a head or of a size line to refuse it; we refuse it then.
        Difference::TheyRefuse if ours.end == End::Incomplete => {
            let ended = [bytes, b"\r\n\r\n"].concat();
            let ended = read(Side::Requests, &ended, &[usize::MAX]);
            assert!(matches!(ended.end, End::Refused(_)), "{ours:?}, and hyper: {theirs:?}");
        }
        difference => panic!("{difference:?}: {ours:?}, and hyper: {theirs:?}"),
    }
}

/// Marks that RFC 3986 has not, and hyper's `Uri` takes in a path or in a query or in neither.
fn has_odd_marks(start: &str) -> bool {
    start.contains(['<', '>', '`', '"'])
}

/// The first answer to `method` that a real hyper client reads from `bytes`, if it takes it.
pub fn first_answer_by_hyper(method: &str, bytes: &[u8]) -> Option<Message> {
    block_on(async {
        let (client, mut server) = tokio::io::duplex(1 << 20);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(client)).await.ok()?;
        let request = Request::builder().method(method).uri("/").header("host", "a").body(Empty::new()).ok()?;
        let serve = async {
            let mut request = [0; 256];
            let _ = server.read(&mut request).await;
            let _ = server.write_all(bytes).await;
            drop(server);
        };
        let ask = async {
            let (head, mut body) = sender.send_request(request).await.ok()?.into_parts();
            let mut message = Message {
                start: head.status.as_u16().to_string(),
                fields: fields(&head.headers),
                body: Vec::new(),
                trailers: Vec::new(),
                is_whole: false,
            };
            while let Some(frame) = body.frame().await {
                match frame.ok()?.into_data() {
                    Ok(data) => message.body.extend_from_slice(&data),
                    Err(frame) => message.trailers = fields(frame.trailers_ref().expect("data or trailers")),
                }
            }
            message.is_whole = true;
            Some(message)
        };
        let (answer, (), _) = tokio::join!(ask, serve, connection.with_upgrades());
        answer
    })
}
