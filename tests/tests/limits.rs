//! Bounds: one header limit on every leg, slow and silent callers, many connections.

use pillion_tests::http::call;
use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;
use std::io::Write;
use std::net::TcpStream;

fn with_header(bytes: usize) -> Request {
    Request::get("payments", "/echo").header("x-filler", &"f".repeat(bytes))
}

#[test]
fn one_header_limit_holds_on_the_way_in_and_on_the_way_back() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    // The largest that passes, found by halving: below it all pass, above it all get 431 and the setting's name.
    let (mut passes, mut refused) = (1_000, 100_000);
    while refused - passes > 1 {
        let middle = usize::midpoint(passes, refused);
        let answer = call(caller.outbound(), &with_header(middle));
        match answer.status() {
            200 => passes = middle,
            431 => {
                assert_eq!(
                    answer.header("x-pillion-error"),
                    Some("header-too-large"),
                    "{middle}: {}",
                    answer.summary()
                );
                assert!(answer.text().contains("limits.header_bytes"), "{}", answer.text());
                refused = middle;
            }
            _ => panic!("{middle} bytes: {}", answer.summary()),
        }
    }
    assert!((60_000..=65_536).contains(&passes), "the limit of 64 KiB lets {passes} bytes of value pass");
    let before = payments.app.requests();
    assert_eq!(call(caller.outbound(), &with_header(refused)).status(), 431);
    assert_eq!(payments.app.requests(), before, "what is refused reaches no app");

    let back = |bytes: usize| get(caller.outbound(), "payments", &format!("/big-head?bytes={bytes}"));
    let large = back(passes - 1_000);
    assert_eq!(
        (large.status(), large.header("x-big").map(str::len)),
        (200, Some(passes - 1_000)),
        "{}",
        large.summary()
    );
    let too_large = back(refused + 1_000);
    assert_eq!(
        (too_large.status(), too_large.header("x-pillion-error")),
        (502, Some("app-header-too-large")),
        "{}",
        too_large.summary()
    );
    assert_eq!(get(caller.outbound(), "payments", "/who").text(), "payments-1", "the channel lives on");
}

#[test]
fn too_many_header_fields_are_refused() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let many = |count: usize| {
        (0..count).fold(Request::get("payments", "/who"), |request, number| request.header(&format!("x-{number}"), "v"))
    };
    // With Host, 96 fields are at the limit; one more is over it.
    assert_eq!(call(caller.outbound(), &many(95)).status(), 200);
    let refused = call(caller.outbound(), &many(96));
    assert_eq!(refused.status(), 431, "{}", refused.summary());
    assert!(refused.text().contains("limits.header_count"), "{}", refused.summary());
    // Far beyond it the connection may be closed without a word; nothing is delivered.
    let before = payments.app.requests();
    if let Ok(answer) = pillion_tests::http::try_call(caller.outbound(), &many(5_000)) {
        assert_eq!(answer.status(), 431, "{}", answer.summary());
    }
    assert_eq!(payments.app.requests(), before);
}

#[test]
fn slow_and_silent_callers_are_let_go_and_nobody_else_notices() {
    const EACH: usize = 250;
    let _turn = heavy();
    let mesh = Mesh::on_files();
    let payments = mesh.instance("payments", "payments-1");
    let caller = mesh.builder("orders").config("[timeouts]\nheader = \"3s\"\n").start();
    first_call(&caller, "payments");
    let began = Instant::now();
    let open = |to: SocketAddr, first: &[u8]| -> Vec<TcpStream> {
        (0..EACH)
            .map(|_| {
                let mut socket = TcpStream::connect(to).expect("connect");
                socket.set_nonblocking(true).expect("nonblocking");
                let _ = socket.write(first);
                socket
            })
            .collect()
    };
    let mut dribbling = open(caller.outbound(), b"GET / HTTP/1.1\r\nhost: pay");
    let silent = open(caller.outbound(), b"");
    let silent_tls = open(payments.sidecar.inbound(), b"");
    let dribbling_tls = open(payments.sidecar.inbound(), b"\x16\x03\x01");
    let load = Load::gets(caller.outbound(), "payments", 4, Duration::from_millis(5));
    let closed = |sockets: &mut [TcpStream]| {
        sockets
            .iter_mut()
            .filter_map(|socket| std::io::Read::read(socket, &mut [0; 512]).err())
            .filter(|error| error.kind() == std::io::ErrorKind::WouldBlock)
            .count()
            == 0
    };
    let (mut silent, mut silent_tls, mut dribbling_tls) = (silent, silent_tls, dribbling_tls);
    let mut last_drop = Instant::now();
    let all = within(Duration::from_secs(15), || {
        if last_drop.elapsed() > Duration::from_millis(500) {
            last_drop = Instant::now();
            for socket in &mut dribbling {
                let _ = socket.write(b"m"); // a byte now and then must not keep it alive
            }
        }
        closed(&mut dribbling) && closed(&mut silent) && closed(&mut silent_tls) && closed(&mut dribbling_tls)
    });
    assert!(
        all,
        "after {:?} still open: dribbling {}, silent {}, silent at the inbound door {}, dribbling there {}",
        began.elapsed(),
        !closed(&mut dribbling),
        !closed(&mut silent),
        !closed(&mut silent_tls),
        !closed(&mut dribbling_tls)
    );
    load.run_for(50, Duration::from_secs(5));
    load.stop().assert_clean(200);
}

#[test]
fn an_idle_sidecar_is_small() {
    let _turn = heavy();
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    for (whose, sidecar) in [("caller's", &caller), ("callee's", &payments.sidecar)] {
        let rss = sidecar.rss_kib();
        assert!(rss <= 12 * 1024, "the {whose} sidecar holds {rss} KiB");
    }
}

#[test]
fn services_that_nobody_calls_cost_nothing() {
    let _turn = heavy();
    let etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let (caller, _payments) = mesh.pair();
    let small = caller.rss_kib();
    etcd.with(async |client| {
        let value = r#"{"schema":1,"instance":"i","secure":true,"protocol":"http/1.1","weight":100,"metadata":{}}"#;
        for block in 0..100 {
            let puts = (0..100).map(|number| {
                let key = format!("/pillion/services/unrelated-{block}-{number}/1.0.0/10.0.0.1:4143");
                etcd_client::TxnOp::put(key, value, None)
            });
            client.kv_client().txn(etcd_client::Txn::new().and_then(puts.collect::<Vec<_>>())).await?;
        }
        Ok(())
    });
    for _ in 0..100 {
        assert_eq!(get(caller.outbound(), "payments", "/who").text(), "payments-1");
    }
    let now = caller.rss_kib();
    assert!(now < small + 1024, "10,000 services registered meanwhile moved it from {small} to {now} KiB");
    let fresh = mesh.caller("web");
    first_call(&fresh, "payments");
    let rss = fresh.rss_kib();
    assert!(rss < 20 * 1024, "a sidecar that starts among 10,000 services holds {rss} KiB");
    assert!(rss < small + 2 * 1024, "…{rss} KiB, and {small} without them");
}
