//! JSON-RPC 2.0 (jsonrpc.org/specification), what the callers' side and the app's side have in common.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// A request, and an answer's body, may be this long. Bytes.
pub const BODY_BYTES: usize = 4 * 1024 * 1024;

/// The specification's codes, and the first of those that a server may choose.
pub const PARSE_ERROR: i32 = -32700;
pub const INVALID_REQUEST: i32 = -32600;
pub const METHOD_NOT_FOUND: i32 = -32601;
pub const INVALID_PARAMS: i32 = -32602;
pub const INTERNAL_ERROR: i32 = -32603;
pub const SERVER_ERROR: i32 = -32000;

/// Says, in an answer of a sidecar's, that its body is the app's own [`Failure`].
pub const FAILURE_FIELD: &[u8] = b"x-pillion-rpc-error";

/// An error object.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of error.
    pub code: i32,
    /// In a sentence.
    pub message: String,
    /// Whatever the server has to say besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

impl Failure {
    /// One without data.
    pub fn new(code: i32, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), data: None }
    }
}

/// Tells `null` from nothing.
pub fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}
