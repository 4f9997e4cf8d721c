//! The sending half of the dictionary: what is worth a slot, and which slot.
//!
//! A field gets a slot when it is seen for the second time within a while; so what never repeats costs no slot, and no list of
//! names has to foresee it. Slots are given up by the clock algorithm: those used since the hand last came by stay.

use super::op;
use super::tables;
use crate::frame::{put_text, put_varint};
use crate::headers::Text;
use crate::limits::{DICTIONARY_SLOTS, ENTRY_OVERHEAD_BYTES};

/// Places in the filter of what was seen once, and in the shortcut from hash to slot.
const PLACES: usize = 256;

/// Fields of a head whose slot of the last time is tried first.
const RECENT: usize = 32;

/// What the peer remembers on our behalf.
#[derive(Debug)]
pub(crate) struct Encoder {
    limit: usize,
    bytes: usize,
    hand: usize,
    /// Fields of this head so far.
    position: usize,
    entries: Vec<Entry>,
    /// Made when the first field asks for it: an idle connection has none.
    memory: Option<Box<Memory>>,
}

#[derive(Debug)]
struct Memory {
    /// Part of the hash of what was last seen at each place.
    seen: [u32; PLACES],
    /// The slot that a hash probably has.
    quick: [u8; PLACES],
    /// The slot of the field in that place of the last head: heads of one connection are much alike.
    recent: [u8; RECENT],
}

/// A slot. `hash` 0: free.
#[derive(Debug)]
struct Entry {
    hash: u64,
    /// Name and value.
    text: Vec<u8>,
    name: usize,
    /// The static index of the name.
    known: Option<u8>,
    used: bool,
}

impl Entry {
    #[inline]
    fn holds(&self, name: &[u8], value: &[u8]) -> bool {
        self.name == name.len()
            && self.text.len() == name.len() + value.len()
            && self.text[self.name..] == *value
            && self.text[..self.name] == *name
    }
}

