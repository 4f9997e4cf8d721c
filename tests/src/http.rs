//! A small blocking HTTP/1.1 client that hides nothing: tests see the bytes as they come.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a read may wait before the test is told.
const PATIENCE: Duration = Duration::from_secs(30);
const READ_CHUNK: usize = 64 * 1024;

/// A request whose body, if any, is at hand.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// A request to `service`, named in `Host`.
    #[must_use]
    pub fn new(method: &str, service: &str, target: &str) -> Request {
        Request {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: vec![("host".into(), service.to_owned())],
            body: None,
        }
    }

    /// A GET to `service`.
    #[must_use]
    pub fn get(service: &str, target: &str) -> Request {
        Request::new("GET", service, target)
    }

    /// A POST to `service`.
    #[must_use]
    pub fn post(service: &str, target: &str, body: impl Into<Vec<u8>>) -> Request {
        Request::new("POST", service, target).body(body)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body; content-length is added when it is sent.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some(body.into());
        self
    }

    /// The bytes of the request.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if let Some(body) = &self.body {
            out.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        if let Some(body) = &self.body {
            out.extend_from_slice(body);
        }
        out
    }
}

/// A response's head.
#[derive(Debug, Clone)]
pub struct Head {
    pub status: u16,
    /// As received, in order; names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct Response {
    pub head: Head,
    pub body: Vec<u8>,
}

impl Response {
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status
    }

    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics with the body when it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.summary()))
    }

    /// Status, the error code if any, and the start of the body, for messages.
    #[must_use]
    pub fn summary(&self) -> String {
        let text = self.text();
        let start: String = text.chars().take(400).collect();
        format!("{} x-pillion-error={:?} body={start:?}", self.status(), self.header("x-pillion-error"))
    }

    /// Err with a summary unless the status is 200.
    pub fn ok(self) -> Result<Response, String> {
        if self.status() == 200 { Ok(self) } else { Err(self.summary()) }
    }
}

/// How a body's end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
}

