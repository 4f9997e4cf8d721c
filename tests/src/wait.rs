//! Waiting for states with a deadline; nothing here sleeps for a guess.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How often a state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until `probe` gives `Ok`, and returns it; panics with what was seen last when `limit` has passed.
#[track_caller]
pub fn until<T, E: Debug>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(seen) if start.elapsed() > limit => {
                panic!("waited {limit:?} for: {what}; last seen: {seen:?}")
            }
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Looks until `probe` is true; false when `limit` has passed.
pub fn within(limit: Duration, mut probe: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if probe() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
