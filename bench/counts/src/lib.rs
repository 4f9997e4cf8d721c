//! What the benches and the gate share.

/// How often a bench does what it counts: each count is divided by this. 64 callers share it evenly.
pub const TIMES: u32 = 1024;
