//! Many callers at once over few channels: each gets its own answer.

use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;
use std::sync::Mutex;

const CALLERS: usize = 64;

#[test]
fn sixty_four_callers_each_get_their_own_answers() {
    own_answers(1, 2_000);
}

/// Each worker of the caller has a channel of its own: here answers could be mixed up between channels too.
#[test]
fn sixty_four_callers_over_two_channels_each_get_their_own_answers() {
    own_answers(2, 1_000);
}

#[track_caller]
fn own_answers(workers: usize, calls_each: usize) {
    let _turn = heavy();
    let etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let payments = mesh.instance("payments", "payments-1");
    let caller = mesh.builder("orders").arg("--workers").arg(&workers.to_string()).start();
    first_call(&caller, "payments");
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..CALLERS {
            let (wrong, door) = (&wrong, caller.outbound());
            scope.spawn(move || {
                let mut conn = Conn::connect(door).expect("connect");
                for call in 0..calls_each {
                    let id = format!("{number}-{call}-{:x}", fastrand_like(number, call));
                    // All carry the id in the body; the app answers in shuffled order.
                    let method = if call % 2 == 0 { "POST" } else { "GET" };
                    let request = Request::new(method, "payments", "/echo?delay_ms=2").body(id.as_str());
                    let seen = match conn.call(&request) {
                        Ok(answer) if answer.text() == id => continue,
                        Ok(answer) => answer.summary(),
                        Err(error) => error.to_string(),
                    };
                    let mut wrong = wrong.lock().expect("no panic inside");
                    wrong.push(format!("asked {id}, got {seen}"));
                    if wrong.len() > 20 {
                        return;
                    }
                    conn = Conn::connect(door).expect("connect");
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no panic inside");
    assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
    let opened = caller.metric("pillion_channels_opened_total", &[("direction", "outbound")]);
    assert_eq!(opened, workers as f64, "each worker has one channel");
    assert!(payments.app.requests() >= (CALLERS * calls_each) as u64);
    let counted = caller.metric("pillion_calls_total", &[("service", "payments"), ("outcome", "ok")]);
    assert!(counted >= (CALLERS * calls_each) as f64, "the metric counted {counted} calls");
}

/// A number that differs for each call and does not count up.
fn fastrand_like(number: usize, call: usize) -> u64 {
    (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (call as u64).wrapping_mul(0xff51_afd7_ed55_8ccd)
}
