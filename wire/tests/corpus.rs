//! The seeds of the fuzzers as an ordinary test, and a few thousand inputs more from a seed.

mod fuzzing;

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a directory entry").path())
        .collect();
    files.sort();
    assert!(files.len() >= 10, "{} holds too little", folder.display());
    for file in files {
        println!("{}", file.display());
        run(&std::fs::read(&file).expect("a corpus file"));
    }
}

fn seeded(count: u64, run: fn(&[u8])) {
    for seed in 0..count {
        let mut rng = fastrand::Rng::with_seed(seed);
        let length = rng.usize(0..1_500);
        let data: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
        println!("seed {seed}");
        run(&data);
    }
}

#[test]
fn bytes_replay() {
    replay("wire_bytes", fuzzing::bytes);
}

#[test]
fn operations_replay() {
    replay("wire_operations", fuzzing::operations);
}

#[test]
fn bytes_from_seeds() {
    seeded(1_000, fuzzing::bytes);
}

#[test]
fn operations_from_seeds() {
    seeded(300, fuzzing::operations);
}
