//! Raw TCP: a connection to a local port is a connection to the service's app, whatever the two say to each other.

use pillion_tests::databases::{Postgres, Redis};
use pillion_tests::mesh::{Doorway, connect};
use pillion_tests::pattern::{Pattern, hex, pattern_digest};
use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;
use pillion_tests::rawapp::RawApp;
use sha2::{Digest, Sha256};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;

const MIB: u64 = 1 << 20;
/// How long what happens at once may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// As long as its app is there, a sidecar that was told to end stays all of this.
const DRAIN: &str = "[timeouts]\ndrain = \"5s\"";

/// A port for `store`, whose apps these are.
#[track_caller]
fn open(apps: &[SocketAddr]) -> Doorway {
    Doorway::open("store", "tcp", apps, ["", DRAIN])
}

/// Sends back what it is sent, until the end of it.
fn echo() -> RawApp {
    RawApp::start(|mut stream| {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })
}

/// Whether a read says that the connection was reset: by an error, and not by an end in order.
#[track_caller]
fn assert_reset(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let error = stream.read_to_end(&mut rest).expect_err("an end in order");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error} after {} bytes", rest.len());
}

fn digest(stream: &mut impl Read) -> (u64, String) {
    let (mut digest, mut total) = (Sha256::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return (total, hex(&digest.finalize())),
            count => {
                digest.update(&buffer[..count]);
                total += count as u64;
            }
        }
    }
}

fn send(stream: &mut TcpStream, seed: u64, bytes: u64) {
    for piece in Pattern::new(seed, bytes) {
        stream.write_all(&piece).unwrap();
    }
}

#[test]
fn bytes_pass_both_ways_at_once_and_the_ends_of_both_directions() {
    let app = echo();
    let pair = open(&[app.address()]);
    let mut stream = pair.connect();
    let mut reading = stream.try_clone().unwrap();
    let reader = std::thread::spawn(move || digest(&mut reading));
    send(&mut stream, 5, 32 * MIB);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(reader.join().unwrap(), (32 * MIB, pattern_digest(5, 32 * MIB)));
    let bytes = |direction| {
        let labels = [("service", "store"), ("direction", "outbound"), ("body", direction)];
        pair.caller.metric("pillion_call_body_bytes_total", &labels)
    };
    until("the call is counted", PATIENCE, || {
        let labels = [("service", "store"), ("direction", "outbound"), ("outcome", "ok")];
        match pair.caller.metric("pillion_calls_total", &labels) {
            1.0 => Ok(()),
            other => Err(other),
        }
    });
    assert_eq!((bytes("request"), bytes("response")), (32e6 * 1.048_576, 32e6 * 1.048_576));
}

#[test]
fn an_app_that_speaks_first_is_heard_though_the_caller_says_nothing() {
    let app = RawApp::start(|mut stream| {
        let _ = stream.write_all(b"220 ready\r\n");
        let _ = stream.read(&mut [0]);
    });
    let pair = open(&[app.address()]);
    for _ in 0..20 {
        let mut line = [0; 11];
        pair.connect().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"220 ready\r\n");
    }
}

#[test]
fn a_caller_that_has_said_all_still_hears_ten_megabytes() {
    let app = RawApp::start(|mut stream| {
        let mut all = Vec::new();
        if stream.read_to_end(&mut all).is_ok() && all == b"done" {
            send(&mut stream, 9, 10 * MIB);
        }
    });
    let pair = open(&[app.address()]);
    let mut stream = pair.connect();
    stream.write_all(b"done").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(digest(&mut stream), (10 * MIB, pattern_digest(9, 10 * MIB)));
}

#[test]
fn an_app_that_has_said_all_still_hears_ten_megabytes() {
    let (told, heard) = mpsc::channel();
    let app = RawApp::start(move |mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // The sidecar itself looks now and then whether the app accepts, and says nothing.
        let said = digest(&mut stream);
        if said.0 > 0 {
            told.send(said).unwrap();
        }
    });
    let pair = open(&[app.address()]);
    let mut stream = pair.connect();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"bye");
    send(&mut stream, 4, 10 * MIB);
    drop(stream);
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), (10 * MIB, pattern_digest(4, 10 * MIB)));
}

