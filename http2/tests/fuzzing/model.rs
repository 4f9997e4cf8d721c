//! A decoder that is slow and plain: what the real one must agree with.

/// A field: name, value, and whether it is sensitive.
pub type Field = (Vec<u8>, Vec<u8>, bool);

pub struct Model {
    /// By index, which begins at 1.
    fixed: Vec<(Vec<u8>, Vec<u8>)>,
    /// The newest first.
    table: Vec<(Vec<u8>, Vec<u8>)>,
    limit: usize,
    announced: usize,
    /// Each symbol's code, as digits.
    codes: Vec<String>,
}

impl Model {
    pub fn new(announced: usize) -> Model {
        // The static table is data, and has its own tests; it is taken from the real one.
        let fixed = (1..62_u8).map(|index| {
            let mut found = None;
            let mut decoder = http2::hpack::Decoder::new(announced);
            let read =
                decoder.decode(&[0x80 | index], |field| found = Some((field.name.to_vec(), field.value.to_vec())));
            read.ok().and(found).expect("an entry of the static table")
        });
        let lines = include_str!("huffman.txt").lines().skip(1);
        let codes = lines.flat_map(str::split_whitespace).map(|code| {
            let (code, length) = code.split_once('/').expect("a code and its length");
            let (code, length) = (u32::from_str_radix(code, 16).expect("a code"), length.parse().expect("a length"));
            format!("{code:0length$b}")
        });
        Model { fixed: fixed.collect(), table: Vec::new(), limit: 4_096, announced, codes: codes.collect() }
    }

    /// The fields of a block; `None`: it is refused.
    pub fn decode(&mut self, block: &[u8]) -> Option<Vec<Field>> {
        let mut bytes = block.iter().copied();
        let mut fields = Vec::new();
        let mut changes = 0;
        while let Some(first) = bytes.next() {
            match first {
                0x80.. => {
                    let (name, value) = self.entry(number(&mut bytes, first, 7)?)?;
                    fields.push((name, value, false));
                }
                0x20..0x40 => {
                    let size = number(&mut bytes, first, 5)?;
                    changes += 1;
                    if !fields.is_empty() || changes > 2 || size > self.announced as u64 {
                        return None;
                    }
                    self.limit = size as usize;
                    self.evict();
                }
                _ => {
                    let index = number(&mut bytes, first, if first >= 0x40 { 6 } else { 4 })?;
                    let name = if index == 0 { self.text(&mut bytes)? } else { self.entry(index)?.0 };
                    let value = self.text(&mut bytes)?;
                    if first >= 0x40 {
                        self.table.insert(0, (name.clone(), value.clone()));
                        self.evict();
                    }
                    fields.push((name, value, (0x10..0x20).contains(&first)));
                }
            }
        }
        Some(fields)
    }

    /// The static index of a name.
    pub fn known(&self, name: &[u8]) -> Option<u8> {
        self.fixed.iter().position(|entry| entry.0 == name).map(|at| at as u8 + 1)
    }

    fn entry(&self, index: u64) -> Option<(Vec<u8>, Vec<u8>)> {
        let at = usize::try_from(index.checked_sub(1)?).ok()?;
        self.fixed.iter().chain(&self.table).nth(at).cloned()
    }

    fn evict(&mut self) {
        let size = |entry: &(Vec<u8>, Vec<u8>)| entry.0.len() + entry.1.len() + 32;
        while self.table.iter().map(size).sum::<usize>() > self.limit {
            self.table.pop();
        }
    }

    fn text(&self, bytes: &mut impl Iterator<Item = u8>) -> Option<Vec<u8>> {
        let first = bytes.next()?;
        let length = number(bytes, first, 7)?;
        let mut text = Vec::new();
        for _ in 0..length {
            text.push(bytes.next()?);
        }
        if first < 0x80 { Some(text) } else { self.decode_text(&text) }
    }

    /// Bit by bit.
    fn decode_text(&self, code: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let mut digits = String::new();
        for at in 0..code.len() * 8 {
            digits.push(if code[at / 8] & 0x80 >> (at % 8) == 0 { '0' } else { '1' });
            if let Some(symbol) = self.codes.iter().position(|code| *code == digits) {
                text.push(u8::try_from(symbol).ok()?);
                digits.clear();
            }
        }
        (digits.len() < 8 && !digits.contains('0')).then_some(text)
    }
}

/// A number that begins in the low `bits` of `first`.
fn number(bytes: &mut impl Iterator<Item = u8>, first: u8, bits: u32) -> Option<u64> {
    let most = 2_u64.pow(bits) - 1;
    let mut number = u64::from(first) % 2_u64.pow(bits);
    if number < most {
        return Some(number);
    }
    for at in 0..5 {
        let byte = bytes.next()?;
        number += u64::from(byte % 128) * 128_u64.pow(at);
        if byte < 128 {
            return Some(number);
        }
    }
    None
}
