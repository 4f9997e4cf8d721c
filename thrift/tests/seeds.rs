//! What the fuzz target runs, on what it has found.

mod fuzzing;

use std::path::Path;

#[test]
fn what_was_found_replays() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/thrift_heads");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a directory entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        println!("{}", file.display());
        fuzzing::heads(&std::fs::read(&file).expect("a seed"));
    }
}
