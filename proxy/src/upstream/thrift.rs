//! A call of Thrift's to the own app, over framed connections that are kept for the next one.

use std::future::poll_fn;
use std::rc::Rc;

use thrift::{ExceptionType, Head, MessageType, exception_type};
use wire::limits::INLINE_BODY_BYTES;
use wire::{Headers, RequestHead, ResponseHead};

use crate::call::{Body, Reply};
use crate::edge::thrift::{Message, Unread, begin, frame, length_of, receive};
use crate::edge::{Sending, Side, Unsent};
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::upstream::app_pool::AppPool;
use crate::upstream::lent::Lent;

/// What an answer of each kind is to the sidecars: a result, a failure of the app's, that it has no such method, nothing. Metrics and the log read it as they
/// read HTTP's; the app's message passes as it is.
const REPLY: u16 = 200;
const EXCEPTION: u16 = 500;
const NO_SUCH_METHOD: u16 = 501;
const NO_ANSWER: u16 = 204;

/// Calls the app with the message that is `body`.
///
/// One call at a time is on a connection: most servers of Thrift's answer what comes on one in its order, the slow before the quick.
/// Nothing says that a method may run twice, so each call goes on a connection that is surely open (see [`AppPool`]), and once.
pub async fn call(pool: &Rc<AppPool>, head: &RequestHead, body: Body) -> Result<Reply, Error> {
    let length = length_of(&body, &head.headers).ok_or_else(|| invalid("a message of no length that may be"))?;
    let (asked, body) = begin(body).await.map_err(|unread| match unread {
        Unread::Cut(error) => error,
        Unread::Refused(refusal) => invalid(&refusal.to_string()),
        Unread::Broken(error) => invalid(&error.to_string()),
    })?;
    if !matches!(asked.message_type, MessageType::Call | MessageType::Oneway) {
        return Err(invalid("a message that is no call"));
    }
    let connection = pool.checkout(true).await.map_err(|error| error.explain(pool))?;
    let socket = Rc::clone(&connection.socket);
    let (prefix, message) = frame(length, body);
    let mut sending = Sending::behind(prefix, message, ());
    poll_fn(|cx| sending.poll(&socket, cx)).await.map_err(|unsent| match unsent {
        Unsent::Source(error) => error,
        Unsent::Body(refusal) => invalid(&format!("the message: {refusal}")),
        // A server reads a frame to its end before it looks at it, and this one had none.
        Unsent::Socket(error) => broken(pool, Executed::No, &error.to_string()),
    })?;
    if asked.message_type == MessageType::Oneway {
        // The connection ends with it. The app says nothing of when it is done, and until then no other call may wait behind it; and one
        // that knows no such method answers nevertheless, which must not be taken for another call's answer.
        return Ok(Reply { head: ResponseHead { status: NO_ANSWER, ..ResponseHead::default() }, body: Body::EMPTY });
    }
    let answer = receive(&socket, Side::App, || {}).await.map_err(|unread| match unread {
        Unread::Cut(error) => error,
        Unread::Refused(refusal) => bad(pool, &refusal.to_string()),
        Unread::Broken(error) => broken(pool, Executed::Unknown, &error.to_string()),
    })?;
    let Message { head, length, body } =
        answer.ok_or_else(|| broken(pool, Executed::Unknown, "it closed the connection"))?;
    let status = match head.message_type {
        MessageType::Reply => REPLY,
        MessageType::Exception => match &body {
            // A name that the app does not know is the caller's invention, and none for the metrics.
            Body::Whole(bytes) if exception_type(bytes) == Some(ExceptionType::UnknownMethod as i32) => NO_SUCH_METHOD,
            _ => EXCEPTION,
        },
        MessageType::Call | MessageType::Oneway => return Err(bad(pool, "a call where an answer should be")),
    };
    if !answers(&head, &asked) {
        let detail = format!("'{}' {} answered with '{}' {}", asked.name, asked.sequence, head.name, head.sequence);
        return Err(bad(pool, &detail));
    }
    let mut headers = Headers::new();
    headers.push(b"content-type", head.protocol.content_type().as_bytes());
    let mut lent = Lent::new(connection, true, None, pool);
    if length > INLINE_BODY_BYTES {
        // It travels behind the head.
        headers.push_number(b"content-length", length as u64);
    }
    let body = match body {
        Body::Whole(bytes) => {
            lent.finished();
            Body::Whole(bytes)
        }
        Body::Stream(source) => lent.until_the_end_of(source),
    };
    Ok(Reply { head: ResponseHead { status, headers }, body })
}

/// Whether an answer is one to this call. Where several services share a port, they answer without the name of theirs that stands before
/// the method's (`TMultiplexedProcessor`).
fn answers(answer: &Head, call: &Head) -> bool {
    let method = call.name.split_once(':').map(|(_, method)| method);
    let is_named = answer.name == call.name || Some(answer.name.as_str()) == method;
    is_named && answer.protocol == call.protocol && answer.sequence == call.sequence
}

/// What came from the peer's sidecar cannot be sent to the app.
fn invalid(what: &str) -> Error {
    Error::new(ErrorCode::RemoteProtocol, Origin::Remote, Phase::Request, Executed::No, what)
}

/// The connection to the app broke.
fn broken(pool: &AppPool, executed: Executed, how: &str) -> Error {
    let detail = format!("{}: {how}", pool.target());
    Error::new(ErrorCode::AppClosed, Origin::App, Phase::Wait, executed, detail)
}

/// What came is no answer. Whether the call ran, only the app knows.
fn bad(pool: &AppPool, what: &str) -> Error {
    let detail = format!("{}: {what}", pool.target());
    Error::new(ErrorCode::AppBadResponse, Origin::App, Phase::Wait, Executed::Unknown, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use thrift::Protocol;

    #[test]
    fn an_answer_is_told_from_anothers() {
        let head = |name: &str, sequence| Head {
            protocol: Protocol::Binary,
            message_type: MessageType::Call,
            name: name.to_owned(),
            sequence,
        };
        let compact = Head { protocol: Protocol::Compact, ..head("add", 7) };
        for (call, answer, want) in [
            (head("add", 7), head("add", 7), true),
            (head("add", 7), head("add", 8), false),
            (head("add", 7), head("zip", 7), false),
            (head("add", 7), compact, false),
            (head("Calculator:add", 7), head("add", 7), true),
            (head("Calculator:add", 7), head("Calculator:add", 7), true),
            (head("Calculator:add", 7), head("Calculator", 7), false),
            (head("add", 7), head("Calculator:add", 7), false),
        ] {
            assert_eq!(answers(&answer, &call), want, "{answer:?} to {call:?}");
        }
    }
}
