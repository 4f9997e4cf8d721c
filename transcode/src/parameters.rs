//! What a path and a query say, as fields of a message.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde_json::Value as Json;

use crate::http_rule::is_plain;
use crate::json;
use crate::limits::PARAMETER_DEPTH;

/// Fields that parameters fill, as the JSON of a message.
#[derive(Debug)]
pub(crate) struct Parameters {
    message: MessageDescriptor,
    tree: serde_json::Map<String, Json>,
}

impl Parameters {
    /// None yet.
    pub(crate) fn new(message: MessageDescriptor) -> Parameters {
        Parameters { message, tree: serde_json::Map::new() }
    }

    /// Fills a field, or adds to one that is repeated. The error says what is wrong with it, and begins with its name.
    pub(crate) fn put(&mut self, path: &str, text: String) -> Result<(), String> {
        let fields = leaf(&self.message, path)?;
        let Some((last, parents)) = fields.split_last() else { return Ok(()) };
        let mut place = &mut self.tree;
        for parent in parents {
            let inside = place.entry(parent.json_name()).or_insert_with(|| Json::Object(serde_json::Map::new()));
            // Only what is a message has fields, and a message in between is filled by its fields alone.
            let Json::Object(inside) = inside else { return Err(format!("{path}: it is given twice")) };
            place = inside;
        }
        let value = literal(&last.kind(), text);
        let there = place.get_mut(last.json_name());
        match (last.is_list(), there) {
            (true, Some(Json::Array(values))) => values.push(value),
            (true, _) => drop(place.insert(last.json_name().to_owned(), Json::Array(vec![value]))),
            (false, None) => drop(place.insert(last.json_name().to_owned(), value)),
            (false, Some(_)) => return Err(format!("{path}: it is given twice")),
        }
        Ok(())
    }

    /// The message with nothing but these fields.
    pub(crate) fn message(self) -> Result<DynamicMessage, String> {
        json::from_tree(&self.message, Json::Object(self.tree))
    }
}

/// The fields that a dotted name leads through, the last of which can be written as a text. Names are those of the `.proto` file or of JSON.
pub(crate) fn leaf(message: &MessageDescriptor, path: &str) -> Result<Vec<FieldDescriptor>, String> {
    let mut fields: Vec<FieldDescriptor> = Vec::new();
    for name in path.split('.') {
        let inside = match fields.last() {
            None => message.clone(),
            Some(field) => match field.kind() {
                Kind::Message(inside) if !field.is_list() && !field.is_map() && !is_plain(&field.kind()) => inside,
                _ => return Err(format!("{path}: `{}` has no fields that could be named here", field.name())),
            },
        };
        let field = inside.get_field_by_json_name(name).or_else(|| inside.get_field_by_name(name));
        let field = field.ok_or_else(|| format!("{path}: {} has no field `{name}`", inside.full_name()))?;
        fields.push(field);
        if fields.len() > PARAMETER_DEPTH {
            return Err(format!("{path}: it lies deeper than {PARAMETER_DEPTH} messages"));
        }
    }
    match fields.last() {
        Some(field) if !field.is_map() && is_plain(&field.kind()) => Ok(fields),
        _ => Err(format!("{path}: a message has no text; name its fields")),
    }
}

/// Empties a field.
pub(crate) fn clear(message: &mut DynamicMessage, fields: &[FieldDescriptor]) {
    match fields {
        [] => {}
        [last] => message.clear_field(last),
        [first, rest @ ..] => {
            if message.has_field(first)
                && let Value::Message(inside) = message.get_field_mut(first)
            {
                clear(inside, rest);
            }
        }
    }
}

/// A text as the JSON that means it. Numbers may be written as texts there; these may not.
fn literal(kind: &Kind, text: String) -> Json {
    let is_switch = match kind {
        Kind::Bool => true,
        Kind::Message(message) => message.full_name() == "google.protobuf.BoolValue",
        _ => false,
    };
    match text.as_str() {
        "true" if is_switch => return true.into(),
        "false" if is_switch => return false.into(),
        _ => {}
    }
    match (kind, text.parse::<i32>()) {
        (Kind::Enum(_), Ok(number)) => number.into(),
        _ => text.into(),
    }
}
