//! Large bodies: whole, at once, and never in memory.

use pillion_tests::pattern::{Pattern, hex, pattern_digest};
use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;
use sha2::{Digest, Sha256};

const GIB: u64 = 1 << 30;
/// By how much a sidecar may grow while a body passes.
const GROWTH_KIB: u64 = 16 * 1024;

struct Peaks<'a> {
    sidecars: Vec<(&'a str, &'a Sidecar, u64)>,
}

impl<'a> Peaks<'a> {
    fn measure(caller: &'a Sidecar, callee: &'a Sidecar) -> Peaks<'a> {
        let sidecars = vec![("caller's", caller, caller.rss_kib()), ("callee's", callee, callee.rss_kib())];
        caller.reset_peak();
        callee.reset_peak();
        Peaks { sidecars }
    }

    #[track_caller]
    fn assert_flat(&self) {
        for (whose, sidecar, before) in &self.sidecars {
            let peak = sidecar.peak_rss_kib();
            let growth = peak.saturating_sub(*before);
            assert!(growth < GROWTH_KIB, "the {whose} sidecar grew by {growth} KiB from {before} to {peak} KiB");
        }
    }
}

#[test]
fn a_gibibyte_down_arrives_whole_and_leaves_memory_flat() {
    let _turn = heavy();
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let peaks = Peaks::measure(&caller, &payments.sidecar);
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.write(&Request::get("payments", &format!("/download?bytes={GIB}&seed=11")).encode()).unwrap();
    let head = conn.read_head().unwrap();
    let mut digest = Sha256::new();
    let bytes = conn.read_body(&head, |piece| digest.update(piece)).unwrap();
    assert_eq!(bytes, GIB);
    assert_eq!(hex(&digest.finalize()), pattern_digest(11, GIB));
    peaks.assert_flat();
    assert_eq!(get(caller.outbound(), "payments", "/who").text(), "payments-1");
}

#[test]
fn a_gibibyte_up_arrives_whole_and_leaves_memory_flat() {
    let _turn = heavy();
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let peaks = Peaks::measure(&caller, &payments.sidecar);
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    let head = format!("POST /upload HTTP/1.1\r\nhost: payments\r\ncontent-length: {GIB}\r\n\r\n");
    conn.write(head.as_bytes()).unwrap();
    for piece in Pattern::new(12, GIB) {
        conn.write(&piece).unwrap();
    }
    let answer = conn.read_response(false).unwrap();
    assert_eq!(answer.text(), format!("{} {GIB}", pattern_digest(12, GIB)), "{}", answer.summary());
    peaks.assert_flat();
}

#[test]
fn chunked_bodies_of_awkward_sizes_arrive_whole() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    // Around the limits of inline bodies, frames and TLS records.
    for size in [0, 1, 4_095, 4_096, 4_097, 16_375, 16_376, 16_377, 16_384, 65_536, 131_072, 262_145, 3_000_001] {
        let down = Request::get("payments", &format!("/download?bytes={size}&seed={size}&chunked=1"));
        let answer = conn.call(&down).unwrap();
        let digest = pattern_digest(size, size);
        assert_eq!(hex(&Sha256::digest(&answer.body)), digest, "{size} bytes down: got {} bytes", answer.body.len());
        conn.write(b"POST /upload HTTP/1.1\r\nhost: payments\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        for piece in Pattern::new(size, size) {
            for part in piece.chunks(7_919) {
                conn.write_chunk(part).unwrap();
            }
        }
        conn.write(b"0\r\n\r\n").unwrap();
        let answer = conn.read_response(false).unwrap();
        assert_eq!(answer.text(), format!("{digest} {size}"), "{size} bytes up: {}", answer.summary());
    }
}

#[test]
fn each_piece_of_a_stream_reaches_the_peer_at_once_both_ways() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.set_patience(Duration::from_secs(5));
    conn.write(b"POST /duplex HTTP/1.1\r\nhost: payments\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    conn.write_chunk(b"piece 0").unwrap();
    let head = conn.read_head().unwrap();
    assert_eq!(head.status, 200);
    let mut total = 0;
    for round in 0..50 {
        // The next piece is sent only when the last one has come back: nobody may wait for more.
        let mut have = Vec::new();
        let wanted = format!("piece {round}");
        while have.len() < wanted.len() {
            let piece = conn.next_piece(&head, total).unwrap().expect("the stream goes on");
            total += piece.len() as u64;
            have.extend_from_slice(&piece);
        }
        assert_eq!(String::from_utf8_lossy(&have), wanted);
        conn.write_chunk(format!("piece {}", round + 1).as_bytes()).unwrap();
    }
    conn.write(b"0\r\n\r\n").unwrap();
    let last = conn.next_piece(&head, total).unwrap();
    assert_eq!(last.as_deref(), Some(&b"piece 50"[..]));
    assert_eq!(conn.next_piece(&head, total).unwrap(), None, "the end comes through too");
}

#[test]
fn a_stalled_reader_stops_only_its_own_sender() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let before = [caller.rss_kib(), payments.sidecar.rss_kib()];
    let mut stalled = Vec::new();
    for seed in 0..16 {
        let mut conn = Conn::connect(caller.outbound()).unwrap();
        conn.write(&Request::get("payments", &format!("/download?bytes={GIB}&seed={seed}")).encode()).unwrap();
        conn.read_head().unwrap(); // and nothing more
        stalled.push(conn);
    }
    let load = Load::gets(caller.outbound(), "payments", 4, Duration::from_millis(2));
    load.run_for(1_000, Duration::from_secs(20));
    load.stop().assert_clean(1_000);
    let now = [caller.rss_kib(), payments.sidecar.rss_kib()];
    for side in 0..2 {
        let growth = now[side].saturating_sub(before[side]);
        assert!(
            growth < 40 * 1024,
            "16 stalled readers cost {growth} KiB: caller's and callee's {before:?}, now {now:?}"
        );
    }
    drop(stalled);
    assert!(
        within(Duration::from_secs(5), || payments.app.running() == 0),
        "{} calls of the stalled readers still run",
        payments.app.running()
    );
}
