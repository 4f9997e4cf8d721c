//! The seeds of the fuzzers as an ordinary test, and a few thousand inputs more from a seed.

mod fuzzing;
#[path = "../../fuzz/replay.rs"]
mod seeds;

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
    seeds::replay("wire_bytes", 10, fuzzing::bytes);
}

#[test]
fn operations_replay() {
    seeds::replay("wire_operations", 10, fuzzing::operations);
}

#[test]
fn bytes_from_seeds() {
    seeded(1_000, fuzzing::bytes);
}

#[test]
fn operations_from_seeds() {
    seeded(300, fuzzing::operations);
}
