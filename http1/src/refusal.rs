//! Why a message is refused.

use std::fmt;

/// Why a message is refused. After it nothing on the connection can be trusted to begin where it seems to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A line ends in LF alone, or a CR stands alone (RFC 9112, 2.2).
    BareLineEnd,
    /// The first line, a field or a chunk is not what the grammar says; which.
    Syntax(&'static str),
    /// The head is longer than allowed: bytes.
    HeadTooLong(usize),
    /// More fields than allowed: their number.
    TooManyFields(usize),
    /// A version other than HTTP/1.0 and HTTP/1.1.
    Version,
    /// No Host, two of them, or one that is neither a name nor an address (RFC 9112, 3.2).
    Host,
    /// A Content-Length that is no number, or more than one (RFC 9112, 6.3).
    Length,
    /// A Content-Length beside a Transfer-Encoding (RFC 9112, 6.1).
    LengthBesideCoding,
    /// A Transfer-Encoding on HTTP/1.0 (RFC 9112, 6.1).
    CodingOnOldVersion,
    /// A transfer coding other than exactly `chunked`.
    Coding,
    /// The chunk's size is no number, or too large for one.
    ChunkSize,
    /// Chunk extensions or trailers are longer than allowed.
    ChunkTooLong,
    /// The connection ended within the message.
    Truncated,
}

impl Refusal {
    /// The status that answers a request refused for this.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::HeadTooLong(_) | Self::TooManyFields(_) => 431,
            Self::Version => 505,
            Self::Coding => 501,
            _ => 400,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BareLineEnd => f.write_str("a line does not end in CR LF"),
            Self::Syntax(what) => write!(f, "malformed: {what}"),
            Self::HeadTooLong(bytes) => write!(f, "a head of more than {bytes} bytes"),
            Self::TooManyFields(count) => write!(f, "{count} header fields"),
            Self::Version => f.write_str("the version is neither HTTP/1.0 nor HTTP/1.1"),
            Self::Host => f.write_str("there must be exactly one Host field, with a name or an address"),
            Self::Length => f.write_str("the Content-Length is not one plain number"),
            Self::LengthBesideCoding => f.write_str("Content-Length stands beside Transfer-Encoding"),
            Self::CodingOnOldVersion => f.write_str("HTTP/1.0 has no Transfer-Encoding"),
            Self::Coding => f.write_str("the Transfer-Encoding is not exactly 'chunked'"),
            Self::ChunkSize => f.write_str("a chunk's size is not a hexadecimal number"),
            Self::ChunkTooLong => f.write_str("chunk extensions or trailers are too long"),
            Self::Truncated => f.write_str("the connection ended within the message"),
        }
    }
}

impl std::error::Error for Refusal {}
