//! A stream of answers: a line of JSON each, as soon as its message is here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use serde_json::json;
use transcode::frame::Frames;
use transcode::limits::MESSAGE_BYTES;
use transcode::status::Status;
use transcode::{Route, Schema};
use wire::Headers;

use super::held::Held;
use super::requests::Broken;
use super::{bad_answer, plain, status_of};
use crate::call::{BodyStream, Part};
use crate::error::Error;

/// A body of gRPC messages as one of lines. What goes wrong behind the head is a last line, `{"error": google.rpc.Status}`, and the
/// body ends in order: broken off, it might end before that line has come through.
pub(super) struct Answers {
    schema: Arc<Schema>,
    route: Route,
    /// `None`: it has ended, or is not read any further.
    source: Option<Pin<Box<dyn BodyStream>>>,
    frames: Frames,
    held: Held,
    broken: Broken,
    /// What is behind the last line.
    last: Option<Headers>,
}

impl Answers {
    pub(super) fn new(
        schema: Arc<Schema>,
        route: Route,
        source: Pin<Box<dyn BodyStream>>,
        held: Held,
        broken: Broken,
    ) -> Answers {
        Answers { schema, route, source: Some(source), frames: Frames::new(MESSAGE_BYTES), held, broken, last: None }
    }

    /// The line that tells of an error of ours.
    fn fail(&mut self, error: Error) -> Bytes {
        self.source = None;
        let error = self.broken.take().unwrap_or(error);
        let status = Status { code: error.code().grpc() as i32, message: error.to_string(), details: Vec::new() };
        tracing::info!(%error, method = self.route.path(), "a stream of answers ended with an error");
        self.error_line(&status)
    }

    fn error_line(&self, status: &Status) -> Bytes {
        line(json!({ "error": status.to_json(&self.schema) }).to_string().into_bytes())
    }
}

fn line(mut json: Vec<u8>) -> Bytes {
    json.push(b'\n');
    json.into()
}

impl BodyStream for Answers {
    fn poll_part(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        let this = &mut *self;
        let data = loop {
            let Some(source) = &mut this.source else {
                return Poll::Ready(this.last.take().map(|last| Ok(Part::Trailers(last))));
            };
            match this.frames.take() {
                Ok(Some(message)) => match this.route.answer(&message) {
                    Ok(json) => break line(json),
                    Err(why) => break this.fail(bad_answer(why)),
                },
                Ok(None) => {
                    if let Err(error) = this.held.resize(this.frames.len()) {
                        break this.fail(error);
                    }
                }
                Err(why) => break this.fail(bad_answer(why)),
            }
            match ready!(source.as_mut().poll_part(cx)) {
                Some(Ok(Part::Data(data))) => this.frames.push(&data),
                Some(Ok(Part::Trailers(trailers))) => match status_of(&trailers) {
                    None => break this.fail(bad_answer("it ended without a grpc-status")),
                    Some(_) if !this.frames.is_empty() => break this.fail(bad_answer("it ended within a message")),
                    Some(status) => {
                        this.source = None;
                        this.last = Some(plain(trailers)).filter(|trailers| !trailers.is_empty());
                        if !status.is_ok() {
                            break this.error_line(&status);
                        }
                    }
                },
                Some(Err(error)) => break this.fail(error),
                None => break this.fail(bad_answer("it ended without a grpc-status")),
            }
        };
        Poll::Ready(Some(Ok(Part::Data(data))))
    }
}
