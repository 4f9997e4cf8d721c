//! Two connections joined by nothing but buffers, and a clock that only moves when told.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use wire::*;

/// A client and a server, and what went over between them.
pub struct Pair {
    pub now: Instant,
    pub client: Connection,
    pub server: Connection,
    pub to_client: BytesMut,
    pub to_server: BytesMut,
    /// All bytes that each side handed out.
    pub client_sent: Vec<u8>,
    pub server_sent: Vec<u8>,
}

pub fn config() -> Config {
    let hello = Hello {
        service: "orders".into(),
        version: "1.0.0".into(),
        instance: "10.0.0.1:4143".into(),
        revision: 7,
        agent: "pillion/0.1.0".into(),
    };
    Config { hello, ..Config::default() }
}

impl Pair {
    /// Both sides as they begin.
    pub fn raw(client: Config, server: Config) -> Self {
        let now = Instant::now();
        Self {
            now,
            client: Connection::new(Side::Client, client, now),
            server: Connection::new(Side::Server, server, now),
            to_client: BytesMut::new(),
            to_server: BytesMut::new(),
            client_sent: Vec::new(),
            server_sent: Vec::new(),
        }
    }

    /// HELLOs exchanged and accepted.
    pub fn with(client: Config, server: Config) -> Self {
        let mut pair = Self::raw(client, server);
        pair.exchange();
        assert!(matches!(pair.client.poll_event(), Some(Event::Hello(_))));
        assert!(matches!(pair.server.poll_event(), Some(Event::Hello(_))));
        pair.client.accept_peer();
        pair.server.accept_peer();
        pair
    }

    pub fn new() -> Self {
        Self::with(config(), config())
    }

    /// What the client wants to send reaches the server.
    pub fn client_to_server(&mut self) {
        transmit(&mut self.client, self.now, &mut self.to_server, &mut self.client_sent);
        self.server.handle_input(self.now, &mut self.to_server);
    }

    pub fn server_to_client(&mut self) {
        transmit(&mut self.server, self.now, &mut self.to_client, &mut self.server_sent);
        self.client.handle_input(self.now, &mut self.to_client);
    }

    /// Until nobody has anything to send.
    pub fn exchange(&mut self) {
        while self.client.wants_transmit() || self.server.wants_transmit() {
            self.client_to_server();
            self.server_to_client();
        }
    }

    pub fn advance(&mut self, by: Duration) {
        self.now += by;
    }

    pub fn open(&mut self, body: Bytes, end: bool) -> RequestId {
        self.client.open(self.now, &request("/x"), body, end, Token(77)).expect("the call opens")
    }

    /// Opens a call that has reached the server's driver.
    pub fn opened(&mut self, end: bool) -> RequestId {
        let id = self.open(Bytes::new(), end);
        self.exchange();
        match self.server.poll_event() {
            Some(Event::Request { id: came, .. }) => assert_eq!(came, id),
            other => panic!("{other:?}"),
        }
        self.server.set_token(id, Token(88));
        id
    }

    /// A call that reaches the server while the server's answers wait.
    pub fn opened_later(&mut self) -> RequestId {
        let id = self.open(Bytes::new(), true);
        self.client_to_server();
        assert_eq!(self.server_events().len(), 1);
        id
    }

    pub fn client_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    pub fn server_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.server.poll_event()).collect()
    }
}

fn transmit(from: &mut Connection, now: Instant, to: &mut BytesMut, log: &mut Vec<u8>) {
    let mut out = Vec::new();
    while from.poll_transmit(now, &mut out, limits::FLUSH_BYTES) {
        to.extend_from_slice(&out);
        if log.len() < 1 << 20 {
            log.extend_from_slice(&out);
        }
        out.clear();
    }
}

pub fn request(path: &'static str) -> RequestHead {
    let mut headers = Headers::new();
    headers.push(b"accept", b"*/*");
    headers.push(b"x-tenant", b"blue");
    headers.push(b"authorization", b"Bearer 1234");
    RequestHead {
        timeout: Some(Duration::from_millis(1500)),
        service: Bytes::from_static(b"payments"),
        method: Bytes::from_static(b"GET"),
        path: Bytes::from_static(path.as_bytes()),
        headers,
        ..RequestHead::default()
    }
}

pub fn response(status: u16) -> ResponseHead {
    let mut headers = Headers::new();
    headers.push(b"content-type", b"application/json");
    ResponseHead { status, headers }
}

/// The frames in a run of bytes: type, flags, request ID, payload length.
pub fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u64, usize)> {
    let mut found = Vec::new();
    while let Some(header) = bytes.first_chunk::<16>() {
        let length = u32::from_be_bytes(*header.first_chunk().unwrap()) as usize;
        found.push((header[4], header[5], u64::from_be_bytes(*header.last_chunk().unwrap()), length));
        bytes = &bytes[16 + length..];
    }
    assert!(bytes.is_empty(), "an incomplete frame");
    found
}

/// A frame as raw bytes, right or wrong.
pub fn raw_frame(kind: u8, flags: u8, id: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    frame.extend_from_slice(&[kind, flags, 0, 0]);
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}
