//! JSON calls of a gRPC app: a request becomes the gRPC call of the method that it means, and the answer JSON. Which method, and what its
//! messages are in JSON, the crate `transcode` says.

mod answers;
mod held;
mod requests;

use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use transcode::frame::Frames;
use transcode::limits::{MESSAGE_BYTES, REQUEST_JSON_BYTES};
use transcode::status::Status;
use transcode::{Route, Schema, frame};
use wire::limits::INLINE_BODY_BYTES;
use wire::{Headers, RequestHead, ResponseHead};

use crate::call::{Body, Part, Reply, next_part};
use crate::edge::fields;
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::upstream::http2::Http2Pool;
use answers::Answers;
use held::{Budget, Held};
use requests::{Broken, Requests};

/// The app's methods; `None`: it has not told them yet.
pub type Schemas = ArcSwapOption<Schema>;

const GRPC: &[u8] = b"application/grpc";
const JSON: &[u8] = b"application/json";
/// A message a line (github.com/ndjson/ndjson-spec).
const JSON_LINES: &[u8] = b"application/x-ndjson";

/// One worker's JSON calls of the app's methods.
#[derive(Debug)]
pub struct Transcoder {
    schemas: Arc<Schemas>,
    budget: Budget,
}

impl Transcoder {
    /// Of the methods in `schemas`, as they are at each call.
    pub fn new(schemas: Arc<Schemas>) -> Transcoder {
        Transcoder { schemas, budget: Budget::default() }
    }

    /// Calls the method that `head` means with what `body` says in JSON.
    pub async fn call(&self, pool: &Rc<Http2Pool>, head: RequestHead, body: Body) -> Result<Reply, Error> {
        let schema = self.schemas.load_full().ok_or_else(|| {
            let detail = "the app's methods are not known yet: it has not answered to server reflection";
            Error::new(ErrorCode::AppNotConnected, Origin::Remote, Phase::Request, Executed::No, detail)
        })?;
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let route = schema
            .find(text(&head.method), text(&head.path))
            .map_err(|why| refused(ErrorCode::UnknownMethod, why.0))?;
        if let Some(coding) = head.headers.get(b"content-encoding").filter(|coding| *coding != b"identity") {
            let coding = String::from_utf8_lossy(coding).into_owned();
            return Err(refused(ErrorCode::BadArguments, format!("the body is encoded ({coding}): send plain JSON")));
        }
        let broken = Broken::default();
        let body = match body {
            body if route.takes_stream() => {
                Requests::all(route.clone(), body, self.budget.held(Executed::Unknown), &broken)?
            }
            mut body => {
                let mut held = self.budget.held(Executed::No);
                let json =
                    body.collect_held(REQUEST_JSON_BYTES, |bytes| held.resize(bytes)).await?.ok_or_else(too_large)?;
                let message = route.request(&json).map_err(|why| refused(ErrorCode::BadArguments, why.0))?;
                Body::Whole(frame::encode(&message))
            }
        };
        let head = RequestHead {
            method: Bytes::from_static(b"POST"),
            path: route.path().into(),
            headers: metadata(head.headers),
            ..head
        };
        // Where the caller's own lines are what broke the call, that is what it is told.
        let reply = pool.call(head, body).await.map_err(|error| broken.take().unwrap_or(error))?;
        self.answer(schema, route, reply, broken).await
    }
    async fn answer(&self, schema: Arc<Schema>, route: Route, reply: Reply, broken: Broken) -> Result<Reply, Error> {
        let Reply { head, body } = reply;
        if head.status != 200 || !head.headers.get(b"content-type").is_some_and(fields::is_grpc) {
            return Err(bad_answer(format_args!("status {} and no gRPC", head.status)));
        }
        // "Trailers-Only": nothing follows.
        if let Some(status) = status_of(&head.headers).filter(|status| !status.is_ok()) {
            return Ok(failed(&schema, &status, plain(head.headers)));
        }
        let held = self.budget.held(Executed::Yes);
        if route.gives_stream() {
            let body = match body {
                Body::Stream(source) => Body::stream(Answers::new(schema, route, source, held, broken)),
                Body::Whole(_) if head.headers.contains(b"grpc-status") => Body::EMPTY,
                Body::Whole(_) => return Err(bad_answer("it ended without a grpc-status")),
            };
            let mut headers = plain(head.headers);
            headers.push(b"content-type", JSON_LINES);
            return Ok(Reply { head: ResponseHead { status: 200, headers }, body });
        }
        let Unary { message, trailers } = unary(body, held).await.map_err(|error| broken.take().unwrap_or(error))?;
        let mut headers = plain(head.headers);
        let status = status_of(&trailers).ok_or_else(|| bad_answer("it ended without a grpc-status"))?;
        // Nothing has left yet: what is said at the end can still stand at the beginning, where every client sees it.
        for field in plain(trailers).iter() {
            headers.push(field.name, field.value);
        }
        if !status.is_ok() {
            return Ok(failed(&schema, &status, headers));
        }
        let message = message.ok_or_else(|| bad_answer("it has no message"))?;
        let json = route.answer(&message).map_err(bad_answer)?;
        Ok(json_reply(200, headers, json))
    }
}

