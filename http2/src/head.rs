//! Heads and trailers as lists of fields (RFC 9113, 8.2 and 8.3): what may stand in them, and what they say.

use wire::{Header, Headers};

use crate::hpack::{Field, known};

/// What a field counts for beside its text (RFC 9113, 6.5.2).
pub const FIELD_OVERHEAD_BYTES: usize = 32;
/// Room for a usual head: it is made without growing.
const USUAL_TEXT_BYTES: usize = 384;
const USUAL_FIELDS: usize = 16;

/// Why a message is malformed (RFC 9113, 8.1.1).
pub(crate) type Malformed = &'static str;

/// A list of fields as it comes out of a block.
#[derive(Debug)]
pub(crate) struct List {
    fields: Headers,
    /// How many of them are pseudo fields: they stand first.
    pseudo: usize,
    /// The ones that are there, a bit each.
    seen: u8,
    /// By the measure of SETTINGS_MAX_HEADER_LIST_SIZE.
    bytes: usize,
    most_bytes: usize,
    length: Option<u64>,
    malformed: Option<Malformed>,
}

/// Pseudo fields come first in the static table.
const LAST_PSEUDO: u8 = 14;

const METHOD: u8 = 1;
const SCHEME: u8 = 2;
const AUTHORITY: u8 = 4;
const PATH: u8 = 8;
const PROTOCOL: u8 = 16;
const STATUS: u8 = 32;

impl List {
    pub(crate) fn new(most_bytes: usize) -> List {
        List {
            fields: Headers::with_capacity(USUAL_TEXT_BYTES, USUAL_FIELDS),
            pseudo: 0,
            seen: 0,
            bytes: 0,
            most_bytes,
            length: None,
            malformed: None,
        }
    }

    /// Takes a field. Of a list that is too long the rest is not kept.
    #[inline]
    pub(crate) fn take(&mut self, field: &Field<'_>) {
        self.bytes += field.name.len() + field.value.len() + FIELD_OVERHEAD_BYTES;
        if self.malformed.is_some() || self.is_oversized() {
            return;
        }
        if let Err(what) = self.check(field) {
            self.malformed = Some(what);
        } else if field.sensitive {
            self.fields.push_sensitive(field.name, field.value);
        } else {
            self.fields.push(field.name, field.value);
        }
    }

    fn is_oversized(&self) -> bool {
        self.bytes > self.most_bytes
    }

    #[inline]
    fn check(&mut self, field: &Field<'_>) -> Result<(), Malformed> {
        let Field { name, value, known, .. } = *field;
        if !field.is_valid || is_padded(value) {
            return Err("a field's name or value");
        }
        // Most names are told by their place in the static table.
        let is_pseudo = known.map_or(name[0] == b':', |known| known <= LAST_PSEUDO);
        if is_pseudo {
            return self.check_pseudo(known, name);
        }
        match (known, name.len(), name) {
            (Some(known::CONTENT_LENGTH), ..) => {
                let length = decimal(value).ok_or("a length that is no number")?;
                match self.length.replace(length) {
                    Some(other) if other != length => Err("two lengths"),
                    _ => Ok(()),
                }
            }
            (Some(known::TRANSFER_ENCODING), ..)
            | (None, 7, b"upgrade")
            | (None, 10, b"connection" | b"keep-alive")
            | (None, 16, b"proxy-connection") => Err("a field that is for one connection"),
            (None, 2, b"te") if !value.eq_ignore_ascii_case(b"trailers") => Err("TE other than trailers"),
            _ => Ok(()),
        }
    }

    fn check_pseudo(&mut self, known: Option<u8>, name: &[u8]) -> Result<(), Malformed> {
        let bit = match known {
            Some(known::METHOD) => METHOD,
            Some(known::SCHEME) => SCHEME,
            Some(known::AUTHORITY) => AUTHORITY,
            Some(known::PATH) => PATH,
            Some(known::STATUS) => STATUS,
            None if name == b":protocol" => PROTOCOL,
            _ => return Err("an unknown pseudo field"),
        };
        if self.seen & bit != 0 {
            return Err("a pseudo field that stands twice");
        }
        if self.pseudo != self.fields.len() {
            return Err("a pseudo field behind others");
        }
        self.seen |= bit;
        self.pseudo += 1;
        Ok(())
    }

