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

/// A request whose head costs exactly `bytes`, as `limits.header_bytes` counts them: the target, and of each field name,
/// value and the four bytes around them.
fn with_head_of(bytes: usize) -> Request {
    let others = "/echo".len() + "host".len() + "payments".len() + 4 + "x-filler".len() + 4;
    with_header(bytes - others)
}

#[test]
fn the_configured_header_limit_is_kept_to_the_byte_at_every_door() {
    let mesh = Mesh::on_files();
    let payments = mesh.instance("payments", "payments-1");
    for (limit, config) in [(64 * 1024, ""), (16 * 1024, "[limits]\nheader_bytes = \"16KiB\"\n")] {
        let port = Port::lease();
        let door = format!("[[outbound]]\nlisten = \"{}\"\nservice = \"payments\"\n", port.local());
        let caller = mesh.builder("orders").config(config).config(&door).start();
        first_call(&caller, "payments");
        for to in [caller.outbound(), port.local()] {
            for bytes in [limit - 1, limit] {
                let answer = call(to, &with_head_of(bytes));
                assert_eq!(answer.status(), 200, "{bytes} bytes of {limit}: {}", answer.summary());
            }
            let before = payments.app.requests();
            let answer = call(to, &with_head_of(limit + 1));
            let seen = (answer.status(), answer.header("x-pillion-error"));
            assert_eq!(seen, (431, Some("header-too-large")), "{limit} + 1 bytes: {}", answer.summary());
            let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
            assert!(detail.contains("limits.header_bytes") && detail.contains(&limit.to_string()), "{detail}");
            assert_eq!(payments.app.requests(), before, "what is refused reaches no app");
        }
    }
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

/// Sockets at one door that say too little, and now and then a byte more.
struct Crowd {
    what: &'static str,
    sockets: Vec<TcpStream>,
    drip: &'static [u8],
}

impl Crowd {
    fn open(what: &'static str, number: usize, to: SocketAddr, first: &[u8], drip: &'static [u8]) -> Crowd {
        let sockets = (0..number).map(|_| {
            let mut socket = TcpStream::connect(to).expect("connect");
            socket.set_nonblocking(true).expect("nonblocking");
            let _ = socket.write(first);
            socket
        });
        Crowd { what, sockets: sockets.collect(), drip }
    }

    /// A byte must not keep a socket alive.
    fn drip(&mut self) {
        for socket in &mut self.sockets {
            let _ = socket.write(self.drip);
        }
    }

    /// Lets go of those that the sidecar has closed; how many are left.
    fn left(&mut self) -> usize {
        self.sockets.retain_mut(|socket| {
            loop {
                match std::io::Read::read(socket, &mut [0; 512]) {
                    Ok(0) => return false,
                    Ok(_) => {} // a refusal; the end comes behind it
                    Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
                }
            }
        });
        self.sockets.len()
    }
}

#[test]
fn slow_and_silent_callers_are_let_go_and_nobody_else_notices() {
    let _turn = heavy();
    let mesh = Mesh::on_files();
    let payments = mesh.instance("payments", "payments-1");
    let port = Port::lease();
    let caller = mesh
        .builder("orders")
        .config("[timeouts]\nheader = \"3s\"\n")
        .config(&format!("[[outbound]]\nlisten = \"{}\"\nservice = \"payments\"\n", port.local()))
        .start();
    first_call(&caller, "payments");
    let load = Load::gets(caller.outbound(), "payments", 4, Duration::from_millis(5));
    let (door, own, inbound) = (caller.outbound(), port.local(), payments.sidecar.inbound());
    let half: &[u8] = b"GET / HTTP/1.1\r\nhost: pay";
    let mut crowds = [
        Crowd::open("dribbling at the outbound door", 2_500, door, half, b"m"),
        Crowd::open("silent at the outbound door", 2_500, door, b"", b""),
        Crowd::open("dribbling at a door of the config", 250, own, half, b"m"),
        Crowd::open("silent at a door of the config", 250, own, b"", b""),
        Crowd::open("dribbling at the inbound door", 250, inbound, b"\x16\x03\x01", b"\x02"),
        Crowd::open("silent at the inbound door", 250, inbound, b"", b""),
    ];
    let began = Instant::now();
    let mut last_drip = Instant::now();
    within(Duration::from_secs(15), || {
        if last_drip.elapsed() > Duration::from_millis(500) {
            last_drip = Instant::now();
            crowds.iter_mut().for_each(Crowd::drip);
        }
        crowds.iter_mut().map(Crowd::left).sum::<usize>() == 0
    });
    let left: Vec<_> =
        crowds.iter_mut().map(|crowd| (crowd.what, crowd.left())).filter(|(_, left)| *left > 0).collect();
    assert!(left.is_empty(), "still open after {:?}: {left:?}", began.elapsed());
    load.run_for(50, Duration::from_secs(10));
    load.stop().assert_clean(200);
}

#[test]
fn an_idle_sidecar_is_small() {
    let _turn = heavy();
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    for (whose, sidecar) in [("caller's", &caller), ("callee's", &payments.sidecar)] {
        let rss = sidecar.rss_kib();
        // Of the program as tests have it, without optimisation. `make bench` (i) measures the one that is shipped.
        assert!(rss <= 14 * 1024, "the {whose} sidecar holds {rss} KiB");
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
