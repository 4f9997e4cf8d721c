//! The static table: names, and whole fields, that need no place in a dynamic dictionary. Both ends know it; an index never
//! changes its meaning within a protocol version. `docs/protocol.md` prints it and a test compares.

/// Names by index. The first 31 have an opcode of one byte.
pub const NAMES: &[&str] = &[
    ":service",
    ":method",
    ":path",
    "content-length",
    "content-type",
    "date",
    "user-agent",
    "accept",
    "accept-encoding",
    "x-request-id",
    "host",
    "server",
    "etag",
    "last-modified",
    "cache-control",
    "cookie",
    "set-cookie",
    "authorization",
    "tracestate",
    "traceparent",
    "location",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "accept-language",
    "content-encoding",
    "grpc-status",
    "grpc-message",
    "grpc-timeout",
    "if-none-match",
    "vary",
    // From here on two bytes.
    "grpc-encoding",
    "grpc-accept-encoding",
    "grpc-status-details-bin",
    "te",
    "referer",
    "origin",
    "if-modified-since",
    "if-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "accept-ranges",
    "content-range",
    "content-disposition",
    "content-language",
    "content-location",
    "expires",
    "age",
    "allow",
    "retry-after",
    "www-authenticate",
    "proxy-authenticate",
    "proxy-authorization",
    "via",
    "forwarded",
    "pragma",
    "expect",
    "link",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-correlation-id",
    "x-api-key",
    "x-real-ip",
    "x-requested-with",
    "x-content-type-options",
    "x-frame-options",
    "x-powered-by",
    "x-pillion-peer",
    "x-pillion-error",
    "x-pillion-timeout",
    "x-pillion-service",
    "x-pillion-version",
    "x-envoy-attempt-count",
    "dapr-app-id",
    "idempotency-key",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-expose-headers",
    "access-control-max-age",
    "access-control-request-headers",
    "access-control-request-method",
    "strict-transport-security",
    "content-security-policy",
    "referrer-policy",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-accept",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "upgrade",
    "upgrade-insecure-requests",
    "dnt",
    "trailer",
];

/// Whole fields by index: the name's index and the value. Ordered by name, so that each name's fields lie together. The first 63 have an opcode of one byte.
pub const FIELDS: &[(u8, &str)] = &[
    (0, ""),
    (1, ""),
    (1, "GET"),
    (1, "POST"),
    (1, "PUT"),
    (1, "DELETE"),
    (1, "PATCH"),
    (1, "HEAD"),
    (1, "OPTIONS"),
    (2, ""),
    (2, "/"),
    (3, "0"),
    (3, "2"),
    (4, "application/json"),
    (4, "application/json; charset=utf-8"),
    (4, "application/grpc"),
    (4, "application/grpc+proto"),
    (4, "application/octet-stream"),
    (4, "application/x-www-form-urlencoded"),
    (4, "application/problem+json"),
    (4, "text/plain"),
    (4, "text/plain; charset=utf-8"),
    (4, "text/html"),
    (4, "text/html; charset=utf-8"),
    (4, "text/event-stream"),
    (7, "*/*"),
    (7, "application/json"),
    (7, "application/json, text/plain, */*"),
    (7, "text/event-stream"),
    (8, "gzip"),
    (8, "gzip, deflate"),
    (8, "gzip, deflate, br"),
    (8, "gzip, deflate, br, zstd"),
    (8, "identity"),
    (8, "br, gzip, deflate"),
    (14, "no-cache"),
    (14, "no-store"),
    (14, "max-age=0"),
    (14, "private"),
    (22, "http"),
    (22, "https"),
    (24, "en-US,en;q=0.9"),
    (25, "gzip"),
    (25, "br"),
    (26, "0"),
    (27, ""),
    (30, "accept-encoding"),
    (30, "Accept-Encoding"),
    (30, "Origin"),
    (31, "identity"),
    (31, "gzip"),
    (32, "identity,deflate,gzip"),
    (32, "identity, deflate, gzip"),
    (32, "gzip"),
    (34, "trailers"),
    (42, "bytes"),
    (56, "no-cache"),
    (57, "100-continue"),
    (68, "XMLHttpRequest"),
    (69, "nosniff"),
    (80, "*"),
    (99, "websocket"),
    (100, "1"),
];

/// Names whose values hardly ever come twice: their values are not worth a look into the dictionary.
const NEVER_TWICE: &[u8] = &[3, 5, 9, 12, 13, 18, 19, 28, 29, 37, 43, 47, 48, 61, 62, 63, 65, 79, 94, 96];

/// Places of the hash table from names to their indexes: a power of two, and few of them taken.
const PLACES: usize = 1_024;

const FREE: u8 = u8::MAX;

