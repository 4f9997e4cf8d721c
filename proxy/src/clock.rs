//! The process's monotonic clock as a small number, for state that is shared between workers as atomics.

use std::sync::OnceLock;
use std::time::Instant;

/// Microseconds since the first use in this process; never decreases.
pub fn micros(now: Instant) -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(|| now);
    u64::try_from(now.saturating_duration_since(origin).as_micros()).unwrap_or(u64::MAX)
}
