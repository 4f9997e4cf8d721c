#![no_main]
//! Any sequence of what two drivers may do: no step may bring the two ends apart.

#[path = "../../wire/tests/fuzzing/mod.rs"]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::operations(data));
