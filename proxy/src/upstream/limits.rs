//! Bounds on the head of what the app answers.

use crate::config::Limits;
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};

/// Header bounds on what the app answers.
#[derive(Debug, Clone, Copy)]
pub struct HeaderLimits {
    /// `limits.header_bytes`
    pub bytes: usize,
    /// `limits.header_count`
    pub count: usize,
}

impl HeaderLimits {
    /// Those of the configuration.
    pub fn of(limits: &Limits) -> HeaderLimits {
        HeaderLimits { bytes: limits.header_bytes, count: limits.header_count }
    }

    /// Nothing, unless a head is larger than may be.
    pub fn check(self, bytes: usize, count: usize) -> Result<(), Error> {
        if bytes <= self.bytes && count <= self.count {
            return Ok(());
        }
        let detail = format!(
            "{count} fields of {bytes} bytes; limits.header_count is {}, limits.header_bytes {}",
            self.count, self.bytes
        );
        Err(Error::new(ErrorCode::AppHeaderTooLarge, Origin::App, Phase::Wait, Executed::Yes, detail))
    }
}
