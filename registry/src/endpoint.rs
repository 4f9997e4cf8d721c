//! An endpoint and its record.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::keys;
use crate::limits::{
    METADATA_ENTRIES, METADATA_NAME_BYTES, METADATA_VALUE_BYTES, PROTOCOL_BYTES, RECORD_BYTES, WEIGHT,
};
use crate::names::{InstanceId, ServiceName, Version, shown};

/// The number in `"schema"` of the records that this version writes and reads.
pub const RECORD_SCHEMA: u32 = 1;

/// Which endpoint: one service's sidecar at one address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointKey {
    /// The service that answers there.
    pub service: ServiceName,
    /// Its version.
    pub version: Version,
    /// Where its sidecar listens.
    pub address: SocketAddr,
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.service, self.version, self.address)
    }
}

/// An endpoint as its own sidecar wrote it into the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Service, version and address.
    pub key: EndpointKey,
    /// Which run of the sidecar this is.
    pub instance: InstanceId,
    /// It speaks mutual TLS (false only on laptops, under `--insecure`).
    pub secure: bool,
    /// What its app speaks: `http/1.1`.
    pub protocol: String,
    /// Its share of the calls beside the others', 100 being usual.
    pub weight: u32,
    /// Whatever else its owner wants known.
    pub metadata: BTreeMap<String, String>,
}

/// Why a record or its key is not one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordError {
    /// The key names no endpoint.
    Key(String),
    /// The record is longer than [`RECORD_BYTES`].
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It is not JSON, or not of the form of a record.
    Json(String),
    /// It is of a schema that this version does not know.
    Schema {
        /// The number found.
        found: u32,
    },
    /// A field breaks its limits.
    Field {
        /// Its name.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Key(reason) => write!(f, "not an endpoint's key: {reason}"),
            RecordError::TooLarge { bytes } => write!(f, "record of {bytes} bytes: the limit is {RECORD_BYTES}"),
            RecordError::Json(reason) => write!(f, "not a record: {reason}"),
            RecordError::Schema { found } => {
                write!(f, "schema {found} is unknown here: this version reads schema {RECORD_SCHEMA}")
            }
            RecordError::Field { field, reason } => write!(f, "field '{field}': {reason}"),
        }
    }
}

impl std::error::Error for RecordError {}

#[derive(Serialize)]
struct RecordOut<'a> {
    schema: u32,
    instance: &'a InstanceId,
    secure: bool,
    protocol: &'a str,
    weight: u32,
    metadata: &'a BTreeMap<String, String>,
}

/// Unknown fields are ignored: a newer sidecar may say more. What is absent has the safe value: `secure` means that the
/// peer must prove itself.
#[derive(Deserialize)]
struct RecordIn {
    instance: InstanceId,
    #[serde(default = "secure")]
    secure: bool,
    #[serde(default = "protocol")]
    protocol: String,
    #[serde(default = "weight")]
    weight: u32,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// Read first: the fields of another schema may have other types.
#[derive(Deserialize)]
struct SchemaIn {
    schema: u32,
}

fn secure() -> bool {
    true
}

fn protocol() -> String {
    "http/1.1".to_owned()
}

fn weight() -> u32 {
    100
}

impl Endpoint {
    /// An endpoint with the usual values: secure, `http/1.1`, weight 100, no metadata.
    pub fn new(key: EndpointKey, instance: InstanceId) -> Self {
        Endpoint { key, instance, secure: secure(), protocol: protocol(), weight: weight(), metadata: BTreeMap::new() }
    }

    /// The record, one line of JSON; [`Endpoint::from_record`] reads it back when [`Endpoint::check`] passes.
    pub fn to_json(&self) -> Vec<u8> {
        let record = RecordOut {
            schema: RECORD_SCHEMA,
            instance: &self.instance,
            secure: self.secure,
            protocol: &self.protocol,
            weight: self.weight,
            metadata: &self.metadata,
        };
        serde_json::to_vec(&record).expect("strings, numbers and string maps always have a JSON form")
    }

    /// Reads a record. Unknown fields are ignored.
    ///
    /// # Errors
    /// When it is too long, no JSON, of an unknown schema, or a field breaks its limits.
    pub fn from_record(key: EndpointKey, json: &[u8]) -> Result<Endpoint, RecordError> {
        if json.len() > RECORD_BYTES {
            return Err(RecordError::TooLarge { bytes: json.len() });
        }
        let not_json = |e: serde_json::Error| RecordError::Json(shown(&e.to_string()));
        let SchemaIn { schema } = serde_json::from_slice(json).map_err(not_json)?;
        if schema != RECORD_SCHEMA {
            return Err(RecordError::Schema { found: schema });
        }
        let record: RecordIn = serde_json::from_slice(json).map_err(not_json)?;
        let endpoint = Endpoint {
            key,
            instance: record.instance,
            secure: record.secure,
            protocol: record.protocol,
            weight: record.weight,
            metadata: record.metadata,
        };
        endpoint.check()?;
        Ok(endpoint)
    }

