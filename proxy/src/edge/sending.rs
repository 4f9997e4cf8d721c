//! A message on its way to an app.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http1::{Framing, Outgoing, Refusal};
use wire::Headers;

use super::fields;
use super::socket::Socket;
use crate::call::{Body, BodyStream, Part};
use crate::error::Error;

/// Of a streamed body so much is taken ahead of the socket: enough to keep it busy, little to hold for a slow reader.
const QUEUE_BYTES: usize = 128 * 1024;
/// A body up to this long goes into the same buffer as its head: copying it costs less than a second slice.
const JOINED_BYTES: usize = 4 * 1024;
/// Slices of one gathered write.
const SLICES: usize = 64;

/// Whoever wants to know what became of a body.
pub trait Watch {
    /// Bytes were taken from the body.
    fn passed(&mut self, _bytes: usize) {}
    /// It ends with these trailers.
    fn trailers(&mut self, _trailers: &Headers) {}
    /// All of the message is with the socket, or it failed. Not called when it is dropped before.
    fn ended(&mut self, _failure: Option<&Unsent>) {}
}

/// Nobody.
impl Watch for () {}

/// Why a message did not go out whole.
#[derive(Debug)]
pub enum Unsent {
    /// Its body broke off.
    Source(Error),
    /// Its body is not as long as its head announced, or has a trailer that is none.
    Body(Refusal),
    /// The connection broke.
    Socket(io::Error),
}

/// A message being written. Drop it before its end, and the connection is of no more use.
#[derive(Debug)]
pub struct Sending<W: Watch> {
    /// The head, with a small body behind it.
    head: Vec<u8>,
    head_sent: usize,
    queue: VecDeque<Bytes>,
    queued: usize,
    body: Outgoing,
    source: Option<Source>,
    watch: W,
}

