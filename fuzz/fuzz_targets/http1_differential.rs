#![no_main]
//! The same bytes to hyper: what it does not take of what we take is in the list of http1/README.md.

#[path = "../../http1/tests/corpus/mod.rs"]
mod corpus;
#[path = "../../http1/tests/fuzzing/mod.rs"]
mod fuzzing;
#[path = "../../http1/tests/other/mod.rs"]
mod other;

libfuzzer_sys::fuzz_target!(|data: &[u8]| other::check_against_hyper(data));
