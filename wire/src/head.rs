//! The heads of a call and of its answer.

use std::time::Duration;

use bytes::Bytes;

use crate::dictionary::{Decoder, Dynamic, Encoder, put_static_field};
use crate::frame::{Reader, Violation, put_varint};
use crate::headers::Headers;
use crate::limits::{FIELD_OVERHEAD_BYTES, HEAD_FIELDS, HEAD_ROOM_BYTES, HEAD_SLACK_BYTES};

/// What kind of exchange a REQUEST opens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Kind {
    #[default]
    Http,
    /// A raw byte stream: method and path are empty.
    Tcp,
    Rpc,
}

/// The W3C trace context in binary: a `traceparent` of the version 00 form. Any other is carried as a header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TraceContext {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub flags: u8,
}

/// The head of a call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestHead {
    pub kind: Kind,
    /// What remains until the deadline; whole microseconds on the wire.
    pub timeout: Option<Duration>,
    /// 0 for the first try.
    pub attempt: u8,
    /// 0 is the ordinary one.
    pub priority: u8,
    pub trace: Option<TraceContext>,
    /// End to end, for at-most-once.
    pub call_id: Option<[u8; 16]>,
    pub service: Bytes,
    pub method: Bytes,
    pub path: Bytes,
    pub headers: Headers,
}

/// The head of an answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ResponseHead {
    pub status: u16,
    pub headers: Headers,
}

/// Presence bits of a REQUEST.
const TIMEOUT: u8 = 0x01;
const TRACE: u8 = 0x02;
const CALL_ID: u8 = 0x04;

/// Static names of the three fields that every REQUEST begins with.
const SERVICE: u8 = 0;
const METHOD: u8 = 1;
const PATH: u8 = 2;

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Http => 0,
            Self::Tcp => 1,
            Self::Rpc => 2,
        }
    }

    fn from_code(code: u8) -> Result<Self, Violation> {
        match code {
            0 => Ok(Self::Http),
            1 => Ok(Self::Tcp),
            2 => Ok(Self::Rpc),
            _ => Err("unknown kind of request"),
        }
    }
}

impl RequestHead {
    /// Decoded text, in bytes: what the peer's cap is held against.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.service.len() + self.method.len() + self.path.len() + self.headers.text_bytes()
    }

    /// What the head takes besides its own size, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.service.len() + self.method.len() + self.path.len() + self.headers.memory()
    }

    pub(crate) fn encode(&self, dictionary: &mut Encoder, out: &mut Vec<u8>) {
        let mut presence = 0;
        let mut fixed = [0; 4 + 8 + 25 + 16];
        let mut at = 4;
        let mut put = |bytes: &[u8]| {
            fixed[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        if let Some(timeout) = self.timeout {
            presence |= TIMEOUT;
            put(&u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX).to_be_bytes());
        }
        if let Some(trace) = &self.trace {
            presence |= TRACE;
            put(&trace.trace_id);
            put(&trace.span_id);
            put(&[trace.flags]);
        }
        if let Some(call_id) = &self.call_id {
            presence |= CALL_ID;
            put(call_id);
        }
        fixed[..4].copy_from_slice(&[self.kind.code(), self.attempt, self.priority, presence]);
        out.extend_from_slice(&fixed[..at]);
        dictionary.begin();
        dictionary.named(out, SERVICE, &self.service);
        dictionary.named(out, METHOD, &self.method);
        dictionary.named(out, PATH, &self.path);
        encode_fields(&self.headers, dictionary, out);
    }

    /// Leaves the reader at the inline body. `max`: bytes of decoded text.
    pub(crate) fn decode(reader: &mut Reader<'_>, dictionary: &mut Decoder, max: usize) -> Result<Self, Violation> {
        let [kind, attempt, priority, presence] = reader.array()?;
        if presence & !(TIMEOUT | TRACE | CALL_ID) != 0 {
            return Err("reserved presence bit set");
        }
        let kind = Kind::from_code(kind)?;
        let timeout = if presence & TIMEOUT != 0 { Some(Duration::from_micros(reader.u64()?)) } else { None };
        let trace = if presence & TRACE != 0 {
            Some(TraceContext { trace_id: reader.array()?, span_id: reader.array()?, flags: reader.u8()? })
        } else {
            None
        };
        let call_id = if presence & CALL_ID != 0 { Some(reader.array()?) } else { None };
        let mut left = max;
        let service = dictionary.value(reader, SERVICE, &mut left)?;
        let method = dictionary.value(reader, METHOD, &mut left)?;
        let path = dictionary.value(reader, PATH, &mut left)?;
        let headers = dictionary.fields(reader, left, Dynamic::Allowed, HEAD_ROOM_BYTES)?;
        Ok(Self { kind, timeout, attempt, priority, trace, call_id, service, method, path, headers })
    }
}

impl ResponseHead {
    pub(crate) fn encode(&self, dictionary: &mut Encoder, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.status.to_be_bytes());
        dictionary.begin();
        encode_fields(&self.headers, dictionary, out);
    }

    /// Leaves the reader at the inline body. `max`: bytes of decoded text.
    pub(crate) fn decode(reader: &mut Reader<'_>, dictionary: &mut Decoder, max: usize) -> Result<Self, Violation> {
        let status = reader.u16()?;
        Ok(Self { status, headers: dictionary.fields(reader, max, Dynamic::Allowed, 0)? })
    }
}

fn encode_fields(headers: &Headers, dictionary: &mut Encoder, out: &mut Vec<u8>) {
    put_varint(out, headers.len() as u32);
    for text in headers.texts() {
        dictionary.field(out, text);
    }
}

/// Trailers know the static table only: they wait behind the body, so heads encoded later may be sent before them.
pub(crate) fn encode_trailers(trailers: &Headers) -> Vec<u8> {
    let mut out = Vec::with_capacity(trailers.text_bytes() + 4 * trailers.len() + 8);
    put_varint(&mut out, trailers.len() as u32);
    for header in trailers.iter() {
        put_static_field(&mut out, header.name, header.value, header.sensitive);
    }
    out
}

/// Whether a head of this size is one that the peer takes: its decoded text, its fields, and the frame at its longest.
pub(crate) fn fits(text: usize, fields: usize, body: usize, max_text: usize, max_frame: usize) -> bool {
    text <= max_text
        && fields <= HEAD_FIELDS
        && text + fields * FIELD_OVERHEAD_BYTES + HEAD_SLACK_BYTES + body <= max_frame
}
