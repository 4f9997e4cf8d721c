//! A caller's end of the protocol in the hands of a test: it may say what no sidecar would.

use crate::peer::{self, TlsStream};
use bytes::{Bytes, BytesMut};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use wire::{Config, Connection, Event, Hello, RequestHead, Side, Token};

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
        let stream = peer::dial(to, Some(identity), Duration::from_millis(500))?;
        let hello = Hello {
            service: service.to_owned(),
            version: "1.0.0".to_owned(),
            instance: "a-test".to_owned(),
            revision: 0,
            agent: "pillion-tests/0".to_owned(),
        };
        let config = Config { hello, ..Config::default() };
        Ok(WirePeer {
            stream,
            connection: Connection::new(Side::Client, config, Instant::now()),
            input: BytesMut::new(),
        })
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
