//! Many callers at once over few channels: each gets its own answer.

use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;
use std::sync::Mutex;

const CALLERS: usize = 64;
const CALLS_EACH: usize = 2_000;

#[test]
fn sixty_four_callers_each_get_their_own_answers() {
    let _turn = heavy();
    let etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let (caller, payments) = mesh.pair();
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..CALLERS {
            let (wrong, door) = (&wrong, caller.outbound());
            scope.spawn(move || {
                let mut conn = Conn::connect(door).expect("connect");
                for call in 0..CALLS_EACH {
                    let id = format!("{number}-{call}-{:x}", fastrand_like(number, call));
                    // Half of them carry the id in the body, half in a header; the app answers in shuffled order.
                    let request = if call % 2 == 0 {
                        Request::post("payments", "/echo?delay_ms=2", id.as_str())
                    } else {
                        Request::get("payments", "/echo?delay_ms=2").header("x-id", &id)
                    };
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
    assert!((1.0..=2.0).contains(&opened), "{opened} channels were opened");
    assert!(payments.app.requests() >= (CALLERS * CALLS_EACH) as u64);
    let counted = caller.metric("pillion_calls_total", &[("service", "payments"), ("outcome", "ok")]);
    assert!(counted >= (CALLERS * CALLS_EACH) as f64, "the metric counted {counted} calls");
}

/// A number that differs for each call and does not count up.
fn fastrand_like(number: usize, call: usize) -> u64 {
    (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (call as u64).wrapping_mul(0xff51_afd7_ed55_8ccd)
}
