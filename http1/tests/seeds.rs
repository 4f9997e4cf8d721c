//! What the fuzz targets run, on the corpus, on what they have found, and on a few thousand inputs from a seed.

mod corpus;
#[path = "../../fuzz/replay.rs"]
mod found;
mod fuzzing;
mod other;

use std::path::{Path, PathBuf};

use fuzzing::common::MAX_HEAD;

type Run = fn(&[u8]);

/// Each target, and the bytes of decisions that stand before the messages.
const TARGETS: [(&str, Run, &[u8]); 4] = [
    ("http1_heads", fuzzing::heads, &[]),
    ("http1_bodies", fuzzing::bodies, &[2, 3]),
    ("http1_messages", fuzzing::messages, &[0, 6, 2, 40]),
    ("http1_differential", other::check_against_hyper, &[]),
];

/// The corpus as a target wants it: bodies without their heads.
fn seeds(target: &str, prefix: &[u8]) -> Vec<Vec<u8>> {
    let cases = [corpus::REQUESTS, corpus::RESPONSES].map(corpus::cases).into_iter().flatten();
    let after = |bytes: Vec<u8>| match bytes.windows(4).position(|window| window == b"\r\n\r\n") {
        Some(end) if target == "http1_bodies" => bytes[end + 4..].to_vec(),
        _ => bytes,
    };
    cases.map(|case| [prefix, &after(case.bytes)].concat()).filter(|bytes| bytes.len() < 2 * MAX_HEAD).collect()
}

fn corpus_folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

#[test]
fn the_corpus_replays() {
    for (target, run, prefix) in TARGETS {
        seeds(target, prefix).iter().for_each(|bytes| run(bytes));
    }
}

#[test]
fn what_was_found_replays() {
    for (target, run, _) in TARGETS {
        found::replay(target, 1, run);
    }
}

/// Bytes that HTTP is made of, in any order.
#[test]
fn seeded_bytes() {
    const WORDS: [&[u8]; 24] = [
        b"GET ",
        b"POST ",
        b"HTTP/1.1 200 OK\r\n",
        b"/ ",
        b"HTTP/1.1\r\n",
        b"HTTP/1.0\r\n",
        b"host: a\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"content-length: ",
        b"transfer-encoding: ",
        b"chunked",
        b"connection: close\r\n",
        b"5",
        b"0\r\n",
        b"a;b\r\n",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b",",
        b":",
        b"\0",
        b"hello",
    ];
    for seed in 0..4_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = rng.usize(0..40);
        let bytes: Vec<u8> = (0..count).flat_map(|_| WORDS[rng.usize(0..WORDS.len())]).copied().collect();
        println!("seed {seed}");
        for (_, run, prefix) in TARGETS {
            run(&[prefix, &bytes].concat());
        }
    }
}

/// `cargo test -p pillion-http1 --test seeds -- --ignored` gives the fuzzers the corpus to begin with.
#[test]
#[ignore = "writes files for the fuzzers"]
fn write_the_corpus_for_the_fuzzers() {
    for (target, _, prefix) in TARGETS {
        let folder = corpus_folder(target);
        std::fs::create_dir_all(&folder).expect("a folder");
        for (number, bytes) in seeds(target, prefix).iter().enumerate() {
            std::fs::write(folder.join(format!("case-{number}")), bytes).expect("a seed");
        }
    }
}
