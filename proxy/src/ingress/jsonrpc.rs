//! JSON-RPC 2.0 (jsonrpc.org/specification): each item of a batch is a call of its own, dispatched at once and balanced by itself.
//! To the service it is a plain `POST /{method}` with the parameters as its JSON body.

use std::borrow::Cow;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use wire::{Kind, RequestHead};

use crate::call::{Body, Call, Reply};
use crate::dispatch;
use crate::edge::jsonrpc::{
    BODY_BYTES, FAILURE_FIELD, Failure, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR,
    SERVER_ERROR, present,
};
use crate::error::{Error, ErrorCode, Phase};
use crate::ingress::asked::Asked;
use crate::ingress::own::{OwnAnswers, reply};
use crate::ingress::procedure;
use crate::metrics::Direction;
use crate::record::Record;

/// Items of a batch.
const ITEMS: usize = 4096;
/// Of an answer that is no JSON so much is told. Bytes.
const SHOWN_BYTES: usize = 1024;

/// One item.
#[derive(Debug, Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    /// Without one it is a notification, which nothing answers.
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
}

/// The answer to one item.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
    id: &'a RawValue,
}

/// Carries what the body of `call` asks for to the service that its head names.
pub async fn answer(own: &OwnAnswers, call: &mut Call) -> Result<Reply, Error> {
    let body = call.body.collect(BODY_BYTES).await?.ok_or_else(|| {
        Error::local(
            ErrorCode::BadRequest,
            Phase::Request,
            format!("a JSON-RPC request of more than {BODY_BYTES} bytes"),
        )
    })?;
    let Ok(whole) = serde_json::from_slice::<&RawValue>(&body) else {
        return Ok(alone(Failure::new(PARSE_ERROR, "Parse error")));
    };
    if !whole.get().starts_with('[') {
        return Ok(match item(own, call, whole).await {
            Some(answer) => json_reply(&answer),
            None => reply(204, None),
        });
    }
    let items: Vec<&RawValue> = match serde_json::from_str(whole.get()) {
        Ok(items) => items,
        Err(_) => return Ok(alone(Failure::new(PARSE_ERROR, "Parse error"))),
    };
    if items.is_empty() || items.len() > ITEMS {
        let message = format!("Invalid Request: a batch has 1 to {ITEMS} items, this one {}", items.len());
        return Ok(alone(Failure::new(INVALID_REQUEST, message)));
    }
    let running: FuturesOrdered<_> = items.into_iter().map(|whole| item(own, call, whole)).collect();
    let answers: Vec<_> = running.filter_map(async |answer| answer).collect().await;
    Ok(if answers.is_empty() { reply(204, None) } else { json_reply(&answers) })
}

/// An answer to what has no id that could be read.
fn alone(failure: Failure) -> Reply {
    json_reply(&Answer { jsonrpc: "2.0", result: None, error: Some(failure), id: RawValue::NULL })
}

fn json_reply(answer: &impl Serialize) -> Reply {
    // Strings and what was parsed: it cannot fail.
    reply(200, Some(serde_json::to_vec(answer).unwrap_or_default()))
}

/// Carries one item. `None`: nothing answers it.
async fn item<'a>(own: &OwnAnswers, outer: &Call, whole: &'a RawValue) -> Option<Answer<'a>> {
    let failed = |failure, id| Some(Answer { jsonrpc: "2.0", result: None, error: Some(failure), id });
    let Ok(item) = serde_json::from_str::<Item<'a>>(whole.get()) else {
        return failed(Failure::new(INVALID_REQUEST, "Invalid Request"), RawValue::NULL);
    };
    let is_id = |id: &RawValue| !id.get().starts_with(['{', '[', 't', 'f']);
    let is_list = |params: &RawValue| params.get().starts_with(['{', '[']);
    if item.jsonrpc != "2.0" || item.method.is_empty() || item.params.is_some_and(|params| !is_list(params)) {
        return failed(Failure::new(INVALID_REQUEST, "Invalid Request"), RawValue::NULL);
    }
    match item.id {
        Some(id) if !is_id(id) => failed(Failure::new(INVALID_REQUEST, "Invalid Request"), RawValue::NULL),
        Some(id) => match invoke(own, outer, &item).await {
            Ok(result) => Some(Answer { jsonrpc: "2.0", result: Some(result), error: None, id }),
            Err(failure) => failed(failure, id),
        },
        None => {
            // Whatever comes of it, nobody is told.
            let _ = invoke(own, outer, &item).await;
            None
        }
    }
}

