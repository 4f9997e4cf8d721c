//! A list of header fields in two allocations: all text in one buffer, and one small record a field.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

/// Header fields in their order, names in lower case. Equality looks at the fields, not at the layout.
#[derive(Clone, Default)]
pub struct Headers {
    text: Vec<u8>,
    fields: Vec<Field>,
}

/// Where a field lies in the text: the value follows the name at once.
#[derive(Clone, Copy)]
struct Field {
    start: u32,
    name: u32,
    value: u32,
    sensitive: bool,
}

/// Where the name and the value of a field lie in the text of [`Headers::into_parts`].
pub type FieldRange = (Range<usize>, Range<usize>);

/// One field, borrowed from its list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Lower case.
    pub name: &'a [u8],
    pub value: &'a [u8],
    /// Never put into a dictionary, here or at any further hop, and not shown by `Debug`.
    pub sensitive: bool,
}

/// Whether a field of this name is marked sensitive by [`Headers::push`].
#[must_use]
pub fn is_sensitive(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"proxy-authorization" | b"cookie" | b"set-cookie")
}

impl Headers {
    #[must_use]
    pub const fn new() -> Self {
        Self { text: Vec::new(), fields: Vec::new() }
    }

    /// Room for `fields` fields with `text` bytes of names and values together.
    #[must_use]
    pub fn with_capacity(text: usize, fields: usize) -> Self {
        Self { text: Vec::with_capacity(text), fields: Vec::with_capacity(fields) }
    }

    /// Adds a field. `name` must be in lower case. authorization, proxy-authorization, cookie and set-cookie are marked sensitive.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.add(name, value, is_sensitive(name));
    }

    /// Adds a field that no dictionary may hold.
    pub fn push_sensitive(&mut self, name: &[u8], value: &[u8]) {
        self.add(name, value, true);
    }

    pub(crate) fn add(&mut self, name: &[u8], value: &[u8], sensitive: bool) {
        // The peer ends the connection over it.
        debug_assert!(!name.iter().any(u8::is_ascii_uppercase), "a field name with an upper-case letter");
        let start = self.text.len();
        // A list past 4 GiB cannot be met: every way in is bounded by HEAD_BYTES long before.
        assert!(start + name.len() + value.len() <= u32::MAX as usize, "header list over 4 GiB");
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.fields.push(Field { start: start as u32, name: name.len() as u32, value: value.len() as u32, sensitive });
    }

    /// A field that no dictionary needs to be kept from, name and value in one piece.
    pub(crate) fn add_text(&mut self, text: &[u8], name: usize) {
        let start = self.text.len();
        self.text.extend_from_slice(text);
        let value = (text.len() - name) as u32;
        self.fields.push(Field { start: start as u32, name: name as u32, value, sensitive: false });
    }

    /// The first value of that name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|header| header.name == name).map(|header| header.value)
    }

    /// All values of that name, in order.
    pub fn get_all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.iter().filter(move |header| header.name == name).map(|header| header.value)
    }

    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    /// Takes out all fields of that name and says how many there were.
    pub fn remove(&mut self, name: &[u8]) -> usize {
        let before = self.fields.len();
        self.retain(|header| header.name != name);
        before - self.fields.len()
    }

    /// Keeps the fields for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(Header<'_>) -> bool) {
        let text = &self.text;
        self.fields.retain(|field| keep(field.of(text)));
    }

    /// Replaces all fields of that name by this one, at the end of the list.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.push(name, value);
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Header<'_>> + Clone {
        self.fields.iter().map(|field| field.of(&self.text))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Bytes of all names and values together.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.fields.iter().map(|field| field.name as usize + field.value as usize).sum()
    }

    /// What the list takes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.text.len() + self.fields.len() * size_of::<Field>()
    }

    /// Empties the list and keeps its memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
    }

    /// The text buffer and, for each field, where its name and its value lie: for a consumer that builds its values with `Bytes::slice`.
    #[must_use]
    pub fn into_parts(self) -> (Bytes, Vec<FieldRange>) {
        let ranges = self.fields.iter().map(Field::ranges).collect();
        (Bytes::from(self.text), ranges)
    }
}

impl Field {
    fn ranges(&self) -> FieldRange {
        let start = self.start as usize;
        let middle = start + self.name as usize;
        (start..middle, middle..middle + self.value as usize)
    }

    fn of<'a>(&self, text: &'a [u8]) -> Header<'a> {
        let (name, value) = self.ranges();
        Header { name: &text[name], value: &text[value], sensitive: self.sensitive }
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sensitive {
            write!(f, "{}: (sensitive)", self.name.escape_ascii())
        } else {
            write!(f, "{}: {}", self.name.escape_ascii(), self.value.escape_ascii())
        }
    }
}

impl<'a> FromIterator<(&'a [u8], &'a [u8])> for Headers {
    fn from_iter<T: IntoIterator<Item = (&'a [u8], &'a [u8])>>(fields: T) -> Self {
        let mut headers = Self::new();
        for (name, value) in fields {
            headers.push(name, value);
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Headers {
        let mut headers = Headers::new();
        headers.push(b"accept", b"a");
        headers.push(b"cookie", b"secret");
        headers.push(b"accept", b"b");
        headers
    }

    #[test]
    fn finds_replaces_and_removes() {
        let mut headers = sample();
        assert_eq!(headers.get(b"accept"), Some(&b"a"[..]));
        assert_eq!(headers.get_all(b"accept").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(headers.len(), 3);
        assert_eq!(headers.text_bytes(), 6 + 1 + 6 + 6 + 6 + 1);
        headers.set(b"accept", b"c");
        assert_eq!(headers.get_all(b"accept").collect::<Vec<_>>(), [b"c"]);
        assert_eq!(headers.remove(b"accept"), 1);
        assert_eq!(headers.remove(b"accept"), 0);
        assert!(!headers.contains(b"accept"));
        assert_eq!(headers.text_bytes(), 12);
    }

    #[test]
    fn sensitive_is_marked_and_hidden() {
        let headers = sample();
        assert_eq!(headers.iter().map(|header| header.sensitive).collect::<Vec<_>>(), [false, true, false]);
        assert!(!format!("{headers:?}").contains("secret"));
    }

    #[test]
    fn equality_ignores_layout() {
        let mut holes = Headers::new();
        holes.push(b"x", b"y");
        holes.push(b"a", b"b");
        holes.remove(b"x");
        let plain: Headers = [(&b"a"[..], &b"b"[..])].into_iter().collect();
        assert_eq!(holes, plain);
        let (text, parts) = holes.into_parts();
        let (name, value) = parts[0].clone();
        assert_eq!((&text[name], &text[value]), (&b"a"[..], &b"b"[..]));
    }
}
