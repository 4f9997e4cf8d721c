//! The static table (RFC 7541, Appendix A).

use super::Field;

/// The static table's entries: name and value by index, which begins at 1. Equal names stand together.
const ENTRIES: [(&str, &str); 62] = [
    ("", ""),
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Places of names in the static table, those that anyone asks for: of the first entry that has the name.
pub mod known {
    pub const AUTHORITY: u8 = 1;
    pub const METHOD: u8 = 2;
    pub const PATH: u8 = 4;
    pub const SCHEME: u8 = 6;
    pub const STATUS: u8 = 8;
    pub const AUTHORIZATION: u8 = 23;
    pub const CONTENT_LENGTH: u8 = 28;
    pub const CONTENT_TYPE: u8 = 31;
    pub const COOKIE: u8 = 32;
    pub const DATE: u8 = 33;
    pub const HOST: u8 = 38;
    pub const PROXY_AUTHORIZATION: u8 = 49;
    pub const SET_COOKIE: u8 = 55;
    pub const TRANSFER_ENCODING: u8 = 57;
}

/// Names whose values hardly ever come twice: their values are not worth a look into the table.
const NEVER_TWICE: [&str; 9] = [
    "age",
    "content-length",
    "content-range",
    "date",
    "etag",
    "expires",
    "if-modified-since",
    "if-none-match",
    "last-modified",
];

/// Indexes of the static table end before this.
pub(super) const STATIC_END: usize = ENTRIES.len();

/// What each index stands for.
pub(super) static FIELDS: [Field<'static>; STATIC_END] = {
    let mut fields = [Field { name: b"", value: b"", known: None, sensitive: false, is_valid: true }; STATIC_END];
    let mut index = 1;
    let mut first = 1;
    while index < STATIC_END {
        let (name, value) = ENTRIES[index];
        if !same(name.as_bytes(), ENTRIES[first].0.as_bytes()) {
            first = index;
        }
        fields[index] = Field { known: Some(first as u8), name: name.as_bytes(), value: value.as_bytes(), ..fields[0] };
        index += 1;
    }
    fields
};

/// By the index of a name: whether [`NEVER_TWICE`] has it.
static NEVER: [bool; STATIC_END] = {
    let mut never = [false; STATIC_END];
    let mut at = 0;
    while at < NEVER_TWICE.len() {
        let index = index_in(&PLACES, NEVER_TWICE[at].as_bytes());
        assert!(same(ENTRIES[index as usize].0.as_bytes(), NEVER_TWICE[at].as_bytes()));
        never[index as usize] = true;
        at += 1;
    }
    never
};

const PLACE_BITS: u32 = 7;

/// The index of each name at its place; no two names have the same.
static PLACE_OF_NAME: [u8; 1 << PLACE_BITS] = PLACES;

const PLACES: [u8; 1 << PLACE_BITS] = {
    let mut places = [0; 1 << PLACE_BITS];
    let mut index = STATIC_END;
    while index > 1 {
        index -= 1;
        let name = ENTRIES[index].0.as_bytes();
        let at = place(name);
        // From the end, so that the first of those with the same name stays.
        assert!(places[at] == 0 || same(ENTRIES[places[at] as usize].0.as_bytes(), name), "choose another factor");
        places[at] = index as u8;
    }
    places
};

/// Made of the length and three bytes, which tells all names of the table apart.
#[inline]
const fn place(name: &[u8]) -> usize {
    let length = name.len();
    if length == 0 {
        return 0;
    }
    let word = u32::from_le_bytes([length as u8, name[length / 2], name[length - 1], name[length / 4]]);
    (word.wrapping_mul(0xd4af_019f) >> (u32::BITS - PLACE_BITS)) as usize
}

const fn index_in(places: &[u8; 1 << PLACE_BITS], name: &[u8]) -> u8 {
    places[place(name)]
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// The index of a name: of the first entry that has it.
#[inline]
pub(super) fn name_index(name: &[u8]) -> Option<u8> {
    let index = index_in(&PLACE_OF_NAME, name);
    (index > 0 && FIELDS[index as usize].name == name).then_some(index)
}

/// The index of a whole field whose name has the index `known`.
#[inline]
pub(super) fn field_index(known: u8, value: &[u8]) -> Option<u8> {
    (known..).zip(&FIELDS[known as usize..]).find_map(|(index, field)| match field {
        field if field.known != Some(known) => Some(None),
        field => (field.value == value).then_some(Some(index)),
    })?
}

/// Whether values of this name stay out of the table.
#[inline]
pub(super) fn never_twice(known: u8) -> bool {
    NEVER[known as usize]
}

/// Whether a name is a token in lower case, or a colon and one.
pub(super) fn is_name(name: &[u8]) -> bool {
    let token = name.strip_prefix(b":").unwrap_or(name);
    !token.is_empty() && token.iter().all(|byte| LOWER_TOKEN[*byte as usize])
}

/// Whether a value has no control characters.
pub(super) fn is_value(value: &[u8]) -> bool {
    http1::encode::is_text(value)
}

static LOWER_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = http1::encode::is_token(byte as u8) && !(byte as u8).is_ascii_uppercase();
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_again() {
        for (index, (name, value)) in ENTRIES.iter().enumerate().skip(1) {
            let known = name_index(name.as_bytes()).expect("a name of the table");
            assert_eq!(ENTRIES[known as usize].0, *name);
            assert!(known == 1 || ENTRIES[known as usize - 1].0 != *name, "the first of its name");
            assert_eq!(field_index(known, value.as_bytes()), Some(index as u8), "{name}");
            assert_eq!(FIELDS[index].known, Some(known));
            assert!(is_name(name.as_bytes()) && is_value(value.as_bytes()));
        }
        for name in ["", "x", ":", "accep", "acceptt", "x-request-id"] {
            assert_eq!(name_index(name.as_bytes()), None, "{name}");
        }
        assert_eq!(field_index(known::STATUS, b"201"), None);
        assert_eq!(field_index(61, b"Basic"), None);
    }

    #[test]
    fn places_mean_what_they_are_called() {
        for (known, name) in [
            (known::AUTHORITY, ":authority"),
            (known::METHOD, ":method"),
            (known::PATH, ":path"),
            (known::SCHEME, ":scheme"),
            (known::STATUS, ":status"),
            (known::AUTHORIZATION, "authorization"),
            (known::CONTENT_LENGTH, "content-length"),
            (known::CONTENT_TYPE, "content-type"),
            (known::COOKIE, "cookie"),
            (known::DATE, "date"),
            (known::HOST, "host"),
            (known::PROXY_AUTHORIZATION, "proxy-authorization"),
            (known::SET_COOKIE, "set-cookie"),
            (known::TRANSFER_ENCODING, "transfer-encoding"),
        ] {
            assert_eq!(name_index(name.as_bytes()), Some(known), "{name}");
        }
    }

    #[test]
    fn names_and_values_have_a_grammar() {
        for (name, valid) in
            [("x-a", true), (":a", true), ("X-a", false), ("", false), (":", false), ("a:", false), ("a b", false)]
        {
            assert_eq!(is_name(name.as_bytes()), valid, "{name}");
        }
        for (value, valid) in [(&b"a\tb \xff"[..], true), (b"", true), (b"a\r", false), (b"\n", false), (b"\0", false)]
        {
            assert_eq!(is_value(value), valid, "{}", value.escape_ascii());
        }
    }
}
