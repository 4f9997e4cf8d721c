//! A procedure that is called by its name, as the path of the call that it is. Pure.

use std::fmt::Write as _;

/// The method's name as one segment of a path: what would be anything else there goes by its number (RFC 3986, 2.1).
pub fn path_of(method: &str) -> String {
    let mut path = String::from("/");
    for byte in method.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' | b'$' => {
                path.push(char::from(byte));
            }
            // Writing to a string cannot fail.
            _ => drop(write!(path, "%{byte:02X}")),
        }
    }
    // What a path means by dots is not a method.
    match path.as_str() {
        "/." => "/%2E".to_owned(),
        "/.." => "/%2E%2E".to_owned(),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_one_segment() {
        for (method, path) in [
            ("charge", "/charge"),
            ("math.add", "/math.add"),
            ("a/b?c#d e", "/a%2Fb%3Fc%23d%20e"),
            ("..", "/%2E%2E"),
            ("\u{e9}", "/%C3%A9"),
            ("%2e", "/%252e"),
        ] {
            assert_eq!(path_of(method), path, "{method}");
        }
    }
}
