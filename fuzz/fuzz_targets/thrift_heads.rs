#![no_main]
//! The head of a message of Thrift's, in any pieces.

#[path = "../../thrift/tests/fuzzing/mod.rs"]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::heads(data));
