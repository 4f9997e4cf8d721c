//! Bounds on what is admitted again: the retry budget.

use std::cell::Cell;

/// Retries saved up at most: as many calls may fail at one moment, when an instance dies, and all be sent again.
const BURST: f64 = 1024.0;
/// What one call adds. In a lasting outage at most this share of the calls is sent twice.
const PER_CALL: f64 = 0.2;

/// A token bucket filled by calls and emptied by retries (Finagle's retry budget): retries follow the load, so that they
/// never become the load. One a worker.
#[derive(Debug)]
pub struct RetryBudget(Cell<f64>);

impl Default for RetryBudget {
    fn default() -> RetryBudget {
        RetryBudget(Cell::new(BURST))
    }
}

impl RetryBudget {
    /// A call was made.
    pub fn deposit(&self) {
        self.0.set((self.0.get() + PER_CALL).min(BURST));
    }

    /// Asks for one retry.
    pub fn withdraw(&self) -> bool {
        let left = self.0.get() - 1.0;
        if left < 0.0 {
            return false;
        }
        self.0.set(left);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_lasting_outage_a_fifth_of_the_calls_is_retried() {
        let budget = RetryBudget::default();
        while budget.withdraw() {}
        let mut retried = 0;
        for _ in 0..10_000 {
            budget.deposit();
            retried += u32::from(budget.withdraw());
        }
        assert!((1_990..=2_010).contains(&retried), "{retried}");
    }

    #[test]
    fn a_burst_of_failures_is_covered() {
        let budget = RetryBudget::default();
        assert_eq!((0..5_000).filter(|_| budget.withdraw()).count(), BURST as usize);
    }
}
