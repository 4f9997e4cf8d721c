//! How a gRPC call ended, for HTTP: the status's number as HTTP has it, the rest as the JSON of `google.rpc.Status`.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::{alphabet, engine::DecodePaddingMode};
use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::{Value as Json, json};

use crate::json;
use crate::percent;
use crate::schema::Schema;

/// Base64 with or without its padding (gRPC over HTTP/2, "Binary-Header").
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// gRPC's status "unknown": what a number that is none means.
const UNKNOWN: i32 = 2;

/// `google.rpc.Status` (googleapis, google/rpc/status.proto).
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// The gRPC status; 0: it went well.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// For programs.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub struct Any {
    /// Whose last segment is the message's full name.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

impl Status {
    /// From the fields `grpc-status`, `grpc-message` and `grpc-status-details-bin`.
    pub fn of_fields(code: &[u8], message: Option<&[u8]>, details: Option<&[u8]>) -> Status {
        let code = std::str::from_utf8(code).ok().and_then(|code| code.parse().ok()).unwrap_or(UNKNOWN);
        let message = message.unwrap_or_default();
        // What is not encoded as it should be is shown as it is.
        let message = percent::decode(message, |_| false).unwrap_or_else(|| message.to_vec());
        let details = details
            .and_then(|details| BASE64.decode(details).ok())
            .and_then(|details| Status::decode(&details[..]).ok())
            .map(|status| status.details)
            .unwrap_or_default();
        Status { code, message: String::from_utf8_lossy(&message).into_owned(), details }
    }

    /// Whether the call went well.
    pub fn is_ok(&self) -> bool {
        self.code == 0
    }

    /// The HTTP status that goes with it (googleapis, google/rpc/code.proto).
    pub fn http(&self) -> u16 {
        match self.code {
            0 => 200,
            // The caller gave it up: a status that no RFC has.
            1 => 499,
            3 | 9 | 11 => 400,
            4 => 504,
            5 => 404,
            6 | 10 => 409,
            7 => 403,
            8 => 429,
            12 => 501,
            14 => 503,
            16 => 401,
            _ => 500,
        }
    }

    /// Its JSON. A detail of a type that the descriptors do not have is told by its type and its bytes.
    pub fn to_json(&self, schema: &Schema) -> Json {
        let details: Vec<Json> = self.details.iter().map(|detail| detail.to_json(schema)).collect();
        json!({ "code": self.code, "message": self.message, "details": details })
    }
}

impl Any {
    fn to_json(&self, schema: &Schema) -> Json {
        let known = schema.any().and_then(|any| {
            let message = DynamicMessage::decode(any, &self.encode_to_vec()[..]).ok()?;
            let text = json::to_text(&message).ok()?;
            serde_json::from_slice(&text).ok()
        });
        known.unwrap_or_else(|| json!({ "@type": self.type_url, "value": STANDARD.encode(&self.value) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_its_fields() {
        let details =
            Status { details: vec![Any { type_url: "t/x.Y".to_owned(), value: vec![1] }], ..Status::default() };
        for engine in [STANDARD, base64::engine::general_purpose::STANDARD_NO_PAD] {
            let encoded = engine.encode(details.encode_to_vec());
            let status = Status::of_fields(b"5", Some(b"no %C3%A9 100%25"), Some(encoded.as_bytes()));
            assert_eq!((status.code, status.message.as_str()), (5, "no \u{e9} 100%"));
            assert_eq!(status.details, details.details);
        }
        let odd = Status::of_fields(b"x", Some(b"100%"), Some(b"?"));
        assert_eq!((odd.code, odd.message.as_str(), odd.details.len()), (2, "100%", 0));
    }

    #[test]
    fn every_status_has_the_one_of_http_that_its_definition_names() {
        let expected = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401, 500];
        for (code, http) in (0..).zip(expected) {
            assert_eq!(Status { code, ..Status::default() }.http(), http, "{code}");
        }
    }
}
