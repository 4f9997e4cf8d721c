//! The coding of header fields: a static table, a dynamic dictionary per direction, literals. No Huffman.
//!
//! The encoder decides everything and says it: into which slot an entry goes, which slots become free. The decoder only does
//! what it is told, and checks that the dictionary stays within the bytes that it announced.

mod decoder;
mod encoder;
mod tables;

pub(crate) use decoder::{Decoder, Dynamic};
pub(crate) use encoder::{Encoder, put_static_field};
pub use tables::{FIELDS, NAMES};

/// First bytes of a field. What is not listed is a protocol error.
///
/// ```text
/// 1sssssss              the field in dynamic slot s
/// 01ffffff              static field f; 63: a number follows, f = 63 + number
/// 001nnnnn              static name n, then the value; 31: a number follows, n = 31 + number
/// 00000001              name, value
/// 00000010              name, value; sensitive
/// 00000011              slot, name, value; and put it into the slot
/// 00000100              slot, number of a static name, value; and put it into the slot
/// 00000101              slot, slot of another entry with the name, value; and put it into the first slot
/// 00000110              slot of an entry with the name, value
/// 00000111              number of a static name, value; sensitive
/// 00001000              slot, name, value; and put the name with an empty value into the slot
/// 00001001              slot: it becomes free. Not a field
/// ```
pub(crate) mod op {
    pub(crate) const SLOT: u8 = 0x80;
    pub(crate) const STATIC_FIELD: u8 = 0x40;
    pub(crate) const STATIC_FIELD_MORE: u8 = 63;
    pub(crate) const STATIC_NAME: u8 = 0x20;
    pub(crate) const STATIC_NAME_MORE: u8 = 31;
    pub(crate) const LITERAL: u8 = 0x01;
    pub(crate) const SENSITIVE: u8 = 0x02;
    pub(crate) const INSERT: u8 = 0x03;
    pub(crate) const INSERT_STATIC_NAME: u8 = 0x04;
    pub(crate) const INSERT_SLOT_NAME: u8 = 0x05;
    pub(crate) const SLOT_NAME: u8 = 0x06;
    pub(crate) const SENSITIVE_STATIC_NAME: u8 = 0x07;
    pub(crate) const INSERT_NAME: u8 = 0x08;
    pub(crate) const EVICT: u8 = 0x09;
}
