//! A caller's end of the protocol in the hands of a test: it may say what no sidecar would.

use crate::peer::{self, TlsStream};
use bytes::{Bytes, BytesMut};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use wire::{Config, Connection, Event, Hello, RequestHead, Side, Token};

/// How long one read waits.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The most that is asked of `poll_transmit` at once.
const FLUSH_BYTES: usize = 256 * 1024;

/// A connection to a sidecar's inbound door that has not said anything yet.
#[derive(Debug)]
pub struct WirePeer {
    stream: TlsStream,
    connection: Connection,
    input: BytesMut,
}

impl WirePeer {
    /// Dials with an identity; the HELLO will claim `service`.
    pub fn dial(to: SocketAddr, identity: &Path, service: &str) -> io::Result<WirePeer> {
        // The handshake may take as long as a busy machine needs; after it, reads look every now and then.
        let stream = peer::dial(to, Some(identity), Duration::from_secs(10))?;
        stream.sock.set_read_timeout(Some(LOOK_EVERY))?;
        let config = Config { hello: hello(service), ..Config::default() };
        Ok(WirePeer {
            stream,
            connection: Connection::new(Side::Client, config, Instant::now()),
            input: BytesMut::new(),
        })
    }

    /// What a caller that calls itself `service` writes for a HELLO and, right behind it, a GET of `path`: in order and
    /// whole, made with a peer that exists only here.
    #[must_use]
    pub fn hello_and_get(service: &str, to: &str, path: &str) -> Vec<u8> {
        let now = Instant::now();
        let mut caller = Connection::new(Side::Client, Config { hello: hello(service), ..Config::default() }, now);
        let mut callee = Connection::new(Side::Server, Config { hello: hello(to), ..Config::default() }, now);
        let (mut said, mut heard) = (Vec::new(), Vec::new());
        while caller.poll_transmit(now, &mut said, FLUSH_BYTES) {}
        while callee.poll_transmit(now, &mut heard, FLUSH_BYTES) {}
        caller.handle_input(now, &mut BytesMut::from(&heard[..]));
        caller.accept_peer();
        let (to, path) = (Bytes::copy_from_slice(to.as_bytes()), Bytes::copy_from_slice(path.as_bytes()));
        let head = RequestHead { service: to, method: Bytes::from_static(b"GET"), path, ..RequestHead::default() };
        caller.open(now, &head, Bytes::new(), true, Token(1)).expect("an open connection takes a call");
        while caller.poll_transmit(now, &mut said, FLUSH_BYTES) {}
        said
    }

    /// The connection, to open, cancel and so on.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Opens a GET of `path`; false when the connection does not take it.
    pub fn get(&mut self, service: &str, path: &str, token: u64) -> Option<wire::RequestId> {
        let head = RequestHead {
            service: Bytes::copy_from_slice(service.as_bytes()),
            method: Bytes::from_static(b"GET"),
            path: Bytes::copy_from_slice(path.as_bytes()),
            ..RequestHead::default()
        };
        self.connection.open(Instant::now(), &head, Bytes::new(), true, Token(token)).ok()
    }

    /// Writes what is due. An error: the sidecar has closed.
    pub fn send(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        while self.connection.poll_transmit(Instant::now(), &mut out, FLUSH_BYTES) {
            self.stream.write_all(&out)?;
            out.clear();
        }
        self.stream.flush()
    }

    /// Reads once (up to half a second) and gives the events; the peer's HELLO is accepted. An error: the sidecar has closed.
    pub fn receive(&mut self) -> io::Result<Vec<Event>> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed")),
            Ok(read) => self.input.extend_from_slice(&buffer[..read]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        self.connection.handle_input(Instant::now(), &mut self.input);
        let mut events = Vec::new();
        while let Some(event) = self.connection.poll_event() {
            if matches!(event, Event::Hello(_)) {
                self.connection.accept_peer();
            }
            events.push(event);
        }
        Ok(events)
    }

    /// Sends and receives until `enough` says so of all events so far, the sidecar closes, or `limit` is over.
    pub fn exchange(
        &mut self,
        limit: Duration,
        mut enough: impl FnMut(&[Event]) -> bool,
    ) -> (Vec<Event>, Option<io::Error>) {
        let end = Instant::now() + limit;
        let mut all = Vec::new();
        while Instant::now() < end && !enough(&all) {
            match self.send().and_then(|()| self.receive()) {
                Ok(events) => all.extend(events),
                Err(error) => return (all, Some(error)),
            }
        }
        (all, None)
    }
}

fn hello(service: &str) -> Hello {
    Hello {
        service: service.to_owned(),
        version: "1.0.0".to_owned(),
        instance: "a-test".to_owned(),
        revision: 0,
        agent: "pillion-tests/0".to_owned(),
    }
}
