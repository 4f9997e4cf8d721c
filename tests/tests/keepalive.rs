//! The app closes its idle connections just when the next call is due.

use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;
use pillion_tests::rawapp::RawApp;
use std::collections::HashMap;
use std::sync::{Arc, Barrier, Mutex};

const CALLERS: usize = 100;
const WAVES: usize = 100;

#[test]
fn ten_thousand_posts_against_an_app_that_closes_at_200_ms() {
    let _turn = heavy();
    let ids = Arc::new(Mutex::new(HashMap::new()));
    let app = RawApp::closing_idle(Duration::from_millis(200), Arc::clone(&ids));
    let mesh = Mesh::on_files();
    let _payments = mesh.builder("payments").app(app.address()).start();
    let caller = mesh.caller("orders");
    first_call(&caller, "payments");
    let failures = Mutex::new(Vec::new());
    // All callers send at once, then all wait for the same time: so when the next wave goes, every pooled connection to
    // the app has idled for the gap, and over the waves the gap passes through the moment at which the app closes.
    let barrier = Barrier::new(CALLERS);
    std::thread::scope(|scope| {
        for number in 0..CALLERS {
            let (failures, barrier, door) = (&failures, &barrier, caller.outbound());
            scope.spawn(move || {
                let mut conn = Conn::connect(door).expect("connect");
                for wave in 0..WAVES {
                    barrier.wait();
                    let id = format!("{number}-{wave}");
                    let request = Request::post("payments", "/pay", "an amount").header("x-id", &id);
                    let seen = match conn.call(&request) {
                        Ok(answer) if answer.status() == 200 && answer.text() == id => None,
                        Ok(answer) => Some(answer.summary()),
                        Err(error) => Some(error.to_string()),
                    };
                    if let Some(seen) = seen {
                        failures.lock().expect("no panic inside").push(format!("{id}: {seen}"));
                        conn = Conn::connect(door).expect("connect");
                    }
                    // The gap is what is tested: 190 to 210 ms, the same for all callers of a wave.
                    std::thread::sleep(Duration::from_millis(190 + wave as u64 % 21));
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic inside");
    let first = &failures[..failures.len().min(10)];
    assert!(failures.is_empty(), "{} of {} POSTs failed:\n{}", failures.len(), CALLERS * WAVES, first.join("\n"));
    let mut ids = ids.lock().expect("no panic inside").clone();
    ids.remove(""); // the first call's
    let doubled: Vec<_> = ids.iter().filter(|(_, count)| **count != 1).take(10).collect();
    assert!(doubled.is_empty(), "ran more than once: {doubled:?}");
    assert_eq!(ids.len(), CALLERS * WAVES);
    // The race was on: connections were closed under the pool in every wave, and those that were open were used again.
    let (opened, posts) = (app.connections(), (CALLERS * WAVES) as u64);
    assert!(opened >= WAVES as u64, "only {opened} connections were needed");
    assert!(opened < posts, "{opened} connections for {posts} POSTs: none was used twice");
}
