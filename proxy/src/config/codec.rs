//! How each kind of value is read from text and shown again. One codec a kind; ranges are part of the kind, so that a
//! value that was read is a sane one.

use std::{marker::PhantomData, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use serde_json::Value as Json;

use super::{LogFormat, problem::nearest};

/// How a value is written in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string.
    Text,
    /// A string with a number and a unit of time.
    Duration,
    /// A string with a number and a unit of bytes, or an integer of bytes.
    Size,
    /// An integer.
    Integer,
    /// `true` or `false`.
    Bool,
    /// A list of strings; with commas between them in variables.
    List,
}

/// Reads and shows one kind of value.
pub(super) trait Codec {
    /// What it reads.
    type Value;
    /// How it is written.
    const KIND: Kind;
    /// Reads it; the error is a sentence for the user.
    fn parse(text: &str) -> Result<Self::Value, String>;
    /// Shows it such that `parse` takes it again; `None`: not set.
    fn show(value: &Self::Value) -> Option<Json>;
}

/// Anything with `FromStr` and `Display`.
pub(super) struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err: ToString> + ToString> Codec for Text<T> {
    type Value = T;
    const KIND: Kind = Kind::Text;

    fn parse(text: &str) -> Result<T, String> {
        text.parse().map_err(|error: T::Err| error.to_string())
    }

    fn show(value: &T) -> Option<Json> {
        Some(Json::String(value.to_string()))
    }
}

/// A value that may be absent.
pub(super) struct Opt<C>(PhantomData<C>);

impl<C: Codec> Codec for Opt<C> {
    type Value = Option<C::Value>;
    const KIND: Kind = C::KIND;

    fn parse(text: &str) -> Result<Self::Value, String> {
        C::parse(text).map(Some)
    }

    fn show(value: &Self::Value) -> Option<Json> {
        value.as_ref().and_then(C::show)
    }
}

/// A list.
pub(super) struct List<C>(PhantomData<C>);

impl<C: Codec> Codec for List<C> {
    type Value = Vec<C::Value>;
    const KIND: Kind = Kind::List;

    fn parse(text: &str) -> Result<Self::Value, String> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(C::parse).collect()
    }

    fn show(value: &Self::Value) -> Option<Json> {
        Some(Json::Array(value.iter().filter_map(C::show).collect()))
    }
}

/// `IP:PORT`; port 0 lets the system choose.
pub(super) struct Address;

impl Codec for Address {
    type Value = SocketAddr;
    const KIND: Kind = Kind::Text;

    fn parse(text: &str) -> Result<SocketAddr, String> {
        let text = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        text.parse()
            .map_err(|_| format!("`{text}` is not an address: write IP:PORT, such as 127.0.0.1:4140 or [::1]:4140"))
    }

    fn show(value: &SocketAddr) -> Option<Json> {
        Some(Json::String(value.to_string()))
    }
}

/// A path; not checked here for existence.
pub(super) struct Path;

impl Codec for Path {
    type Value = PathBuf;
    const KIND: Kind = Kind::Text;

    fn parse(text: &str) -> Result<PathBuf, String> {
        if text.is_empty() || text.contains('\0') { Err("not a path".to_owned()) } else { Ok(PathBuf::from(text)) }
    }

    fn show(value: &PathBuf) -> Option<Json> {
        Some(Json::String(value.display().to_string()))
    }
}

/// A host name for a `Host` header, without a port.
pub(super) struct HostName;

impl Codec for HostName {
    type Value = String;
    const KIND: Kind = Kind::Text;

    fn parse(text: &str) -> Result<String, String> {
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if (1..=253).contains(&text.len()) && text.bytes().all(fine) {
            Ok(text.to_ascii_lowercase())
        } else {
            Err(format!("`{text}` is not a host name (without a port)"))
        }
    }

    fn show(value: &String) -> Option<Json> {
        Some(Json::String(value.clone()))
    }
}

/// A user name: any text that is not empty.
pub(super) struct User;