    /// The list as a request's head.
    pub(crate) fn into_request(self, may_extend: bool) -> Result<RequestHead, Malformed> {
        self.malformed.map_or(Ok(()), Err)?;
        let head = RequestHead {
            is_oversized: self.is_oversized(),
            length: self.length,
            pseudo: self.pseudo,
            fields: self.fields,
        };
        if head.is_oversized {
            // What is missing may be what was not kept.
            return Ok(head);
        }
        let method = head.pseudo(b":method").filter(|method| !method.is_empty()).ok_or("no method")?;
        if !method.iter().all(|byte| http1::encode::is_token(*byte)) {
            return Err("the method");
        }
        let (allowed, needed) = match (method, self.seen & PROTOCOL != 0) {
            (b"CONNECT", false) => (METHOD | AUTHORITY, METHOD | AUTHORITY),
            (b"CONNECT", true) if may_extend => (0x1f, 0x1f),
            (_, true) => return Err("a protocol that was not offered"),
            (_, false) => (METHOD | SCHEME | AUTHORITY | PATH, METHOD | SCHEME | PATH),
        };
        if self.seen & !allowed != 0 || self.seen & needed != needed {
            return Err("pseudo fields that do not go together");
        }
        if let Some(path) = head.pseudo(b":path") {
            let has_form = path.first() == Some(&b'/') || (path == b"*" && method == b"OPTIONS");
            if !has_form || !http1::encode::is_target(path) || std::str::from_utf8(path).is_err() {
                return Err("the path");
            }
        }
        let hosts = [head.pseudo(b":authority"), head.pseudo(b":scheme"), head.pseudo(b":protocol")];
        if hosts.into_iter().flatten().any(|text| !text.is_ascii()) {
            return Err("a pseudo field that is not ASCII");
        }
        Ok(head)
    }

    /// The list as an answer's head.
    pub(crate) fn into_response(self) -> Result<ResponseHead, Malformed> {
        self.malformed.map_or(Ok(()), Err)?;
        let is_oversized = self.is_oversized();
        if self.seen & !STATUS != 0 {
            return Err("a request's pseudo field");
        }
        let status = self.fields.iter().next().filter(|_| self.pseudo == 1).ok_or("no status")?;
        let status = match *status.value {
            [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => return Err("the status"),
        };
        Ok(ResponseHead { status, is_oversized, length: self.length, fields: self.fields })
    }

    /// The list as trailers.
    pub(crate) fn into_trailers(self) -> Result<Headers, Malformed> {
        match self.malformed {
            Some(what) => Err(what),
            None if self.seen != 0 => Err("a pseudo field among trailers"),
            None if self.is_oversized() => Err("trailers over the limit for a list of fields"),
            None => Ok(self.fields),
        }
    }
}

/// White space around a value has no meaning, and some would keep it.
fn is_padded(value: &[u8]) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_space(value.first()) || is_space(value.last())
}

fn decimal(value: &[u8]) -> Option<u64> {
    let digits = value.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(value).ok())?;
    digits?.parse().ok()
}

/// A request's head.
#[derive(Debug)]
pub struct RequestHead {
    /// Its list of fields was longer than may be, and is cut off: what is here is not all.
    pub is_oversized: bool,
    /// The length that it announces for its body.
    pub length: Option<u64>,
    pseudo: usize,
    fields: Headers,
}

