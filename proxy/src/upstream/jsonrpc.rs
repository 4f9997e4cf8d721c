//! Procedures of an app that speaks JSON-RPC 2.0 itself: a call of the kind RPC becomes a request to the one path at which the app
//! takes them, and its result or error the answer.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wire::{Headers, RequestHead};

use crate::call::{Body, Reply};
use crate::edge::jsonrpc::{
    BODY_BYTES, FAILURE_FIELD, Failure, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, present,
};
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};

/// What the app is sent. It has a connection, or a stream of one, to itself: any id will do.
#[derive(Serialize)]
struct Request<'a> {
    jsonrpc: &'static str,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<&'a RawValue>,
    id: u32,
}

/// What it answers.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    error: Option<Failure>,
}

/// The request to an app that takes JSON-RPC at `path`, from the call of one procedure.
pub async fn request(path: &Bytes, mut head: RequestHead, mut body: Body) -> Result<(RequestHead, Body), Error> {
    let wrong =
        |detail: String| Error::new(ErrorCode::BadArguments, Origin::Remote, Phase::Request, Executed::No, detail);
    let arguments = body
        .collect(BODY_BYTES)
        .await?
        .ok_or_else(|| wrong(format!("more than {BODY_BYTES} bytes; a JSON-RPC app is sent no more at once")))?;
    let params = match &arguments[..] {
        b"" => None,
        text => Some(serde_json::from_slice::<&RawValue>(text).map_err(|error| wrong(format!("not JSON: {error}")))?),
    };
    if params.is_some_and(|params| !params.get().starts_with(['{', '['])) {
        return Err(wrong("a JSON-RPC app takes its parameters as an object or an array".to_owned()));
    }
    let method = method(&head.path).ok_or_else(|| wrong("the method's name is no text".to_owned()))?;
    let request = Request { jsonrpc: "2.0", method: &method, params, id: 1 };
    // Strings and what was parsed: it cannot fail.
    let request = serde_json::to_vec(&request).unwrap_or_default();
    head.path = path.clone();
    describe(&mut head.headers);
    head.headers.push(b"accept", b"application/json");
    Ok((head, Body::Whole(request.into())))
}

/// The reply to the call, from the app's answer. One that is not of JSON-RPC stays as it is.
pub async fn reply(mut answer: Reply) -> Result<Reply, Error> {
    let Some(text) = answer.body.collect(BODY_BYTES).await? else {
        let detail = format!("an answer of more than {BODY_BYTES} bytes, in JSON-RPC");
        return Err(Error::new(ErrorCode::AppBadResponse, Origin::App, Phase::Body, Executed::Yes, detail));
    };
    let (status, body) = match serde_json::from_slice::<Answer<'_>>(&text) {
        Ok(Answer { error: Some(failure), .. }) => {
            describe(&mut answer.head.headers);
            answer.head.headers.push(FAILURE_FIELD, b"true");
            (status_of(failure.code), serde_json::to_vec(&failure).unwrap_or_default().into())
        }
        Ok(Answer { result: Some(result), error: None }) => {
            describe(&mut answer.head.headers);
            (200, Bytes::copy_from_slice(result.get().as_bytes()))
        }
        _ => (answer.head.status, text),
    };
    answer.head.status = status;
    answer.body = Body::Whole(body);
    Ok(answer)
}

/// The fields that tell of a body that was made here.
fn describe(headers: &mut Headers) {
    let tells = |name: &[u8]| {
        matches!(
            name,
            b"content-type" | b"content-length" | b"content-encoding" | b"accept" | b"accept-encoding" | b"etag"
        )
    };
    headers.retain(|field| !tells(field.name));
    headers.push(b"content-type", b"application/json");
}

/// The HTTP status that tells the same, to callers that know nothing of JSON-RPC.
fn status_of(code: i32) -> u16 {
    match code {
        METHOD_NOT_FOUND => 404,
        PARSE_ERROR | INVALID_REQUEST | INVALID_PARAMS => 400,
        _ => 500,
    }
}

/// The method that a path names: one segment, of which octets may be written by their number (RFC 3986, 2.1).
fn method(path: &[u8]) -> Option<String> {
    let path = path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'?').next()?;
    let name = transcode::percent_decode(path, |_| false)?;
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::ResponseHead;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    fn whole(body: Body) -> String {
        match body {
            Body::Whole(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Body::Stream(_) => panic!("it is made here"),
        }
    }

    #[test]
    fn a_call_becomes_a_request() {
        for (path, arguments, want) in [
            ("/charge", "{\"a\":1}", Some(r#"{"jsonrpc":"2.0","method":"charge","params":{"a":1},"id":1}"#)),
            ("/a%2Fb?x=1", "[1,\n2]", Some("{\"jsonrpc\":\"2.0\",\"method\":\"a/b\",\"params\":[1,\n2],\"id\":1}")),
            ("/charge", "", Some(r#"{"jsonrpc":"2.0","method":"charge","id":1}"#)),
            ("/charge", "7", None),
            ("/charge", "{", None),
            ("/charge", "{}{}", None),
            ("/%ff", "{}", None),
            ("/%2", "{}", None),
            ("/%zz", "{}", None),
        ] {
            let head = RequestHead { path: path.as_bytes().to_vec().into(), ..RequestHead::default() };
            let made = run(request(&Bytes::from_static(b"/rpc"), head, Body::Whole(arguments.to_owned().into())));
            match (made, want) {
                (Ok((head, body)), Some(want)) => {
                    assert_eq!((&head.path[..], whole(body).as_str()), (&b"/rpc"[..], want));
                    assert_eq!(head.headers.get(b"content-type"), Some(&b"application/json"[..]));
                }
                (Err(error), None) => {
                    assert_eq!((error.code(), error.executed()), (ErrorCode::BadArguments, Executed::No));
                }
                (made, _) => panic!("{path} {arguments}: {made:?}"),
            }
        }
    }

    #[test]
    fn an_answer_becomes_a_reply() {
        for (status, answer, want, body, failure) in [
            (200, r#"{"jsonrpc":"2.0","result":{"b":[1]},"id":1}"#, 200, r#"{"b":[1]}"#, false),
            (200, r#"{"jsonrpc":"2.0","result":null,"id":1}"#, 200, "null", false),
            (200, r#"{"error":{"code":-32601,"message":"no"},"id":1}"#, 404, r#"{"code":-32601,"message":"no"}"#, true),
            (
                500,
                r#"{"error":{"code":7,"message":"x","data":[1]}}"#,
                500,
                r#"{"code":7,"message":"x","data":[1]}"#,
                true,
            ),
            (200, r#"{"error":{"code":-32602,"message":"x"}}"#, 400, r#"{"code":-32602,"message":"x"}"#, true),
            (503, "busy", 503, "busy", false),
            (200, "{}", 200, "{}", false),
        ] {
            let head = ResponseHead { status, headers: Headers::new() };
            let got = run(reply(Reply { head, body: Body::Whole(answer.into()) })).unwrap();
            let marked = got.head.headers.contains(FAILURE_FIELD);
            assert_eq!((got.head.status, whole(got.body).as_str(), marked), (want, body, failure), "{answer}");
        }
    }
}
