//! Every bound of the crate, with its unit in the name.

use std::time::Duration;

/// One record, as it stands in the registry.
pub const RECORD_BYTES: usize = 16 * 1024;
/// Metadata entries of one record.
pub const METADATA_ENTRIES: usize = 32;
/// A metadata name.
pub const METADATA_NAME_BYTES: usize = 64;
/// A metadata value.
pub const METADATA_VALUE_BYTES: usize = 256;
/// The `protocol` field of a record.
pub const PROTOCOL_BYTES: usize = 32;
/// The `weight` field of a record.
pub const WEIGHT: u32 = 10_000;

/// Endpoints of one service; what lies beyond (in the order of the keys) is left out and said so.
pub const ENDPOINTS_PER_SERVICE: usize = 20_000;
/// Services that one source follows at once.
pub const FOLLOWED_SERVICES: usize = 8_192;
/// Endpoints that `list` gives out at most; more is an error.
pub const LISTED_ENDPOINTS: usize = 200_000;
/// `Change::Rejected` messages for one listing or one burst; the last one says how many more there were.
pub const REJECTED_NAMED: usize = 16;
/// Rejected keys remembered of one service, so that each is named once and not at every listing.
pub const REJECTED_REMEMBERED: usize = 1_024;

/// The file that the table is saved to.
pub const SNAPSHOT_BYTES: usize = 64 * 1024 * 1024;
/// A suspect entry leaves after so many failed probes …
pub const PROBES_TO_FORGET: u32 = 3;
/// … of which each is at least so long after the one before: what fails at one moment, for several workers or attempts,
/// is one failure.
pub const PROBE_SPACING: Duration = Duration::from_secs(1);

/// The shortest lease: below it a short pause of the machine would cost the registration.
pub const LEASE_TTL_MIN: Duration = Duration::from_secs(2);
/// The longest lease.
pub const LEASE_TTL_MAX: Duration = Duration::from_secs(3_600);

/// A burst of events is gathered for this long before a list is published …
pub const GATHER_MIN: Duration = Duration::from_millis(10);
/// … and longer for large services, whose list is dear to copy, but never longer than this.
pub const GATHER_MAX: Duration = Duration::from_millis(500);

/// How long a burst of a service with `endpoints` endpoints is gathered.
pub fn gather(endpoints: usize) -> Duration {
    (GATHER_MIN + Duration::from_micros(10) * u32::try_from(endpoints).unwrap_or(u32::MAX)).min(GATHER_MAX)
}

const _: () = assert!(METADATA_ENTRIES * (METADATA_NAME_BYTES + METADATA_VALUE_BYTES) < RECORD_BYTES);
const _: () = assert!(GATHER_MIN.as_nanos() <= GATHER_MAX.as_nanos());
const _: () = assert!(REJECTED_NAMED <= REJECTED_REMEMBERED);
