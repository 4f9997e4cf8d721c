#![no_main]
//! One head: what is accepted can be written, and reads the same.

#[path = "../../http1/tests/fuzzing/mod.rs"]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::heads(data));
