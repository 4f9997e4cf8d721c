//! Where a head ends.

use std::ops::Range;

use memchr::memchr_iter;

use crate::encode::is_token;
use crate::refusal::Refusal;

/// Empty lines that may stand before a request: a client's mistake that RFC 9112 (2.2) asks to bear, within bounds.
const EMPTY_LINES: usize = 4;

/// Looks for the end of a head in bytes that arrive bit by bit; each byte is looked at once. The default is for requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadScan {
    section: Section,
    /// Bytes looked at.
    seen: usize,
    /// Where the head begins, behind empty lines.
    start: usize,
    /// Where the line under way begins.
    line: usize,
    /// Lines with something in them.
    lines: usize,
}

/// What ends in an empty line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Section {
    #[default]
    Request,
    /// Nothing stands before one: it would be left over from the answer before.
    Response,
    /// It may be empty.
    Trailers,
}

/// A whole head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Where it lies in the bytes, its last empty line included.
    pub range: Range<usize>,
    /// Field lines in it.
    pub fields: usize,
}

impl HeadScan {
    /// A scan for responses.
    #[must_use]
    pub fn for_responses() -> HeadScan {
        HeadScan { section: Section::Response, ..HeadScan::default() }
    }

    /// A scan for the section behind the last chunk.
    pub(crate) fn for_trailers() -> HeadScan {
        HeadScan { section: Section::Trailers, ..HeadScan::default() }
    }

    /// Looks on; `bytes` begins with those of the call before. A head may be `max` bytes long. When the head is found the scan
    /// is ready for the next one.
    pub fn find(&mut self, bytes: &[u8], max: usize) -> Result<Option<Scanned>, Refusal> {
        let from = self.seen;
        for at in memchr_iter(b'\n', &bytes[from..]) {
            let end = from + at + 1;
            // In the order in which a dribble would meet them: how the bytes arrive does not change what is wrong with them.
            if self.line == self.start {
                self.check_start(bytes)?;
            }
            if end - self.start > max {
                return Err(Refusal::HeadTooLong(max));
            }
            let Some([.., b'\r', b'\n']) = bytes.get(self.line..end) else { return Err(Refusal::BareLineEnd) };
            let is_empty = end - self.line == 2;
            self.line = end;
            if !is_empty {
                self.lines += 1;
            } else if self.lines > 0 || self.section == Section::Trailers {
                return Ok(Some(self.found(end)));
            } else {
                self.start = end;
                if end > 2 * EMPTY_LINES {
                    return Err(Refusal::Syntax("empty lines before the first line"));
                }
            }
        }
        self.seen = bytes.len();
        self.check_start(bytes)?;
        if bytes.len() - self.start > max { Err(Refusal::HeadTooLong(max)) } else { Ok(None) }
    }

    /// Whether nothing of a head has arrived yet: nothing at all, or empty lines.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.seen == self.start
    }

    /// Another protocol (TLS, say) is told at once, and not when its patience ends: it may never send a line's end.
    fn check_start(&self, bytes: &[u8]) -> Result<(), Refusal> {
        let is_good = match (self.section, &bytes[self.start..]) {
            (_, []) => true,
            (Section::Response, [first, ..]) => *first == b'H',
            (_, [b'\r'] | [b'\r', b'\n', ..]) => true,
            (_, [b'\r' | b'\n', ..]) => return Err(Refusal::BareLineEnd),
            (Section::Request, [first, ..]) => first.is_ascii_alphanumeric(),
            (Section::Trailers, [first, ..]) => is_token(*first),
        };
        if is_good { Ok(()) } else { Err(Refusal::Syntax("the beginning of the first line")) }
    }

    fn found(&mut self, end: usize) -> Scanned {
        let fields = if self.section == Section::Trailers { self.lines } else { self.lines - 1 };
        let scanned = Scanned { range: self.start..end, fields };
        *self = HeadScan { section: self.section, ..HeadScan::default() };
        scanned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8]) -> Result<Option<Scanned>, Refusal> {
        HeadScan::default().find(bytes, 64)
    }

    #[test]
    fn finds_the_end_and_counts_the_fields() {
        assert_eq!(scan(b"GET / HTTP/1.1\r\n\r\nrest"), Ok(Some(Scanned { range: 0..18, fields: 0 })));
        assert_eq!(scan(b"\r\n\r\nG\r\na: b\r\n\r\n"), Ok(Some(Scanned { range: 4..15, fields: 1 })));
        assert_eq!(scan(b"GET / HTTP/1.1\r\na: b\r\n"), Ok(None));
        assert_eq!(scan(b""), Ok(None));
        for (bytes, is_fresh) in
            [(&b""[..], true), (b"\r", false), (b"\r\n", true), (b"\r\n\r", false), (b"\r\nG", false)]
        {
            let mut scan = HeadScan::default();
            assert_eq!((scan.find(bytes, 64), scan.is_fresh()), (Ok(None), is_fresh), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn refuses_other_line_ends_and_other_protocols_at_once() {
        for bytes in
            [&b"GET / HTTP/1.1\n"[..], b"\n", b"\rG", b"\r\r\n", b"G\r\na: b\n\r\n", b"G\r\n\n", b"G\r\na: b\r\n\n"]
        {
            assert_eq!(scan(bytes), Err(Refusal::BareLineEnd), "{}", bytes.escape_ascii());
        }
        for bytes in [&b"\x16\x03\x01"[..], b" GET", b"\r\n\0"] {
            assert!(matches!(scan(bytes), Err(Refusal::Syntax(_))), "{}", bytes.escape_ascii());
        }
        assert!(matches!(scan(&b"\r\n".repeat(5)), Err(Refusal::Syntax(_))));
    }

    #[test]
    fn before_a_response_stands_nothing() {
        let scan = |bytes: &[u8]| HeadScan::for_responses().find(bytes, 64);
        assert_eq!(scan(b"HTTP/1.1 200 OK\r\n\r\n"), Ok(Some(Scanned { range: 0..19, fields: 0 })));
        for bytes in [&b"\r\nHTTP/1.1 200 OK\r\n\r\n"[..], b"\r", b"\n", b"h", b"200"] {
            assert!(matches!(scan(bytes), Err(Refusal::Syntax(_))), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_head_may_be_as_long_as_allowed() {
        let head = |length: usize| [&b"G\r\n"[..], &vec![b'a'; length - 7], b"\r\n\r\n"].concat();
        assert_eq!(scan(&head(64)).unwrap().unwrap().range, 0..64);
        assert_eq!(scan(&head(65)), Err(Refusal::HeadTooLong(64)));
        assert_eq!(scan(&head(70)[..65]), Err(Refusal::HeadTooLong(64)));
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_arrive() {
        let bytes = b"\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\nGET";
        let whole = scan(bytes);
        for step in 1..bytes.len() {
            let mut scan = HeadScan::default();
            let mut have = 0;
            let found = loop {
                have = (have + step).min(bytes.len());
                if let Some(found) = scan.find(&bytes[..have], 64).unwrap() {
                    break found;
                }
            };
            assert_eq!(Ok(Some(found)), whole, "in steps of {step}");
            assert!(scan.is_fresh());
        }
    }
}
