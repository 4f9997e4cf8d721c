//! Writes field blocks: what is worth a place in the table.
//!
//! A field goes into the table when it is seen for the second time within a while; so what never repeats throws nothing out of
//! it, and no list of names has to foresee it. Heads of one connection are much alike: the field that came behind the last one
//! the last time is tried first.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

use super::names::{FIELDS, STATIC_END, field_index, known, name_index, never_twice};
use super::table::{Entry, Table};
use super::{TABLE_BYTES, integer, op};

/// Places in the filter of what was seen once, and in the shortcut from a hash to an entry.
const PLACES: usize = 256;

/// What may have come last: a field of the static table, or an entry.
const ORIGINS: usize = 64 + 256;

/// The sending side.
#[derive(Debug)]
pub struct Encoder {
    table: Table<Note>,
    /// Entries that were ever inserted, as far as a byte counts: the number of the next one. An entry's number says where it
    /// stands in the table, of which there are never more than half of 256. Numbers kept elsewhere may be of entries that are
    /// gone; so they are never more than a guess.
    inserted: u8,
    /// What the last field was that a table has: the index of a static one, or 64 and the number of an entry.
    last: usize,
    /// The largest table that both sides want.
    limit: usize,
    /// The lowest that it was since the last block, where the peer has to be told.
    lowest: Option<usize>,
    /// Made when the first field asks for it.
    memory: Option<Box<Memory>>,
}

/// What is known of an entry.
#[derive(Debug)]
struct Note {
    hash: u32,
    /// The static index of the name.
    known: Option<u8>,
}

#[derive(Debug)]
struct Memory {
    /// Part of the hash of what was last seen at each place.
    seen: [u32; PLACES],
    /// The entry that a hash probably has.
    quick: [u8; PLACES],
    /// The entry that came behind each the last time.
    behind: [u8; ORIGINS],
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// With a table of [`TABLE_BYTES`], until the peer wants another.
    #[must_use]
    pub fn new() -> Encoder {
        let table = Table::new(TABLE_BYTES);
        Encoder { table, inserted: 0, last: 0, limit: TABLE_BYTES, lowest: None, memory: None }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE. More than [`TABLE_BYTES`] are not used. From the next block on.
    pub fn set_limit(&mut self, peer: usize) {
        self.limit = peer.min(TABLE_BYTES);
        let lowest = self.lowest.unwrap_or(self.table.limit()).min(self.limit);
        if lowest != self.table.limit() || self.limit != lowest {
            self.lowest = Some(lowest);
        }
    }

    /// Forgets the table, and has the peer forget it at the beginning of the next block: for a connection that is idle. Nothing
    /// is left on the heap.
    pub fn shrink(&mut self) {
        if self.memory.is_some() {
            self.memory = None;
            self.lowest = Some(0);
            self.table.clear();
            self.table.shrink();
        }
    }

    /// A block begins. What is written to `out` must be sent, and in this order, since the peer's table follows it.
    #[inline]
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        self.last = 0;
        if let Some(lowest) = self.lowest {
            self.change_size(out, lowest);
        }
    }

    #[cold]
    fn change_size(&mut self, out: &mut Vec<u8>, lowest: usize) {
        for size in [lowest, self.limit] {
            if size != self.table.limit() {
                integer::write(out, op::SIZE, op::SIZE_BITS, size);
                self.table.set_limit(size);
            }
        }
        self.lowest = None;
    }

