//! The annotation `google.api.http` of a method (googleapis, google/api/http.proto), as far as it says which requests mean the method.

use prost::Message;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

use crate::parameters;
use crate::template::Template;

/// `google.protobuf.MethodOptions`, of which only this is read.
#[derive(Clone, PartialEq, Message)]
struct MethodOptions {
    #[prost(message, optional, tag = "72295728")]
    http: Option<HttpRule>,
}

/// `google.api.HttpRule`.
#[derive(Clone, PartialEq, Message)]
struct HttpRule {
    #[prost(oneof = "Pattern", tags = "2, 3, 4, 5, 6, 8")]
    pattern: Option<Pattern>,
    #[prost(string, tag = "7")]
    body: String,
    #[prost(message, repeated, tag = "11")]
    additional_bindings: Vec<HttpRule>,
    #[prost(string, tag = "12")]
    response_body: String,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Pattern {
    #[prost(string, tag = "2")]
    Get(String),
    #[prost(string, tag = "3")]
    Put(String),
    #[prost(string, tag = "4")]
    Post(String),
    #[prost(string, tag = "5")]
    Delete(String),
    #[prost(string, tag = "6")]
    Patch(String),
    #[prost(message, tag = "8")]
    Custom(CustomHttpPattern),
}

/// `google.api.CustomHttpPattern`.
#[derive(Clone, PartialEq, Message)]
struct CustomHttpPattern {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    path: String,
}

/// One way to call a method.
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    /// GET, POST, …; `*`: any.
    pub(crate) verb: String,
    pub(crate) template: Template,
    pub(crate) body: BodyRule,
    /// Of the answer's message, what is sent; `None`: all of it.
    pub(crate) answer: Option<FieldDescriptor>,
}

/// What a request's body is.
#[derive(Debug, Clone)]
pub(crate) enum BodyRule {
    /// There is none: all that is not in the path is in the query.
    None,
    /// The message, but for what the path fills. There is no query.
    All,
    /// This field of the message.
    Field(FieldDescriptor),
}

/// The bindings of a method's annotation, and what is wrong with those that are left out.
pub(crate) fn bindings(method: &MethodDescriptor) -> (Vec<Binding>, Vec<String>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    // Whether the annotation's own file is among the descriptors or not: an option that the pool does not know stays as it was.
    let options = method.options().encode_to_vec();
    let rule = match MethodOptions::decode(&options[..]) {
        Ok(options) => options.http,
        Err(error) => return (good, vec![format!("{}: its options: {error}", method.full_name())]),
    };
    for rule in rule.iter().flat_map(|rule| std::iter::once(rule).chain(&rule.additional_bindings)) {
        match rule.binding(method) {
            Ok(binding) => good.push(binding),
            Err(what) => bad.push(format!("{}: google.api.http: {what}", method.full_name())),
        }
    }
    (good, bad)
}

impl HttpRule {
    fn binding(&self, method: &MethodDescriptor) -> Result<Binding, String> {
        let (verb, path) = match self.pattern.as_ref().ok_or("it has no path")? {
            Pattern::Get(path) => ("GET", path),
            Pattern::Put(path) => ("PUT", path),
            Pattern::Post(path) => ("POST", path),
            Pattern::Delete(path) => ("DELETE", path),
            Pattern::Patch(path) => ("PATCH", path),
            Pattern::Custom(custom) => (custom.kind.as_str(), &custom.path),
        };
        let template: Template = path.parse()?;
        let request = method.input();
        for field in template.fields() {
            parameters::leaf(&request, field)?;
        }
        let body = match self.body.as_str() {
            "" => BodyRule::None,
            "*" => BodyRule::All,
            name => BodyRule::Field(field(&request, name)?),
        };
        let answer = match self.response_body.as_str() {
            "" => None,
            name => Some(field(&method.output(), name)?),
        };
        Ok(Binding { verb: verb.to_owned(), template, body, answer })
    }
}

/// A field at the top of a message.
fn field(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    message.get_field_by_name(name).ok_or_else(|| format!("{} has no field `{name}`", message.full_name()))
}

/// Whether a value of this kind may be told in JSON as a text, so that a path or a query can hold it.
pub(crate) fn is_plain(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) => matches!(
            message.full_name(),
            "google.protobuf.Timestamp"
                | "google.protobuf.Duration"
                | "google.protobuf.FieldMask"
                | "google.protobuf.DoubleValue"
                | "google.protobuf.FloatValue"
                | "google.protobuf.Int64Value"
                | "google.protobuf.UInt64Value"
                | "google.protobuf.Int32Value"
                | "google.protobuf.UInt32Value"
                | "google.protobuf.BoolValue"
                | "google.protobuf.StringValue"
                | "google.protobuf.BytesValue"
        ),
        _ => true,
    }
}
