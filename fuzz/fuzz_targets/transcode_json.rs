#![no_main]
//! Whatever JSON a caller sends for a message.

#[path = "../../transcode/tests/fuzzing/mod.rs"]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::json(data));
