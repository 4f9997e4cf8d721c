//! The pair simulation: two connections, a virtual clock, and a seeded link that delays, splits and cuts.
//!
//! `PILLION_SEED=n` runs one seed, `PILLION_SEEDS=n` that many.

mod sim;

use sim::{Plan, World};

fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match (number("PILLION_SEED"), number("PILLION_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, many) => 0..many.unwrap_or(usual),
    }
}

fn check(usual: u64, plan: impl Fn(&mut fastrand::Rng) -> Plan) {
    for seed in seeds(usual) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let plan = plan(&mut rng);
        println!("seed {seed}: {plan:?}");
        World::new(plan, rng).run();
    }
}

#[test]
fn calls_of_every_kind_end_exactly_once() {
    check(40, |rng| Plan { calls: rng.usize(1..120), ..Plan::default() });
}

#[test]
fn a_cut_link_ends_every_call_exactly_once() {
    check(40, |rng| Plan { calls: 80, cut_at_millis: Some(rng.u64(0..3_000)), ..Plan::default() });
}

#[test]
fn a_drain_ends() {
    check(40, |rng| Plan { calls: 100, drain_at_millis: Some(rng.u64(0..2_000)), ..Plan::default() });
}

#[test]
fn cancel_storms_leak_nothing() {
    check(25, |_| Plan { calls: 400, cancel_percent: 80, ..Plan::default() });
}

#[test]
fn little_memory_and_many_stalled_readers() {
    check(25, |_| Plan { calls: 60, memory_budget: 262_144, stall_percent: 70, bulk_percent: 80, ..Plan::default() });
}

#[test]
fn little_to_send_from_and_many_that_wait_for_it() {
    check(40, |rng| Plan {
        calls: 80,
        send_budget: rng.usize(16_368..300_000),
        bulk_percent: 70,
        cancel_percent: 30,
        ..Plan::default()
    });
}
