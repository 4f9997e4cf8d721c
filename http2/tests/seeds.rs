//! What the fuzz targets run, on what they have found.

mod fuzzing;
#[path = "../../fuzz/replay.rs"]
mod seeds;

#[test]
fn what_was_found_replays() {
    seeds::replay("hpack_blocks", 10, fuzzing::blocks);
    seeds::replay("http2_frames", 6, fuzzing::frames);
}
