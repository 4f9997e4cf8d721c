//! Newline-delimited JSON: a message a line. Empty lines are none.

use bytes::{Bytes, BytesMut};

/// A line is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineTooLong;

/// Takes bytes in as they come and gives lines out, numbered from 1.
#[derive(Debug)]
pub struct Lines {
    buffer: BytesMut,
    /// Of the buffer, so much holds no line's end.
    searched: usize,
    number: usize,
    /// The longest line. Bytes.
    limit: usize,
    ended: bool,
}

impl Lines {
    /// None yet; a line may be `limit` bytes long.
    pub fn new(limit: usize) -> Lines {
        Lines { buffer: BytesMut::new(), searched: 0, number: 0, limit, ended: false }
    }

    /// More bytes.
    pub fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// Nothing comes any more: what is left is the last line.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Bytes that wait for their line to be whole.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next line that is here whole, without its end, and its number.
    ///
    /// # Errors
    /// It is too long.
    pub fn take(&mut self) -> Result<Option<(usize, Bytes)>, LineTooLong> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            let length = match found {
                Some(at) => self.searched + at + 1,
                None if self.ended && !self.buffer.is_empty() => self.buffer.len(),
                None => {
                    self.searched = self.buffer.len();
                    return if self.searched > self.limit { Err(LineTooLong) } else { Ok(None) };
                }
            };
            let line = self.buffer.split_to(length).freeze();
            self.searched = 0;
            self.number += 1;
            let line = line.slice_ref(line.trim_ascii());
            if line.len() > self.limit {
                return Err(LineTooLong);
            }
            if !line.is_empty() {
                return Ok(Some((self.number, line)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_however_the_bytes_were_cut() {
        let text = b"{}\n\r\n {\"a\":1}\r\n\n[2]";
        for piece in 1..text.len() {
            let mut lines = Lines::new(16);
            let mut seen = Vec::new();
            for data in text.chunks(piece) {
                lines.push(data);
                while let Some(line) = lines.take().unwrap() {
                    seen.push(line);
                }
            }
            assert_eq!(seen, [(1, "{}".into()), (3, "{\"a\":1}".into())], "cut into {piece}");
            lines.end();
            assert_eq!(lines.take(), Ok(Some((5, "[2]".into()))));
            assert_eq!(lines.take(), Ok(None));
        }
    }

    #[test]
    fn a_line_has_a_bound_whether_its_end_is_here_or_not() {
        for text in [&b"12345"[..], b"12345\n"] {
            let mut lines = Lines::new(4);
            lines.push(text);
            assert_eq!(lines.take(), Err(LineTooLong));
        }
    }
}
