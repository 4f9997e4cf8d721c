//! Percent-encoding (RFC 3986, 2.1).

/// The bytes that a text stands for, but for those `kept`, which stay as they are written. `None`: a `%` without two hexadecimal digits.
pub fn decode(text: &[u8], kept: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'%' {
            decoded.push(first);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        let byte = hex(digits[0])? << 4 | hex(digits[1])?;
        rest = behind;
        if kept(byte) {
            decoded.push(b'%');
            decoded.extend_from_slice(digits);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

/// The same, where it has to be text.
pub(crate) fn text(encoded: &str, kept: impl Fn(u8) -> bool) -> Option<String> {
    String::from_utf8(decode(encoded.as_bytes(), kept)?).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_by_its_number_is_read_back() {
        let check = |encoded: &str, want: Option<&str>| {
            assert_eq!(text(encoded, |byte| byte == b'/').as_deref(), want, "{encoded}");
        };
        check("plain", Some("plain"));
        check("a%20b%25", Some("a b%"));
        check("%c3%A9", Some("\u{e9}"));
        check("a%2Fb%2f", Some("a%2Fb%2f"));
        for bad in ["%", "%2", "%2x", "%ff"] {
            check(bad, None);
        }
    }
}
