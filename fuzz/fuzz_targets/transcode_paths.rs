#![no_main]
//! Whatever a target, its query and a path template say.

#[path = "../../transcode/tests/fuzzing/mod.rs"]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::paths(data));
