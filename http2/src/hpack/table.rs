//! The table of fields that both ends keep (RFC 7541, 2.3.2 and 4).

use std::collections::VecDeque;

/// What an entry counts beside its text (RFC 7541, 4.1). Bytes.
const ENTRY_BYTES: usize = 32;

/// Text of entries that are gone is cleared away when it is as much as this, and more than the rest.
const DEAD_BYTES: usize = 512;

/// A table, with a `note` to each entry.
#[derive(Debug)]
pub(super) struct Table<T> {
    /// Names and values, the oldest first; before them, of entries that are gone.
    text: Vec<u8>,
    /// The newest first.
    entries: VecDeque<Place<T>>,
    size: usize,
    limit: usize,
}

/// Where an entry's text lies.
#[derive(Debug)]
struct Place<T> {
    start: u32,
    value: u32,
    end: u32,
    note: T,
}

/// One entry.
pub(super) struct Entry<'a, T> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) note: &'a T,
}

impl<T> Table<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { text: Vec::new(), entries: VecDeque::new(), size: 0, limit }
    }

    /// The largest size that it may have now.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The entry that so many newer ones follow.
    #[inline(always)]
    pub(super) fn get(&self, newer: usize) -> Option<Entry<'_, T>> {
        let place = self.entries.get(newer)?;
        let (name, value) = self.text(place)?.split_at_checked((place.value - place.start) as usize)?;
        Some(Entry { name, value, note: &place.note })
    }

    /// As [`Self::get`], in one piece: the name, whose length comes with it, and the value behind it.
    #[inline(always)]
    pub(super) fn get_text(&self, newer: usize) -> Option<(&[u8], usize)> {
        let place = self.entries.get(newer)?;
        Some((self.text(place)?, (place.value - place.start) as usize))
    }

    #[inline(always)]
    fn text(&self, place: &Place<T>) -> Option<&[u8]> {
        self.text.get(place.start as usize..place.end as usize)
    }

    /// The first entry, counted from the newest, whose note is so.
    pub(super) fn position(&self, mut is: impl FnMut(&T) -> bool) -> Option<usize> {
        self.entries.iter().position(|place| is(&place.note))
    }

    /// Whether an entry would have room in the table, if it were alone there.
    pub(super) fn fits(&self, name: &[u8], value: &[u8]) -> bool {
        name.len() + value.len() + ENTRY_BYTES <= self.limit
    }

    /// Adds an entry, for which others may have to go. It must fit.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8], note: T) {
        self.clear_away();
        let start = self.text.len();
        self.text.extend_from_slice(name);
        self.push(start, value, note);
    }

    /// As [`Self::insert`], with the name of another entry, which may have to go.
    pub(super) fn insert_named(&mut self, newer: usize, value: &[u8], note: T) {
        self.clear_away();
        let start = self.text.len();
        if let Some(Place { start, value, .. }) = self.entries.get(newer) {
            self.text.extend_from_within(*start as usize..*value as usize);
        }
        self.push(start, value, note);
    }

    fn push(&mut self, start: usize, value: &[u8], note: T) {
        let middle = self.text.len();
        self.text.extend_from_slice(value);
        let end = self.text.len();
        let size = end - start + ENTRY_BYTES;
        self.evict(self.limit.saturating_sub(size));
        self.size += size;
        self.entries.push_front(Place { start: start as u32, value: middle as u32, end: end as u32, note });
    }

    /// Another limit, for which entries may have to go.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.evict(limit);
    }

    /// All entries go.
    pub(super) fn clear(&mut self) {
        self.evict(0);
    }

    /// All entries go, but the name that this one had can be read on.
    pub(super) fn clear_but_name(&mut self, newer: usize) -> &[u8] {
        let name = self.entries.get(newer).map_or(0..0, |place| place.start as usize..place.value as usize);
        self.evict(0);
        &self.text[name]
    }

    /// Gives memory back that the entries do not need.
    pub(super) fn shrink(&mut self) {
        self.remove_dead(self.dead());
        self.text.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.text.capacity() + self.entries.capacity() * size_of::<Place<T>>()
    }

    fn evict(&mut self, size: usize) {
        while self.size > size {
            let Some(place) = self.entries.pop_back() else { break };
            self.size -= (place.end - place.start) as usize + ENTRY_BYTES;
        }
    }

    fn clear_away(&mut self) {
        let dead = self.dead();
        if dead >= DEAD_BYTES && dead >= self.text.len() - dead {
            self.remove_dead(dead);
        }
    }

    fn dead(&self) -> usize {
        self.entries.back().map_or(self.text.len(), |oldest| oldest.start as usize)
    }

    fn remove_dead(&mut self, dead: usize) {
        self.text.drain(..dead);
        for place in &mut self.entries {
            place.start -= dead as u32;
            place.value -= dead as u32;
            place.end -= dead as u32;
        }
    }
}
