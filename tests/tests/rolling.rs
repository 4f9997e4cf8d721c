//! Instances come and go as they do in a rollout, and nobody sees an error.

use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// With a short drain: the apps here outlive their sidecars, which would wait for them (docs/decisions, SIGTERM).
fn instance(mesh: &Mesh, name: &str) -> Instance {
    let app = App::start(name);
    let sidecar =
        mesh.builder("payments").label(name).app(app.address()).config("[timeouts]\ndrain = \"3s\"\n").start();
    Instance { sidecar, app }
}

#[test]
fn a_rolling_restart_under_load_half_of_it_post_shows_no_error() {
    let _turn = heavy();
    let etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let mut instances: Vec<Instance> = ["p1", "p2", "p3"].iter().map(|name| instance(&mesh, name)).collect();
    let addresses: Vec<SocketAddr> = instances.iter().map(|instance| instance.sidecar.inbound()).collect();
    let caller = mesh.caller("orders");
    first_call(&caller, "payments");
    caller.wait_table("payments", Duration::from_secs(5), &addresses);
    let load = Load::start(
        caller.outbound(),
        16,
        Duration::from_millis(6),
        |caller, number| {
            if caller % 2 == 0 {
                Request::get("payments", "/echo?delay_ms=5").header("x-id", "any")
            } else {
                Request::post("payments", "/count?delay_ms=5", "some body")
                    .header("x-id", &format!("{caller}-{number}"))
            }
        },
        |caller, number, answer| {
            let wanted = if caller % 2 == 0 { "any".to_owned() } else { format!("{caller}-{number}") };
            if answer.status() == 200 && answer.text() == wanted { Ok(()) } else { Err(answer.summary()) }
        },
    );
    load.run_for(500, Duration::from_secs(20));
    for instance in &mut instances {
        let status = instance.sidecar.term();
        assert!(status.success(), "{status}");
        load.run_for(300, Duration::from_secs(20));
        instance.sidecar.restart();
        caller.wait_table("payments", Duration::from_secs(10), &addresses);
        load.run_for(300, Duration::from_secs(20));
    }
    let report = load.stop();
    report.assert_clean(2_000);
    let mut seen: HashMap<String, u64> = HashMap::new();
    for instance in &instances {
        for (id, count) in instance.app.ids() {
            *seen.entry(id).or_default() += count;
        }
    }
    let doubled: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "POSTs that ran twice: {doubled:?}");
}

#[test]
fn a_call_in_flight_outlives_the_removal_of_its_endpoint() {
    let etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let (caller, mut payments) = mesh.pair();
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.write(&Request::get("payments", "/slow?ms=8000").encode()).unwrap();
    until("the call to run", Duration::from_secs(5), || if payments.app.running() == 1 { Ok(()) } else { Err(()) });
    payments.sidecar.process().signal(nix::sys::signal::Signal::SIGTERM);
    until("the record to be gone while the call runs", Duration::from_secs(6), || {
        let there = etcd.instances("payments");
        if there.is_empty() { Ok(()) } else { Err(there) }
    });
    assert_eq!(payments.app.running(), 1, "the call ended before the record was gone: nothing was shown");
    let answer = conn.read_response(false).unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "payments-1"), "{}", answer.summary());
    payments.app.stop();
    assert!(payments.sidecar.process().wait(Duration::from_secs(5)).success());
}

/// What the callers were told, by id.
#[derive(Debug, Default)]
struct Told {
    answered: Vec<String>,
    /// "no": the call did not run, and nobody may have run it.
    not_executed: Vec<String>,
    unknown: Vec<String>,
}

#[test]
fn under_random_kills_no_post_runs_twice_and_each_has_an_outcome() {
    const SEED: u64 = 8;
    const KILLS: usize = 16;
    let _turn = heavy();
    let mesh = Mesh::on_files();
    let mut instances: Vec<Instance> = ["p1", "p2", "p3"].iter().map(|name| instance(&mesh, name)).collect();
    let addresses: Vec<SocketAddr> = instances.iter().map(|instance| instance.sidecar.inbound()).collect();
    let caller = mesh.caller("orders");
    first_call(&caller, "payments");
    caller.wait_table("payments", Duration::from_secs(10), &addresses);
    let told = Arc::new(Mutex::new(Told::default()));
    let noted = Arc::clone(&told);
    let load = Load::start(
        caller.outbound(),
        16,
        Duration::from_millis(3),
        |caller, number| {
            Request::post("payments", "/count?delay_ms=15", "an amount").header("x-id", &format!("{caller}-{number}"))
        },
        move |caller, number, answer| {
            let id = format!("{caller}-{number}");
            let mut told = noted.lock().expect("no panic inside");
            if answer.status() == 200 && answer.text() == id {
                told.answered.push(id);
                return Ok(());
            }
            let error: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            match error["executed"].as_str() {
                Some("no") => told.not_executed.push(id),
                Some("unknown") => told.unknown.push(id),
                _ => return Err(answer.summary()),
            }
            Ok(())
        },
    );
    load.run_for(200, Duration::from_secs(30));
    // The dead apps' records outlive them: they are this process's.
    let mut dead: Vec<App> = Vec::new();
    let mut dice = fastrand::Rng::with_seed(SEED);
    for kill in 0..KILLS {
        let victim = dice.usize(0..instances.len());
        load.run_for(dice.u64(10..150), Duration::from_secs(30));
        let Instance { sidecar, app } = &mut instances[victim];
        // The sidecar dies, or the app behind it, its calls cut where they are; both of them each fourth time.
        let (of_sidecar, of_app) = [(true, false), (false, true), (true, false), (true, true)][kill % 4];
        if of_sidecar {
            sidecar.kill();
        }
        if of_app {
            app.stop();
        }
        load.run_for(dice.u64(10..150), Duration::from_secs(30));
        if of_app {
            let again = App::start_at(&format!("p{}", victim + 1), app.address()).expect("the port is still ours");
            dead.push(std::mem::replace(app, again));
        }
        if of_sidecar {
            sidecar.restart();
        }
        caller.wait_table("payments", Duration::from_secs(20), &addresses);
    }
    load.run_for(200, Duration::from_secs(30));
    let report = load.stop();
    // Nothing but answers and errors that say whether the call ran.
    report.assert_clean(1_000);
    let told = std::mem::take(&mut *told.lock().expect("no panic inside"));
    let mut ran: HashMap<String, u64> = HashMap::new();
    for app in instances.iter().map(|instance| &instance.app).chain(&dead) {
        for (id, count) in app.ids() {
            *ran.entry(id).or_default() += count;
        }
    }
    let doubled: Vec<_> = ran.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "seed {SEED}: POSTs that ran twice: {doubled:?}");
    let lost: Vec<_> = told.answered.iter().filter(|id| !ran.contains_key(*id)).collect();
    assert!(lost.is_empty(), "seed {SEED}: answered and never run: {lost:?}");
    let denied: Vec<_> = told.not_executed.iter().filter(|id| ran.contains_key(*id)).collect();
    assert!(denied.is_empty(), "seed {SEED}: called not executed, and run: {denied:?}");
    let outcomes = told.answered.len() + told.not_executed.len() + told.unknown.len();
    assert_eq!(outcomes as u64, report.calls, "each call has exactly one outcome");
    // The kills hit calls in flight, or this test shows nothing.
    assert!(told.unknown.len() >= KILLS / 4, "only {} of {outcomes} calls were hit", told.unknown.len());
}
