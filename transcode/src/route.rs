//! One request's way to its method and back.

use std::collections::BTreeMap;
use std::fmt;

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, MethodDescriptor, ReflectMessage as _, SerializeOptions};
use serde_json::value::RawValue;

use crate::http_rule::BodyRule;
use crate::json;
use crate::parameters::{self, Parameters};
use crate::percent;

/// The method that a request means, and what its target says.
#[derive(Debug, Clone)]
pub struct Route {
    method: MethodDescriptor,
    body: BodyRule,
    /// Of the answer's message, what is sent.
    answer: Option<FieldDescriptor>,
    /// What the path fills.
    filled: Vec<(String, String)>,
    query: String,
}

/// A request that is not the message which its method takes: where, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadArguments(pub String);

/// An answer that is not the message which its method gives, or has no JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadAnswer(pub String);

impl fmt::Display for BadArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Route {
    pub(crate) fn new(
        method: MethodDescriptor,
        body: BodyRule,
        answer: Option<FieldDescriptor>,
        filled: Vec<(String, String)>,
        query: &str,
    ) -> Route {
        Route { method, body, answer, filled, query: query.to_owned() }
    }

    /// The path of the gRPC call: `/{package.Service}/{Method}`.
    pub fn path(&self) -> String {
        format!("/{}/{}", self.method.parent_service().full_name(), self.method.name())
    }

    /// It takes a stream of messages.
    pub fn takes_stream(&self) -> bool {
        self.method.is_client_streaming()
    }

    /// It answers with a stream of messages.
    pub fn gives_stream(&self) -> bool {
        self.method.is_server_streaming()
    }

    /// The message that a request is, encoded. A body of no bytes is that of an empty message.
    ///
    /// # Errors
    /// What is wrong with it, beginning with the name of the field.
    pub fn request(&self, body: &[u8]) -> Result<Vec<u8>, BadArguments> {
        self.message(body).map(|message| message.encode_to_vec()).map_err(BadArguments)
    }

    fn message(&self, body: &[u8]) -> Result<DynamicMessage, String> {
        let request = self.method.input();
        let body = body.trim_ascii();
        let mut message = match &self.body {
            _ if body.is_empty() => DynamicMessage::new(request.clone()),
            BodyRule::None => return Err("the method's annotation gives it no body".to_owned()),
            BodyRule::All => json::from_text(&request, body)?,
            BodyRule::Field(field) => json::field_from_text(&request, field, body)?,
        };
        if self.filled.is_empty() && self.query.is_empty() {
            return Ok(message);
        }
        let mut parameters = Parameters::new(request.clone());
        for (field, value) in &self.filled {
            // What the path says is so, whatever the body says.
            parameters::clear(&mut message, &parameters::leaf(&request, field)?);
            parameters.put(field, value.clone())?;
        }
        for (name, value) in query(&self.query) {
            let (name, value) = name.zip(value).ok_or_else(|| "the query is not percent-encoded text".to_owned())?;
            self.check_query(&name)?;
            parameters.put(&name, value)?;
        }
        // As messages merge: a field that is filled wins, repeated ones are joined.
        let filled = parameters.message()?.encode_to_vec();
        message.merge(&filled[..]).map_err(|error| error.to_string())?;
        Ok(message)
    }

    /// A query may only fill what neither path nor body does.
    fn check_query(&self, name: &str) -> Result<(), String> {
        let fields = parameters::leaf(&self.method.input(), name)?;
        let by_body = match &self.body {
            BodyRule::None => false,
            BodyRule::All => true,
            BodyRule::Field(field) => fields.first() == Some(field),
        };
        if by_body {
            return Err(format!("{name}: it stands in the body, not in the query"));
        }
        let names: Vec<&str> = fields.iter().map(FieldDescriptor::name).collect();
        match self.filled.iter().any(|(field, _)| *field == names.join(".")) {
            true => Err(format!("{name}: the path says what it is")),
            false => Ok(()),
        }
    }

    /// An encoded message of the answer as JSON. Fields that have their default are left out.
    ///
    /// # Errors
    /// It is no such message, or has no JSON: an unknown type in an `Any`, a timestamp out of range, too long or too deep.
    pub fn answer(&self, message: &[u8]) -> Result<Vec<u8>, BadAnswer> {
        let message =
            DynamicMessage::decode(self.method.output(), message).map_err(|error| BadAnswer(error.to_string()))?;
        match &self.answer {
            None => json::to_text(&message),
            Some(field) => only(&message, field),
        }
        .map_err(BadAnswer)
    }
}

/// One field of a message as JSON.
fn only(message: &DynamicMessage, field: &FieldDescriptor) -> Result<Vec<u8>, String> {
    let mut alone = DynamicMessage::new(message.descriptor());
    let text = if message.has_field(field) {
        alone.set_field(field, message.get_field(field).into_owned());
        json::to_text(&alone)?
    } else {
        // Its default; a message that is not there is null.
        let mut text = Vec::new();
        let options = SerializeOptions::new().skip_default_fields(false);
        let mut json = serde_json::Serializer::new(&mut text);
        alone.serialize_with_options(&mut json, &options).map_err(|error| error.to_string())?;
        text
    };
    let fields: BTreeMap<&str, &RawValue> = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    Ok(fields.get(field.json_name()).map_or("null", |value| value.get()).as_bytes().to_vec())
}

/// The names and values of a query; `None` for what is not encoded as it should be.
fn query(query: &str) -> impl Iterator<Item = (Option<String>, Option<String>)> {
    let decoded = |text: &str| percent::text(&text.replace('+', " "), |_| false);
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}
