//! Waiting between attempts, so that a fleet does not come back all at once.

use std::time::Duration;

/// Full jitter: a random time between nothing and a bound that doubles with each failure.
#[derive(Debug)]
pub(crate) struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
    rng: fastrand::Rng,
}

impl Backoff {
    pub(crate) fn new(base: Duration, max: Duration) -> Self {
        Backoff { base, max, failures: 0, rng: fastrand::Rng::with_seed(crate::names::random_u64()) }
    }

    /// How long to wait after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let bound = self.base.saturating_mul(1 << self.failures.min(16)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(self.rng.f64())
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `time`, give or take the share `part` of it.
pub(crate) fn jittered(time: Duration, part: f64, rng: &mut fastrand::Rng) -> Duration {
    time.mul_f64(1.0 - part + 2.0 * part * rng.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_bounded_and_spread() {
        let (base, max) = (Duration::from_millis(50), Duration::from_secs(5));
        let mut backoff = Backoff::new(base, max);
        assert!(backoff.next() <= base);
        let waits: Vec<_> = (0..200).map(|_| backoff.next()).collect();
        assert!(waits.iter().all(|wait| *wait <= max));
        assert!(waits[20..].iter().any(|wait| *wait < max / 4) && waits[20..].iter().any(|wait| *wait > max / 2));
        backoff.reset();
        assert!(backoff.next() <= base);
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let time = jittered(Duration::from_secs(100), 0.25, &mut rng);
            assert!((Duration::from_secs(75)..=Duration::from_secs(125)).contains(&time));
        }
    }
}
