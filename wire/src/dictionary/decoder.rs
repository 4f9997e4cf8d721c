//! The receiving half of the dictionary.

use bytes::Bytes;

use super::op;
use super::tables::{FIELDS, NAMES, name_index};
use crate::frame::{Reader, Violation};
use crate::headers::{Headers, is_sensitive};
use crate::limits::{DICTIONARY_SLOTS, ENTRY_OVERHEAD_BYTES, HEAD_FIELDS};

/// Whether a block may speak of the dynamic dictionary. Trailers may not: they are sent later than they are encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dynamic {
    Allowed,
    Forbidden,
}

/// The largest buffer for fields that is kept from one head to the next.
const KEPT_BYTES: usize = 4_096;

/// What the peer told us to remember.
#[derive(Debug)]
pub(crate) struct Decoder {
    slots: Vec<Option<Entry>>,
    bytes: usize,
    limit: usize,
    /// Fields are gathered here and leave in one allocation of their size.
    scratch: Headers,
}

/// Name and value in one piece.
#[derive(Debug)]
struct Entry {
    text: Bytes,
    name: usize,
    /// The static index of the name.
    known: Option<u8>,
}

/// A field as the bytes say it, resolved but not yet copied.
enum Field<'a> {
    Slot(usize),
    Static(usize),
    Literal { name: Name<'a>, value: &'a [u8], sensitive: bool },
}

enum Name<'a> {
    Static(usize),
    Slot(usize),
    Text(&'a [u8]),
}

impl Decoder {
    pub(crate) fn new(limit: usize) -> Self {
        Self { slots: Vec::new(), bytes: 0, limit, scratch: Headers::new() }
    }

    /// The value of a field that must have this static name. `left`: text bytes that the head may still have.
    pub(crate) fn value(&mut self, reader: &mut Reader<'_>, name: u8, left: &mut usize) -> Result<Bytes, Violation> {
        const WRONG: Violation = "service, method and path must come first";
        let charge = |left: &mut usize, bytes: usize| match left.checked_sub(bytes) {
            Some(rest) => {
                *left = rest;
                Ok(())
            }
            None => Err("head too large"),
        };
        match self.field(reader, Dynamic::Allowed)? {
            Field::Slot(slot) => {
                let entry = self.entry(slot)?;
                if entry.known != Some(name) {
                    return Err(WRONG);
                }
                charge(left, entry.text.len() - entry.name)?;
                Ok(entry.text.slice(entry.name..))
            }
            Field::Static(index) => {
                let (of, value) = FIELDS[index];
                if of != name {
                    return Err(WRONG);
                }
                charge(left, value.len())?;
                Ok(Bytes::from_static(value.as_bytes()))
            }
            Field::Literal { name: Name::Static(of), value, .. } if of == name as usize => {
                charge(left, value.len())?;
                Ok(Bytes::copy_from_slice(value))
            }
            Field::Literal { .. } => Err(WRONG),
        }
    }

    /// The number of fields, then the fields. `left`: text bytes that they may have together. `spare`: bytes that will be added.
    pub(crate) fn fields(
        &mut self,
        reader: &mut Reader<'_>,
        mut left: usize,
        dynamic: Dynamic,
        spare: usize,
    ) -> Result<Headers, Violation> {
        const LARGE: Violation = "head too large";
        let count = reader.varint()? as usize;
        if count > HEAD_FIELDS {
            return Err("too many header fields");
        }
        if count == 0 {
            return Ok(Headers::new());
        }
        let mut headers = std::mem::take(&mut self.scratch);
        headers.clear();
        for _ in 0..count {
            match self.field(reader, dynamic)? {
                Field::Slot(slot) => {
                    let entry = self.entry(slot)?;
                    left = left.checked_sub(entry.text.len()).ok_or(LARGE)?;
                    headers.add_text(&entry.text, entry.name);
                }
                Field::Static(index) => {
                    let (name, value) = FIELDS[index];
                    let name = NAMES[name as usize];
                    left = left.checked_sub(name.len() + value.len()).ok_or(LARGE)?;
                    headers.add(name.as_bytes(), value.as_bytes(), false);
                }
                Field::Literal { name, value, sensitive } => {
                    let name = match name {
                        Name::Static(index) => NAMES[index].as_bytes(),
                        Name::Text(text) => text,
                        Name::Slot(slot) => {
                            let entry = self.entry(slot)?;
                            &entry.text[..entry.name]
                        }
                    };
                    left = left.checked_sub(name.len() + value.len()).ok_or(LARGE)?;
                    headers.add(name, value, sensitive || is_sensitive(name));
                }
            }
        }
        let copy = headers.copy_with_room(spare);
        // An idle connection keeps no large buffer.
        if headers.memory() <= KEPT_BYTES {
            self.scratch = headers;
        }
        Ok(copy)
    }