impl Codec for User {
    type Value = String;
    const KIND: Kind = Kind::Text;

    fn parse(text: &str) -> Result<String, String> {
        if (1..=256).contains(&text.len()) {
            Ok(text.to_owned())
        } else {
            Err("a user name has 1 to 256 bytes".to_owned())
        }
    }

    fn show(value: &String) -> Option<Json> {
        Some(Json::String(value.clone()))
    }
}

/// `true` or `false`.
pub(super) struct Switch;

impl Codec for Switch {
    type Value = bool;
    const KIND: Kind = Kind::Bool;

    fn parse(text: &str) -> Result<bool, String> {
        match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("`{text}` is neither true nor false")),
        }
    }

    fn show(value: &bool) -> Option<Json> {
        Some(Json::Bool(*value))
    }
}

/// A count between two bounds, both allowed.
pub(super) struct Count<T, const LEAST: u64, const MOST: u64>(PhantomData<T>);

impl<T, const LEAST: u64, const MOST: u64> Codec for Count<T, LEAST, MOST>
where
    T: TryFrom<u64> + Copy,
    u64: TryFrom<T>,
{
    type Value = T;
    const KIND: Kind = Kind::Integer;

    fn parse(text: &str) -> Result<T, String> {
        // Underscores as TOML writes them.
        let number: u64 = text.replace('_', "").parse().map_err(|_| format!("`{text}` is not a whole number"))?;
        within(number, LEAST, MOST, |n| n.to_string())
    }

    fn show(value: &T) -> Option<Json> {
        u64::try_from(*value).ok().map(Json::from)
    }
}

/// A size in bytes between two bounds.
pub(super) struct Size<const LEAST: u64, const MOST: u64>;

const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl<const LEAST: u64, const MOST: u64> Codec for Size<LEAST, MOST> {
    type Value = usize;
    const KIND: Kind = Kind::Size;

    fn parse(text: &str) -> Result<usize, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start();
        let factor = if unit.is_empty() {
            1
        } else {
            SIZE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor).ok_or_else(|| {
                let meant = SIZE_UNITS
                    .iter()
                    .map(|(name, _)| *name)
                    .find(|name| unit.chars().next().is_some_and(|c| name.starts_with(c.to_ascii_uppercase())));
                match meant {
                    Some(meant) if digits > 0 => {
                        format!("`{unit}` is not a unit of size, did you mean `{number}{meant}`?")
                    }
                    _ => format!("`{text}` is not a size: write 512B, 64KiB, 32MiB, 1GiB, or a number of bytes"),
                }
            })?
        };
        let number: u64 = number
            .parse()
            .map_err(|_| format!("`{text}` is not a size: write 512B, 64KiB, 32MiB, 1GiB, or a number of bytes"))?;
        let bytes = number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large"))?;
        within(bytes, LEAST, MOST, show_size)
    }

    fn show(value: &usize) -> Option<Json> {
        Some(Json::String(show_size(*value as u64)))
    }
}

fn show_size(bytes: u64) -> String {
    SIZE_UNITS
        .iter()
        .find(|(_, factor)| bytes.is_multiple_of(*factor) && bytes > 0)
        .map_or_else(|| format!("{bytes}B"), |(name, factor)| format!("{}{name}", bytes / factor))
}

/// A duration between two bounds in milliseconds; with `ZERO`, also zero, which then means 'none'.
pub(super) struct Time<const LEAST_MS: u64, const MOST_MS: u64, const ZERO: bool = false>;

const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl<const LEAST_MS: u64, const MOST_MS: u64, const ZERO: bool> Codec for Time<LEAST_MS, MOST_MS, ZERO> {
    type Value = Duration;
    const KIND: Kind = Kind::Duration;

    fn parse(text: &str) -> Result<Duration, String> {
        let millis = duration_ms(text)?;
        if ZERO && millis == 0 {
            return Ok(Duration::ZERO);
        }
        within(millis, LEAST_MS, MOST_MS, show_ms).map(Duration::from_millis)
    }

    fn show(value: &Duration) -> Option<Json> {
        Some(Json::String(show_ms(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))))
    }
}

