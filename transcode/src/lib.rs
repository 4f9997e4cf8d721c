//! Plain JSON calls of gRPC methods, sans IO: which method a request means, its JSON as the message that the method takes, and the
//! message that it answers as JSON again.
//!
//! The mapping is that of the Protocol Buffers ("ProtoJSON format"), done by `prost-reflect`; which requests mean which method
//! follows names and, where a method has one, its annotation `google.api.http` (googleapis, google/api/http.proto). Nothing here knows
//! of sockets or of time.

pub mod frame;
mod http_rule;
mod json;
pub mod limits;
pub mod lines;
mod parameters;
mod percent;
mod route;
mod schema;
pub mod status;
mod template;

pub use percent::decode as percent_decode;
pub use route::{BadAnswer, BadArguments, Route};
pub use schema::{NoSuchMethod, Schema, SchemaError};
pub use template::Template;
