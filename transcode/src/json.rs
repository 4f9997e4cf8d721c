//! Messages from JSON and to JSON ("ProtoJSON format"): `prost-reflect` has the mapping; here are the place of an error, the bounds, and
//! numbers that JSON has none of.

use std::io;

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor};
use serde::de::value::MapDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer};
use serde::ser::{Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value as Json;
use serde_json::de::SliceRead;
use serde_path_to_error::Track;

use crate::limits::{ANSWER_JSON_BYTES, JSON_DEPTH};

type JsonText<'a> = serde_json::Deserializer<SliceRead<'a>>;

/// Reads a message. The error names the field and the place in the text.
pub(crate) fn from_text(message: &MessageDescriptor, text: &[u8]) -> Result<DynamicMessage, String> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = tracked(message, &mut json)?;
    json.end().map_err(|error| error.to_string())?;
    Ok(read)
}

/// Reads a message of which the text is one field.
pub(crate) fn field_from_text(
    message: &MessageDescriptor,
    field: &FieldDescriptor,
    text: &[u8],
) -> Result<DynamicMessage, String> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let entry = std::iter::once((field.json_name(), Whole(&mut json)));
    let read = tracked(message, MapDeserializer::new(entry))?;
    json.end().map_err(|error| error.to_string())?;
    Ok(read)
}

/// Reads a message from JSON that was put together here, no deeper than `PARAMETER_DEPTH`.
pub(crate) fn from_tree(message: &MessageDescriptor, tree: Json) -> Result<DynamicMessage, String> {
    tracked(message, tree)
}

/// All of a text as the value of an entry.
struct Whole<'a, 'de>(&'a mut JsonText<'de>);

impl<'a, 'de> IntoDeserializer<'de, serde_json::Error> for Whole<'a, 'de> {
    type Deserializer = &'a mut JsonText<'de>;

    fn into_deserializer(self) -> Self::Deserializer {
        self.0
    }
}

fn tracked<'de, D>(message: &MessageDescriptor, json: D) -> Result<DynamicMessage, String>
where
    D: Deserializer<'de, Error = serde_json::Error>,
{
    let mut track = Track::new();
    let read = message.clone().deserialize(serde_path_to_error::Deserializer::new(json, &mut track));
    read.map_err(|error| {
        let path = track.path();
        let path = if path.iter().len() == 0 { String::new() } else { path.to_string() };
        let text = error.to_string();
        // The place of a field that does not exist is that of the message it would be in: its name makes it whole.
        match text.strip_prefix("unrecognized field name '").and_then(|rest| rest.rsplit_once('\'')) {
            Some((name, at)) if path.is_empty() => format!("{name}: unknown field{at}"),
            Some((name, at)) => format!("{path}.{name}: unknown field{at}"),
            None if path.is_empty() => text,
            None => format!("{path}: {text}"),
        }
    })
}

/// Writes a message.
pub(crate) fn to_text(message: &DynamicMessage) -> Result<Vec<u8>, String> {
    let mut text = Bounded(Vec::new());
    let mut json = serde_json::Serializer::new(&mut text);
    message.serialize(Strict { inner: &mut json, depth: 0 }).map_err(|error| error.to_string())?;
    Ok(text.0)
}

/// Takes no more than may be.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.0.len() + data.len() > ANSWER_JSON_BYTES {
            return Err(io::Error::other(format!("its JSON is longer than {ANSWER_JSON_BYTES} bytes")));
        }
        self.0.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes numbers that are none as the texts that the mapping has for them, wherever they stand (`prost-reflect` 0.16 writes them as `null` in
/// `FloatValue` and `DoubleValue`), and goes no deeper than it may.
struct Strict<S> {
    inner: S,
    depth: usize,
}

impl<S: Serializer> Strict<S> {
    fn deeper(&self) -> Result<usize, S::Error> {
        match self.depth < JSON_DEPTH {
            true => Ok(self.depth + 1),
            false => Err(S::Error::custom(format_args!("it is nested deeper than {JSON_DEPTH}"))),
        }
    }
}

/// What stands inside a list or a map.
struct Inside<'a, T: ?Sized> {
    value: &'a T,
    depth: usize,
}

impl<T: Serialize + ?Sized> Serialize for Inside<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Strict { inner: serializer, depth: self.depth })
    }
}

/// The text for a number that JSON has none for.
fn not_finite(number: f64) -> Option<&'static str> {
    match number {
        _ if number.is_finite() => None,
        _ if number.is_nan() => Some("NaN"),
        _ if number > 0.0 => Some("Infinity"),
        _ => Some("-Infinity"),
    }
}

/// Methods that only pass on, and those for which JSON of messages has no use.
macro_rules! passes_on {
    ($($method:ident($kind:ty);)+) => {
        $(fn $method(self, value: $kind) -> Result<S::Ok, S::Error> { self.inner.$method(value) })+
    };
}

impl<S: Serializer> Serializer for Strict<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Strict<S::SerializeSeq>;
    type SerializeMap = Strict<S::SerializeMap>;
    type SerializeTuple = Impossible<S::Ok, S::Error>;
    type SerializeTupleStruct = Impossible<S::Ok, S::Error>;
    type SerializeTupleVariant = Impossible<S::Ok, S::Error>;
    type SerializeStruct = Impossible<S::Ok, S::Error>;
    type SerializeStructVariant = Impossible<S::Ok, S::Error>;

    passes_on! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_unit_struct(&'static str);
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        match not_finite(value.into()) {
            Some(text) => self.inner.serialize_str(text),
            None => self.inner.serialize_f32(value),
        }
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        match not_finite(value) {
            Some(text) => self.inner.serialize_str(text),
            None => self.inner.serialize_f64(value),
        }
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<S::Ok, S::Error> {
        Err(none_such())
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        let depth = self.deeper()?;
        Ok(Strict { inner: self.inner.serialize_seq(length)?, depth })
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let depth = self.deeper()?;
        Ok(Strict { inner: self.inner.serialize_map(length)?, depth })
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, S::Error> {
        Err(none_such())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        Err(none_such())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        Err(none_such())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, S::Error> {
        Err(none_such())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        Err(none_such())
    }
}

fn none_such<E: serde::ser::Error>() -> E {
    E::custom("a shape that no message has in JSON")
}

impl<S: SerializeSeq> SerializeSeq for Strict<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.inner.serialize_element(&Inside { value, depth: self.depth })
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}

impl<S: SerializeMap> SerializeMap for Strict<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        self.inner.serialize_key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.inner.serialize_value(&Inside { value, depth: self.depth })
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}