/// Reads "500ms", "60s", "1m30s", "24h".
///
/// # Errors
/// A sentence that says how to write it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    duration_ms(text).map(Duration::from_millis)
}

/// Reads "IP:PORT".
///
/// # Errors
/// A sentence that says how to write it.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    Address::parse(text)
}

fn duration_ms(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a duration: write 500ms, 10s, 15m, 24h or 1m30s");
    let mut rest = text;
    let mut total = 0u64;
    let mut before = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        if unit.is_empty() && tail.is_empty() && before == u64::MAX {
            return Err(format!("`{text}` lacks a unit: write {text}s or {text}ms"));
        }
        let factor = TIME_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor).ok_or_else(wrong)?;
        if factor >= before {
            return Err(wrong());
        }
        before = factor;
        total = number.checked_mul(factor).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = tail;
    }
    if before == u64::MAX { Err(wrong()) } else { Ok(total) }
}

fn show_ms(millis: u64) -> String {
    if millis == 0 {
        return "0s".to_owned();
    }
    // Days are read but not written: 24h says more than 1d beside other hours. 90s stays 90s, 60s stays 60s.
    let unit = TIME_UNITS[1..].iter().find(|(name, factor)| {
        millis.is_multiple_of(*factor) && (millis / factor > 1 || matches!(*name, "s" | "ms") || millis > 60_000)
    });
    unit.map_or_else(|| format!("{millis}ms"), |(name, factor)| format!("{}{name}", millis / factor))
}

fn within<T: TryFrom<u64>>(number: u64, least: u64, most: u64, show: impl Fn(u64) -> String) -> Result<T, String> {
    let wrong = || format!("{} is out of range: between {} and {}", show(number), show(least), show(most));
    if number < least || number > most {
        return Err(wrong());
    }
    T::try_from(number).map_err(|_| wrong())
}

/// A log filter: a level, and `target=level` parts, with commas between.
pub(super) struct Level;

pub(crate) const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Codec for Level {
    type Value = String;
    const KIND: Kind = Kind::Text;

    fn parse(text: &str) -> Result<String, String> {
        level(text).map(|()| text.to_owned())
    }

    fn show(value: &String) -> Option<Json> {
        Some(Json::String(value.clone()))
    }
}

/// Whether `text` is a log filter. The filter itself would take a misspelt level for a target and then log everything.
///
/// # Errors
/// A sentence that names the wrong part.
pub(crate) fn level(text: &str) -> Result<(), String> {
    const LONGEST_BYTES: usize = 1024;
    if text.is_empty() || text.len() > LONGEST_BYTES {
        return Err(format!("a log level has 1 to {LONGEST_BYTES} bytes"));
    }
    for part in text.split(',') {
        let level = match part.split_once('=') {
            Some((target, _)) if !target.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:-".contains(&b)) => {
                return Err(format!("`{target}` is not a log target"));
            }
            Some((_, level)) => level,
            None => part,
        };
        if !LEVELS.contains(&level) {
            let meant = nearest(level, LEVELS).map_or_else(
                || format!("write one of {}", LEVELS.join(", ")),
                |meant| format!("did you mean `{meant}`?"),
            );
            return Err(format!("`{level}` is not a log level, {meant}"));
        }
    }
    Ok(())
}

/// `text` or `json`.
pub(super) struct Format;

impl Codec for Format {
    type Value = LogFormat;
    const KIND: Kind = Kind::Text;

