//! What the benches and the gate share.

use std::ops::Deref;

/// How often a bench does what it counts: each count is divided by this. 64 callers share it evenly.
pub const TIMES: u32 = 1024;

/// Bytes at a place of known alignment. Searching takes other steps where its bytes lie otherwise, and literals lie where the
/// length of the build's path has shifted them: up to 9 % of a small count.
#[derive(Debug)]
#[repr(align(64))]
pub struct Placed {
    bytes: [u8; 1024],
    length: usize,
}

impl Placed {
    /// A copy of `text`, which fits.
    pub fn new(text: impl AsRef<[u8]>) -> Box<Placed> {
        let text = text.as_ref();
        let mut placed = Box::new(Placed { bytes: [0; 1024], length: text.len() });
        placed.bytes[..text.len()].copy_from_slice(text);
        placed
    }
}

impl Deref for Placed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
