//! A connection read to its end, as a proxy would.
#![allow(dead_code, unreachable_pub, reason = "each binary uses its own part")]

use bytes::{Bytes, BytesMut};
use http1::{Body, Field, Framing, HeadScan, Piece, Refusal};

pub const MAX_HEAD: usize = 4096;
pub const MAX_TRAILERS: usize = 512;

pub type Fields = Vec<(String, Vec<u8>)>;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub messages: Vec<Message>,
    pub end: End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `POST /target`, or `200`.
    pub start: String,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// The body has come to its end.
    pub is_whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Between two messages.
    Idle,
    /// Within a message.
    Incomplete,
    /// The last message said so; what follows is not read.
    Closed,
    /// Another protocol follows.
    Tunnel,
    Refused(Refusal),
}

impl Reading {
    /// In the corpus' notation.
    pub fn lines(&self) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for message in &self.messages {
            let mark = if message.is_whole { "= " } else { "~ " };
            let mut line = [mark.as_bytes(), message.start.as_bytes()].concat();
            if !message.body.is_empty() {
                line.extend([b" ", &message.body[..]].concat());
            }
            lines.push(line);
            lines.extend(message.trailers.iter().map(|(name, value)| [b"+ ", name.as_bytes(), b": ", value].concat()));
        }
        lines
    }
}

impl End {
    /// In the corpus' notation.
    pub fn line(&self) -> String {
        match self {
            End::Idle => "idle".into(),
            End::Incomplete => "incomplete".into(),
            End::Closed => "closed".into(),
            End::Tunnel => "tunnel".into(),
            End::Refused(refusal) => format!("{} {refusal:?}", refusal.status()),
        }
    }
}

/// Which side's messages arrive.
#[derive(Debug, Clone, Copy)]
pub enum Side<'a> {
    Requests,
    /// Answers to these methods, and to GETs after them.
    Responses(&'a [&'a str]),
}

/// A message's head, as far as the connection has to know it.
struct Head {
    message: Message,
    framing: Framing,
    keep_alive: bool,
    is_final: bool,
}

/// Reads `bytes`, which arrive in pieces of the sizes in `cuts`, over and over.
pub fn read(side: Side<'_>, bytes: &[u8], cuts: &[usize]) -> Reading {
    let mut reader = Reader::new(side);
    let mut rest = bytes;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() || reader.end.is_some() {
            break;
        }
        let (piece, later) = rest.split_at((*cut).clamp(1, rest.len()));
        reader.handle_input(piece);
        rest = later;
    }
    reader.handle_close()
}

/// Reads a connection piece by piece.
pub struct Reader<'a> {
    side: Side<'a>,
    scan: HeadScan,
    input: BytesMut,
    messages: Vec<Message>,
    /// The body under way, and whether another message may follow.
    body: Option<(Body, bool)>,
    answered: usize,
    end: Option<End>,
}

impl<'a> Reader<'a> {
    pub fn new(side: Side<'a>) -> Reader<'a> {
        let scan = match side {
            Side::Requests => HeadScan::default(),
            Side::Responses(_) => HeadScan::for_responses(),
        };
        Reader { side, scan, input: BytesMut::new(), messages: Vec::new(), body: None, answered: 0, end: None }
    }

    pub fn handle_input(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while self.end.is_none() {
            match self.step() {
                Ok(true) => {}
                Ok(false) => return,
                Err(refusal) => self.end = Some(End::Refused(refusal)),
            }
        }
    }

    /// The messages that have come to their end.
    pub fn whole(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(|message| message.is_whole)
    }

    /// How the connection has ended, if it has.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// One head, or one piece of a body. False: more input is needed.
    fn step(&mut self) -> Result<bool, Refusal> {
        let Some((body, keep_alive)) = &mut self.body else {
            let Some(scanned) = self.scan.find(&self.input, MAX_HEAD)? else { return Ok(false) };
            assert!(self.scan.is_fresh() && scanned.range.len() <= MAX_HEAD);
            let bytes = self.input.split_to(scanned.range.end);
            let head = self.head(&bytes[scanned.range], scanned.fields)?;
            self.answered += usize::from(head.is_final);
            self.messages.push(head.message);
            if head.framing == Framing::Tunnel {
                self.end = Some(End::Tunnel);
            }
            self.body = Some((Body::new(head.framing, MAX_TRAILERS), head.keep_alive));
            return Ok(true);
        };
        let message = self.messages.last_mut().expect("its head was read");
        let piece = body.next(&mut self.input)?;
        message.is_whole = body.is_ended();
        let needs_more = piece.is_none() && !message.is_whole;
        match piece {
            Some(Piece::Data(data)) => {
                assert!(!data.is_empty());
                message.body.extend_from_slice(&data);
            }
            Some(Piece::Trailers(trailers)) => {
                assert!(message.is_whole);
                trailers.each(|name, value| message.trailers.push((name.to_ascii_lowercase(), value.to_vec())));
                assert!(!message.trailers.is_empty());
            }
            None => {}
        }
        if message.is_whole {
            if !*keep_alive {
                self.end = Some(End::Closed);
            }
            self.body = None;
        }
        Ok(!needs_more)
    }

    fn head(&self, bytes: &[u8], count: usize) -> Result<Head, Refusal> {
        let begun = |start: String, fields: &[Field<'_>]| {
            assert_eq!(fields.len(), count, "lines and fields");
            let fields = fields.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())).collect();
            Message { start, fields, body: Vec::new(), trailers: Vec::new(), is_whole: false }
        };
        match self.side {
            Side::Requests => http1::request(bytes, count, |head| Head {
                message: begun(format!("{} {}", head.method, head.target), head.fields),
                framing: head.framing,
                keep_alive: head.keep_alive,
                is_final: true,
            }),
            Side::Responses(methods) => {
                let to_head = methods.get(self.answered) == Some(&"HEAD");
                http1::response(bytes, count, to_head, |head| Head {
                    message: begun(head.status.to_string(), head.fields),
                    framing: head.framing,
                    // After an interim response the final one follows, whatever it says.
                    keep_alive: head.keep_alive || (100..=199).contains(&head.status),
                    is_final: head.status >= 200,
                })
            }
        }
    }

    pub fn handle_close(mut self) -> Reading {
        let end = self.end.unwrap_or_else(|| match &mut self.body {
            None if self.scan.is_fresh() => End::Idle,
            None => End::Incomplete,
            Some((body, _)) => match body.handle_close() {
                Ok(()) => {
                    self.messages.last_mut().expect("its head was read").is_whole = true;
                    End::Closed
                }
                Err(refusal) => {
                    assert_eq!(refusal, Refusal::Truncated);
                    End::Incomplete
                }
            },
        });
        if end == End::Tunnel {
            self.messages.last_mut().expect("its head was read").is_whole = true;
        }
        Reading { messages: self.messages, end }
    }
}

/// Bytes that a message's writer hands to its connection, gathered.
pub fn gather(into: &mut Vec<u8>) -> impl FnMut(Bytes) {
    |bytes| into.extend_from_slice(&bytes)
}
