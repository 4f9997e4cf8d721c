//! A stream of requests: a line of JSON each.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use transcode::limits::REQUEST_JSON_BYTES;
use transcode::lines::Lines;
use transcode::{Route, frame};

use super::held::Held;
use super::{refused, too_large};
use crate::call::{Body, BodyStream, Part};
use crate::error::{Error, ErrorCode};

/// Why a stream of requests broke off: the app sees only that it did, and the caller is to be told.
#[derive(Debug, Clone, Default)]
pub(super) struct Broken(Rc<RefCell<Option<Error>>>);

impl Broken {
    /// The reason, if there is one.
    pub(super) fn take(&self) -> Option<Error> {
        self.0.borrow_mut().take()
    }
}

/// A body of lines as one of gRPC messages.
pub(super) struct Requests {
    route: Route,
    source: Pin<Box<dyn BodyStream>>,
    lines: Lines,
    held: Held,
    has_ended: bool,
    broken: Broken,
}

impl Requests {
    /// All of the messages of `body`: at once where all of it is here, so that the app sees nothing of what is wrong somewhere.
    pub(super) fn all(route: Route, body: Body, held: Held, broken: &Broken) -> Result<Body, Error> {
        let mut lines = Lines::new(REQUEST_JSON_BYTES);
        match body {
            Body::Whole(text) => {
                lines.push(&text);
                lines.end();
                let mut messages = Vec::new();
                while let Some(message) = next(&route, &mut lines)? {
                    messages.extend_from_slice(&message);
                }
                Ok(Body::Whole(messages.into()))
            }
            Body::Stream(source) => {
                Ok(Body::stream(Requests { route, source, lines, held, has_ended: false, broken: broken.clone() }))
            }
        }
    }
}

/// The next message that is here, for the app.
fn next(route: &Route, lines: &mut Lines) -> Result<Option<Bytes>, Error> {
    let Some((number, line)) = lines.take().map_err(|_| too_large())? else { return Ok(None) };
    let message = route
        .request(&line)
        .map_err(|why| refused(ErrorCode::BadArguments, format!("the body's line {number}: {why}")))?;
    Ok(Some(frame::encode(&message)))
}

impl BodyStream for Requests {
    fn poll_part(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        let this = &mut *self;
        loop {
            let message = next(&this.route, &mut this.lines);
            match message.and_then(|message| this.held.resize(this.lines.len()).map(|()| message)) {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(Part::Data(message)))),
                Ok(None) if this.has_ended => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => {
                    *this.broken.0.borrow_mut() = Some(error.clone());
                    return Poll::Ready(Some(Err(error)));
                }
            }
            match ready!(this.source.as_mut().poll_part(cx)) {
                Some(Ok(Part::Data(data))) => this.lines.push(&data),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(Part::Trailers(_))) | None => {
                    this.has_ended = true;
                    this.lines.end();
                }
            }
        }
    }
}
