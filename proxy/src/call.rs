//! The one internal form of a request and its answer. Doors make a [`Call`] and render a [`Reply`]; nothing between them
//! knows which protocol the caller or the app speaks.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use registry::Version;
use wire::{Headers, RequestHead, ResponseHead, TraceContext};

use crate::error::Error;

/// The status of an answer that hands the connection over to another protocol (RFC 9110, 15.2.2).
pub const SWITCHING_PROTOCOLS: u16 = 101;

/// A call on its way from a caller to a service.
#[derive(Debug)]
pub struct Call {
    /// Service, method, path, headers, trace: what travels. Its `timeout` and `attempt` are set anew for each attempt.
    pub head: RequestHead,
    /// The version asked for; `None`: any.
    pub version: Option<Version>,
    /// When the caller gives up; `None`: it said nothing.
    pub deadline: Option<Deadline>,
    /// The call may be sent again even when it may have run (RFC 9110, 9.2.1: safe methods).
    pub safe: bool,
    /// The body is what a connection will carry: it is taken only when the answer has opened the way.
    pub tunnel: bool,
    /// It is gRPC, which says how long an answer may take (`grpc-timeout`) or means that it may take for ever: a stream may be
    /// silent, and from outside it cannot be told from a unary call. `timeouts.response` is not for it.
    pub grpc: bool,
    /// The arguments.
    pub body: Body,
}

/// When a caller gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// The moment.
    pub at: Instant,
    /// What the caller said it with: named when it passes.
    pub setting: &'static str,
}

/// The answer to a call.
#[derive(Debug)]
pub struct Reply {
    /// Status and headers.
    pub head: ResponseHead,
    /// The result.
    pub body: Body,
}

/// A message body.
pub enum Body {
    /// All of it is here (and small); it can be sent twice.
    Whole(Bytes),
    /// It arrives bit by bit.
    Stream(Pin<Box<dyn BodyStream>>),
}

/// A part of a streamed body.
#[derive(Debug)]
pub enum Part {
    /// Bytes, never empty.
    Data(Bytes),
    /// Trailer fields; the last part.
    Trailers(Headers),
}

/// The source of a streamed body.
pub trait BodyStream {
    /// The next part; `None` after the last. Asking for a part says that the one before has been passed on.
    fn poll_part(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>>;
}

impl BodyStream for Pin<Box<dyn BodyStream>> {
    fn poll_part(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        self.get_mut().as_mut().poll_part(cx)
    }
}

/// A streamed body that is over: what a tunnel carries whose caller has said all, and what stands where another was taken from.
#[derive(Debug)]
pub struct Nothing;

impl BodyStream for Nothing {
    fn poll_part(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        Poll::Ready(None)
    }
}

impl Body {
    /// A body of no bytes.
    pub const EMPTY: Body = Body::Whole(Bytes::new());

    /// Wraps a source.
    pub fn stream(source: impl BodyStream + 'static) -> Body {
        Body::Stream(Box::pin(source))
    }

    /// Takes all of it, without its trailers; `None`: it is longer than `limit` bytes. What is taken is no longer there.
    pub async fn collect(&mut self, limit: usize) -> Result<Option<Bytes>, Error> {
        self.collect_held(limit, |_| Ok(())).await
    }

    /// The same; `holds` is told how many bytes are here, and may refuse more.
    pub async fn collect_held(
        &mut self,
        limit: usize,
        mut holds: impl FnMut(usize) -> Result<(), Error>,
    ) -> Result<Option<Bytes>, Error> {
        let source = match self {
            Body::Whole(bytes) => return Ok(Some(std::mem::take(bytes)).filter(|bytes| bytes.len() <= limit)),
            Body::Stream(source) => source,
        };
        let mut all = BytesMut::new();
        while let Some(part) = next_part(source).await {
            if let Part::Data(data) = part? {
                if all.len() + data.len() > limit {
                    return Ok(None);
                }
                holds(all.len() + data.len())?;
                all.extend_from_slice(&data);
            }
        }
        Ok(Some(all.freeze()))
    }
}

/// The next part of a streamed body.
pub async fn next_part(source: &mut Pin<Box<dyn BodyStream>>) -> Option<Result<Part, Error>> {
    poll_fn(|cx| source.as_mut().poll_part(cx)).await
}

/// A trace as its field has it (W3C Trace Context, 3.2).
pub fn traceparent(trace: &TraceContext) -> [u8; 55] {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    let digits = b"0123456789abcdef";
    let mut write = |at: usize, bytes: &[u8]| {
        for (index, byte) in bytes.iter().enumerate() {
            text[at + 2 * index] = digits[usize::from(byte >> 4)];
            text[at + 2 * index + 1] = digits[usize::from(byte & 0xf)];
        }
    };
    write(3, &trace.trace_id);
    write(36, &trace.span_id);
    write(53, &[trace.flags]);
    text
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Body::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// A body made of parts, for tests.
#[cfg(test)]
pub mod testing {
    use super::*;
    use std::collections::VecDeque;

    /// Parts that are there at once.
    pub struct Parts(pub VecDeque<Result<Part, Error>>);

    impl BodyStream for Parts {
        fn poll_part(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
            Poll::Ready(self.0.pop_front())
        }
    }
}
