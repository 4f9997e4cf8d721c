//! Apps that misbehave: they speak to the socket directly.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a request that has begun may take to be whole.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// A listener that hands each connection to a closure on a thread of its own.
#[derive(Debug)]
pub struct RawApp {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicU64>,
}

impl RawApp {
    /// Starts it on a port that the kernel picks.
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> RawApp {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let stop = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicU64::new(0));
        let (stopping, counting) = (Arc::clone(&stop), Arc::clone(&connections));
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                counting.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream));
            }
        });
        RawApp { address, stop, connections }
    }

    /// An app that answers every connection with these bytes, after it has read a head, and closes.
    #[must_use]
    pub fn answering(bytes: &'static [u8]) -> RawApp {
        RawApp::start(move |mut stream| {
            let mut carry = Vec::new();
            if read_request(&mut stream, &mut carry).is_some() {
                let _ = stream.write_all(bytes);
            }
        })
    }

    /// An app that closes every connection idle for `idle` between two requests, and counts the `x-id` of each in `ids`.
    #[must_use]
    pub fn closing_idle(idle: Duration, ids: Arc<Mutex<HashMap<String, u64>>>) -> RawApp {
        RawApp::start(move |mut stream| {
            let _ = stream.set_nodelay(true);
            let mut carry = Vec::new();
            // Idle is who has been served and asks nothing more: the first request, and one that has begun, may take as
            // long as a busy machine needs to bring them.
            let mut first = true;
            loop {
                if !first && carry.is_empty() {
                    let waited = stream.set_read_timeout(Some(idle)).ok().and_then(|()| fill(&mut stream, &mut carry));
                    if waited.is_none() {
                        return; // idle too long, or the peer closed: in both cases this side closes at once
                    }
                }
                first = false;
                if stream.set_read_timeout(Some(REQUEST_LIMIT)).is_err() {
                    return;
                }
                let Some(request) = read_request(&mut stream, &mut carry) else {
                    return;
                };
                let id = request.header("x-id").unwrap_or_default().to_owned();
                *ids.lock().expect("no panic inside").entry(id.clone()).or_default() += 1;
                std::thread::sleep(Duration::from_micros(fastrand::u64(0..4000)));
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{id}", id.len());
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for RawApp {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // wakes the accept
    }
}

/// A request as a raw app sees it.
#[derive(Debug, Clone)]
pub struct RawRequest {
    /// Everything before the body.
    pub head: String,
    pub body: Vec<u8>,
}

impl RawRequest {
    /// The first header of that name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.split("\r\n").skip(1).find_map(|line| {
            let (have, value) = line.split_once(':')?;
            have.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Reads one request with a content-length body (or none); `carry` holds what was read beyond it.
pub fn read_request(stream: &mut TcpStream, carry: &mut Vec<u8>) -> Option<RawRequest> {
    let end = loop {
        if let Some(end) = carry.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        fill(stream, carry)?;
    };
    let head = String::from_utf8_lossy(&carry[..end]).into_owned();
    carry.drain(..end + 4);
    let mut request = RawRequest { head, body: Vec::new() };
    if request.header("transfer-encoding").is_some() {
        while !carry.ends_with(b"0\r\n\r\n") {
            fill(stream, carry)?;
        }
        request.body = std::mem::take(carry);
        return Some(request);
    }
    let length: usize = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    while carry.len() < length {
        fill(stream, carry)?;
    }
    request.body = carry.drain(..length).collect();
    Some(request)
}

fn fill(stream: &mut TcpStream, into: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 8192];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(read) => {
                into.extend_from_slice(&buffer[..read]);
                return Some(());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}