/// Calls the service, and makes a result or a failure of what it answers.
async fn invoke(own: &OwnAnswers, outer: &Call, item: &Item<'_>) -> Result<Box<RawValue>, Failure> {
    let mut record = Record::new(Direction::Outbound, &own.unrouted);
    let params = item.params.map_or("{}", RawValue::get);
    let asked = asked(outer, &item.method);
    let mut call = asked.into_call(Body::Whole(Bytes::copy_from_slice(params.as_bytes())), None, &mut record);
    let answered = async {
        let Reply { head, mut body } = own.dispatcher.call(&mut call, &mut record).await?;
        let is_failure = head.headers.contains(FAILURE_FIELD);
        Ok::<_, Error>((head.status, is_failure, body.collect(BODY_BYTES).await?))
    };
    match answered.await {
        Ok((status, is_failure, body)) => {
            record.answered(status);
            record.received(body.as_ref().map_or(0, Bytes::len));
            record.complete();
            let body =
                body.ok_or_else(|| Failure::new(INTERNAL_ERROR, format!("an answer of more than {BODY_BYTES} bytes")))?;
            match is_failure.then(|| serde_json::from_slice(&body)) {
                // The app speaks JSON-RPC itself.
                Some(Ok(failure)) => Err(failure),
                _ => result_of(status, &body),
            }
        }
        Err(error) => {
            own.metrics.generated_error(error.code().as_str()).inc();
            record.failed(&error, dispatch::outcome_of(&error));
            let data = serde_json::from_slice(&error.to_json()).ok();
            // Of a sidecar that knows the service's methods.
            let code = match error.code() {
                ErrorCode::UnknownMethod => METHOD_NOT_FOUND,
                ErrorCode::BadArguments => INVALID_PARAMS,
                _ => SERVER_ERROR,
            };
            Err(Failure { code, message: error.to_string(), data })
        }
    }
}

/// The plain call that an item is. Its other fields are those of the request that it came in.
fn asked(outer: &Call, method: &str) -> Asked {
    let mut head = RequestHead { kind: Kind::Rpc, path: procedure::path_of(method).into(), ..outer.head.clone() };
    head.headers
        .retain(|field| !matches!(field.name, b"content-type" | b"content-length" | b"content-encoding" | b"accept"));
    head.headers.push(b"content-type", b"application/json");
    head.headers.push(b"accept", b"application/json");
    Asked { head, version: outer.version.clone(), deadline: outer.deadline, tunnel: None, grpc: false, own: None }
}

fn result_of(status: u16, body: &[u8]) -> Result<Box<RawValue>, Failure> {
    let json = || serde_json::from_slice::<Box<RawValue>>(body);
    let (code, message) = match status {
        200..=299 if body.is_empty() => return Ok(RawValue::NULL.to_owned()),
        200..=299 => return json().map_err(|_| Failure::new(INTERNAL_ERROR, "the answer is not JSON")),
        404 | 405 => (METHOD_NOT_FOUND, "Method not found"),
        400 | 422 => (INVALID_PARAMS, "Invalid params"),
        _ => (SERVER_ERROR, "Server error"),
    };
    let shown = || Value::from(String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]).into_owned());
    let body = serde_json::from_slice(body).unwrap_or_else(|_| shown());
    Err(Failure { data: Some(json!({ "status": status, "body": body })), ..Failure::new(code, message) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_answers_is_a_result_or_the_codes_of_the_specification() {
        assert_eq!(result_of(200, b"{\"a\":1}").unwrap().get(), "{\"a\":1}");
        assert_eq!(result_of(204, b"").unwrap().get(), "null");
        let code = |status, body: &[u8]| result_of(status, body).unwrap_err().code;
        assert_eq!(code(200, b"<html>"), INTERNAL_ERROR);
        assert_eq!(code(404, b""), METHOD_NOT_FOUND);
        assert_eq!(code(400, b"{}"), INVALID_PARAMS);
        assert_eq!(code(500, b"oops"), SERVER_ERROR);
        let data = result_of(503, b"{\"why\":1}").unwrap_err().data.unwrap();
        assert_eq!(data, json!({ "status": 503, "body": { "why": 1 } }));
    }

    #[test]
    fn an_id_that_is_null_is_one() {
        let item: Item<'_> = serde_json::from_str(r#"{"jsonrpc":"2.0","method":"m","id":null}"#).unwrap();
        assert_eq!(item.id.map(RawValue::get), Some("null"));
        let item: Item<'_> = serde_json::from_str(r#"{"jsonrpc":"2.0","method":"m"}"#).unwrap();
        assert!(item.id.is_none());
    }
}