#[test]
fn what_breaks_on_one_side_is_reset_on_the_other() {
    let (told, heard) = mpsc::channel();
    let app = RawApp::start(move |mut stream| {
        let mut order = [0; 5];
        if stream.read_exact(&mut order).is_err() {
            // The sidecar looks whether the app accepts.
            return;
        }
        if &order == b"break" {
            reset(stream);
        } else {
            stream.write_all(b"x").unwrap();
            told.send(stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind())).unwrap();
        }
    });
    let pair = open(&[app.address()]);
    let mut stream = pair.connect();
    stream.write_all(b"break").unwrap();
    assert_reset(&mut stream);
    let mut stream = pair.connect();
    stream.write_all(b"stay.").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    reset(stream);
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Err(ErrorKind::ConnectionReset));
}

/// Closes so that the other side sees a reset.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn where_nobody_listens_the_caller_is_reset_and_the_metrics_say_why() {
    let app = echo();
    let pair = open(&[app.address()]);
    drop(app);
    assert_reset(&mut pair.connect());
    // Its record may have been withdrawn meanwhile.
    until("the failure is counted", PATIENCE, || {
        let count = |code| pair.caller.metric("pillion_errors_total", &[("code", code)]);
        match count("app-not-connected") + count("no-endpoints") + count("unknown-service") {
            1.0 => Ok(()),
            other => Err(other),
        }
    });
}

#[test]
fn an_instance_whose_app_is_down_costs_no_connection() {
    let (app, down) = (echo(), echo());
    let pair = open(&[app.address(), down.address()]);
    pair.caller.wait_table("store", PATIENCE, &pair.callees.iter().map(Sidecar::inbound).collect::<Vec<_>>());
    drop(down);
    for round in 0..40_u8 {
        let mut stream = pair.connect();
        stream.write_all(&[round; 3]).unwrap();
        let mut back = [0; 3];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, [round; 3]);
    }
}

#[test]
fn callers_of_the_wrong_protocol_are_told() {
    let app = echo();
    let pair = open(&[app.address()]);
    let answer = get(pair.caller.outbound(), "store", "/");
    assert_eq!((answer.status(), answer.header("x-pillion-error")), (502, Some("wrong-protocol")), "{}", answer.text());
    let http = App::start("store-http");
    let mesh = Mesh::on_files();
    let _callee = mesh.builder("store").app(http.address()).start();
    let (_caller, door) = mesh.door("store", "tcp", "");
    assert_reset(&mut connect(door.local()));
}

#[test]
fn ten_thousand_half_closes_leak_no_descriptor_and_no_memory() {
    const THREADS: usize = 8;
    const EACH: usize = 10_000 / THREADS;
    let _turn = heavy();
    let app = RawApp::start(|mut stream| {
        let mut all = Vec::new();
        if stream.read_to_end(&mut all).is_ok() {
            let _ = stream.write_all(&all);
        }
    });
    let pair = open(&[app.address()]);
    let round = |times: usize| {
        for turn in 0..times {
            let mut stream = pair.connect();
            let said = turn.to_be_bytes();
            stream.write_all(&said).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            assert_eq!(back, said);
        }
    };
    round(100);
    let sidecars = [&pair.caller, &pair.callees[0]];
    let before = sidecars.map(|sidecar| (sidecar.descriptors(), sidecar.rss_kib()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| round(EACH));
        }
    });
    for (sidecar, (descriptors, rss)) in sidecars.into_iter().zip(before) {
        until("the descriptors are closed", PATIENCE, || match sidecar.descriptors() {
            now if now <= descriptors => Ok(()),
            now => Err((now, descriptors)),
        });
        assert!(sidecar.rss_kib() < rss + 8 * 1024, "from {rss} to {} KiB", sidecar.rss_kib());
    }
}

#[test]
fn a_drain_lets_connections_end_and_cuts_those_that_do_not() {
    let app = echo();
    let mut pair = open(&[app.address()]);
    let mut callee = pair.callees.remove(0);
    let (mut stream, mut staying) = (pair.connect(), pair.connect());
    for stream in [&mut stream, &mut staying] {
        stream.write_all(b"before").unwrap();
        stream.read_exact(&mut [0; 6]).unwrap();
    }
    callee.process().signal(nix::sys::signal::Signal::SIGTERM);
    until("it takes no new ones", PATIENCE, || match callee.admin_get("/readyz").status() {
        200 => Err("still ready"),
        _ => Ok(()),
    });
    stream.write_all(b"during").unwrap();
    let mut back = [0; 6];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"during");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut back).unwrap(), 0);
    assert!(callee.process().wait(Duration::from_secs(40)).success());
    assert_reset(&mut staying);
}

