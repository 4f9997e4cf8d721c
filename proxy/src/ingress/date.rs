//! The current second as a Date field says it (RFC 9110, 6.6.1), made once a second.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;

/// One worker's.
#[derive(Debug)]
pub struct Date(RefCell<(u64, HeaderValue)>);

impl Date {
    /// Not made yet.
    pub fn new() -> Date {
        Date(RefCell::new((0, HeaderValue::from_static(""))))
    }

    /// Hands the field's value to `write`.
    pub fn with<T>(&self, write: impl FnOnce(&HeaderValue) -> T) -> T {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (made, value) = &mut *self.0.borrow_mut();
        if second != *made || value.is_empty() {
            *made = second;
            // A date is plain text.
            *value =
                HeaderValue::try_from(httpdate::fmt_http_date(now)).unwrap_or_else(|_| HeaderValue::from_static(""));
        }
        write(value)
    }
}
