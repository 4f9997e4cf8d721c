#![no_main]
//! Field blocks of HTTP/2, and the plain decoder that must read them the same.

#[path = "../../http2/tests/fuzzing/mod.rs"]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::blocks(data));
