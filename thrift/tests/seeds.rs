//! What the fuzz target runs, on what it has found.

mod fuzzing;
#[path = "../../fuzz/replay.rs"]
mod seeds;

#[test]
fn what_was_found_replays() {
    seeds::replay("thrift_heads", 10, fuzzing::heads);
}