    /// Reads up to the next field, obeying instructions on the way.
    // Twice in the code, so that the result stays in registers: measured, 90 instructions a head.
    #[inline(always)]
    fn field<'a>(&mut self, reader: &mut Reader<'a>, dynamic: Dynamic) -> Result<Field<'a>, Violation> {
        loop {
            let first = reader.u8()?;
            let allowed = dynamic == Dynamic::Allowed;
            if first & op::SLOT != 0 && allowed {
                return Ok(Field::Slot((first & !op::SLOT) as usize));
            }
            if first & 0xc0 == op::STATIC_FIELD {
                return Ok(Field::Static(index(reader, first & 0x3f, op::STATIC_FIELD_MORE, FIELDS.len())?));
            }
            if first & 0xe0 == op::STATIC_NAME {
                let name = index(reader, first & 0x1f, op::STATIC_NAME_MORE, NAMES.len())?;
                return Ok(Field::Literal { name: Name::Static(name), value: reader.text()?, sensitive: false });
            }
            return Ok(match first {
                op::LITERAL | op::SENSITIVE => {
                    let (name, value) = (Name::Text(name(reader)?), reader.text()?);
                    Field::Literal { name, value, sensitive: first == op::SENSITIVE }
                }
                op::SENSITIVE_STATIC_NAME => {
                    let name = Name::Static(static_name(reader)?);
                    Field::Literal { name, value: reader.text()?, sensitive: true }
                }
                op::SLOT_NAME if allowed => {
                    let name = Name::Slot(reader.u8()? as usize);
                    Field::Literal { name, value: reader.text()?, sensitive: false }
                }
                op::INSERT if allowed => {
                    let (slot, name, value) = (reader.u8()?, name(reader)?, reader.text()?);
                    self.insert(slot, name, value)?
                }
                op::INSERT_STATIC_NAME if allowed => {
                    let (slot, name, value) = (reader.u8()?, static_name(reader)?, reader.text()?);
                    self.insert(slot, NAMES[name].as_bytes(), value)?
                }
                op::INSERT_SLOT_NAME if allowed => {
                    let (slot, from, value) = (reader.u8()?, reader.u8()?, reader.text()?);
                    let entry = self.entry(from as usize)?;
                    let name = entry.text.slice(..entry.name);
                    self.insert(slot, &name, value)?
                }
                op::INSERT_NAME if allowed => {
                    let (slot, name, value) = (reader.u8()?, name(reader)?, reader.text()?);
                    self.insert(slot, name, b"")?;
                    Field::Literal { name: Name::Text(name), value, sensitive: false }
                }
                op::EVICT if allowed => {
                    let slot = reader.u8()? as usize;
                    let entry = self.slots.get_mut(slot).and_then(Option::take).ok_or("eviction of an empty slot")?;
                    self.bytes -= entry.size();
                    continue;
                }
                _ => return Err("unknown field opcode"),
            });
        }
    }

    fn entry(&self, slot: usize) -> Result<&Entry, Violation> {
        self.slots.get(slot).and_then(Option::as_ref).ok_or("reference to an empty slot")
    }

    fn insert<'a>(&mut self, slot: u8, name: &[u8], value: &[u8]) -> Result<Field<'a>, Violation> {
        let slot = slot as usize;
        if slot >= DICTIONARY_SLOTS {
            return Err("no such slot");
        }
        if is_sensitive(name) {
            return Err("sensitive field in the dictionary");
        }
        let freed = self.slots.get(slot).and_then(Option::as_ref).map_or(0, Entry::size);
        let bytes = self.bytes - freed + name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        if bytes > self.limit {
            return Err("dictionary over its limit");
        }
        self.bytes = bytes;
        let mut text = Vec::with_capacity(name.len() + value.len());
        text.extend_from_slice(name);
        text.extend_from_slice(value);
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[slot] = Some(Entry { text: Bytes::from(text), name: name.len(), known: name_index(name) });
        Ok(Field::Slot(slot))
    }
}

impl Entry {
    fn size(&self) -> usize {
        self.text.len() + ENTRY_OVERHEAD_BYTES
    }
}

/// A name that is spelt out. All that asks for a field by its name, what is sensitive first of all, compares bytes: another spelling
/// would pass it, and be the same field again to the app.
#[inline]
fn name<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Violation> {
    let name = reader.text()?;
    if name.iter().any(u8::is_ascii_uppercase) { Err("field name with an upper-case letter") } else { Ok(name) }
}

/// An index that begins within an opcode.
#[inline]
fn index(reader: &mut Reader<'_>, low: u8, more: u8, entries: usize) -> Result<usize, Violation> {
    let index = if low == more { (reader.varint()? as usize).saturating_add(more as usize) } else { low as usize };
    if index < entries { Ok(index) } else { Err("no such static entry") }
}

fn static_name(reader: &mut Reader<'_>) -> Result<usize, Violation> {
    let index = reader.varint()? as usize;
    if index < NAMES.len() { Ok(index) } else { Err("no such static entry") }
}