#[test]
fn redis_and_its_benchmark_notice_nothing() {
    let _turn = heavy();
    let redis = Redis::start();
    let pair = open(&[redis.address()]);
    let port = pair.door.number().to_string();
    let cli = |arguments: &[&str]| {
        let output = Command::new("redis-cli").args(["-p", &port]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(cli(&["set", "key", "value"]), "OK\n");
    assert_eq!(cli(&["get", "key"]), "value\n");
    let output = Command::new("redis-benchmark")
        .args(["-p", &port, "-c", "50", "-n", "20000", "-P", "4", "-t", "set,get,incr,lpush,lrange_100,mset", "--csv"])
        .output()
        .unwrap();
    let (table, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success() && !table.contains("rror") && !complaints.contains("rror"), "{table}{complaints}");
    assert!(table.lines().count() >= 7, "{table}");
    let incremented: u64 = cli(&["get", "counter:__rand_int__"]).trim().parse().unwrap();
    assert_eq!(incremented, 20_000);
}

/// Copies 256 MiB into a table through `door`, and looks at `server` itself whether all of it is there.
fn copy_into(door: SocketAddr, server: SocketAddr) {
    const ROWS: u32 = 256 * 1024;
    let created = Postgres::psql(door, &["-c", "create unlogged table rows (number int, text text)"]);
    assert!(created.status.success(), "{created:?}");
    let mut child = Postgres::client("psql", door)
        .args(["--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "-c", "\\copy rows from pstdin"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut sent = Sha256::new();
    let mut input = std::io::BufWriter::with_capacity(1 << 20, child.stdin.take().unwrap());
    for number in 0..ROWS {
        let text = format!("{:08x}", number.wrapping_mul(2_654_435_761)).repeat(127) + "\n";
        sent.update(&text);
        write!(input, "{number}\t{text}").unwrap();
    }
    drop(input);
    assert!(child.wait().unwrap().success());
    let mut child = Postgres::client("psql", server)
        .args(["--no-psqlrc", "-c", "\\copy (select text from rows order by number) to pstdout"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let arrived = digest(child.stdout.as_mut().unwrap());
    assert!(child.wait().unwrap().success());
    assert_eq!(arrived, (1017 * u64::from(ROWS), hex(&sent.finalize())));
}

#[test]
fn postgres_its_benchmark_and_a_gibibyte_of_copy_notice_nothing() {
    let _turn = heavy();
    let postgres = Postgres::start();
    let pair = open(&[postgres.address()]);
    let door = pair.door.local();
    let count = Postgres::psql(door, &["-c", "select count(*) from generate_series(1, 1000)"]);
    assert_eq!(String::from_utf8_lossy(&count.stdout), "1000\n", "{count:?}");

    let copied = |at: SocketAddr| {
        // 1,023 bytes and a line end, a mebi times.
        let rows = "select repeat(md5(n::text), 31) || repeat('x', 31) from generate_series(1, 1048576) n";
        let mut child = Postgres::client("psql", at)
            .args(["--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-c", &format!("\\copy ({rows}) to pstdout")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let copied = digest(child.stdout.as_mut().unwrap());
        assert!(child.wait().unwrap().success());
        copied
    };
    let through = copied(door);
    assert_eq!(through.0, 1 << 30);
    assert_eq!(through, copied(postgres.address()));
    copy_into(door, postgres.address());

    for arguments in [&["-i", "-s", "1", "-q"][..], &["-c", "8", "-j", "2", "-t", "250", "-n"]] {
        let output = Postgres::client("pgbench", door).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        if arguments.contains(&"-t") {
            assert!(text.contains("number of transactions actually processed: 2000/2000"), "{text}");
            assert!(text.contains("number of failed transactions: 0 "), "{text}");
        }
    }
    let rows = Postgres::psql(postgres.address(), &["-c", "select count(*) from pgbench_history"]);
    assert_eq!(String::from_utf8_lossy(&rows.stdout), "2000\n");
}
