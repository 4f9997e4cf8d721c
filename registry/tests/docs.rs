//! docs/registry.md says what the code does.

use pillion_registry::limits::{
    ENDPOINTS_PER_SERVICE, FOLLOWED_SERVICES, LISTED_ENDPOINTS, PROBES_TO_FORGET, RECORD_BYTES, REJECTED_NAMED,
    SNAPSHOT_BYTES,
};
use pillion_registry::{Endpoint, keys};

const TEXT: &str = include_str!("../../docs/registry.md");

/// The text of the first fenced block of that kind.
fn block(kind: &str) -> &'static str {
    let (_, rest) = TEXT.split_once(&format!("```{kind}\n")).expect("the block is there");
    rest.split_once("\n```").expect("it ends").0
}

#[test]
fn the_example_parses_and_is_what_is_written() {
    let key = keys::parse_endpoint(keys::DEFAULT_PREFIX, block("key")).expect("a key");
    assert_eq!(keys::endpoint(keys::DEFAULT_PREFIX, &key), block("key"));
    let endpoint = Endpoint::from_record(key, block("json").as_bytes()).expect("a record");
    assert_eq!(String::from_utf8(endpoint.to_json()).expect("text"), block("json"));
    assert_eq!(endpoint.metadata["zone"], "eu-1");
}

#[test]
fn the_limits_are_those_of_the_code() {
    for (row, limit) in [
        ("| record |", RECORD_BYTES),
        ("| endpoints of one service |", ENDPOINTS_PER_SERVICE),
        ("| services followed by one sidecar |", FOLLOWED_SERVICES),
        ("| endpoints that `pillionctl` lists |", LISTED_ENDPOINTS),
        ("| snapshot |", SNAPSHOT_BYTES),
    ] {
        let line = TEXT.lines().find(|line| line.starts_with(row)).expect(row);
        assert!(line.contains(&format!(" {limit}")), "{line}: {limit}");
    }
    assert!(TEXT.contains(&format!("after {PROBES_TO_FORGET} failed probes")));
    assert!(TEXT.contains(&format!("at most {REJECTED_NAMED} at a time")));
    assert_eq!(keys::cluster("{prefix}"), "{prefix}/cluster");
    assert!(TEXT.contains(&keys::cluster("{prefix}")));
}