impl Encoder {
    /// `limit`: bytes, the lesser of what the peer announced and what we want to keep.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, hand: 0, position: 0, entries: Vec::new(), memory: None }
    }

    /// A new head begins.
    pub(crate) fn begin(&mut self) {
        self.position = 0;
    }

    /// One field. What was written must be sent, and in this order, since the peer's dictionary follows it.
    pub(crate) fn field(&mut self, out: &mut Vec<u8>, text: Text<'_>) {
        let position = self.next_position();
        if text.sensitive {
            let (name, value) = text.bytes.split_at(text.name);
            return put_static_field(out, name, value, true);
        }
        if let Some(slot) = self.same_as_last(position, |entry| entry.name == text.name && entry.text == text.bytes) {
            return out.push(op::SLOT | slot);
        }
        let (name, value) = text.bytes.split_at(text.name);
        self.put(out, position, tables::name_index(name), name, value);
    }

    /// As [`Self::field`], for one whose name has the static index `known`.
    pub(crate) fn named(&mut self, out: &mut Vec<u8>, known: u8, value: &[u8]) {
        let position = self.next_position();
        let same = |entry: &Entry| entry.known == Some(known) && entry.text[entry.name..] == *value;
        match self.same_as_last(position, same) {
            Some(slot) => out.push(op::SLOT | slot),
            None => self.put(out, position, Some(known), tables::NAMES[known as usize].as_bytes(), value),
        }
    }

    fn next_position(&mut self) -> usize {
        self.position += 1;
        self.position - 1
    }

    fn put(&mut self, out: &mut Vec<u8>, position: usize, known: Option<u8>, name: &[u8], value: &[u8]) {
        if put_if_static(out, known, value) {
            return;
        }
        let size = name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        if known.is_some_and(tables::never_twice) || size > self.limit / 4 {
            put_literal(out, known, name, value);
            return;
        }
        let hash = hash(name, value);
        if let Some(slot) = self.find(hash, name, value) {
            self.entries[slot].used = true;
            self.note_position(position, slot);
            out.push(op::SLOT | slot as u8);
            return;
        }
        let named = if known.is_none() { self.find(hash_name(name), name, b"") } else { None };
        if let Some(slot) = named {
            self.entries[slot].used = true;
        }
        if self.second_sight(hash) {
            let slot = self.make_room(out, size, named);
            self.put_insertion(out, slot, known, named, name, value);
            self.remember(slot, hash, known, name, value);
            self.note_position(position, slot);
            return;
        }
        if let Some(slot) = named {
            out.extend_from_slice(&[op::SLOT_NAME, slot as u8]);
            put_text(out, value);
            return;
        }
        if known.is_none() && !value.is_empty() && self.second_sight(hash_name(name)) {
            let slot = self.make_room(out, name.len() + ENTRY_OVERHEAD_BYTES, None);
            out.extend_from_slice(&[op::INSERT_NAME, slot as u8]);
            put_text(out, name);
            put_text(out, value);
            self.remember(slot, hash_name(name), None, name, b"");
            return;
        }
        put_literal(out, known, name, value);
    }

    fn put_insertion(
        &self,
        out: &mut Vec<u8>,
        slot: usize,
        known: Option<u8>,
        named: Option<usize>,
        name: &[u8],
        value: &[u8],
    ) {
        match (known, named) {
            (Some(index), _) => {
                out.extend_from_slice(&[op::INSERT_STATIC_NAME, slot as u8]);
                put_varint(out, u32::from(index));
            }
            (None, Some(from)) => out.extend_from_slice(&[op::INSERT_SLOT_NAME, slot as u8, from as u8]),
            (None, None) => {
                out.extend_from_slice(&[op::INSERT, slot as u8]);
                put_text(out, name);
            }
        }
        put_text(out, value);
    }

    /// The slot that the field in this place had the last time, if it is still the same.
    #[inline]
    fn same_as_last(&mut self, position: usize, same: impl FnOnce(&Entry) -> bool) -> Option<u8> {
        let slot = *self.memory.as_deref()?.recent.get(position)?;
        let entry = self.entries.get_mut(slot as usize)?;
        if entry.hash == 0 || !same(entry) {
            return None;
        }
        entry.used = true;
        Some(slot)
    }

    fn note_position(&mut self, position: usize, slot: usize) {
        if let Some(recent) = self.memory.as_deref_mut().and_then(|memory| memory.recent.get_mut(position)) {
            *recent = slot as u8;
        }
    }

    /// The slot that holds exactly this.
    fn find(&self, hash: u64, name: &[u8], value: &[u8]) -> Option<usize> {
        let memory = self.memory.as_deref()?;
        let quick = memory.quick[place(hash)] as usize;
        let slot = match self.entries.get(quick) {
            Some(entry) if entry.hash == hash => quick,
            _ => self.entries.iter().position(|entry| entry.hash == hash)?,
        };
        self.entries[slot].holds(name, value).then_some(slot)
    }

    /// Whether this hash was met before, as far as the filter remembers.
    fn second_sight(&mut self, hash: u64) -> bool {
        let memory = self
            .memory
            .get_or_insert_with(|| Box::new(Memory { seen: [0; PLACES], quick: [0; PLACES], recent: [0; RECENT] }));
        let seen = &mut memory.seen[(hash >> 8) as usize % PLACES];
        let print = (hash >> 32) as u32;
        std::mem::replace(seen, print) == print
    }

    /// A free slot, with `size` bytes of room in the dictionary; tells the peer which others it costs. `keep` stays.
    fn make_room(&mut self, out: &mut Vec<u8>, size: usize, keep: Option<usize>) -> usize {
        let free = self.entries.iter().position(|entry| entry.hash == 0);
        let mut slot = free.or((self.entries.len() < DICTIONARY_SLOTS).then_some(self.entries.len()));
        // Slots given up: all but the one that is used again at once must be named.
        let mut given_up = None;
        while slot.is_none() || self.bytes + size > self.limit {
            let Some(victim) = self.next_victim(keep) else { break };
            if let Some(other) = given_up.replace(victim) {
                out.extend_from_slice(&[op::EVICT, other as u8]);
            }
            slot = Some(victim);
        }
        // With no slot free and no victim there would be DICTIONARY_SLOTS entries that all must be kept, but at most one is.
        slot.unwrap_or(0)
    }

    /// Frees the next slot that was not used since the hand last came by.
    fn next_victim(&mut self, keep: Option<usize>) -> Option<usize> {
        for _ in 0..2 * self.entries.len() {
            let slot = self.hand;
            self.hand = (self.hand + 1) % self.entries.len();
            let entry = &mut self.entries[slot];
            if entry.hash == 0 || Some(slot) == keep || std::mem::take(&mut entry.used) {
                continue;
            }
            entry.hash = 0;
            self.bytes -= entry.text.len() + ENTRY_OVERHEAD_BYTES;
            return Some(slot);
        }
        None
    }

    fn remember(&mut self, slot: usize, hash: u64, known: Option<u8>, name: &[u8], value: &[u8]) {
        self.bytes += name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        if let Some(memory) = self.memory.as_deref_mut() {
            memory.quick[place(hash)] = slot as u8;
        }
        if self.entries.len() == slot {
            self.entries.push(Entry { hash: 0, text: Vec::new(), name: 0, known: None, used: false });
        }
        let entry = &mut self.entries[slot];
        entry.hash = hash;
        entry.text.clear();
        entry.text.extend_from_slice(name);
        entry.text.extend_from_slice(value);
        entry.name = name.len();
        entry.known = known;
        entry.used = true;
    }
}

