//! Errors of ours as gRPC tells them: a status, a message, and `google.rpc.Status` with what a program may want to know.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use prost::Message;
use transcode::status::{Any, Status};
use wire::Headers;

use crate::error::Error;

/// Who says so (`google.rpc.ErrorInfo`).
const DOMAIN: &str = "pillion";

/// `google.rpc.ErrorInfo` (google/rpc/error_details.proto).
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Duration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Duration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The trailers that tell of an error.
pub fn trailers(error: &Error) -> Headers {
    let status = error.code().grpc() as u8;
    let message = error.to_string();
    let details = Status { code: status.into(), details: details(error), message: message.clone() };
    let mut trailers = Headers::new();
    trailers.push_number(b"grpc-status", status.into());
    // Both are visible ASCII.
    trailers.push(b"grpc-message", percent_encoded(&message).as_bytes());
    trailers.push(b"grpc-status-details-bin", STANDARD_NO_PAD.encode(details.encode_to_vec()).as_bytes());
    trailers
}

fn details(error: &Error) -> Vec<Any> {
    let (attempts, revision) = error.tries();
    let metadata = [
        ("origin", error.origin().as_str().to_owned()),
        ("phase", error.phase().as_str().to_owned()),
        ("executed", error.executed().as_str().to_owned()),
        ("endpoint", error.endpoint().unwrap_or_default().to_owned()),
        ("attempts", attempts.to_string()),
        ("revision", revision.to_string()),
        ("detail", error.detail().to_owned()),
        ("hint", error.code().hint().to_owned()),
    ];
    let info = ErrorInfo {
        // Its own rule: upper case with underscores.
        reason: error.code().as_str().to_ascii_uppercase().replace('-', "_"),
        domain: DOMAIN.to_owned(),
        metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
    };
    let mut details = vec![any("google.rpc.ErrorInfo", &info)];
    if let Some(after) = error.retry_after_hint() {
        let seconds = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
        let delay = Duration { seconds, nanos: after.subsec_nanos().cast_signed() };
        details.push(any("google.rpc.RetryInfo", &RetryInfo { retry_delay: Some(delay) }));
    }
    details
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

/// As gRPC writes a message into a header ("Percent-Encoded"): what is not printable ASCII, and `%`, by its number.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorCode, Phase};

    #[test]
    fn a_message_is_plain_in_a_header() {
        assert_eq!(percent_encoded("as it is ~ 1"), "as it is ~ 1");
        assert_eq!(percent_encoded("100 %\n\u{e9}"), "100 %25%0A%C3%A9");
    }

    #[test]
    fn an_error_comes_out_of_its_trailers_whole() {
        let error = Error::local(ErrorCode::ConnectFailed, Phase::Connect, "refused")
            .at(Some("10.0.0.1:4143".into()), 2, 77)
            .retry_after(Some(std::time::Duration::from_millis(1500)));
        let trailers = trailers(&error);
        assert_eq!(trailers.get(b"grpc-status"), Some(&b"14"[..]));
        assert!(std::str::from_utf8(trailers.get(b"grpc-message").unwrap()).unwrap().contains("refused"));
        let bytes = STANDARD_NO_PAD.decode(trailers.get(b"grpc-status-details-bin").unwrap()).unwrap();
        let status = Status::decode(&bytes[..]).unwrap();
        assert_eq!(status.code, 14);
        let [info, retry] = &status.details[..] else { panic!("{status:?}") };
        assert_eq!(info.type_url, "type.googleapis.com/google.rpc.ErrorInfo");
        let info = ErrorInfo::decode(&info.value[..]).unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("CONNECT_FAILED", "pillion"));
        for (key, want) in [("executed", "no"), ("phase", "connect"), ("endpoint", "10.0.0.1:4143"), ("attempts", "2")]
        {
            assert_eq!(info.metadata[key], want, "{key}");
        }
        let delay = RetryInfo::decode(&retry.value[..]).unwrap().retry_delay.unwrap();
        assert_eq!((delay.seconds, delay.nanos), (1, 500_000_000));
    }
}
