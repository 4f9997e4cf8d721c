//! Unix domain sockets: as doors, and as where the app listens. That calls through them are like all others is doors.rs's matter.

use pillion_tests::databases::Redis;
use pillion_tests::grpc::{Interop, Library, scenarios};
use pillion_tests::prelude::*;
use pillion_tests::process::{curl, run};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

const PATIENCE: Duration = Duration::from_secs(20);

fn who(socket: &Path) -> Result<String, String> {
    let output = run(curl(&["--unix-socket", &socket.display().to_string(), "http://payments/who"]), PATIENCE);
    if output.code == Some(0) { Ok(output.stdout.clone()) } else { Err(output.stderr.clone()) }
}

#[test]
fn a_socket_belongs_to_its_sidecar_from_start_to_end() {
    let mesh = Mesh::on_files();
    let _payments = mesh.instance("payments", "payments-1");
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("out.sock");
    let builder = || mesh.builder("orders").outbound_socket(&socket).config("prefetch = [\"payments\"]");
    let mode = || std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
    let mut caller = builder().start();
    assert_eq!(mode(), 0o600, "for its own user alone, unless told otherwise");
    until("a call is answered", PATIENCE, || who(&socket));

    // The sidecar itself is called by the name that a socket's other side has: localhost.
    let arguments = ["--unix-socket", &socket.display().to_string(), "http://localhost/rpc/payments/echo", "-d", "[1]"];
    assert_eq!(run(curl(&arguments), PATIENCE).success(), "[1]");

    // A second one does not take it from the first.
    let mut second = builder().spawn();
    assert!(!second.process().wait(PATIENCE).success());
    assert!(second.log().contains(&format!("listen.outbound unix:{}: ", socket.display())), "{}", second.log());
    assert_eq!(who(&socket).as_deref(), Ok("payments-1"));

    // What a killed one leaves is no obstacle.
    caller.kill();
    assert!(std::fs::metadata(&socket).unwrap().file_type().is_socket());
    assert!(who(&socket).is_err());
    caller.restart();
    assert_eq!(who(&socket).as_deref(), Ok("payments-1"));
    assert!(caller.term().success());
    assert!(!socket.exists(), "one that ends in order leaves nothing");

    let _shared = builder().config("[listen]\nsocket_mode = \"0666\"").start();
    assert_eq!(mode(), 0o666);
}

#[test]
fn redis_by_its_socket_through_a_socket() {
    let mesh = Mesh::on_files();
    let redis = Redis::start();
    let callee = mesh.builder("cache").app_at(&format!("tcp+unix:{}", redis.socket().display())).start();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("redis.sock");
    let door = format!("[[outbound]]\nlisten = \"unix:{}\"\nservice = \"cache\"\nprotocol = \"tcp\"", socket.display());
    let _caller = mesh.builder("web").config(&format!("prefetch = [\"cache\"]\n{door}")).start();
    let redis = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.arg("-s").arg(&socket).args(arguments);
        run(command, Duration::from_secs(60))
    };
    assert_eq!(redis("redis-cli", &["set", "key", "value"]).success().trim(), "OK");
    assert_eq!(redis("redis-cli", &["get", "key"]).success().trim(), "value");
    let said = redis("redis-benchmark", &["-q", "-n", "20000", "-c", "20", "-t", "get,set", "-P", "4"]);
    let said = said.success();
    assert!(said.contains("SET: ") && said.contains("GET: ") && !said.to_ascii_lowercase().contains("error"), "{said}");
    assert!(callee.metric("pillion_app_connections_opened_total", &[]) >= 20.0);
}

/// Each direction ends on its own.
#[test]
fn the_ends_of_both_directions_pass() {
    let dir = tempfile::tempdir().unwrap();
    let (app, door) = (dir.path().join("app.sock"), dir.path().join("door.sock"));
    let listener = UnixListener::bind(&app).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut all = Vec::new();
                let _ = stream.write_all(b"first ");
                // The answer comes after the end of what was asked.
                if stream.read_to_end(&mut all).is_ok() {
                    let _ = stream.write_all(&all);
                }
            });
        }
    });
    let mesh = Mesh::on_files();
    let _callee = mesh.builder("store").app_at(&format!("tcp+unix:{}", app.display())).start();
    let entry = format!("[[outbound]]\nlisten = \"unix:{}\"\nservice = \"store\"\nprotocol = \"tcp\"", door.display());
    let caller = mesh.builder("web").config(&format!("prefetch = [\"store\"]\n{entry}")).start();
    let sent = vec![b'x'; 3 << 20];
    let mut stream = UnixStream::connect(&door).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&sent).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got.starts_with(b"first ") && got[6..] == sent, "{} bytes", got.len());
    until("it is counted", PATIENCE, || {
        let labels = [("service", "store"), ("direction", "outbound"), ("outcome", "ok")];
        if caller.metric("pillion_calls_total", &labels) == 1.0 { Ok(()) } else { Err(()) }
    });
}

/// A connect to a Unix domain socket does not wait for room in the app's queue: the sidecar does.
#[test]
fn an_app_that_accepts_slowly_gets_every_call() {
    const CALLS: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("app.sock");
    // The queue has room for one.
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    listener.bind(&socket2::SockAddr::unix(&socket).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let listener = UnixListener::from(listener);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read(&mut byte) {
                    Ok(1) => head.push(byte[0]),
                    _ => break,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let mesh = Mesh::on_files();
    // A call may not start its app's connection a second time.
    let config = "[timeouts]\napp_connect = \"30s\"";
    let _payments = mesh.builder("payments").config(config).app_at(&format!("unix:{}", socket.display())).start();
    let caller = mesh.builder("orders").config("prefetch = [\"payments\"]").start();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..CALLS).map(|_| scope.spawn(|| post(caller.outbound(), "payments", "/", "x"))).collect();
        for call in calls {
            let answer = call.join().unwrap();
            assert_eq!(answer.status(), 200, "{}", answer.summary());
        }
    });
}

#[test]
fn grpc_from_socket_to_socket() {
    let dir = tempfile::tempdir().unwrap();
    let (app_socket, door) = (dir.path().join("app.sock"), dir.path().join("out.sock"));
    let _app = Interop::start_with_socket(&app_socket);
    let mesh = Mesh::on_files();
    let _callee = mesh.builder("interop").app_at(&format!("h2c+unix:{}", app_socket.display())).start();
    let _caller = mesh.builder("web").config("prefetch = [\"interop\"]").outbound_socket(&door).start();
    let seen = scenarios(Library::Python, &format!("unix:{}", door.display()), Some("interop"));
    assert!(seen.len() >= 14 && seen.iter().all(|line| line.ends_with("ok")), "{seen:#?}");
}
