#![no_main]
//! Bytes that nobody meant, given to a connection in any state and any pieces.

#[path = "../../wire/tests/fuzzing/mod.rs"]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::bytes(data));