    fn parse(text: &str) -> Result<LogFormat, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("`{text}` is not a log format: write text or json")),
        }
    }

    fn show(value: &LogFormat) -> Option<Json> {
        Some(Json::from(match value {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<C: Codec>(text: &str, shown: Result<&str, &str>)
    where
        C::Value: PartialEq,
    {
        match (C::parse(text), shown) {
            (Ok(value), Ok(expected)) => {
                let json = C::show(&value).expect("set");
                let again = json.as_str().map_or_else(|| json.to_string(), str::to_owned);
                assert_eq!(again, expected, "{text}");
                assert!(C::parse(&again) == Ok(value), "{text} does not survive being shown");
            }
            (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
            (Ok(_), Err(part)) => panic!("{text} was taken, not refused with {part}"),
            (Err(error), Ok(_)) => panic!("{text}: {error}"),
        }
    }

    #[test]
    fn durations() {
        type T = Time<1, 86_400_000>;
        check::<T>("500ms", Ok("500ms"));
        check::<T>("1s", Ok("1s"));
        check::<T>("60s", Ok("60s"));
        check::<T>("15m", Ok("15m"));
        check::<T>("1m30s", Ok("90s"));
        check::<T>("1h", Ok("1h"));
        check::<T>("24h", Ok("24h"));
        check::<T>("1d", Ok("24h"));
        check::<T>("5", Err("write 5s or 5ms"));
        check::<T>("", Err("not a duration"));
        check::<T>("1.5s", Err("not a duration"));
        check::<T>("-1s", Err("not a duration"));
        check::<T>("1s1m", Err("not a duration"));
        check::<T>("1s1s", Err("not a duration"));
        check::<T>("5sec", Err("not a duration"));
        check::<T>("1m5", Err("not a duration"));
        check::<T>("99999999999999999999s", Err("not a duration"));
        check::<T>("18446744073709551615h", Err("not a duration"));
        check::<T>("0s", Err("0s is out of range: between 1ms and 24h"));
        check::<T>("2d", Err("out of range"));
        check::<Time<5_000, 600_000, true>>("0s", Ok("0s"));
        check::<Time<5_000, 600_000, true>>("4s", Err("between 5s and 10m"));
    }

    #[test]
    fn sizes() {
        type S = Size<1024, { 1 << 30 }>;
        check::<S>("64KiB", Ok("64KiB"));
        check::<S>("65536", Ok("64KiB"));
        check::<S>("1025", Ok("1025B"));
        check::<S>("1 MiB", Ok("1MiB"));
        check::<S>("64KB", Err("did you mean `64KiB`?"));
        check::<S>("64k", Err("did you mean `64KiB`?"));
        check::<S>("64x", Err("not a size"));
        check::<S>("", Err("not a size"));
        check::<S>("2GiB", Err("2GiB is out of range: between 1KiB and 1GiB"));
        check::<S>("99999999999GiB", Err("too large"));
    }

    #[test]
    fn counts_switches_and_lists() {
        check::<Count<usize, 1, 256>>("4", Ok("4"));
        check::<Count<usize, 1, 256>>("0", Err("between 1 and 256"));
        check::<Count<usize, 1, 256>>("four", Err("not a whole number"));
        check::<Count<u32, 0, 5>>("-1", Err("not a whole number"));
        check::<Switch>("1", Ok("true"));
        check::<Switch>("yes", Err("neither"));
        assert_eq!(List::<HostName>::parse("a, b,,C").as_deref(), Ok(&["a".to_owned(), "b".into(), "c".into()][..]));
        assert!(List::<HostName>::parse("a,b:1").is_err());
    }

    #[test]
    fn addresses_and_levels() {
        check::<Address>("127.0.0.1:4140", Ok("127.0.0.1:4140"));
        check::<Address>("localhost:1", Ok("127.0.0.1:1"));
        check::<Address>("[::1]:4140", Ok("[::1]:4140"));
        check::<Address>("4140", Err("write IP:PORT"));
        check::<Address>("host:4140", Err("write IP:PORT"));
        check::<Level>("info,pillion::access=off", Ok("info,pillion::access=off"));
        check::<Level>("inof", Err("did you mean `info`?"));
        check::<Level>("pillion=loud", Err("write one of"));
        check::<Level>("a b=info", Err("not a log target"));
        check::<Level>("", Err("bytes"));
    }
}
