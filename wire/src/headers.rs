//! A list of header fields in one allocation.

use std::fmt;

use bytes::Bytes;

/// Header fields in their order, names in lower case.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers {
    /// The fields, one behind the other: a [`Prefix`], the name, the value.
    buffer: Vec<u8>,
    fields: usize,
}

/// What stands before each field: the length of its name, whose highest bit says 'sensitive', and that of its value.
#[derive(Clone, Copy)]
struct Prefix {
    name: usize,
    value: usize,
    sensitive: bool,
}

const PREFIX_BYTES: usize = 8;
const SENSITIVE: u32 = 1 << 31;

/// One field of [`Headers::into_shared`].
#[derive(Debug, Clone)]
pub struct SharedHeader {
    /// Lower case.
    pub name: Bytes,
    pub value: Bytes,
    /// See [`Header::sensitive`].
    pub sensitive: bool,
}

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
        Self { buffer: Vec::new(), fields: 0 }
    }

    /// Room for `fields` fields with `text` bytes of names and values together.
    #[must_use]
    pub fn with_capacity(text: usize, fields: usize) -> Self {
        Self { buffer: Vec::with_capacity(text + fields * PREFIX_BYTES), fields: 0 }
    }

    /// Adds a field. `name` must be in lower case. authorization, proxy-authorization, cookie and set-cookie are marked sensitive.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.add(name, value, is_sensitive(name));
    }

    /// Adds a field whose name may have upper-case letters, which become lower-case ones.
    pub fn push_lower(&mut self, name: &[u8], value: &[u8]) {
        let start = self.buffer.len();
        self.buffer.reserve(PREFIX_BYTES + name.len() + value.len());
        self.buffer.extend_from_slice(&[0; PREFIX_BYTES]);
        self.buffer.extend_from_slice(name);
        let (prefix, name) = self.buffer[start..].split_at_mut(PREFIX_BYTES);
        name.make_ascii_lowercase();
        let sensitive = is_sensitive(name);
        prefix.copy_from_slice(&Prefix { name: name.len(), value: value.len(), sensitive }.encode());
        self.buffer.extend_from_slice(value);
        self.fields += 1;
    }

    /// Adds a field with a number in decimal.
    pub fn push_number(&mut self, name: &[u8], mut number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return self.push(name, &digits[at..]);
            }
        }
    }

    /// Adds a field that no dictionary may hold.
    pub fn push_sensitive(&mut self, name: &[u8], value: &[u8]) {
        self.add(name, value, true);
    }

    #[inline]
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8], sensitive: bool) {
        // The peer ends the connection over it.
        debug_assert!(!name.iter().any(u8::is_ascii_uppercase), "a field name with an upper-case letter");
        let prefix = Prefix { name: name.len(), value: value.len(), sensitive }.encode();
        self.buffer.reserve(PREFIX_BYTES + name.len() + value.len());
        self.buffer.extend_from_slice(&prefix);
        self.buffer.extend_from_slice(name);
        self.buffer.extend_from_slice(value);
        self.fields += 1;
    }

    /// A field that no dictionary needs to be kept from, name and value in one piece.
    #[inline]
    pub(crate) fn add_text(&mut self, text: &[u8], name: usize) {
        let prefix = Prefix { name, value: text.len() - name, sensitive: false }.encode();
        self.buffer.reserve(PREFIX_BYTES + text.len());
        self.buffer.extend_from_slice(&prefix);
        self.buffer.extend_from_slice(text);
        self.fields += 1;
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
        let before = self.fields;
        self.retain(|header| header.name != name);
        before - self.fields
    }

    /// Keeps the fields for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(Header<'_>) -> bool) {
        let (mut read, mut kept) = (0, 0);
        while let Some((text, bytes)) = Text::split_off(&self.buffer[read..]) {
            if !keep(text.into()) {
                self.fields -= 1;
            } else {
                // Nothing moves before the first gap.
                if kept < read {
                    self.buffer.copy_within(read..read + bytes, kept);
                }
                kept += bytes;
            }
            read += bytes;
        }
        self.buffer.truncate(kept);
    }

    /// Replaces all fields of that name by this one, at the end of the list.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.push(name, value);
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Header<'_>> + Clone {
        self.texts().map(Header::from)
    }

    /// The fields as they lie in the list.
    pub fn texts(&self) -> Texts<'_> {
        Texts { rest: &self.buffer, left: self.fields }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.fields
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields == 0
    }

    /// Bytes of all names and values together.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.buffer.len() - self.fields * PREFIX_BYTES
    }

    /// What the list takes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.buffer.capacity()
    }

    /// A copy with room for `spare` bytes more and no others.
    pub(crate) fn copy_with_room(&self, spare: usize) -> Self {
        let mut buffer = Vec::with_capacity(self.buffer.len() + spare);
        buffer.extend_from_slice(&self.buffer);
        Self { buffer, fields: self.fields }
    }

    /// Empties the list and keeps its memory.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.fields = 0;
    }

    /// The fields, each value a piece of the one text that all of them share: for a consumer that keeps values without copying them.
    pub fn into_shared(self) -> impl ExactSizeIterator<Item = SharedHeader> {
        let mut at = 0;
        let (text, fields) = (Bytes::from(self.buffer), self.fields);
        (0..fields).map(move |_| {
            let field = Text::split_off(&text[at..]).map(|(field, _)| Header::from(field));
            // There are as many as were counted.
            let Header { name, value, sensitive } = field.unwrap_or(Header { name: &[], value: &[], sensitive: false });
            let name = at + PREFIX_BYTES..at + PREFIX_BYTES + name.len();
            at = name.end + value.len();
            SharedHeader { value: text.slice(name.end..at), name: text.slice(name), sensitive }
        })
    }
}