    /// A field. A sensitive one goes into no table, here or further on.
    // What is done for nearly all fields becomes part of the loop that goes through them.
    #[inline(always)]
    pub fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8], sensitive: bool) {
        if sensitive
            || !self.put_likely(out, |table, newer| {
                table.get(newer).is_some_and(|entry| same(entry.value, value) && same(entry.name, name))
            })
        {
            self.put_field(out, name, value, sensitive);
        }
    }

    /// As [`Self::field`], for one whose name and value lie in one piece, of which the first `name` bytes are the name: quicker.
    #[inline(always)]
    pub fn text(&mut self, out: &mut Vec<u8>, text: &[u8], name: usize, sensitive: bool) {
        let is_same = |table: &Table<Note>, newer| matches!(table.get_text(newer), Some((entry, length)) if length == name && same(entry, text));
        if sensitive || !self.put_likely(out, is_same) {
            let (name, value) = text.split_at(name);
            self.put_field(out, name, value, sensitive);
        }
    }

    /// As [`Self::field`], for one that is not sensitive and has a name of the static table: see [`known`].
    #[inline(always)]
    pub fn named(&mut self, out: &mut Vec<u8>, known: u8, value: &[u8]) {
        if !self.put_likely(out, |table, newer| {
            table.get(newer).is_some_and(|entry| entry.note.known == Some(known) && same(entry.value, value))
        }) {
            self.put(out, Some(known), FIELDS[known as usize].name, value);
        }
    }

    /// The field `:status`.
    #[inline]
    pub fn status(&mut self, out: &mut Vec<u8>, status: u16) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
                return self.named(out, known::STATUS, &digits);
            }
        };
        self.put_static(out, index);
    }

    /// The field `:scheme`.
    #[inline]
    pub fn scheme(&mut self, out: &mut Vec<u8>, scheme: &[u8]) {
        match scheme {
            b"http" => self.put_static(out, 6),
            b"https" => self.put_static(out, 7),
            _ => self.named(out, known::SCHEME, scheme),
        }
    }

    /// The field `:method`.
    #[inline]
    pub fn method(&mut self, out: &mut Vec<u8>, method: &[u8]) {
        match method {
            b"GET" => self.put_static(out, 2),
            b"POST" => self.put_static(out, 3),
            _ => self.named(out, known::METHOD, method),
        }
    }

    #[inline]
    fn put_static(&mut self, out: &mut Vec<u8>, index: u8) {
        out.push(op::INDEXED | index);
        self.last = index as usize;
    }

    /// Writes the field if it is the one that came in this place the last time.
    #[inline(always)]
    fn put_likely(&mut self, out: &mut Vec<u8>, is_same: impl FnOnce(&Table<Note>, usize) -> bool) -> bool {
        let Some(memory) = self.memory.as_deref() else { return false };
        let number = memory.behind[self.last];
        let newer = self.newer_than(number);
        if !is_same(&self.table, newer) {
            return false;
        }
        self.last = origin(number);
        integer::write(out, op::INDEXED, op::INDEXED_BITS, STATIC_END + newer);
        true
    }

    #[inline(never)]
    fn put_field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8], sensitive: bool) {
        let known = name_index(name);
        if sensitive { put_literal(out, op::NEVER, known, name, value) } else { self.put(out, known, name, value) }
    }

    fn put(&mut self, out: &mut Vec<u8>, known: Option<u8>, name: &[u8], value: &[u8]) {
        if let Some(index) = known.and_then(|known| field_index(known, value)) {
            return self.put_static(out, index);
        }
        // One large entry would push out many.
        let is_large = name.len() + value.len() > self.table.limit() / 4;
        if is_large || known.is_some_and(never_twice) || !self.table.fits(name, value) {
            return put_literal(out, op::LITERAL, known, name, value);
        }
        let hash = hash(name, value);
        let memory = self.memory.get_or_insert_default();
        let quick = memory.quick[place(hash)];
        let seen = std::mem::replace(&mut memory.seen[place(hash)], hash) == hash;
        let newer = self.newer_than(quick);
        let same = |entry: Entry<'_, Note>| entry.note.hash == hash && entry.value == value && entry.name == name;
        let found = if self.table.get(newer).is_some_and(same) {
            Some(newer)
        } else if seen {
            self.table.position(|note| note.hash == hash).filter(|newer| self.table.get(*newer).is_some_and(same))
        } else {
            return put_literal(out, op::LITERAL, known, name, value);
        };
        let number = match found {
            Some(newer) => {
                integer::write(out, op::INDEXED, op::INDEXED_BITS, STATIC_END + newer);
                self.inserted.wrapping_sub(newer as u8 + 1)
            }
            None => {
                put_literal(out, op::INSERT, known, name, value);
                self.table.insert(name, value, Note { hash, known });
                self.inserted = self.inserted.wrapping_add(1);
                self.inserted.wrapping_sub(1)
            }
        };
        if let Some(memory) = self.memory.as_deref_mut() {
            memory.quick[place(hash)] = number;
            memory.behind[self.last] = number;
        }
        self.last = origin(number);
    }

    /// How many entries are newer than the one of this number; nonsense for a number that no entry has.
    #[inline(always)]
    fn newer_than(&self, number: u8) -> usize {
        self.inserted.wrapping_sub(number).wrapping_sub(1) as usize
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self { seen: [0; PLACES], quick: [0; PLACES], behind: [0; ORIGINS] }
    }
}

