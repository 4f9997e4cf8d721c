#![no_main]
//! Frames of HTTP/2, to either end of a connection.

#[path = "../../http2/tests/fuzzing/mod.rs"]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::frames(data));
