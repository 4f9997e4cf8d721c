//! What grows has a bound.

/// The JSON of one message that a caller sends. Bytes.
pub const REQUEST_JSON_BYTES: usize = 4 * 1024 * 1024;
/// One message that an app answers, encoded: what gRPC's own clients take unless told otherwise. Bytes.
pub const MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// The JSON of one such message: names and quotes make it longer. Bytes.
pub const ANSWER_JSON_BYTES: usize = 16 * 1024 * 1024;
/// How deep JSON may be nested: what `serde_json` reads, and what is written. A message in a `google.protobuf.Any` is decoded by
/// itself, so that only this bounds how deep they lie in each other.
pub const JSON_DEPTH: usize = 128;
/// How deep a field named in a path or a query may lie.
pub const PARAMETER_DEPTH: usize = 32;
/// A serialized `FileDescriptorSet`. Bytes.
pub const SCHEMA_BYTES: usize = 64 * 1024 * 1024;

const _: () = assert!(PARAMETER_DEPTH < JSON_DEPTH && MESSAGE_BYTES <= ANSWER_JSON_BYTES);
