//! Bytes that can be made anew and compared, and digests of what came.

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// The piece in which bytes are made.
const PIECE: usize = 64 * 1024;

/// Bytes that anybody can make again from the seed and that no compression or mix-up survives.
#[derive(Debug)]
pub struct Pattern {
    block: Vec<u8>,
    left: u64,
    number: u64,
}

impl Pattern {
    #[must_use]
    pub fn new(seed: u64, bytes: u64) -> Pattern {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut block = vec![0; PIECE];
        random.fill(&mut block);
        Pattern { block, left: bytes, number: 0 }
    }
}

impl Iterator for Pattern {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        // Each piece differs in its first bytes, so that a lost, doubled or swapped one shows.
        self.block[..8].copy_from_slice(&self.number.to_le_bytes());
        self.number += 1;
        let take = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        self.left -= take as u64;
        Some(Bytes::copy_from_slice(&self.block[..take]))
    }
}

/// The SHA-256 of a whole pattern, in hex.
#[must_use]
pub fn pattern_digest(seed: u64, bytes: u64) -> String {
    let mut digest = Sha256::new();
    for piece in Pattern::new(seed, bytes) {
        digest.update(&piece);
    }
    hex(&digest.finalize())
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
