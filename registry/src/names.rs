//! The names: a value of these types is a valid one, wherever it came from.

use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError {
    what: &'static str,
    found: String,
    rule: &'static str,
}

impl NameError {
    fn new(what: &'static str, found: &str, rule: &'static str) -> Self {
        NameError { what, found: shown(found), rule }
    }
}

/// Foreign text as it may stand in a message: one line, bounded.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    let mut out: String = text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        out.push('…');
    }
    out
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is not a {}: {}", self.found, self.what, self.rule)
    }
}

impl std::error::Error for NameError {}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                if $valid(text.as_bytes()) { Ok($name(text.into())) } else { Err(NameError::new($what, text, $rule)) }
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;
            fn try_from(text: &str) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// The name of a service, as callers write it in `Host`: lower-case letters, digits, '-', '_' and '.', beginning
    /// and ending with a letter or a digit, without "..", at most 63 bytes. A `.pillion` suffix is not taken off here.
    ServiceName,
    "service name",
    "1 to 63 of a-z 0-9 . _ - , beginning and ending with a letter or a digit, without '..'",
    valid_service
);

name!(
    /// The version of a service: 1 to 64 letters, digits, '.', '_', '+' and '-', beginning with a letter or a digit
    /// (so it is never a directory's `.` or `..`).
    Version,
    "version",
    "1 to 64 of A-Z a-z 0-9 . _ + - , beginning with a letter or a digit",
    valid_version
);

name!(
    /// One run of one sidecar: 1 to 64 printable ASCII characters. A restart is another instance, at the same address too.
    InstanceId,
    "instance id",
    "1 to 64 printable ASCII characters without a space",
    valid_instance
);

fn valid_service(text: &[u8]) -> bool {
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inner = |b: &u8| edge(b) || matches!(b, b'.' | b'_' | b'-');
    (1..=63).contains(&text.len())
        && text.first().is_some_and(edge)
        && text.last().is_some_and(edge)
        && text.iter().all(inner)
        && !text.windows(2).any(|pair| pair == b"..")
}

fn valid_version(text: &[u8]) -> bool {
    (1..=64).contains(&text.len())
        && text[0].is_ascii_alphanumeric()
        && text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-'))
}

fn valid_instance(text: &[u8]) -> bool {
    (1..=64).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
}

impl Default for Version {
    fn default() -> Self {
        Version("1.0.0".into())
    }
}

impl InstanceId {
    /// A fresh one: 32 hex digits from the operating system's randomness.
    pub fn generate() -> Self {
        InstanceId(format!("{:016x}{:016x}", random_u64(), random_u64()).into())
    }
}

/// 64 bits seeded by the operating system, unlike fastrand's own seed, which is little more than the clock: machines
/// cloned from one image and started together must not agree on an instance id or on a back-off.
pub(crate) fn random_u64() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    if let Ok(now) = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
        hasher.write_u128(now.as_nanos());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names() {
        let long = "a".repeat(63);
        for good in ["pay", "a", "0", "a.b", "a-b_c.9", long.as_str(), "payments.pillion"] {
            assert_eq!(good.parse::<ServiceName>().expect(good).as_str(), good);
        }
        let too_long = "a".repeat(64);
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            "-a",
            "a-",
            "A",
            "päy",
            "a/b",
            "a b",
            "a\n",
            "a:1",
            "../x",
            "_a",
            "a.",
            ".a",
            "a\0",
            too_long.as_str(),
        ] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn versions() {
        for good in ["1.0.0", "v2", "1.0.0-rc.1+build_7", "A"] {
            assert!(good.parse::<Version>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-1", "+1", "1/2", "1 2", "ö", &"1".repeat(65)] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
        assert_eq!(Version::default().as_str(), "1.0.0");
    }

    #[test]
    fn instance_ids_differ() {
        let ids: std::collections::BTreeSet<_> = (0..1000).map(|_| InstanceId::generate()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.as_str().parse::<InstanceId>().is_ok()));
    }

    #[test]
    fn errors_are_one_bounded_line() {
        let error = format!("x\n{}", "y".repeat(10_000)).parse::<ServiceName>().expect_err("bad").to_string();
        assert!(!error.contains('\n') && error.len() < 400, "{error}");
    }
}
