//! The heads of messages, and what their fields say about framing.

use std::mem::MaybeUninit;

use crate::encode::is_token;
use crate::refusal::Refusal;
use crate::target::{check_host, check_target};

/// A field as it stands in the message: the name in whatever case, the value without the spaces around it.
pub use httparse::Header as Field;

/// Fields for which the parser has room on the stack.
const ROOM: usize = 100;
/// Options that the Connection fields of a head may name. Each field is compared with each of them.
const CONNECTION_OPTIONS: usize = 32;

/// The two versions that share this syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0: no chunks, and a connection ends with its exchange unless both sides say otherwise.
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How long a body is (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// There is none, whatever the fields say.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Until the connection ends.
    UntilClose,
    /// It is no message any more: after 101 the connection belongs to another protocol.
    Tunnel,
}

/// A request's head.
#[derive(Debug)]
pub struct RequestHead<'a> {
    /// The method, case-sensitive.
    pub method: &'a str,
    /// The request target as it came.
    pub target: &'a str,
    /// The version.
    pub version: Version,
    /// The fields in their order.
    pub fields: &'a [Field<'a>],
    /// How long the body is.
    pub framing: Framing,
    /// The caller keeps the connection open after this exchange (RFC 9112, 9.3).
    pub keep_alive: bool,
    /// The caller waits for 100 (Continue) before it sends the body.
    pub expects_continue: bool,
    /// The options that the Connection fields name.
    pub connection: Connection<'a>,
}

/// A response's head.
#[derive(Debug)]
pub struct ResponseHead<'a> {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The version.
    pub version: Version,
    /// The fields in their order.
    pub fields: &'a [Field<'a>],
    /// How long the body is. A Content-Length is not said by [`Framing::None`]: it is among the fields.
    pub framing: Framing,
    /// The connection may carry another exchange.
    pub keep_alive: bool,
    /// The options that the Connection fields name.
    pub connection: Connection<'a>,
}

/// What the Connection fields name: fields that belong to this hop alone (RFC 9110, 7.6.1).
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    fields: &'a [Field<'a>],
    /// Whether anything but `close` and `keep-alive` is named: mostly not.
    names_fields: bool,
}

