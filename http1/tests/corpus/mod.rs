//! Reads the corpus. Standard library only, so that the end-to-end suite can include it too.
//!
//! Each line of a corpus file begins with a mark:
//!
//! ```text
//! @ NAME           a case begins
//! ? REASON         why it is read so
//! * METHOD         (responses) the method that this answers; GET where none is left
//! > TEXT           bytes that arrive, and CR LF
//! | TEXT           bytes that arrive, and nothing behind them
//! = START BODY     a message is read: `POST /target` or `200`
//! ~ START BODY     a message is begun, and its body does not come to an end
//! - NAME: VALUE    the message has this field
//! + NAME: VALUE    the message has this trailer
//! ! END            how it ends: `idle` between messages, `closed` after the last one, `incomplete`, `tunnel`, or a refusal:
//!                  the status and the name that the codec gives it
//! ```
//!
//! In the text stand the escapes `\r \n \t \0 \\ \xNN`, and `\{N:TEXT}` for N times TEXT.
#![allow(dead_code, unreachable_pub, reason = "each binary uses its own part")]

pub const REQUESTS: &str = include_str!("requests.txt");
pub const RESPONSES: &str = include_str!("responses.txt");

#[derive(Debug, Default)]
pub struct Case {
    pub name: &'static str,
    pub why: &'static str,
    /// The methods that responses answer.
    pub methods: Vec<&'static str>,
    /// What arrives.
    pub bytes: Vec<u8>,
    /// What is read: the lines `=`, `~` and `+` in their order, mark included, without escapes.
    pub read: Vec<Vec<u8>>,
    /// Fields that must be there: the number of the message, and the line behind its mark.
    pub fields: Vec<(usize, Vec<u8>)>,
    /// How it ends.
    pub end: &'static str,
}

impl Case {
    /// The status of the refusal, if it ends in one.
    pub fn refused(&self) -> Option<u16> {
        self.end.split(' ').next()?.parse().ok()
    }

    /// The messages that are read whole: their start and their body.
    pub fn whole(&self) -> impl Iterator<Item = (String, &[u8])> {
        self.read.iter().filter_map(|line| {
            let line = line.strip_prefix(b"= ")?;
            let mut parts = line.splitn(3, |byte| *byte == b' ');
            let start = [parts.next()?, parts.next()?].map(String::from_utf8_lossy).join(" ");
            Some((start, parts.next().unwrap_or_default()))
        })
    }
}

/// The cases of a file, in their order.
pub fn cases(text: &'static str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (mark, rest) = line.split_at(1);
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        if mark == "@" {
            assert!(cases.iter().all(|case| case.name != rest), "'{rest}' twice");
            cases.push(Case { name: rest, ..Case::default() });
            continue;
        }
        let case = cases.last_mut().expect("a case begins with its name");
        match mark {
            "?" => case.why = rest,
            "*" => case.methods.push(rest),
            ">" => case.bytes.extend([unescape(rest), b"\r\n".to_vec()].concat()),
            "|" => case.bytes.extend(unescape(rest)),
            "=" | "~" | "+" => case.read.push(unescape(line)),
            "-" => {
                let messages = case.read.iter().filter(|line| !line.starts_with(b"+")).count();
                case.fields.push((messages.checked_sub(1).expect("a message"), unescape(rest)));
            }
            "!" => case.end = rest,
            _ => panic!("{}: no such mark: {line}", case.name),
        }
    }
    for case in &cases {
        assert!(!case.why.is_empty() && !case.end.is_empty(), "{} has no reason or no end", case.name);
    }
    cases
}

pub fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let mut skip = 1;
        match rest.as_bytes()[0] {
            b'r' => out.push(b'\r'),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'0' => out.push(0),
            b'\\' => out.push(b'\\'),
            b'x' => {
                out.push(u8::from_str_radix(&rest[1..3], 16).expect("two hexadecimal digits"));
                skip = 3;
            }
            b'{' => {
                let end = rest.find('}').expect("the end of a repetition");
                let (count, text) = rest[1..end].split_once(':').expect("a count and a text");
                out.extend(unescape(text).repeat(count.parse().expect("a count")));
                skip = end + 1;
            }
            _ => panic!("no such escape: \\{rest}"),
        }
        rest = &rest[skip..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}
