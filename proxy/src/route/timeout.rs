//! The caller's patience: `x-pillion-timeout` and `grpc-timeout`. Pure.

use std::time::{Duration, Instant};

use crate::call::Deadline;
use crate::error::{Error, ErrorCode, Phase};

/// The longest timeout that counts as one: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// When a call that came at `now` is to be given up, by the shorter one if both fields are there; `None`: neither is.
pub fn deadline_of(ours: Option<&[u8]>, grpc: Option<&[u8]>, now: Instant) -> Result<Option<Deadline>, Error> {
    let ours = ours.map(|value| read(value, "x-pillion-timeout", parse_duration)).transpose()?;
    let grpc = grpc.map(|value| read(value, "grpc-timeout", parse_grpc)).transpose()?;
    let shorter = match (ours, grpc) {
        (Some(a), Some(b)) => Some(if a.0 <= b.0 { a } else { b }),
        (a, b) => a.or(b),
    };
    // What no clock can reach is no deadline.
    Ok(shorter.and_then(|(timeout, setting)| Some(Deadline { at: now.checked_add(timeout)?, setting })))
}

type Named = (Duration, &'static str);

fn read(value: &[u8], name: &'static str, parse: impl Fn(&str) -> Option<Duration>) -> Result<Named, Error> {
    let duration = std::str::from_utf8(value).ok().and_then(parse).ok_or_else(|| {
        let shown = String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned();
        let form = if name == "grpc-timeout" { "'100m' or '5S'" } else { "'500ms' or '2s'" };
        Error::local(
            ErrorCode::BadRequest,
            Phase::Request,
            format!("{name}: '{shown}' is no duration; write it like {form}"),
        )
    })?;
    Ok((duration.min(LONGEST), name))
}

/// What is left of a deadline, as gRPC says it: at most eight digits.
pub fn grpc_timeout(milliseconds: u128) -> String {
    const MOST: u128 = 99_999_999;
    if milliseconds <= MOST { format!("{milliseconds}m") } else { format!("{}S", (milliseconds / 1000).min(MOST)) }
}

/// `500ms`, `2s`, `1.5s`, `3m`, `1h`, `250us`.
fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    if number.len() > 18 || number.starts_with('.') {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

/// The gRPC form: at most eight digits and one of `H M S m u n` (gRPC over HTTP/2, "Timeout").
fn parse_grpc(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let number = &text[..text.len() - unit.len_utf8()];
    if number.is_empty() || number.len() > 8 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_fits_into_eight_digits() {
        assert_eq!(grpc_timeout(1_500), "1500m");
        assert_eq!(grpc_timeout(99_999_999), "99999999m");
        assert_eq!(grpc_timeout(100_000_000), "100000S");
        assert_eq!(grpc_timeout(LONGEST.as_millis()), "31536000S");
    }

    #[test]
    fn durations() {
        for (text, want) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("2s", Some(Duration::from_secs(2))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("3m", Some(Duration::from_secs(180))),
            ("250us", Some(Duration::from_micros(250))),
            ("0s", Some(Duration::ZERO)),
            ("", None),
            ("5", None),
            ("-5s", None),
            ("5 s", None),
            ("1.2.3s", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse_duration(text), want, "{text}");
        }
        for (text, want) in [
            ("100m", Some(Duration::from_millis(100))),
            ("5S", Some(Duration::from_secs(5))),
            ("1H", Some(Duration::from_secs(3600))),
            ("123456789S", None),
            ("S", None),
            ("5s", None),
            ("5é", None),
        ] {
            assert_eq!(parse_grpc(text), want, "{text}");
        }
    }

    #[test]
    fn the_shorter_one_counts_and_nonsense_is_named() {
        let now = Instant::now();
        assert_eq!(deadline_of(None, None, now).unwrap(), None);
        let wanted = Deadline { at: now + Duration::from_millis(500), setting: "grpc-timeout" };
        assert_eq!(deadline_of(Some(b"2s"), Some(b"500m"), now).unwrap(), Some(wanted));
        let error = deadline_of(Some(b"soon"), Some(b"500m"), now).unwrap_err();
        assert!(error.detail().contains("x-pillion-timeout: 'soon'"));
    }
}
