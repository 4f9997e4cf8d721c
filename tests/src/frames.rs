//! HTTP/2 frame by frame, for what no well-behaved library does.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const RST_STREAM: u8 = 0x3;
pub const SETTINGS: u8 = 0x4;
pub const PING: u8 = 0x6;
pub const GOAWAY: u8 = 0x7;
pub const WINDOW_UPDATE: u8 = 0x8;
pub const CONTINUATION: u8 = 0x9;

/// Flags, where a frame has them.
pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

/// Error codes (RFC 9113, 7).
pub const NO_ERROR: u32 = 0x0;
pub const REFUSED_STREAM: u32 = 0x7;
pub const CANCEL: u32 = 0x8;
pub const ENHANCE_YOUR_CALM: u32 = 0xb;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    #[must_use]
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Frame {
        Frame { kind, flags, stream, payload: payload.into() }
    }

    /// RST_STREAM.
    #[must_use]
    pub fn reset(stream: u32, code: u32) -> Frame {
        Frame::new(RST_STREAM, 0, stream, code.to_be_bytes())
    }

    /// GOAWAY.
    #[must_use]
    pub fn go_away(last: u32, code: u32) -> Frame {
        Frame::new(GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
    }

    /// A request, all of it in one frame.
    #[must_use]
    pub fn request(stream: u32, flags: u8, service: &str, method: &str) -> Frame {
        let fields = [(":method", method), (":scheme", "http"), (":authority", service), (":path", "/who")];
        Frame::new(HEADERS, flags | END_HEADERS, stream, literals(&fields))
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a frame's length").to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend_from_slice(&[self.kind, self.flags]);
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The error code of RST_STREAM or GOAWAY.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
    }
}

/// A list of fields, none of which any table learns (RFC 7541, 6.2.2).
#[must_use]
pub fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A connection on which frames go to and fro.
#[derive(Debug)]
pub struct Frames {
    stream: TcpStream,
}

impl Frames {
    /// Connects, and says what a client says first.
    pub fn connect(to: SocketAddr, patience: Duration) -> io::Result<Frames> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut frames = Frames { stream };
        frames.write(PREFACE)?;
        frames.send(&Frame::new(SETTINGS, 0, 0, []))?;
        Ok(frames)
    }

    /// The server's side of a connection that was accepted: hears what a client says first, and says what a server does,
    /// with these settings.
    pub fn accept(stream: TcpStream, settings: &[(u16, u32)]) -> io::Result<Frames> {
        stream.set_nodelay(true)?;
        let mut frames = Frames { stream };
        let mut preface = [0; 24];
        frames.stream.read_exact(&mut preface)?;
        if preface != PREFACE {
            return Err(io::Error::other("no preface"));
        }
        let settings = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        frames.send(&Frame::new(SETTINGS, 0, 0, settings.collect::<Vec<_>>()))?;
        Ok(frames)
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.write(&frame.encode())
    }

    /// Reads the next frame, settings and pings answered; an error at the connection's end.
    pub fn read(&mut self) -> io::Result<Frame> {
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head)?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload)?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let frame = Frame { kind: head[3], flags: head[4], stream, payload };
            match (frame.kind, frame.flags) {
                (SETTINGS | PING, ACK) => {}
                (SETTINGS, _) => self.send(&Frame::new(SETTINGS, ACK, 0, []))?,
                (PING, _) => self.send(&Frame { flags: ACK, ..frame })?,
                _ => return Ok(frame),
            }
        }
    }

    /// Reads until `wanted` comes.
    pub fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> io::Result<Frame> {
        loop {
            let frame = self.read()?;
            if wanted(&frame) {
                return Ok(frame);
            }
        }
    }

    /// Reads to the end of the connection, and gives the code of the GOAWAY that came before it, if one did.
    pub fn end(&mut self) -> Option<u32> {
        let mut code = None;
        while let Ok(frame) = self.read() {
            if frame.kind == GOAWAY {
                code = frame.code();
            }
        }
        code
    }

    /// Another handle to write through, while this one reads.
    pub fn writer(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }
}