/// Whether two texts are the same: in place, which costs texts as short as these less than a call of `memcmp`.
#[inline(always)]
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && match one.len() {
            17.. => {
                let (chunks, others) = (one.as_chunks::<16>().0, other.as_chunks::<16>().0);
                one.last_chunk::<16>() == other.last_chunk()
                    && chunks.iter().zip(others).all(|(one, other)| one == other)
            }
            8.. => one.first_chunk::<8>() == other.first_chunk() && one.last_chunk::<8>() == other.last_chunk(),
            4.. => one.first_chunk::<4>() == other.first_chunk() && one.last_chunk::<4>() == other.last_chunk(),
            2.. => one.first_chunk::<2>() == other.first_chunk() && one.last_chunk::<2>() == other.last_chunk(),
            _ => one == other,
        }
}

#[inline(always)]
fn origin(number: u8) -> usize {
    64 + number as usize
}

#[inline(never)]
fn put_literal(out: &mut Vec<u8>, pattern: u8, known: Option<u8>, name: &[u8], value: &[u8]) {
    let bits = if pattern == op::INSERT { op::INSERT_BITS } else { op::LITERAL_BITS };
    integer::write(out, pattern, bits, usize::from(known.unwrap_or(0)));
    if known.is_none() {
        put_text(out, name);
    }
    put_text(out, value);
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    integer::write(out, 0, op::LENGTH_BITS, text.len());
    out.extend_from_slice(text);
}

fn place(hash: u32) -> usize {
    hash as usize % PLACES
}

/// The same in every run, so that a connection's bytes can be replayed. Never 0.
const STATE: RandomState = RandomState::with_seeds(1, 2, 3, 4);

/// A collision costs a place or a comparison and nothing else, so nobody gains by making one.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    let mut hasher = STATE.build_hasher();
    hasher.write(name);
    hasher.write(value);
    hasher.finish() as u32 | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a block of these fields is, in hexadecimal. A `!` before the name: sensitive.
    fn block(encoder: &mut Encoder, fields: &[(&str, &str)]) -> String {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for (name, value) in fields {
            let bare = name.trim_start_matches('!');
            encoder.field(&mut out, bare.as_bytes(), value.as_bytes(), bare != *name);
        }
        out.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn what_comes_again_goes_into_the_table() {
        let mut encoder = Encoder::new();
        for (fields, expected) in [
            // Seen once, seen again, known.
            (&[("x", "y"), ("accept", "a")][..], "0001780179".to_owned() + "0f040161"),
            (&[("x", "y"), ("accept", "a")], "4001780179".to_owned() + "530161"),
            (&[("x", "y"), ("accept", "a")], "bfbe".to_owned()),
            // In another order, and with others between them.
            (&[("accept", "a"), ("x", "z"), ("x", "y")], "be".to_owned() + "000178017a" + "bf"),
            // What the static table has; what hardly ever comes twice; what is sensitive, however often.
            (&[(":method", "GET"), ("date", "a"), ("!x", "y")], "82".to_owned() + "0f120161" + "1001780179"),
            (&[(":method", "PUT"), ("date", "a"), ("!cookie", "c")], "0203505554".to_owned() + "0f120161" + "1f110163"),
        ] {
            assert_eq!(block(&mut encoder, fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn the_peer_is_told_how_large_the_table_is() {
        for (limits, expected) in [
            (&[][..], ""),
            (&[4_096], ""),
            (&[70_000], ""),
            (&[100], "3f45"),
            (&[0], "20"),
            (&[0, 4_096], "203fe11f"),
            (&[100, 10, 200], "2a3fa901"),
            (&[100, 4_096, 200], "3f453fa901"),
        ] {
            let mut encoder = Encoder::new();
            limits.iter().for_each(|limit| encoder.set_limit(*limit));
            assert_eq!(block(&mut encoder, &[]), expected, "{limits:?}");
            assert_eq!(block(&mut encoder, &[]), "", "once is enough");
        }
    }

    #[test]
    fn an_idle_one_holds_nothing() {
        let mut encoder = Encoder::new();
        for _ in 0..3 {
            block(&mut encoder, &[("x", "y")]);
        }
        assert!(encoder.table.memory() > 0);
        encoder.shrink();
        assert_eq!((encoder.table.memory(), encoder.memory.is_none()), (0, true));
        assert_eq!(block(&mut encoder, &[("x", "y")]), "203fe11f".to_owned() + "0001780179");
    }
}
