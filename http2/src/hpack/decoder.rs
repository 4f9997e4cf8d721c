//! Reads field blocks.

use super::names::{FIELDS, STATIC_END, is_name, is_value, name_index};
use super::table::{Entry, Table};
use super::{Field, TABLE_BYTES, Violation, huffman, integer, op};

/// The largest buffer for text out of the Huffman code that is kept from one block to the next. Bytes.
const KEPT_BYTES: usize = 1_024;

/// Changes of the table's size that may stand before a block: its lowest since the last one, and what it is now (RFC 7541, 4.2).
const SIZE_CHANGES: usize = 2;

/// No table is larger, so that places in its text have 32 bits. Bytes.
const MOST_BYTES: usize = 1 << 24;

/// The receiving side.
#[derive(Debug)]
pub struct Decoder {
    table: Table<Note>,
    announced: usize,
    /// Text out of the Huffman code, of one field.
    scratch: Vec<u8>,
}

/// What is known of an entry.
#[derive(Debug, Clone, Copy)]
struct Note {
    /// [`Field::known`].
    known: Option<u8>,
    /// [`Field::is_valid`].
    is_valid: bool,
}

/// Where a name comes from.
enum Name<'a> {
    Text(&'a [u8]),
    /// From the entry that so many newer ones follow.
    Entry(usize),
}

/// A text as it stands in the block.
struct Text<'a> {
    bytes: &'a [u8],
    is_huffman: bool,
}

impl Decoder {
    /// `table_bytes`: the SETTINGS_HEADER_TABLE_SIZE that was announced, or [`TABLE_BYTES`] if none was. At most 16 MiB.
    ///
    /// Below [`TABLE_BYTES`] the peer may use those until it has seen the announcement, and says so when it does no more.
    #[must_use]
    pub fn new(table_bytes: usize) -> Decoder {
        assert!(table_bytes <= MOST_BYTES, "a table of more than {MOST_BYTES} bytes");
        Decoder { table: Table::new(TABLE_BYTES), announced: table_bytes, scratch: Vec::new() }
    }

    /// Reads a whole block and hands each field to `field` as it is found. After an error the table means nothing any more.
    pub fn decode(&mut self, block: &[u8], mut field: impl FnMut(Field<'_>)) -> Result<(), Violation> {
        let mut rest = block;
        if block.first().is_some_and(|first| is_size(*first)) {
            self.change_size(&mut rest)?;
        }
        while let Some((first, behind)) = rest.split_first() {
            rest = behind;
            field(self.next(*first, &mut rest)?);
        }
        if self.scratch.capacity() > KEPT_BYTES {
            self.scratch = Vec::new();
        }
        Ok(())
    }

    /// Gives memory back that is not needed between blocks.
    pub fn shrink(&mut self) {
        self.scratch = Vec::new();
        self.table.shrink();
    }

    #[cold]
    fn change_size(&mut self, rest: &mut &[u8]) -> Result<(), Violation> {
        for _ in 0..SIZE_CHANGES {
            let Some((first, behind)) = rest.split_first().filter(|(first, _)| is_size(**first)) else { break };
            *rest = behind;
            let size = integer::read(rest, *first, op::SIZE_BITS)?;
            if size > self.announced {
                return Err(Violation::TableSize);
            }
            self.table.set_limit(size);
        }
        Ok(())
    }

    // As part of the loop that calls it, so that the field stays in registers.
    #[inline(always)]
    fn next<'a, 'b: 'a>(&'a mut self, first: u8, rest: &mut &'b [u8]) -> Result<Field<'a>, Violation> {
        if first & op::INDEXED == 0 {
            return self.literal(first, rest);
        }
        let index = integer::read(rest, first, op::INDEXED_BITS)?;
        match index.checked_sub(STATIC_END) {
            Some(newer) => self.table.get(newer).map(Field::from).ok_or(Violation::Index),
            None if index == 0 => Err(Violation::Index),
            None => Ok(FIELDS[index]),
        }
    }

    #[inline(never)]
    fn literal<'a, 'b: 'a>(&'a mut self, first: u8, rest: &mut &'b [u8]) -> Result<Field<'a>, Violation> {
        if is_size(first) {
            return Err(Violation::TableSize);
        }
        let insert = first & op::INSERT != 0;
        let bits = if insert { op::INSERT_BITS } else { op::LITERAL_BITS };
        let index = integer::read(rest, first, bits)?;

        let Decoder { table, scratch, .. } = self;
        scratch.clear();
        let spelt = if index == 0 { Some(Text::read(rest)?) } else { None };
        if let Some(Text { bytes, is_huffman: true }) = spelt {
            huffman::decode(bytes, scratch)?;
        }
        let middle = scratch.len();
        let value = Text::read(rest)?;
        if value.is_huffman {
            huffman::decode(value.bytes, scratch)?;
        }

        let (name, note) = match (spelt, index.checked_sub(STATIC_END)) {
            (Some(Text { bytes, is_huffman }), _) => {
                let name = if is_huffman { &scratch[..middle] } else { bytes };
                let known = name_index(name);
                (Name::Text(name), Note { known, is_valid: known.is_some() || is_name(name) })
            }
            (None, Some(newer)) => {
                let Entry { name, note, .. } = table.get(newer).ok_or(Violation::Index)?;
                (Name::Entry(newer), Note { is_valid: note.is_valid || is_name(name), ..*note })
            }
            (None, None) => (Name::Text(FIELDS[index].name), Note { known: FIELDS[index].known, is_valid: true }),
        };
        let value = if value.is_huffman { &scratch[middle..] } else { value.bytes };
        let note = Note { is_valid: note.is_valid && is_value(value), ..note };

        let name = match name {
            Name::Text(name) if insert && table.fits(name, value) => {
                table.insert(name, value, note);
                return table.get(0).map(Field::from).ok_or(Violation::Index);
            }
            Name::Entry(newer) if insert && table.get(newer).is_some_and(|entry| table.fits(entry.name, value)) => {
                table.insert_named(newer, value, note);
                return table.get(0).map(Field::from).ok_or(Violation::Index);
            }
            // What is larger than the table empties it, and is no error (RFC 7541, 4.4).
            Name::Text(name) if insert => {
                table.clear();
                name
            }
            Name::Entry(newer) if insert => table.clear_but_name(newer),
            Name::Text(name) => name,
            Name::Entry(newer) => table.get(newer).map_or(&[][..], |entry| entry.name),
        };
        let sensitive = !insert && first & op::NEVER != 0;
        Ok(Field { name, value, known: note.known, sensitive, is_valid: note.is_valid })
    }
}

impl<'a> From<Entry<'a, Note>> for Field<'a> {
    #[inline(always)]
    fn from(entry: Entry<'a, Note>) -> Self {
        let Note { known, is_valid } = *entry.note;
        Field { name: entry.name, value: entry.value, known, sensitive: false, is_valid }
    }
}

#[inline(always)]
fn is_size(first: u8) -> bool {
    first & !op::SIZE_BITS == op::SIZE
}

impl<'a> Text<'a> {
    #[inline]
    fn read(rest: &mut &'a [u8]) -> Result<Self, Violation> {
        let (first, behind) = rest.split_first().ok_or(Violation::Truncated)?;
        *rest = behind;
        let length = integer::read(rest, *first, op::LENGTH_BITS)?;
        let (bytes, behind) = rest.split_at_checked(length).ok_or(Violation::Truncated)?;
        *rest = behind;
        Ok(Self { bytes, is_huffman: first & op::HUFFMAN != 0 })
    }
}