impl Prefix {
    fn encode(self) -> [u8; PREFIX_BYTES] {
        // Every way in is bounded by HEAD_BYTES long before.
        assert!(self.name < SENSITIVE as usize && self.value <= u32::MAX as usize, "a field over 2 GiB");
        let name = self.name as u32 | if self.sensitive { SENSITIVE } else { 0 };
        (u64::from(name) << 32 | self.value as u64).to_ne_bytes()
    }

    fn decode(bytes: [u8; PREFIX_BYTES]) -> Self {
        let both = u64::from_ne_bytes(bytes);
        let name = (both >> 32) as u32;
        Self { name: (name & !SENSITIVE) as usize, value: both as u32 as usize, sensitive: name & SENSITIVE != 0 }
    }
}

/// A field as it lies in its list.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    /// The name and the value, one behind the other.
    pub bytes: &'a [u8],
    /// Bytes of the name.
    pub name: usize,
    /// See [`Header::sensitive`].
    pub sensitive: bool,
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Header::from(*self).fmt(f)
    }
}

impl fmt::Debug for Texts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<'a> Text<'a> {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        &self.bytes[..self.name]
    }

    /// The first field of a buffer, and how many bytes it takes there.
    #[inline]
    fn split_off(buffer: &'a [u8]) -> Option<(Self, usize)> {
        let (prefix, text) = buffer.split_first_chunk()?;
        let Prefix { name, value, sensitive } = Prefix::decode(*prefix);
        Some((Self { bytes: &text[..name + value], name, sensitive }, PREFIX_BYTES + name + value))
    }
}

impl<'a> From<Text<'a>> for Header<'a> {
    #[inline]
    fn from(text: Text<'a>) -> Self {
        let (name, value) = text.bytes.split_at(text.name);
        Self { name, value, sensitive: text.sensitive }
    }
}

/// The fields of a list as they lie there.
#[derive(Clone)]
pub struct Texts<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Texts<'a> {
    type Item = Text<'a>;

    #[inline]
    fn next(&mut self) -> Option<Text<'a>> {
        let (text, bytes) = Text::split_off(self.rest)?;
        self.rest = &self.rest[bytes..];
        self.left -= 1;
        Some(text)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Texts<'_> {}

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
        assert_eq!(
            headers.clone().into_shared().map(|header| header.sensitive).collect::<Vec<_>>(),
            [false, true, false]
        );
        assert!(!format!("{headers:?}").contains("secret"));
    }

    #[test]
    fn what_is_taken_out_leaves_no_trace() {
        let mut thinned: Headers =
            [(&b"x"[..], &b"y"[..]), (b"a", b"b"), (b"x", b""), (b"cd", b"")].into_iter().collect();
        assert_eq!(thinned.remove(b"x"), 2);
        let plain: Headers = [(&b"a"[..], &b"b"[..]), (b"cd", b"")].into_iter().collect();
        assert_eq!(thinned, plain);
        assert_eq!(thinned.iter().len(), 2);
        let shared: Vec<_> = thinned.into_shared().map(|field| [field.name, field.value]).collect();
        assert_eq!(shared, [["a", "b"], ["cd", ""]]);
    }
}
