#![no_main]
//! Messages one behind another, both ways, in any pieces.

#[path = "../../http1/tests/fuzzing/mod.rs"]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::messages(data));
