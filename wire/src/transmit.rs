//! Where [`Connection::poll_transmit`](crate::Connection::poll_transmit) puts what is to be sent.

use bytes::Bytes;

use crate::limits::COPY_BELOW_BYTES;

/// Takes frames in their order: a `Vec<u8>` in one piece, [`Pieces`] without a copy of large bodies.
pub trait Transmit: sealed::Transmit {}

impl Transmit for Vec<u8> {}
impl Transmit for Pieces {}

pub(crate) mod sealed {
    use bytes::Bytes;

    pub trait Transmit {
        /// All bytes so far.
        fn bytes(&self) -> usize;

        /// Where headers and small frames go.
        fn frames(&mut self) -> &mut Vec<u8>;

        /// Body bytes, behind their header.
        fn body(&mut self, part: Bytes);
    }
}

impl sealed::Transmit for Vec<u8> {
    fn bytes(&self) -> usize {
        self.len()
    }

    fn frames(&mut self) -> &mut Vec<u8> {
        self
    }

    fn body(&mut self, part: Bytes) {
        self.extend_from_slice(&part);
    }
}

/// What is to be sent, for a gathered write.
#[derive(Debug, Default)]
pub struct Pieces {
    frames: Vec<u8>,
    /// Each stands before the byte of `frames` at its place.
    bodies: Vec<(usize, Bytes)>,
    body_bytes: usize,
}

impl Pieces {
    /// All bytes together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.frames.len() + self.body_bytes
    }

    /// All of it in one slice, if no body stands apart.
    #[must_use]
    pub fn whole(&self) -> Option<&[u8]> {
        self.bodies.is_empty().then_some(&self.frames)
    }

    /// The pieces in their order; none of them is empty.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.bodies.iter().map(|(place, _)| *place).chain([self.frames.len()]);
        let bodies = self.bodies.iter().map(|(_, body)| &body[..]).chain([&[][..]]);
        let mut start = 0;
        ends.zip(bodies)
            .flat_map(move |(end, body)| [&self.frames[std::mem::replace(&mut start, end)..end], body])
            .filter(|slice| !slice.is_empty())
    }

    /// Where small things go: behind all that is here.
    pub fn frames_mut(&mut self) -> &mut Vec<u8> {
        &mut self.frames
    }

    /// Body bytes, behind all that is here.
    pub fn push(&mut self, part: Bytes) {
        if part.len() < COPY_BELOW_BYTES {
            self.frames.extend_from_slice(&part);
        } else {
            self.body_bytes += part.len();
            self.bodies.push((self.frames.len(), part));
        }
    }

    /// What it takes beside bodies, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.frames.capacity() + self.bodies.capacity() * size_of::<(usize, Bytes)>()
    }

    /// Forgets all of it, and keeps the memory of what is not a body.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.bodies.clear();
        self.body_bytes = 0;
    }
}

impl sealed::Transmit for Pieces {
    fn bytes(&self) -> usize {
        self.bytes()
    }

    fn frames(&mut self) -> &mut Vec<u8> {
        self.frames_mut()
    }

    fn body(&mut self, part: Bytes) {
        self.push(part);
    }
}

#[cfg(test)]
mod tests {
    use super::sealed::Transmit;
    use super::*;

    #[test]
    fn pieces_are_what_one_buffer_is() {
        let (mut whole, mut pieces) = (Vec::new(), Pieces::default());
        for (header, body) in [("a", 5_000), ("bc", 3), ("d", 0), ("", 4_096), ("", 4_097)] {
            whole.frames().extend_from_slice(header.as_bytes());
            pieces.frames().extend_from_slice(header.as_bytes());
            whole.body(Bytes::from(vec![b'x'; body]));
            pieces.body(Bytes::from(vec![b'x'; body]));
        }
        let slices: Vec<&[u8]> = pieces.slices().collect();
        assert_eq!(slices.concat(), whole);
        assert_eq!(slices.iter().map(|slice| slice.len()).collect::<Vec<_>>(), [1, 5_000, 6, 4_096, 4_097]);
        assert_eq!(pieces.whole(), None);
        assert_eq!(pieces.bytes(), whole.len());
        pieces.clear();
        assert_eq!((pieces.slices().count(), pieces.bytes(), pieces.whole()), (0, 0, Some(&[][..])));
    }
}