impl Connection<'_> {
    /// Whether a Connection field names the field `name`.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.names_fields
            && self
                .fields
                .iter()
                .filter(|field| field.name.eq_ignore_ascii_case("connection"))
                .flat_map(|field| tokens(field.value))
                .any(|token| token.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// Reads a request's head: the bytes that [`HeadScan`](crate::HeadScan) found, with the number of `fields` that it counted.
pub fn request<T>(head: &[u8], fields: usize, read: impl FnOnce(&RequestHead<'_>) -> T) -> Result<T, Refusal> {
    with_room(fields, |room| {
        let mut parsed = httparse::Request::new(&mut []);
        let config = httparse::ParserConfig::default();
        let status = config.parse_request_with_uninit_headers(&mut parsed, head, room).map_err(syntax)?;
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(INCOMPLETE);
        };
        if status != httparse::Status::Complete(head.len()) {
            return Err(INCOMPLETE);
        }
        check_target(method, target)?;
        let said = Said::by(parsed.headers)?;
        let version = if version == 0 { Version::Http10 } else { Version::Http11 };
        match said.host {
            Some(host) => check_host(host)?,
            None if version == Version::Http11 => return Err(Refusal::Host),
            None => {}
        }
        let framing = said.framing(version)?.unwrap_or(Framing::None);
        Ok(read(&RequestHead {
            method,
            target,
            version,
            fields: parsed.headers,
            framing,
            keep_alive: said.keeps_alive(version),
            expects_continue: said.expects_continue
                && version == Version::Http11
                && !matches!(framing, Framing::None | Framing::Length(0)),
            connection: said.connection(parsed.headers),
        }))
    })
}

/// Reads a response's head. `to_head`: it answers a HEAD request, so it has no body. An answer to CONNECT would be a tunnel
/// (RFC 9110, 9.3.6), which is not told here: a caller that does not want one passes no CONNECT on.
pub fn response<T>(
    head: &[u8],
    fields: usize,
    to_head: bool,
    read: impl FnOnce(&ResponseHead<'_>) -> T,
) -> Result<T, Refusal> {
    with_room(fields, |room| {
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let done = config.parse_response_with_uninit_headers(&mut parsed, head, room).map_err(syntax)?;
        let (Some(status), Some(version)) = (parsed.code, parsed.version) else { return Err(INCOMPLETE) };
        if done != httparse::Status::Complete(head.len()) {
            return Err(INCOMPLETE);
        }
        if status < 100 {
            return Err(Refusal::Syntax("the status"));
        }
        let said = Said::by(parsed.headers)?;
        let version = if version == 0 { Version::Http10 } else { Version::Http11 };
        let announced = said.framing(version)?;
        let announces_body = !matches!(announced, None | Some(Framing::Length(0)));
        let framing = match status {
            // Whoever reads a body here takes what follows for it.
            100..=199 if announces_body => return Err(Refusal::Syntax("a body announced by an interim response")),
            101 => Framing::Tunnel,
            100..=199 | 204 | 304 => Framing::None,
            _ if to_head => Framing::None,
            _ => announced.unwrap_or(Framing::UntilClose),
        };
        // Some apps send a body with a 204, or think they do: what comes next could be either.
        let is_unclear = status == 204 && announces_body;
        Ok(read(&ResponseHead {
            status,
            version,
            fields: parsed.headers,
            framing,
            keep_alive: said.keeps_alive(version)
                && !is_unclear
                && !matches!(framing, Framing::UntilClose | Framing::Tunnel),
            connection: said.connection(parsed.headers),
        }))
    })
}

/// What the fields say about the connection and the body.
#[derive(Debug, Default)]
struct Said<'a> {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    names_fields: bool,
    host: Option<&'a [u8]>,
}

impl<'a> Said<'a> {
    fn by(fields: &[Field<'a>]) -> Result<Said<'a>, Refusal> {
        let mut said = Said::default();
        let mut options = 0;
        for field in fields {
            // The length tells most fields apart from these at once.
            match field.name.len() {
                4 if field.name.eq_ignore_ascii_case("host") => set_once(&mut said.host, field.value, Refusal::Host)?,
                6 if field.name.eq_ignore_ascii_case("expect") => {
                    said.expects_continue |=
                        tokens(field.value).any(|expected| expected.eq_ignore_ascii_case(b"100-continue"));
                }
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    for token in tokens(field.value) {
                        options += 1;
                        // What is no token hides the options beside it from some, hyper among them.
                        if options > CONNECTION_OPTIONS
                            || !token.iter().copied().all(is_token)
                            || is_for_everybody(token)
                        {
                            return Err(Refusal::Syntax("Connection"));
                        }
                        if token.eq_ignore_ascii_case(b"close") {
                            said.close = true;
                        } else if token.eq_ignore_ascii_case(b"keep-alive") {
                            said.keep_alive = true;
                        } else {
                            said.names_fields = true;
                        }
                    }
                }
                14 if is_named(field, "content-length") => {
                    let length = number(field.value).filter(|_| !field.name.contains('_')).ok_or(Refusal::Length)?;
                    set_once(&mut said.length, length, Refusal::Length)?;
                }
                17 if is_named(field, "transfer-encoding") => {
                    // A second one would make a list of two.
                    if field.name.contains('_') || said.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Refusal::Coding);
                    }
                    said.chunked = true;
                }
                _ => {}
            }
        }
        Ok(said)
    }

    fn framing(&self, version: Version) -> Result<Option<Framing>, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Refusal::LengthBesideCoding),
            (true, None) if version == Version::Http10 => Err(Refusal::CodingOnOldVersion),
            (true, None) => Ok(Some(Framing::Chunked)),
            (false, length) => Ok(length.map(Framing::Length)),
        }
    }

    fn keeps_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    fn connection<'f>(&self, fields: &'f [Field<'f>]) -> Connection<'f> {
        Connection { fields, names_fields: self.names_fields }
    }
}

const INCOMPLETE: Refusal = Refusal::Syntax("the head ends early");

fn syntax(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::HeaderName => Refusal::Syntax("a field's name"),
        httparse::Error::HeaderValue => Refusal::Syntax("a field's value"),
        httparse::Error::NewLine => Refusal::BareLineEnd,
        httparse::Error::Status => Refusal::Syntax("the status"),
        httparse::Error::Token => Refusal::Syntax("the first line"),
        httparse::Error::TooManyHeaders => Refusal::Syntax("more fields than lines"),
        httparse::Error::Version => Refusal::Version,
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T, refusal: Refusal) -> Result<(), Refusal> {
    if slot.replace(value).is_some() { Err(refusal) } else { Ok(()) }
}

/// Whether it has this name, or one that an app behind CGI or WSGI takes for it: there `_` and `-` are the same.
fn is_named(field: &Field<'_>, name: &str) -> bool {
    let mut pairs = field.name.bytes().zip(name.bytes());
    field.name.len() == name.len()
        && pairs.all(|(have, want)| have.eq_ignore_ascii_case(&want) || (have == b'_' && want == b'-'))
}

/// Fields that a Connection option must not name (RFC 9110, 7.6.1): without them the next one reads another message.
fn is_for_everybody(option: &[u8]) -> bool {
    let names: [&[u8]; 3] = [b"host", b"content-length", b"transfer-encoding"];
    names.iter().any(|name| option.eq_ignore_ascii_case(name))
}

/// A plain decimal number (RFC 9110, 8.6): digits and nothing else, and none that overflows.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| number * 10 + u64::from(digit))
    })
}

/// The elements of a comma-separated list of tokens.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Gives `parse` room for that many fields, on the stack where they are few.
fn with_room<'a, T>(
    fields: usize,
    parse: impl for<'h> FnOnce(&'h mut [MaybeUninit<Field<'a>>]) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    if fields <= ROOM {
        parse(&mut [const { MaybeUninit::uninit() }; ROOM])
    } else {
        parse(&mut vec![MaybeUninit::uninit(); fields])
    }
}