struct Source(Pin<Box<dyn BodyStream>>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

/// How a message's body is framed and where it comes from.
pub type Message = (Framing, Body);

impl<W: Watch> Sending<W> {
    /// A message: `head` without the lines that end it, and its body, which goes out framed like this.
    pub fn new(mut head: Vec<u8>, message: Message, watch: W) -> Sending<W> {
        http1::encode::end_of_head(&mut head, message.0);
        Sending::behind(head, message, watch)
    }

    /// Bytes, to a connection that carries no messages; `head` before them, as it is.
    pub fn raw(head: Vec<u8>, body: Body, watch: W) -> Sending<W> {
        Sending::behind(head, (Framing::Tunnel, body), watch)
    }

    /// A body behind a `head` that goes out as it is.
    pub fn behind(mut head: Vec<u8>, (framing, body): Message, mut watch: W) -> Sending<W> {
        let mut queue = VecDeque::new();
        let mut queued = 0;
        let mut source = None;
        match body {
            // An answer to HEAD, say: whatever the body is, it does not go out.
            _ if framing == Framing::None => {}
            Body::Whole(bytes) => {
                watch.passed(bytes.len());
                if bytes.len() <= JOINED_BYTES {
                    head.extend_from_slice(&bytes);
                } else {
                    queued = bytes.len();
                    queue.push_back(bytes);
                }
            }
            Body::Stream(stream) => source = Some(Source(stream)),
        }
        Sending { head, head_sent: 0, queue, queued, body: Outgoing::new(framing), source, watch }
    }

    /// Writes on. `Ready`: all of it is with the socket.
    pub fn poll(&mut self, socket: &Socket, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        let result = ready!(self.poll_on(socket, cx));
        self.watch.ended(result.as_ref().err());
        Poll::Ready(result)
    }

    /// Whether any of it has been handed to the socket.
    pub fn has_begun(&self) -> bool {
        self.head_sent > 0
    }

    fn poll_on(&mut self, socket: &Socket, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        loop {
            self.fill(cx)?;
            if self.head_sent == self.head.len() && self.queue.is_empty() {
                return if self.source.is_none() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            let written = ready!(self.write(socket, cx)).map_err(Unsent::Socket)?;
            if written == 0 {
                return Poll::Ready(Err(Unsent::Socket(io::ErrorKind::WriteZero.into())));
            }
            self.advance(written);
        }
    }

    /// Takes from the body what is there, within bounds.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<(), Unsent> {
        while self.queued < QUEUE_BYTES {
            let Some(Source(source)) = &mut self.source else { return Ok(()) };
            let Poll::Ready(part) = source.as_mut().poll_part(cx) else { return Ok(()) };
            let (queue, queued) = (&mut self.queue, &mut self.queued);
            let write = |bytes: Bytes| {
                *queued += bytes.len();
                queue.push_back(bytes);
            };
            match part {
                Some(Ok(Part::Data(data))) => {
                    self.watch.passed(data.len());
                    self.body.data(data, write).map_err(Unsent::Body)?;
                    continue;
                }
                Some(Ok(Part::Trailers(mut trailers))) => {
                    // In them what is internal can only come from an app, or from a peer that makes it up.
                    trailers.retain(|field| fields::is_trailer(field.name));
                    self.watch.trailers(&trailers);
                    self.body.end(pairs(&trailers), write).map_err(Unsent::Body)?;
                }
                None => self.body.end(std::iter::empty(), write).map_err(Unsent::Body)?,
                // What was announced is out: how the source ended then is of no matter.
                Some(Err(_)) if self.body.is_complete() => {}
                Some(Err(error)) => return Err(Unsent::Source(error)),
            }
            self.source = None;
        }
        Ok(())
    }

    fn write(&self, socket: &Socket, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let head = &self.head[self.head_sent..];
        if self.queue.is_empty() {
            return socket.poll_write(cx, &[IoSlice::new(head)]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        let parts =
            Some(head).filter(|head| !head.is_empty()).into_iter().chain(self.queue.iter().map(|part| &part[..]));
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
            count += 1;
        }
        socket.poll_write(cx, &slices[..count])
    }

    fn advance(&mut self, mut written: usize) {
        let of_head = written.min(self.head.len() - self.head_sent);
        self.head_sent += of_head;
        written -= of_head;
        self.queued -= written;
        while let Some(part) = self.queue.front_mut() {
            if written < part.len() {
                part.advance(written);
                return;
            }
            written -= part.len();
            self.queue.pop_front();
        }
    }
}

fn pairs(headers: &Headers) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.iter().map(|field| (field.name, field.value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::testing::Parts;
    use crate::edge::{Scratch, Stream};
    use crate::error::{ErrorCode, Phase};
    use crate::metrics::Metrics;
    use http1::HeadScan;
    use std::future::poll_fn;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    /// What a watcher saw.
    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Watch for &mut Seen {
        fn passed(&mut self, bytes: usize) {
            self.0.push(bytes.to_string());
        }
        fn ended(&mut self, failure: Option<&Unsent>) {
            self.0.push(if failure.is_none() { "ended" } else { "failed" }.to_owned());
        }
    }

    /// Sends a message with the head `h`: what arrived, and what the watcher saw.
    fn sent(framing: Framing, body: Body) -> (String, Vec<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let socket =
                Socket::new(Stream::Tcp(stream), HeadScan::default(), &Scratch::new(), &Metrics::new().app_bytes);
            let mut seen = Seen::default();
            let writing = async {
                let mut sending = Sending::new(b"h\r\n".to_vec(), (framing, body), &mut seen);
                let _ = poll_fn(|cx| sending.poll(&socket, cx)).await;
                drop(socket);
            };
            let mut text = Vec::new();
            let (_, read) = tokio::join!(writing, other.read_to_end(&mut text));
            read.unwrap();
            (String::from_utf8(text).unwrap(), seen.0)
        })
    }

    fn parts(parts: Vec<Result<Part, Error>>) -> Body {
        Body::stream(Parts(parts.into()))
    }

    fn data(text: &'static str) -> Result<Part, Error> {
        Ok(Part::Data(Bytes::from_static(text.as_bytes())))
    }

    #[test]
    fn a_body_goes_out_as_its_head_says() {
        let whole = Body::Whole(Bytes::from_static(b"body"));
        let (text, seen) = sent(Framing::Length(4), whole);
        assert_eq!((text.as_str(), seen.join(" ").as_str()), ("h\r\ncontent-length: 4\r\n\r\nbody", "4 ended"));
        let mut trailers = Headers::new();
        trailers.push(b"x-sum", b"42");
        trailers.push(b"x-pillion-peer", b"forged");
        let (text, seen) = sent(Framing::Chunked, parts(vec![data("bo"), data("dy"), Ok(Part::Trailers(trailers))]));
        assert_eq!(text, "h\r\ntransfer-encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\nx-sum: 42\r\n\r\n");
        assert_eq!(seen, ["2", "2", "ended"]);
        let (text, _) = sent(Framing::UntilClose, parts(vec![data("body")]));
        assert_eq!(text, "h\r\n\r\nbody");
        let (text, _) = sent(Framing::None, Body::Whole(Bytes::from_static(b"never")));
        assert_eq!(text, "h\r\n\r\n");
    }

    #[test]
    fn a_long_body_arrives_whole() {
        let long = Bytes::from(vec![b'x'; 3_000_000]);
        let (text, seen) = sent(Framing::Length(3_000_000), Body::Whole(long.clone()));
        assert_eq!(
            (text.len(), seen.last().unwrap().as_str()),
            (b"h\r\ncontent-length: 3000000\r\n\r\n".len() + 3_000_000, "ended")
        );
        let pieces = long.chunks(10_000).map(|piece| Ok(Part::Data(long.slice_ref(piece)))).collect();
        let (text, seen) = sent(Framing::Length(3_000_000), parts(pieces));
        assert!(text.ends_with("xx") && text.len() > 3_000_000);
        assert_eq!((seen.len(), seen.last().unwrap().as_str()), (301, "ended"));
    }

    #[test]
    fn a_body_that_is_not_as_announced_fails_and_is_not_made_to_look_whole() {
        let broken = || Err(Error::local(ErrorCode::ChannelLost, Phase::Body, "gone"));
        for (what, framing, body) in [
            ("too short", Framing::Length(9), vec![data("body")]),
            ("too long", Framing::Length(2), vec![data("body")]),
            ("broken off", Framing::Chunked, vec![data("body"), broken()]),
        ] {
            let (text, seen) = sent(framing, parts(body));
            assert_eq!(seen.last().unwrap(), "failed", "{what}");
            assert!(!text.contains("\r\n0\r\n"), "{what}: {text}");
        }
        let (text, seen) = sent(Framing::Length(4), parts(vec![data("body"), broken()]));
        assert!(text.ends_with("body"));
        assert_eq!(seen.last().unwrap(), "ended", "what was announced is out: how its source ended is of no matter");
    }
}