/// Made of the length and three bytes, which is enough to tell most names apart.
#[inline]
const fn place(name: &[u8]) -> usize {
    let length = name.len();
    if length == 0 {
        return 0;
    }
    let mixed =
        length * 37 + name[0] as usize * 5 + name[length / 2] as usize * 131 + name[length - 1] as usize * 1_031;
    mixed % PLACES
}

/// The index of each name at its place, or at the next free one behind it.
static PLACE_OF_NAME: [u8; PLACES] = {
    let mut places = [FREE; PLACES];
    let mut name = 0;
    while name < NAMES.len() {
        let mut at = place(NAMES[name].as_bytes());
        let mut steps = 0;
        while places[at] != FREE {
            at = (at + 1) % PLACES;
            steps += 1;
        }
        assert!(steps < 6, "names crowd: choose other factors");
        places[at] = name as u8;
        name += 1;
    }
    places
};

/// Where the fields of each name begin in `FIELDS`.
static FIRST_FIELD: [u8; NAMES.len() + 1] = {
    let mut first = [0; NAMES.len() + 1];
    let mut field = 0;
    let mut name = 0;
    while name <= NAMES.len() {
        while field < FIELDS.len() && (FIELDS[field].0 as usize) < name {
            field += 1;
        }
        first[name] = field as u8;
        name += 1;
    }
    first
};

static NEVER: [bool; NAMES.len()] = {
    let mut never = [false; NAMES.len()];
    let mut at = 0;
    while at < NEVER_TWICE.len() {
        never[NEVER_TWICE[at] as usize] = true;
        at += 1;
    }
    never
};

const _: () = {
    assert!(NAMES.len() < 255 && FIELDS.len() < 255);
    let mut at = 1;
    while at < FIELDS.len() {
        assert!(FIELDS[at - 1].0 <= FIELDS[at].0, "FIELDS are ordered by name");
        at += 1;
    }
};

/// The static index of a name.
#[inline]
pub(crate) fn name_index(name: &[u8]) -> Option<u8> {
    let mut at = place(name);
    loop {
        let index = PLACE_OF_NAME[at];
        if index == FREE {
            return None;
        }
        if NAMES[index as usize].as_bytes() == name {
            return Some(index);
        }
        at = (at + 1) % PLACES;
    }
}

/// The static index of a whole field whose name has the static index `name`.
#[inline]
pub(crate) fn field_index(name: u8, value: &[u8]) -> Option<u8> {
    let from = FIRST_FIELD[name as usize] as usize;
    let to = FIRST_FIELD[name as usize + 1] as usize;
    FIELDS[from..to].iter().position(|field| field.1.as_bytes() == value).map(|at| (from + at) as u8)
}

/// Whether values of this name stay out of the dynamic dictionary.
#[inline]
pub(crate) fn never_twice(name: u8) -> bool {
    NEVER[name as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_again() {
        for (index, name) in NAMES.iter().enumerate() {
            assert_eq!(name_index(name.as_bytes()), Some(index as u8), "{name}");
        }
        for (index, (name, value)) in FIELDS.iter().enumerate() {
            assert_eq!(field_index(*name, value.as_bytes()), Some(index as u8), "{value}");
        }
        assert_eq!(name_index(b"no-such-name"), None);
        assert_eq!(name_index(&[b'x'; 100]), None);
        assert_eq!(field_index(5, b"x"), None);
    }

    #[test]
    fn never_twice_means_what_it_names() {
        let names: Vec<&str> = NEVER_TWICE.iter().map(|index| NAMES[*index as usize]).collect();
        assert_eq!(
            names,
            [
                "content-length",
                "date",
                "x-request-id",
                "etag",
                "last-modified",
                "tracestate",
                "traceparent",
                "grpc-timeout",
                "if-none-match",
                "if-modified-since",
                "content-range",
                "expires",
                "age",
                "x-b3-traceid",
                "x-b3-spanid",
                "x-b3-parentspanid",
                "x-correlation-id",
                "idempotency-key",
                "sec-websocket-key",
                "sec-websocket-accept"
            ]
        );
    }

    #[test]
    fn fields_name_what_they_mean() {
        for (name, value, expected) in [
            (34, "trailers", "te"),
            (42, "bytes", "accept-ranges"),
            (56, "no-cache", "pragma"),
            (57, "100-continue", "expect"),
            (68, "XMLHttpRequest", "x-requested-with"),
            (69, "nosniff", "x-content-type-options"),
            (80, "*", "access-control-allow-origin"),
            (99, "websocket", "upgrade"),
            (100, "1", "upgrade-insecure-requests"),
            (22, "https", "x-forwarded-proto"),
            (24, "en-US,en;q=0.9", "accept-language"),
            (26, "0", "grpc-status"),
            (32, "gzip", "grpc-accept-encoding"),
        ] {
            assert!(FIELDS.contains(&(name, value)));
            assert_eq!(NAMES[name as usize], expected);
        }
    }
}
