//! Header compression (RFC 7541).
//!
//! - [`Decoder`] reads field blocks. Fields are handed out borrowed, from the block itself or from the table that both ends keep.
//! - [`Encoder`] writes them. It decides what is worth a place in the table; it never uses the Huffman code, which costs more
//!   time than the bytes that it saves.
//!
//! Neither has anything on the heap before its first block. Both are bounded by the table's size (RFC 7541, 4.1), which each
//! side announces: what a block expands to is never gathered here.

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod names;
mod table;

use std::fmt;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use names::known;

/// The size of a table of which nothing has been said (RFC 9113, 6.5.2). Bytes, as RFC 7541 (4.1) counts them.
pub const TABLE_BYTES: usize = 4_096;

/// One field, borrowed from its block or from the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// As it came: see `is_valid`.
    pub name: &'a [u8],
    pub value: &'a [u8],
    /// The name's place in the static table, whenever it has one, however the name was written. See [`known`].
    pub known: Option<u8>,
    /// Not to be put into a table, here or at any further hop (RFC 7541, 7.1.3).
    pub sensitive: bool,
    /// The name is a token in lower case, with a colon before it or not, and the value has no control characters (RFC 9113,
    /// 8.2.1). Looked at once for what stands in the table.
    pub is_valid: bool,
}

impl<'a> Field<'a> {
    /// A field that came in no block.
    #[must_use]
    pub fn of(name: &'a [u8], value: &'a [u8], sensitive: bool) -> Field<'a> {
        let is_valid = names::is_name(name) && names::is_value(value);
        Field { name, value, known: names::name_index(name), sensitive, is_valid }
    }
}

/// Why a field block cannot be read. Tables have parted then: the connection must end with COMPRESSION_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// There is nothing at this index.
    Index,
    /// A number of more bytes than any number here needs.
    Number,
    /// The block ends within a field.
    Truncated,
    /// A text that the Huffman code cannot have made.
    Huffman,
    /// A table larger than announced, or a change of it that does not stand at the beginning of the block, or one too many.
    TableSize,
}

impl Violation {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Index => "a field refers to nothing",
            Self::Number => "a number in a field block is too long",
            Self::Truncated => "a field block ends within a field",
            Self::Huffman => "a text breaks the Huffman code",
            Self::TableSize => "the table's size is changed too far, too late or too often",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Violation {}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sensitive {
            write!(f, "{}: (sensitive)", self.name.escape_ascii())
        } else {
            write!(f, "{}: {}", self.name.escape_ascii(), self.value.escape_ascii())
        }
    }
}

/// First bytes of what stands in a block: the pattern, and the bits of the first byte that a number begins in.
mod op {
    /// A field that a table has (RFC 7541, 6.1).
    pub(super) const INDEXED: u8 = 0x80;
    pub(super) const INDEXED_BITS: u8 = 0x7f;
    /// A field that goes into the table (6.2.1).
    pub(super) const INSERT: u8 = 0x40;
    pub(super) const INSERT_BITS: u8 = 0x3f;
    /// The table's size (6.3).
    pub(super) const SIZE: u8 = 0x20;
    pub(super) const SIZE_BITS: u8 = 0x1f;
    /// A field that never goes into a table (6.2.3).
    pub(super) const NEVER: u8 = 0x10;
    /// A field that does not go into the table (6.2.2).
    pub(super) const LITERAL: u8 = 0x00;
    pub(super) const LITERAL_BITS: u8 = 0x0f;
    /// A text in the Huffman code (5.2).
    pub(super) const HUFFMAN: u8 = 0x80;
    pub(super) const LENGTH_BITS: u8 = 0x7f;
}
