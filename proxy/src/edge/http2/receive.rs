//! A message's body as it comes on a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use h2::{Reason, RecvStream};

use super::from_map;
use crate::call::{Body, BodyStream, Part};
use crate::edge::fields;
use crate::edge::receive::{Side, take_what_is_here};
use crate::error::Error;

/// Takes in a body: whole when all of it is here already and it is not long, else as a stream.
pub async fn gather(stream: RecvStream, side: Side) -> Result<Body, Error> {
    if stream.is_end_stream() {
        return Ok(Body::EMPTY);
    }
    take_what_is_here(Receiving { stream, side, lent: 0 }).await
}

/// All that comes on the stream, however long it lasts, untouched until it is asked for.
pub fn receive(stream: RecvStream, side: Side) -> Pin<Box<dyn BodyStream>> {
    Box::pin(Receiving { stream, side, lent: 0 })
}

/// A body that goes on arriving.
#[derive(Debug)]
struct Receiving {
    stream: RecvStream,
    side: Side,
    /// Bytes that have been given out, whose credit goes back when more is asked for.
    lent: usize,
}

impl BodyStream for Receiving {
    fn poll_part(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        let lent = std::mem::take(&mut self.lent);
        if lent > 0 {
            // It fails only for more than was received.
            let _ = self.stream.flow_control().release_capacity(lent);
        }
        loop {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.lent = data.len();
                    return Poll::Ready(Some(Ok(Part::Data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(broken(self.side, &error)))),
                None => break,
            }
        }
        Poll::Ready(match ready!(self.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Some(Ok(Part::Trailers(from_map(&trailers, 0, fields::is_trailer)))),
            Ok(None) => None,
            Err(error) => Some(Err(broken(self.side, &error))),
        })
    }
}

fn broken(side: Side, error: &h2::Error) -> Error {
    // What we found wrong with the body ourselves, such as one that is longer than announced.
    let is_malformed = error.is_library() && error.reason() == Some(Reason::PROTOCOL_ERROR);
    side.broke_off(is_malformed, error)
}