impl RequestHead {
    /// The head that a list of fields is, pseudo fields first; an error says what is malformed. `most_bytes`: see
    /// [`Config::list_bytes`](crate::Config::list_bytes).
    pub fn of(fields: &Headers, most_bytes: usize) -> Result<RequestHead, &'static str> {
        let mut list = List::new(most_bytes);
        for Header { name, value, sensitive } in fields.iter() {
            list.take(&Field::of(name, value, sensitive));
        }
        list.into_request(true)
    }

    /// The method. Empty only where the head is oversized.
    #[must_use]
    pub fn method(&self) -> &str {
        self.text(b":method").unwrap_or_default()
    }

    /// The path with its query, from `/` on, or `*`. A plain CONNECT has none.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.text(b":path")
    }

    /// The server as the caller names it, ASCII, unchecked beside that.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.text(b":authority")
    }

    /// What an extended CONNECT is for (RFC 8441, 4).
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.text(b":protocol")
    }

    /// The fields that are no pseudo fields.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = Header<'_>> + Clone {
        self.fields.iter().skip(self.pseudo)
    }

    /// The first value of that name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields.get(name)
    }

    /// Bytes of all names and values together.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.fields.text_bytes()
    }

    fn pseudo(&self, name: &[u8]) -> Option<&[u8]> {
        let found = self.fields.iter().take(self.pseudo).find(|field| field.name == name);
        found.map(|field| field.value)
    }

    fn text(&self, name: &[u8]) -> Option<&str> {
        self.pseudo(name).and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// An answer's head.
#[derive(Debug)]
pub struct ResponseHead {
    /// 200 to 999; what comes before the answer itself (1xx) is not given out.
    pub status: u16,
    /// As [`RequestHead::is_oversized`].
    pub is_oversized: bool,
    /// The length that it announces for its body.
    pub length: Option<u64>,
    /// The status first.
    fields: Headers,
}

impl ResponseHead {
    /// The fields that are no pseudo fields.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = Header<'_>> + Clone {
        self.fields.iter().skip(1)
    }

    /// The first value of that name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(fields: &[(&str, &str)]) -> List {
        let mut list = List::new(1_000);
        for (name, value) in fields {
            list.take(&Field::of(name.as_bytes(), value.as_bytes(), false));
        }
        list
    }

    const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/a?b"), (":authority", "a:80")];

    fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        GET.into_iter().chain(more.iter().copied()).collect()
    }

    #[test]
    fn a_requests_head_says_what_is_asked_for() {
        let head = list(&with(&[("accept", "*/*"), ("content-length", "7")])).into_request(false).unwrap();
        assert_eq!((head.method(), head.path(), head.authority()), ("GET", Some("/a?b"), Some("a:80")));
        assert_eq!((head.length, head.is_oversized, head.protocol()), (Some(7), false, None));
        let fields: Vec<_> = head.fields().map(|field| (field.name, field.value)).collect();
        assert_eq!(fields, [(&b"accept"[..], &b"*/*"[..]), (b"content-length", b"7")]);
        for good in [
            vec![(":method", "OPTIONS"), (":scheme", "http"), (":path", "*")],
            vec![(":method", "CONNECT"), (":authority", "a:80")],
            with(&[("te", "trailers")]),
            with(&[("content-length", "7"), ("content-length", "7")]),
            with(&[("x-a", "")]),
        ] {
            assert!(list(&good).into_request(false).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_malformed_request_is_none() {
        let connect =
            |more: &[(&'static str, &'static str)]| [&[(":method", "CONNECT"), (":authority", "a:80")], more].concat();
        for bad in [
            with(&[("x-A", "1")]),
            with(&[("", "1")]),
            with(&[("x a", "1")]),
            with(&[("x-a", "1\r\nx-b: 2")]),
            with(&[("x-a", "\0")]),
            with(&[("x-a", " 1")]),
            with(&[("x-a", "1\t")]),
            with(&[("connection", "close")]),
            with(&[("keep-alive", "1")]),
            with(&[("proxy-connection", "close")]),
            with(&[("transfer-encoding", "chunked")]),
            with(&[("upgrade", "websocket")]),
            with(&[("te", "gzip")]),
            with(&[("content-length", "+7")]),
            with(&[("content-length", "")]),
            with(&[("content-length", "18446744073709551616")]),
            with(&[("content-length", "7"), ("content-length", "8")]),
            with(&[(":path", "/b")]),
            with(&[(":status", "200")]),
            with(&[(":other", "1")]),
            with(&[(":protocol", "websocket")]),
            with(&[("accept", "*/*"), (":protocol", "a")]),
            vec![(":scheme", "http"), (":path", "/")],
            vec![(":method", "GET"), (":path", "/")],
            vec![(":method", "GET"), (":scheme", "http")],
            vec![(":method", ""), (":scheme", "http"), (":path", "/")],
            vec![(":method", "G T"), (":scheme", "http"), (":path", "/")],
            vec![(":method", "GET"), (":scheme", "http"), (":path", "")],
            vec![(":method", "GET"), (":scheme", "http"), (":path", "*")],
            vec![(":method", "GET"), (":scheme", "http"), (":path", "/a b")],
            vec![(":method", "GET"), (":scheme", "http"), (":path", "/a#b")],
            vec![(":method", "GET"), (":scheme", "http"), (":path", "/a\x7f")],
            vec![(":method", "GET"), (":scheme", "http"), (":path", "http://a/")],
            vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "\u{e4}")],
            vec![(":method", "CONNECT")],
            connect(&[(":path", "/")]),
            connect(&[(":scheme", "http")]),
        ] {
            assert!(list(&bad).into_request(false).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_extended_connect_is_one_where_it_was_offered() {
        let fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/chat"),
            (":authority", "a"),
        ];
        let head = list(&fields).into_request(true).unwrap();
        assert_eq!((head.protocol(), head.path()), (Some("websocket"), Some("/chat")));
        assert!(list(&fields).into_request(false).is_err());
        assert!(list(&fields[..4]).into_request(true).is_err(), "no authority");
    }

    #[test]
    fn a_list_is_cut_off_at_its_limit() {
        let filler = "f".repeat(400);
        let fields = with(&[]);
        let mut list = list(&fields);
        for _ in 0..3 {
            list.take(&Field::of(b"x-filler", filler.as_bytes(), false));
        }
        let head = list.into_request(false).unwrap();
        assert!(head.is_oversized && head.text_bytes() < 1_000 && head.method() == "GET");
    }

    #[test]
    fn an_answers_head_has_a_status_and_trailers_have_none() {
        let response = |fields: &[(&str, &str)]| list(fields).into_response();
        let head = response(&[(":status", "204"), ("x-a", "1")]).unwrap();
        assert_eq!((head.status, head.fields().len(), head.get(b"x-a")), (204, 1, Some(&b"1"[..])));
        for bad in [
            &[(":status", "20")][..],
            &[(":status", "2000")],
            &[(":status", "099")],
            &[(":status", "2x0")],
            &[("x-a", "1")],
            &[(":status", "200"), (":path", "/")],
            &[(":status", "200"), (":status", "200")],
            &[],
        ] {
            assert!(response(bad).is_err(), "{bad:?}");
        }
        assert_eq!(list(&[("grpc-status", "0")]).into_trailers().unwrap().len(), 1);
        assert!(list(&[(":status", "200")]).into_trailers().is_err());
        assert!(list(&[("x-filler", &"f".repeat(1_000))]).into_trailers().is_err());
    }
}
