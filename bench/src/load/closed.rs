//! A closed loop over connections that are open before the clock runs, with the exact latency of every call.

use super::Seen;
use crate::Result;
use crate::site::CALLEE;
use httparse::{EMPTY_HEADER, Response, Status};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Connections that are opened at a time: fewer than any listener's backlog.
const OPENED_AT_ONCE: usize = 64;
/// A call that has no answer by then, after the end of the span, counts with the time that it has waited so far.
const GRACE: Duration = Duration::from_secs(2);
const BUFFER: usize = 64 * 1024;

/// The bytes of one request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
}

impl Request {
    /// The smallest there is.
    pub(crate) fn small() -> Request {
        Request::to(CALLEE)
    }

    /// A small call to another service.
    pub(crate) fn to(service: &str) -> Request {
        Request { bytes: format!("GET /small HTTP/1.1\r\nhost: {service}\r\n\r\n").into_bytes() }
    }

    /// With about this many bytes of further headers, at most a kibibyte each.
    pub(crate) fn with_headers(bytes: usize) -> Request {
        const FIELD: usize = 1024;
        let mut head = format!("GET /small HTTP/1.1\r\nhost: {CALLEE}\r\n");
        let mut left = bytes;
        for serial in 0.. {
            if left == 0 {
                break;
            }
            let name = format!("x-bench-{serial:02}: ");
            let whole = left.min(FIELD).max(name.len() + 3);
            head += &format!("{name}{}\r\n", "v".repeat(whole - name.len() - 2));
            left = left.saturating_sub(whole);
        }
        Request { bytes: (head + "\r\n").into_bytes() }
    }

    /// This many bytes, which the app gives back.
    pub(crate) fn echo(length: usize) -> Request {
        let head = format!("POST /echo HTTP/1.1\r\nhost: {CALLEE}\r\ncontent-length: {length}\r\n\r\n");
        let mut bytes = head.into_bytes();
        bytes.resize(bytes.len() + length, b'e');
        Request { bytes }
    }
}

/// Open connections, each of which makes one call after the other. Each has made one when this exists.
#[derive(Debug)]
pub(crate) struct Callers {
    runtime: Runtime,
    callers: Vec<Caller>,
}

impl Callers {
    /// The connections take the requests in turns.
    pub(crate) fn connect(door: SocketAddr, connections: usize, requests: &[Request]) -> Result<Callers> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let callers = runtime.block_on(async {
            let mut callers = Vec::with_capacity(connections);
            let mut requests = requests.iter().cycle().take(connections).peekable();
            while requests.peek().is_some() {
                let mut opening = JoinSet::new();
                for request in requests.by_ref().take(OPENED_AT_ONCE) {
                    opening.spawn(Caller::open(door, request.clone()));
                }
                while let Some(opened) = opening.join_next().await {
                    callers.push(opened??);
                }
            }
            Result::Ok(callers)
        })?;
        Ok(Callers { runtime, callers })
    }

    /// Calls for `span`.
    pub(crate) fn run(&mut self, span: Duration) -> Result<Seen> {
        let end = Instant::now() + span;
        let latencies = self.runtime.block_on(async {
            let mut running = JoinSet::new();
            for caller in self.callers.drain(..) {
                running.spawn(caller.call_until(end));
            }
            let mut all = Vec::new();
            while let Some(done) = running.join_next().await {
                let (caller, latencies) = done??;
                all.extend(latencies);
                self.callers.push(caller);
            }
            Result::Ok(all)
        })?;
        Seen::of(latencies, span)
    }
}

#[derive(Debug)]
struct Caller {
    stream: TcpStream,
    request: Request,
    buffer: Vec<u8>,
}

impl Caller {
    async fn open(door: SocketAddr, request: Request) -> Result<Caller> {
        let stream = TcpStream::connect(door).await?;
        stream.set_nodelay(true)?;
        let mut caller = Caller { stream, request, buffer: Vec::new() };
        caller.call().await?;
        // Ten thousand that then do nothing need none.
        caller.buffer = Vec::new();
        Ok(caller)
    }

    /// The latencies in microseconds. A call that still waits for its answer when the grace is over is given up, and the
    /// connection with it.
    async fn call_until(mut self, end: Instant) -> Result<(Caller, Vec<u32>)> {
        let mut latencies = Vec::new();
        while Instant::now() < end {
            let began = Instant::now();
            match tokio::time::timeout_at((end + GRACE).into(), self.call()).await {
                Ok(outcome) => outcome?,
                Err(_) => self.stream = TcpStream::connect(self.stream.peer_addr()?).await?,
            }
            latencies.push(u32::try_from(began.elapsed().as_micros())?);
        }
        Ok((self, latencies))
    }

    async fn call(&mut self) -> Result<()> {
        self.stream.write_all(&self.request.bytes).await?;
        self.buffer.resize(BUFFER, 0);
        let mut have = 0;
        let whole = loop {
            have += self.read(have).await?;
            if let Some(whole) = answer_length(&self.buffer[..have])? {
                break whole;
            }
        };
        while have < whole {
            have += self.read(0).await?;
        }
        Ok(())
    }

    async fn read(&mut self, from: usize) -> Result<usize> {
        match self.stream.read(&mut self.buffer[from..]).await? {
            0 => Err("the connection was closed before the answer was whole".into()),
            read => Ok(read),
        }
    }
}

/// How long an answer is, head and body, once its head is there. Anything but a 200 with a length is an error.
fn answer_length(received: &[u8]) -> Result<Option<usize>> {
    let mut headers = [EMPTY_HEADER; 32];
    let mut response = Response::new(&mut headers);
    let Status::Complete(head) = response.parse(received)? else { return Ok(None) };
    if response.code != Some(200) {
        return Err(String::from_utf8_lossy(received).into_owned().into());
    }
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .ok_or("an answer without a length")?;
    Ok(Some(head + std::str::from_utf8(length.value)?.parse::<usize>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_whole_with_their_length() {
        assert_eq!(answer_length(b"HTTP/1.1 200 OK\r\ncontent-le").expect("so far"), None);
        assert_eq!(answer_length(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab").expect("a head"), Some(41));
        assert!(answer_length(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(answer_length(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn headers_have_the_size_asked_for() {
        let small = Request::small().bytes.len();
        for bytes in [0, 64, 1024, 4096, 16384] {
            assert_eq!(Request::with_headers(bytes).bytes.len() - small, bytes);
        }
    }
}
