#![no_main]
//! One body, in any framing and any pieces.

#[path = "../../http1/tests/fuzzing/mod.rs"]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::bodies(data));