    /// Whether every field keeps its limits, so that others will be able to read the record.
    ///
    /// # Errors
    /// The first field that does not.
    pub fn check(&self) -> Result<(), RecordError> {
        let refuse = |field, reason: String| Err(RecordError::Field { field, reason });
        if let Err(why) = keys::check_address(self.key.address) {
            return Err(RecordError::Key(format!("'{}' {why}", self.key.address)));
        }
        if self.protocol.is_empty()
            || self.protocol.len() > PROTOCOL_BYTES
            || !self.protocol.bytes().all(|b| b.is_ascii_graphic())
        {
            return refuse("protocol", format!("must be 1 to {PROTOCOL_BYTES} printable ASCII characters"));
        }
        if self.weight > WEIGHT {
            return refuse("weight", format!("{} is above {WEIGHT}", self.weight));
        }
        if self.metadata.len() > METADATA_ENTRIES {
            return refuse("metadata", format!("more than {METADATA_ENTRIES} entries"));
        }
        for (name, value) in &self.metadata {
            if name.is_empty()
                || name.len() > METADATA_NAME_BYTES
                || value.len() > METADATA_VALUE_BYTES
                || name.chars().chain(value.chars()).any(char::is_control)
            {
                return refuse(
                    "metadata",
                    format!(
                        "'{}': names have 1 to {METADATA_NAME_BYTES} bytes, values at most {METADATA_VALUE_BYTES}, \
                         and neither holds control characters",
                        shown(name)
                    ),
                );
            }
        }
        // Escapes can make a value longer than its text: what counts is what the others will read.
        let bytes = self.to_json().len();
        if bytes > RECORD_BYTES {
            return Err(RecordError::TooLarge { bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> EndpointKey {
        keys::parse_relative("pay/1.0.0/10.0.0.7:4143").expect("key")
    }

    #[test]
    fn records_round_trip() {
        let mut endpoint = Endpoint::new(key(), InstanceId::generate());
        endpoint.secure = false;
        endpoint.weight = 7;
        endpoint.metadata.insert("zone".into(), "a \"quoted\" ünicode".into());
        assert_eq!(Endpoint::from_record(key(), &endpoint.to_json()), Ok(endpoint));
    }

    #[test]
    fn unknown_fields_are_ignored_and_absent_ones_have_safe_values() {
        let json = br#"{"schema":1,"instance":"i-1","later":{"a":[1,2,{"b":null}]}}"#;
        let endpoint = Endpoint::from_record(key(), json).expect("record");
        assert_eq!(endpoint, Endpoint::new(key(), "i-1".parse().expect("id")));
        assert!(endpoint.secure);
    }

    #[test]
    fn poisoned_records_are_errors() {
        let deep = format!(r#"{{"schema":1,"instance":"i","metadata":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        let many: String = (0..33).map(|i| format!(r#""k{i}":"v","#)).collect();
        let cases: Vec<(&str, String)> = vec![
            ("empty", String::new()),
            ("not json", "hello".into()),
            ("an array", "[]".into()),
            ("truncated", r#"{"schema":1,"instance":"i"#.into()),
            ("trailing", r#"{"schema":1,"instance":"i"} x"#.into()),
            ("no schema", r#"{"instance":"i"}"#.into()),
            ("schema 2", r#"{"schema":2,"whatever":true}"#.into()),
            ("schema as text", r#"{"schema":"1","instance":"i"}"#.into()),
            ("no instance", r#"{"schema":1}"#.into()),
            ("empty instance", r#"{"schema":1,"instance":""}"#.into()),
            ("instance with a space", r#"{"schema":1,"instance":"a b"}"#.into()),
            ("negative weight", r#"{"schema":1,"instance":"i","weight":-1}"#.into()),
            ("weight too large", r#"{"schema":1,"instance":"i","weight":10001}"#.into()),
            ("twice", r#"{"schema":1,"instance":"i","instance":"j"}"#.into()),
            ("empty protocol", r#"{"schema":1,"instance":"i","protocol":""}"#.into()),
            ("protocol with a line end", r#"{"schema":1,"instance":"i","protocol":"a\nb"}"#.into()),
            ("control in metadata", r#"{"schema":1,"instance":"i","metadata":{"a":"\u0000"}}"#.into()),
            ("metadata of numbers", r#"{"schema":1,"instance":"i","metadata":{"a":1}}"#.into()),
            ("much metadata", format!(r#"{{"schema":1,"instance":"i","metadata":{{{many}"z":"v"}}}}"#)),
            ("deep", deep),
            ("long", format!(r#"{{"schema":1,"instance":"i","x":"{}"}}"#, "x".repeat(RECORD_BYTES))),
        ];
        for (name, json) in cases {
            let error = Endpoint::from_record(key(), json.as_bytes()).expect_err(name).to_string();
            assert!(error.len() < 500 && !error.contains('\n'), "{name}: {error}");
        }
    }

    #[test]
    fn what_passes_the_check_is_readable() {
        let mut endpoint = Endpoint::new(key(), InstanceId::generate());
        for i in 0..METADATA_ENTRIES {
            endpoint.metadata.insert(format!("{i:0>64}"), "\"".repeat(METADATA_VALUE_BYTES));
        }
        // 32 × 256 quotes are 16 KiB of escapes alone.
        assert!(matches!(endpoint.check(), Err(RecordError::TooLarge { .. })));
        for value in endpoint.metadata.values_mut() {
            *value = "v".repeat(METADATA_VALUE_BYTES);
        }
        assert_eq!(endpoint.check(), Ok(()));
        assert_eq!(Endpoint::from_record(key(), &endpoint.to_json()), Ok(endpoint));
    }
}