impl Conn {
    /// Connects; every read and write has a time limit of 30 s.
    pub fn connect(to: SocketAddr) -> io::Result<Conn> {
        let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Conn { stream, buffer: Vec::new(), start: 0 })
    }

    /// Sets the limit of one read.
    pub fn set_patience(&self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).expect("a limit above zero");
    }

    /// One call on this connection, kept alive.
    pub fn call(&mut self, request: &Request) -> io::Result<Response> {
        self.write(&request.encode())?;
        self.read_response(request.method == "HEAD")
    }

    /// Writes raw bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Writes one chunk of a chunked body; an empty one ends it.
    pub fn write_chunk(&mut self, data: &[u8]) -> io::Result<()> {
        let mut out = format!("{:x}\r\n", data.len()).into_bytes();
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
        self.write(&out)
    }

    /// Reads a head and its whole body. `head_only`: the answer to a HEAD.
    pub fn read_response(&mut self, head_only: bool) -> io::Result<Response> {
        let head = self.read_head()?;
        let mut body = Vec::new();
        if !head_only {
            self.read_body(&head, |bytes| body.extend_from_slice(bytes))?;
        }
        Ok(Response { head, body })
    }

    /// Reads one head, 1xx included.
    pub fn read_any_head(&mut self) -> io::Result<Head> {
        loop {
            if let Some(end) = find(self.pending(), b"\r\n\r\n") {
                let head = parse_head(&self.pending()[..end])?;
                self.start += end + 4;
                return Ok(head);
            }
            self.fill()?;
        }
    }

    /// Reads the next final head; 1xx ones are passed over.
    pub fn read_head(&mut self) -> io::Result<Head> {
        loop {
            let head = self.read_any_head()?;
            if head.status >= 200 || head.status == 101 {
                return Ok(head);
            }
        }
    }

    /// Reads the body that follows `head`, in the pieces in which it comes.
    pub fn read_body(&mut self, head: &Head, mut sink: impl FnMut(&[u8])) -> io::Result<u64> {
        let mut total = 0;
        while let Some(piece) = self.next_piece(head, total)? {
            total += piece.len() as u64;
            sink(&piece);
            if framing(head) == Framing::Length(total) {
                break;
            }
        }
        Ok(total)
    }

    /// The next piece of the body, of which `so_far` bytes are read: one read's worth or one chunk; `None` at its end.
    pub fn next_piece(&mut self, head: &Head, so_far: u64) -> io::Result<Option<Vec<u8>>> {
        match framing(head) {
            Framing::None => Ok(None),
            Framing::Length(length) => {
                let left = usize::try_from(length - so_far).unwrap_or(usize::MAX);
                if left == 0 {
                    return Ok(None);
                }
                if self.pending().is_empty() {
                    self.fill()?;
                }
                let take = left.min(self.pending().len());
                Ok(Some(self.take(take)))
            }
            Framing::Chunked => {
                let line = self.read_line()?;
                let digits = line.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(digits, 16).map_err(|_| bad(&format!("chunk size {line:?}")))?;
                if size == 0 {
                    while !self.read_line()?.is_empty() {}
                    return Ok(None);
                }
                while self.pending().len() < size + 2 {
                    self.fill()?;
                }
                let data = self.take(size);
                self.take(2);
                Ok(Some(data))
            }
            Framing::UntilClose => {
                if self.pending().is_empty() {
                    match self.fill() {
                        Ok(()) => {}
                        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                        Err(error) => return Err(error),
                    }
                }
                let all = self.pending().len();
                Ok(Some(self.take(all)))
            }
        }
    }

    /// Everything until the peer closes, however it does so.
    #[must_use]
    pub fn read_to_close(&mut self) -> Vec<u8> {
        while self.fill().is_ok() {}
        let all = self.pending().len();
        self.take(all)
    }

    /// True when the peer has closed (an end or a reset) within `limit`; bytes that come before are kept.
    pub fn closed_within(&mut self, limit: Duration) -> bool {
        self.set_patience(limit);
        let closed = loop {
            match self.fill() {
                Ok(()) => {}
                Err(error) => {
                    break !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                }
            }
        };
        self.set_patience(PATIENCE);
        closed
    }

    /// What has been read and not yet taken.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Closes the sending direction.
    pub fn finish(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// The socket, for what this client does not do.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(self.pending(), b"\r\n") {
                let line = String::from_utf8_lossy(&self.pending()[..end]).into_owned();
                self.start += end + 2;
                return Ok(line);
            }
            self.fill()?;
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let taken = self.buffer[self.start..self.start + count].to_vec();
        self.start += count;
        taken
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let have = self.buffer.len();
        self.buffer.resize(have + READ_CHUNK, 0);
        let result = self.stream.read(&mut self.buffer[have..]);
        let read = *result.as_ref().unwrap_or(&0);
        self.buffer.truncate(have + read);
        match result {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection")),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn framing(head: &Head) -> Framing {
    if head.status == 204 || head.status == 304 || head.status < 200 {
        return Framing::None;
    }
    if head.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Framing::Chunked;
    }
    match head.header("content-length").map(str::parse) {
        Some(Ok(length)) => Framing::Length(length),
        _ => Framing::UntilClose,
    }
}

fn parse_head(bytes: &[u8]) -> io::Result<Head> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| bad(&format!("status line {first:?}")))?;
    let headers = lines
        .map(|line| {
            line.split_once(':')
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .ok_or_else(|| bad(&format!("header line {line:?}")))
        })
        .collect::<io::Result<_>>()?;
    Ok(Head { status, headers })
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// One GET on a connection of its own.
#[track_caller]
pub fn get(to: SocketAddr, service: &str, target: &str) -> Response {
    call(to, &Request::get(service, target))
}

/// One POST on a connection of its own.
#[track_caller]
pub fn post(to: SocketAddr, service: &str, target: &str, body: impl Into<Vec<u8>>) -> Response {
    call(to, &Request::post(service, target, body))
}

/// One call on a connection of its own; panics when there is no HTTP answer.
#[track_caller]
pub fn call(to: SocketAddr, request: &Request) -> Response {
    try_call(to, request).unwrap_or_else(|error| panic!("{} {} at {to}: {error}", request.method, request.target))
}

/// One call on a connection of its own.
pub fn try_call(to: SocketAddr, request: &Request) -> io::Result<Response> {
    Conn::connect(to)?.call(request)
}
