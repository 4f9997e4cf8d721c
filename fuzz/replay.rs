//! What the fuzzers have found, as input of ordinary tests: the crates that are fuzzed include this file in theirs.

use std::path::Path;

/// Runs what a fuzz target runs on each file of its seeds, of which there are at least so many.
pub fn replay(target: &str, least: usize, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a directory entry").path()).collect();
    files.sort();
    assert!(files.len() >= least, "{} holds too little", folder.display());
    for file in files {
        println!("{}", file.display());
        run(&std::fs::read(&file).expect("a seed"));
    }
}
