//! A peer that stands still: not dead, not alive, and with the socket to it full.

use nix::sys::signal::Signal;
use pillion_tests::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

const GIB: u64 = 1 << 30;

/// A caller over endpoints that never leave the table: only calls can find out that one is gone.
fn fixed_caller(mesh: &Mesh, instances: &[&Instance], timeouts: &str) -> Sidecar {
    let endpoints: String = instances
        .iter()
        .map(|instance| format!("[[endpoint]]\nservice = \"payments\"\naddress = \"{}\"\n", instance.sidecar.inbound()))
        .collect();
    let config = format!("{timeouts}{endpoints}");
    Sidecar::builder("orders").registry("static").identity(mesh.ca().issue("orders")).config(&config).start()
}

/// Uploads without end, until told to stop or cut off.
fn upload(door: SocketAddr, stop: &AtomicBool) {
    let mut conn = Conn::connect(door).expect("connect");
    conn.set_patience(Duration::from_millis(200));
    let head = format!("POST /upload HTTP/1.1\r\nhost: payments\r\ncontent-length: {}\r\n\r\n", 100 * GIB);
    conn.write(head.as_bytes()).expect("write");
    while !stop.load(Ordering::SeqCst) {
        if conn.write(&[7; 65_536]).is_err() {
            return;
        }
    }
}

#[test]
fn a_frozen_peer_with_a_full_socket_is_given_up_and_comes_back() {
    let mesh = Mesh::on_files();
    let mut first = mesh.instance("payments", "p1");
    let second = mesh.instance("payments", "p2");
    let caller = fixed_caller(&mesh, &[&first, &second], "");
    first_call(&caller, "payments");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let uploads: Vec<_> = (0..8).map(|_| scope.spawn(|| upload(caller.outbound(), &stop))).collect();
        until("both apps to take uploads", Duration::from_secs(10), || {
            let running = [first.app.running(), second.app.running()];
            if running.iter().all(|running| *running > 0) { Ok(()) } else { Err(running) }
        });
        let load = Load::gets(caller.outbound(), "payments", 8, Duration::from_millis(5));
        load.run_for(200, Duration::from_secs(20));

        first.sidecar.process().signal(Signal::SIGSTOP);
        // The peer's silence is noticed after seven seconds; what was under way to it is then asked of the other.
        until("the channel to the frozen one to be closed", Duration::from_secs(20), || {
            let open = caller.metric("pillion_channels_open", &[("direction", "outbound")]);
            if open == 1.0 { Ok(()) } else { Err(open) }
        });
        load.run_for(500, Duration::from_secs(30));

        first.sidecar.process().signal(Signal::SIGCONT);
        let thawed = Instant::now();
        until("the thawed one to be called again", Duration::from_secs(30), || {
            let counts = load.counts(thawed, &["p1", "p2"]);
            if counts.iter().all(|count| *count > 10) { Ok(()) } else { Err(counts) }
        });
        load.stop().assert_clean(700);
        stop.store(true, Ordering::SeqCst);
        for upload in uploads {
            upload.join().expect("no panic inside");
        }
    });
}

#[test]
fn a_peer_that_answers_too_late_to_be_wanted_is_not_kept() {
    let mesh = Mesh::on_files();
    let mut payments = mesh.instance("payments", "p1");
    // Frozen before the first connection: the kernel takes it on, nobody shakes hands.
    payments.sidecar.process().signal(Signal::SIGSTOP);
    let caller = fixed_caller(&mesh, &[&payments], "[timeouts]\nconnect = \"1s\"\n");
    let before = caller.descriptors();
    for _ in 0..3 {
        let answer = get(caller.outbound(), "payments", "/who");
        assert_eq!((answer.status(), answer.header("x-pillion-error")), (503, Some("connect-failed")));
        assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("timeouts.connect")));
        assert_eq!(answer.json()["executed"], "no");
    }
    until("the given-up connections to be closed", Duration::from_secs(5), || {
        let now = caller.descriptors();
        // Six attempts, a descriptor each; a few that have nothing to do with them are opened soon after the start.
        if now <= before + 3 { Ok(()) } else { Err((before, now)) }
    });
    payments.sidecar.process().signal(Signal::SIGCONT);
    first_call(&caller, "payments");
}