/// One field with the static table and literals only.
pub(crate) fn put_static_field(out: &mut Vec<u8>, name: &[u8], value: &[u8], sensitive: bool) {
    put_static(out, tables::name_index(name), name, value, sensitive);
}

fn put_static(out: &mut Vec<u8>, known: Option<u8>, name: &[u8], value: &[u8], sensitive: bool) {
    match known {
        _ if !sensitive && put_if_static(out, known, value) => {}
        Some(index) if sensitive => {
            out.push(op::SENSITIVE_STATIC_NAME);
            put_varint(out, u32::from(index));
            put_text(out, value);
        }
        None if sensitive => {
            out.push(op::SENSITIVE);
            put_text(out, name);
            put_text(out, value);
        }
        _ => put_literal(out, known, name, value),
    }
}

/// Writes the field if the static table has all of it.
#[inline]
fn put_if_static(out: &mut Vec<u8>, known: Option<u8>, value: &[u8]) -> bool {
    let Some(index) = known.and_then(|name| tables::field_index(name, value)) else { return false };
    if index < op::STATIC_FIELD_MORE {
        out.push(op::STATIC_FIELD | index);
    } else {
        out.push(op::STATIC_FIELD | op::STATIC_FIELD_MORE);
        put_varint(out, u32::from(index - op::STATIC_FIELD_MORE));
    }
    true
}

#[inline]
fn put_literal(out: &mut Vec<u8>, known: Option<u8>, name: &[u8], value: &[u8]) {
    match known {
        Some(index) if index < op::STATIC_NAME_MORE => out.push(op::STATIC_NAME | index),
        Some(index) => {
            out.push(op::STATIC_NAME | op::STATIC_NAME_MORE);
            put_varint(out, u32::from(index - op::STATIC_NAME_MORE));
        }
        None => {
            out.push(op::LITERAL);
            put_text(out, name);
        }
    }
    put_text(out, value);
}

fn place(hash: u64) -> usize {
    hash as usize % PLACES
}

/// The same on every machine and in every run, so that a connection's bytes can be replayed; a collision costs a slot or a
/// comparison and nothing else. Never 0.
fn hash(name: &[u8], value: &[u8]) -> u64 {
    let state = absorb(0x9e37_79b9_7f4a_7c15 ^ name.len() as u64, name);
    absorb(state ^ (value.len() as u64) << 32, value) | 1
}

/// The hash of an entry that only lends its name.
fn hash_name(name: &[u8]) -> u64 {
    hash(name, b"")
}

#[inline]
fn absorb(mut state: u64, text: &[u8]) -> u64 {
    let mix = |state: u64, word: u64| {
        let wide = u128::from(state ^ word) * 0xa076_1d64_78bd_642f_u128;
        (wide >> 64) as u64 ^ wide as u64
    };
    let (words, tail) = text.as_chunks::<8>();
    for word in words {
        state = mix(state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    mix(state, u64::from_le_bytes(last))
}
