//! An allowance against peers that make work and throw it away.

use std::time::Instant;

use crate::limits::{FLOOD_ALLOWANCE, FLOOD_REFILL_PER_SECOND};

/// Filled by time and by every call that was answered, spent by calls that were cancelled young or refused. A peer that lets
/// its calls run, or cancels them at their deadlines, never comes near its end.
#[derive(Debug)]
pub struct Flood {
    most: u32,
    left: u32,
    refilled: Instant,
}

impl Flood {
    /// Of a peer that may have so many calls open.
    #[must_use]
    pub fn new(max_concurrent: u32, now: Instant) -> Self {
        let most = max_concurrent.saturating_mul(2).max(FLOOD_ALLOWANCE);
        Self { most, left: most, refilled: now }
    }

    /// A call was answered.
    pub fn earn(&mut self) {
        self.left = self.left.saturating_add(1).min(self.most);
    }

    /// False: the peer has used up its allowance.
    pub fn spend(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.refilled).as_millis();
        let back = u32::try_from(passed).unwrap_or(u32::MAX).saturating_mul(FLOOD_REFILL_PER_SECOND) / 1_000;
        if back > 0 {
            self.left = self.left.saturating_add(back).min(self.most);
            self.refilled = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}
