//! A message's body as it comes from an app's connection.

use std::fmt;
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http1::Piece;
use wire::Headers;
use wire::limits::INLINE_BODY_BYTES;

use super::fields;
use super::read_error::ReadError;
use super::socket::Socket;
use crate::call::{Body, BodyStream, Part};
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};

/// A body up to this long is taken whole if all of it is here already: no task and no stream for it.
const WHOLE_BYTES: usize = 64 * 1024;

/// Whose body it is: decides what an error in it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The caller's request.
    Caller,
    /// The caller's request, and the caller waits to be told to send its body.
    WaitingCaller,
    /// The app's answer.
    App,
}

impl Side {
    fn broken(self, error: &ReadError) -> Error {
        let is_malformed = matches!(error, ReadError::Refused(refusal) if *refusal != http1::Refusal::Truncated);
        self.broke_off(is_malformed, error)
    }

    /// The body is none, or ended before it was whole.
    pub(super) fn broke_off(self, is_malformed: bool, how: &dyn fmt::Display) -> Error {
        match self {
            Side::Caller | Side::WaitingCaller => {
                let code = if is_malformed { ErrorCode::BadRequest } else { ErrorCode::RequestAborted };
                Error::local(code, Phase::Request, format!("the caller's body: {how}"))
            }
            Side::App => Error::new(
                ErrorCode::AppClosed,
                Origin::App,
                Phase::Body,
                Executed::Yes,
                format!("the app's answer broke off: {how}"),
            ),
        }
    }
}

/// Takes in the body that [`Socket::begin_body`] has announced: whole when it is known to be small or is all here already,
/// else as a stream. Only a body that announces a small length is waited for; what arrives bit by bit is passed on bit by bit.
pub async fn gather(socket: &Rc<Socket>, side: Side) -> Result<Body, Error> {
    if socket.is_message_over() {
        return Ok(Body::EMPTY);
    }
    let mut receiving = Receiving::new(socket, side);
    let length = socket.body_left().and_then(|left| usize::try_from(left).ok());
    match length {
        Some(length) if length <= INLINE_BODY_BYTES => {
            poll_fn(|cx| receiving.poll_continue(cx)).await?;
            let whole = poll_fn(|cx| socket.poll_whole(cx, length)).await;
            receiving.whole(whole)
        }
        Some(length) if length <= WHOLE_BYTES && side != Side::WaitingCaller => {
            match poll_fn(|cx| Poll::Ready(socket.poll_whole(cx, length))).await {
                Poll::Ready(whole) => receiving.whole(whole),
                Poll::Pending => Ok(Body::stream(receiving)),
            }
        }
        Some(_) => Ok(Body::stream(receiving)),
        None if side == Side::WaitingCaller => Ok(Body::stream(receiving)),
        None => take_what_is_here(receiving).await,
    }
}

/// Takes a body as far as it has come, without waiting: whole if that is all of it, else as a stream that begins with it.
pub async fn take_what_is_here(mut source: impl BodyStream + Unpin + 'static) -> Result<Body, Error> {
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    let mut trailers = None;
    let is_whole = poll_fn(|cx| {
        while first.len().max(joined.len()) <= WHOLE_BYTES {
            match Pin::new(&mut source).poll_part(cx) {
                Poll::Ready(Some(Ok(Part::Data(data)))) if first.is_empty() => first = data,
                Poll::Ready(Some(Ok(Part::Data(data)))) => {
                    if joined.is_empty() {
                        joined.extend_from_slice(&first);
                    }
                    joined.extend_from_slice(&data);
                }
                Poll::Ready(Some(Ok(Part::Trailers(fields)))) => {
                    trailers = Some(fields);
                    break;
                }
                Poll::Ready(None) => return Poll::Ready(Ok(true)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(false))
    });
    let is_whole = is_whole.await?;
    let first = if joined.is_empty() { first } else { joined.freeze() };
    if is_whole {
        return Ok(Body::Whole(first));
    }
    Ok(Body::stream(Begun { first: Some(first).filter(|first| !first.is_empty()), trailers, rest: source }))
}

/// A body of which `first` has been taken already: it comes again, then the rest.
pub fn with_first(first: Bytes, rest: Pin<Box<dyn BodyStream>>) -> Body {
    Body::stream(Begun { first: Some(first), trailers: None, rest })
}

/// A body of which the beginning is here.
struct Begun<S> {
    first: Option<Bytes>,
    trailers: Option<Headers>,
    rest: S,
}

impl<S: BodyStream + Unpin> BodyStream for Begun<S> {
    fn poll_part(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Part::Data(first))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Part::Trailers(trailers))));
        }
        Pin::new(&mut self.rest).poll_part(cx)
    }
}

/// A body that goes on arriving.
#[derive(Debug)]
pub struct Receiving {
    socket: Rc<Socket>,
    side: Side,
}

impl Receiving {
    /// The body that [`Socket::begin_body`] has announced.
    pub fn new(socket: &Rc<Socket>, side: Side) -> Receiving {
        Receiving { socket: Rc::clone(socket), side }
    }

    fn whole(&self, piece: Result<Option<Piece>, ReadError>) -> Result<Body, Error> {
        match piece {
            Ok(Some(Piece::Data(data))) => Ok(Body::Whole(data)),
            Ok(_) => Ok(Body::EMPTY),
            Err(error) => Err(self.side.broken(&error)),
        }
    }

    /// Tells a caller that waits for it to send its body.
    fn poll_continue(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.side == Side::WaitingCaller {
            // Nothing else is being written, and the socket has room for a line: were it full, the caller is told again.
            match ready!(self.socket.poll_write(cx, &[IoSlice::new(http1::encode::CONTINUE)])) {
                Ok(_) => self.side = Side::Caller,
                Err(error) => return Poll::Ready(Err(self.side.broken(&error.into()))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl BodyStream for Receiving {
    fn poll_part(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        if let Err(error) = ready!(self.poll_continue(cx)) {
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Ready(match ready!(self.socket.poll_piece(cx)) {
            Ok(Some(Piece::Data(data))) => Some(Ok(Part::Data(data))),
            Ok(Some(Piece::Trailers(trailers))) => Some(Ok(Part::Trailers(fields::of_trailers(&trailers)))),
            Ok(None) => None,
            Err(error) => Some(Err(self.side.broken(&error))),
        })
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.socket.abandon_body();
    }
}