/// The caller sent what nothing can be done with: the app has not seen it.
fn refused(code: ErrorCode, detail: impl Into<String>) -> Error {
    Error::new(code, Origin::Remote, Phase::Request, Executed::No, detail)
}

fn too_large() -> Error {
    refused(ErrorCode::ArgumentsTooLarge, format!("a message of more than {REQUEST_JSON_BYTES} bytes"))
}

/// What the app answered is not what its method answers.
fn bad_answer(what: impl std::fmt::Display) -> Error {
    let detail = format!("called with JSON: {what}");
    Error::new(ErrorCode::AppBadResponse, Origin::App, Phase::Wait, Executed::Yes, detail)
}

/// The request's fields as metadata of the gRPC call.
fn metadata(mut headers: Headers) -> Headers {
    let of_json: [&[u8]; 5] = [b"content-type", b"content-length", b"content-encoding", b"accept", b"accept-encoding"];
    headers.retain(|field| {
        let is_internal = is_grpc_own(field.name) && field.name != b"grpc-timeout";
        !is_internal && !of_json.contains(&field.name)
    });
    headers.push(b"content-type", GRPC);
    headers
}

/// The answer's metadata as fields: without what gRPC says to itself, and what the body no longer is.
fn plain(mut headers: Headers) -> Headers {
    headers.retain(|field| !is_grpc_own(field.name) && !matches!(field.name, b"content-type" | b"content-length"));
    headers
}

/// Fields that are gRPC's own, and no metadata (gRPC over HTTP/2, "Reserved").
fn is_grpc_own(name: &[u8]) -> bool {
    name.starts_with(b"grpc-")
}

/// How the call ended; `None`: the fields do not say.
fn status_of(headers: &Headers) -> Option<Status> {
    let code = headers.get(b"grpc-status")?;
    Some(Status::of_fields(code, headers.get(b"grpc-message"), headers.get(b"grpc-status-details-bin")))
}

/// What a call that is no stream answers.
struct Unary {
    message: Option<Bytes>,
    trailers: Headers,
}

async fn unary(body: Body, mut held: Held) -> Result<Unary, Error> {
    let mut frames = Frames::new(MESSAGE_BYTES);
    let mut answered = Unary { message: None, trailers: Headers::new() };
    let mut take = |frames: &mut Frames| {
        let Some(message) = frames.take().map_err(bad_answer)? else { return Ok(()) };
        match answered.message.replace(message) {
            None => Ok(()),
            Some(_) => Err(bad_answer("it has more than one message")),
        }
    };
    match body {
        Body::Whole(data) => {
            frames.push(&data);
            take(&mut frames)?;
        }
        Body::Stream(mut source) => {
            while let Some(part) = next_part(&mut source).await {
                match part? {
                    Part::Data(data) => {
                        frames.push(&data);
                        take(&mut frames)?;
                        held.resize(frames.len())?;
                    }
                    Part::Trailers(fields) => answered.trailers = fields,
                }
            }
        }
    }
    match frames.is_empty() {
        true => Ok(answered),
        false => Err(bad_answer("it ended within a message, or has more than one")),
    }
}

/// The answer that tells how the app refused the call.
fn failed(schema: &Schema, status: &Status, headers: Headers) -> Reply {
    json_reply(status.http(), headers, status.to_json(schema).to_string().into_bytes())
}

fn json_reply(status: u16, mut headers: Headers, json: Vec<u8>) -> Reply {
    headers.push(b"content-type", JSON);
    if json.len() > INLINE_BODY_BYTES {
        // It travels behind the head.
        headers.push_number(b"content-length", json.len() as u64);
    }
    Reply { head: ResponseHead { status, headers }, body: Body::Whole(json.into()) }
}
