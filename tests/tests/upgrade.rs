//! A connection that is handed over to another protocol: WebSocket (RFC 6455) and whatever else an app agrees to.

use pillion_tests::grpc::node;
use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;
use pillion_tests::process::{Process, run};
use pillion_tests::rawapp::{RawApp, read_request};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(20);

/// An app of the `websockets` library: it sends each message back, and closes as it is told.
const SERVER: &str = r#"
import asyncio, sys, websockets

async def serve(socket, path=None):
    async for message in socket:
        if isinstance(message, str) and message.startswith("close "):
            code, reason = message[6:].split(" ", 1)
            await socket.close(int(code), reason)
            return
        await socket.send(message)

async def main():
    async with websockets.serve(serve, "127.0.0.1", int(sys.argv[1]), max_size=None, ping_interval=None, subprotocols=["chat"]):
        await asyncio.Future()

asyncio.run(main())
"#;

/// Goes through cases of RFC 6455 and prints what it sees.
const CLIENT: &str = r#"
import asyncio, hashlib, sys, websockets

def connect(**more):
    return websockets.connect("ws://" + sys.argv[1] + "/chat?room=1",
                              max_size=None, ping_interval=None, **more)

async def main():
    async with connect(subprotocols=["chat"]) as socket:
        print("subprotocol", socket.subprotocol)
        print("extensions", sorted(extension.name for extension in socket.extensions))
        for message in ["", "text", "ünï", b"", b"bytes", "x" * 125, "x" * 126, "x" * 65535, "x" * 65536]:
            await socket.send(message)
            print(type(message).__name__, len(message), await socket.recv() == message)
        await asyncio.wait_for(await socket.ping(b"are you there"), 20)
        print("pong")

        async def fragments():
            for number in range(50):
                yield "fragment %d " % number
                if number % 10 == 5:
                    await asyncio.wait_for(await socket.ping(), 20)
        await socket.send(fragments())
        print("fragmented", hashlib.sha256((await socket.recv()).encode()).hexdigest())
        for number in range(200):
            await socket.send(str(number))
        print("in order", [await socket.recv() for _ in range(200)] == [str(number) for number in range(200)])
    print("closed by us", socket.close_code)
    async with connect(compression=None) as socket:
        large = bytes(range(256)) * (64 * 1024 * 1024 // 256)
        await socket.send(large)
        print("64 MiB", hashlib.sha256(await socket.recv()).hexdigest())
    for code, reason in [(1000, "done"), (1001, "away"), (1011, "broken"), (3000, "ours"), (4999, "ü")]:
        async with connect() as socket:
            await socket.send("close %d %s" % (code, reason))
            try:
                await socket.recv()
            except websockets.ConnectionClosed as closed:
                print("closed by it", closed.rcvd.code, closed.rcvd.reason)
    async with connect() as socket:
        await socket.close(4321, "ours")
        print("closed by us", socket.close_code, socket.close_reason)

asyncio.run(main())
"#;

/// The same of npm's `ws`.
const NODE_SERVER: &str = r#"
const { WebSocketServer } = require("ws");
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[1]), maxPayload: 0, perMessageDeflate: true, handleProtocols: () => "chat" });
server.on("connection", (socket) => {
  socket.on("message", (message, isBinary) => {
    const text = isBinary ? "" : message.toString();
    const close = /^close (\d+) (.*)$/s.exec(text.length < 200 ? text : "");
    if (close) socket.close(Number(close[1]), close[2]);
    else socket.send(message, { binary: isBinary });
  });
});
"#;

/// Cases of RFC 6455 with npm's `ws`, which can send a message frame by frame.
const NODE_CLIENT: &str = r#"
const WebSocket = require("ws");
const { createHash } = require("crypto");
const sha256 = (data) => createHash("sha256").update(data).digest("hex");
const connect = (options = {}) =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket("ws://" + process.argv[1] + "/chat?room=1", ["chat"], { maxPayload: 0, ...options });
    socket.on("open", () => resolve(socket));
    socket.on("error", reject);
  });
const next = (socket, event) => new Promise((resolve) => socket.once(event, (...values) => resolve(values)));
async function main() {
  const socket = await connect();
  console.log("subprotocol", socket.protocol, "extensions", socket.extensions);
  for (const message of ["", "text", "ünï", Buffer.alloc(0), Buffer.from("bytes"), "x".repeat(125), "x".repeat(126), "x".repeat(65535), "x".repeat(65536)]) {
    socket.send(message);
    const [answer, isBinary] = await next(socket, "message");
    console.log(isBinary ? "binary" : "text", answer.length, answer.equals(Buffer.from(message)));
  }
  socket.ping("are you there");
  console.log("pong", (await next(socket, "pong"))[0].toString());
  for (let number = 0; number < 50; number++) {
    socket.send("fragment " + number + " ", { fin: number === 49, compress: false });
    if (number % 10 === 5) {
      socket.ping();
      await next(socket, "pong");
    }
  }
  console.log("fragmented", sha256((await next(socket, "message"))[0]));
  socket.close(1000, "done");
  console.log("closed by us", ...(await next(socket, "close")).map(String));
  const large = await connect({ perMessageDeflate: false });
  large.send(Buffer.alloc(64 * 1024 * 1024, "pattern"));
  console.log("64 MiB", sha256((await next(large, "message"))[0]));
  large.terminate();
  for (const [code, reason] of [[1000, "done"], [1001, "away"], [1011, "broken"], [3000, "ours"], [4999, "ü"]]) {
    const socket = await connect();
    socket.send("close " + code + " " + reason);
    console.log("closed by it", ...(await next(socket, "close")).map(String));
  }
}
main();
"#;

fn javascript(script: &str, argument: &str) -> Command {
    let mut command = node();
    command.arg("-e").arg(script).arg(argument);
    command
}

fn python(script: &str, argument: &str) -> Command {
    // Debian's own, which has Debian's packages.
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-c").arg(script).arg(argument);
    command
}

#[test]
fn websocket_is_as_it_is_without_sidecars() {
    as_without_sidecars(python, SERVER, &[(python, CLIENT, 22)]);
}

#[test]
fn websocket_of_npm_is_as_it_is_without_sidecars_whoever_calls() {
    as_without_sidecars(javascript, NODE_SERVER, &[(javascript, NODE_CLIENT, 19), (python, CLIENT, 22)]);
}

type Language = fn(&str, &str) -> Command;

/// Runs each client against the app, directly and through two sidecars: it prints so many lines, and the same.
fn as_without_sidecars(app: Language, script: &str, clients: &[(Language, &str, usize)]) {
    let _turn = heavy();
    let (port, dir) = (Port::lease(), tempfile::tempdir().unwrap());
    let _app = Process::start("websocket app", app(script, &port.number().to_string()), &dir.path().join("app.log"));
    until("the app accepts", PATIENCE, || TcpStream::connect(port.local()));
    let mesh = Mesh::on_files();
    let _callee = mesh.builder("payments").app(port.local()).start();
    let door = Port::lease();
    let entry = format!("[[outbound]]\nlisten = \"{}\"\nservice = \"payments\"", door.local());
    let _caller = mesh.builder("web").config(&format!("prefetch = [\"payments\"]\n{entry}")).start();
    for (client, script, lines) in clients {
        let seen = |at: SocketAddr| run(client(script, &at.to_string()), Duration::from_secs(120)).success().to_owned();
        let direct = seen(port.local());
        assert_eq!(direct.lines().count(), *lines, "{direct}");
        assert!(!direct.to_lowercase().contains("false"), "{direct}");
        assert_eq!(seen(door.local()), direct);
    }
}

/// An app that agrees to any upgrade, says what it was asked, and then sends back what it is sent.
fn agreeing() -> (RawApp, mpsc::Receiver<String>) {
    let (told, heard) = mpsc::channel();
    let app = RawApp::start(move |mut stream| {
        let mut carry = Vec::new();
        while let Some(request) = read_request(&mut stream, &mut carry) {
            told.send(request.head.clone()).unwrap();
            let Some(protocol) = request.header("upgrade") else {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain").unwrap();
                continue;
            };
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\nx-said: yes\r\n\r\nat once "
            );
            stream.write_all(answer.as_bytes()).unwrap();
            stream.write_all(&carry).unwrap();
            let mut buffer = [0; 4096];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => stream.write_all(&buffer[..count]).unwrap(),
                    Err(error) => return told.send(format!("{:?}", error.kind())).unwrap(),
                }
            }
        }
    });
    (app, heard)
}

fn pair(app: &RawApp) -> (Sidecar, Sidecar) {
    let mesh = Mesh::on_files();
    let callee = mesh.builder("payments").app(app.address()).start();
    let caller = mesh.builder("web").config("prefetch = [\"payments\"]").start();
    (caller, callee)
}

/// Asks for an upgrade, with `behind` sent in the same breath.
fn ask(caller: &Sidecar, upgrade: &str, behind: &str) -> TcpStream {
    let mut stream = TcpStream::connect(caller.outbound()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /x HTTP/1.1\r\nhost: payments\r\nconnection: upgrade\r\n{upgrade}\r\n\r\n{behind}");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Reads until what was read ends with `end`.
#[track_caller]
fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => text.push(byte[0]),
            other => panic!("{other:?} after {}", String::from_utf8_lossy(&text)),
        }
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn what_is_said_early_on_either_side_arrives_and_ends_are_passed_on() {
    let (app, heard) = agreeing();
    let (caller, _callee) = pair(&app);
    let mut stream = ask(&caller, "upgrade: irc/6.9\r\nexpect: 100-continue", "early ");
    let head = read_to(&mut stream, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    for line in ["connection: upgrade\r\n", "upgrade: irc/6.9\r\n", "x-said: yes\r\n"] {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert_eq!(read_to(&mut stream, "early "), "at once early ");
    stream.write_all(b"late").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "late");
    let asked = heard.recv_timeout(PATIENCE).unwrap().to_ascii_lowercase();
    assert!(asked.contains("\r\nconnection: upgrade\r\n") && asked.contains("\r\nupgrade: irc/6.9"), "{asked}");
    let ok = [("service", "payments"), ("direction", "outbound"), ("outcome", "ok")];
    until("it is counted", PATIENCE, || match caller.metric("pillion_calls_total", &ok) {
        1.0 => Ok(()),
        other => Err(other),
    });
}

#[test]
fn a_caller_that_breaks_off_is_a_reset_for_the_app() {
    let (app, heard) = agreeing();
    let (caller, _callee) = pair(&app);
    let mut stream = ask(&caller, "upgrade: x", "");
    read_to(&mut stream, "at once ");
    heard.recv_timeout(PATIENCE).unwrap();
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), format!("{:?}", ErrorKind::ConnectionReset));
    let cancelled = [("service", "payments"), ("direction", "outbound"), ("outcome", "cancelled")];
    until("it is counted as the caller's doing", PATIENCE, || match caller.metric("pillion_calls_total", &cancelled) {
        1.0 => Ok(()),
        other => Err(other),
    });
}

#[test]
fn to_another_http_and_to_one_of_several_no_connection_is_handed_over() {
    let (app, heard) = agreeing();
    let (caller, _callee) = pair(&app);
    for upgrade in
        ["upgrade: h2c\r\nhttp2-settings: AAMAAABk", "upgrade: TLS/1.0", "upgrade: x, y", "upgrade: x\r\nupgrade: y"]
    {
        let mut stream = ask(&caller, upgrade, "");
        let answer = read_to(&mut stream, "plain");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{upgrade}: {answer}");
        let asked = heard.recv_timeout(PATIENCE).unwrap().to_ascii_lowercase();
        assert!(!asked.contains("upgrade"), "{upgrade}: {asked}");
    }
}

#[test]
fn an_app_that_declines_is_heard_and_what_follows_is_a_request_of_its_own() {
    let (told, heard) = mpsc::channel();
    let app = RawApp::start(move |mut stream| {
        let mut carry = Vec::new();
        while let Some(request) = read_request(&mut stream, &mut carry) {
            told.send(request.head).unwrap();
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").unwrap();
        }
    });
    let (caller, _callee) = pair(&app);
    let second = "GET /second HTTP/1.1\r\nhost: payments\r\nconnection: close\r\n\r\n";
    let mut stream = ask(&caller, "upgrade: websocket", second);
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 403 Forbidden\r\n").count(), 2, "{answers}");
    let first = heard.recv_timeout(PATIENCE).unwrap().to_ascii_lowercase();
    assert!(first.starts_with("get /x ") && first.contains("\r\nupgrade: websocket"), "{first}");
    let second = heard.recv_timeout(PATIENCE).unwrap().to_ascii_lowercase();
    assert!(second.starts_with("get /second ") && !second.contains("upgrade"), "{second}");
}

#[test]
fn an_upgrade_to_nobody_is_an_error_and_ends_the_connection() {
    let (app, _heard) = agreeing();
    let (caller, _callee) = pair(&app);
    let mut stream = TcpStream::connect(caller.outbound()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: nobody\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nraw bytes")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("x-pillion-error: unknown-service\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

/// An app that speaks WebSocket over HTTP/2 alone (RFC 8441): Node's own HTTP/2 with the frames of npm's `ws`.
const HTTP2_SERVER: &str = r#"
const http2 = require("http2"), WebSocket = require("ws");
const server = http2.createServer({ settings: { enableConnectProtocol: true } });
server.on("stream", (stream, headers) => {
  if (headers[":method"] !== "CONNECT" || headers[":protocol"] !== "websocket") {
    stream.respond({ ":status": 404 });
    return stream.end();
  }
  if (headers["sec-websocket-key"] || headers.upgrade || headers[":path"] !== "/chat?room=1") {
    stream.respond({ ":status": 400 });
    return stream.end();
  }
  const asked = headers["sec-websocket-protocol"];
  stream.respond({ ":status": 200, ...(asked && { "sec-websocket-protocol": asked }) });
  for (const method of ["setTimeout", "setNoDelay", "setKeepAlive"]) stream[method] = () => stream;
  const socket = new WebSocket(null, undefined, { autoPong: true, closeTimeout: 30000 });
  socket._isServer = true;
  socket.setSocket(stream, Buffer.alloc(0), { maxPayload: 0, skipUTF8Validation: false, allowSynchronousEvents: true });
  socket.on("message", (data, isBinary) => {
    const text = isBinary ? "" : data.toString();
    if (!text.startsWith("close ")) return socket.send(data, { binary: isBinary });
    const [, code, reason] = /^close (\d+) (.*)$/.exec(text);
    socket.close(Number(code), reason);
  });
});
server.listen(Number(process.argv[1]), "127.0.0.1");
"#;

/// A caller that speaks WebSocket over HTTP/2, with the same libraries: `HOST:PORT` and the service's name.
const HTTP2_CLIENT: &str = r#"
const http2 = require("http2"), WebSocket = require("ws");
const session = http2.connect("http://" + process.argv[1]);
session.once("remoteSettings", (settings) => {
  console.log("extended connect", settings.enableConnectProtocol);
  const stream = session.request({ ":method": "CONNECT", ":protocol": "websocket", ":authority": process.argv[2],
    ":path": "/chat?room=1", "sec-websocket-version": "13", "sec-websocket-protocol": "chat" }, { endStream: false });
  stream.on("response", (headers) => {
    console.log("status", headers[":status"], headers["sec-websocket-protocol"], headers.upgrade, headers["sec-websocket-accept"]);
    for (const method of ["setTimeout", "setNoDelay", "setKeepAlive"]) stream[method] = () => stream;
    const socket = new WebSocket(null, undefined, { autoPong: true, closeTimeout: 30000 });
    socket._isServer = false;
    const messages = ["", "text", "x".repeat(70000), "y".repeat(5 << 20), "close 4321 done"];
    let next = 0;
    socket.on("message", (data) => {
      console.log(data.length, data.toString() === messages[next - 1]);
      socket.send(messages[next++]);
    });
    socket.on("close", (code, reason) => { console.log("closed", code, reason.toString()); session.close(); });
    socket.setSocket(stream, Buffer.alloc(0), { maxPayload: 0, skipUTF8Validation: false, allowSynchronousEvents: true });
    socket.send(messages[next++]);
  });
});
"#;

/// What [`HTTP2_CLIENT`] prints when all goes well.
const SEEN: &str = "extended connect true\nstatus 200 chat undefined undefined\n0 true\n4 true\n70000 true\n5242880 true\nclosed 4321 done\n";

/// WebSocket over HTTP/2 or HTTP/1.1 on either side: the apps and callers are those of three libraries.
#[test]
fn websocket_over_http2_on_either_side() {
    let _turn = heavy();
    let mesh = Mesh::on_files();
    let dir = tempfile::tempdir().unwrap();
    for over_http2 in [true, false] {
        let port = Port::lease();
        let service = if over_http2 { "modern" } else { "classic" };
        let (mut command, url) = if over_http2 {
            let mut command = node();
            command.arg("-e").arg(HTTP2_SERVER);
            (command, format!("h2c://{}", port.local()))
        } else {
            let mut command = Command::new("/usr/bin/python3");
            command.arg("-c").arg(SERVER);
            (command, format!("http://{}", port.local()))
        };
        command.arg(port.number().to_string());
        let _app = Process::start(service, command, &dir.path().join(format!("{service}.log")));
        until("the app accepts", PATIENCE, || TcpStream::connect(port.local()));
        let _callee = mesh.builder(service).app_at(&url).start();
        let door = Port::lease();
        let entry = format!("[[outbound]]\nlisten = \"{}\"\nservice = \"{service}\"", door.local());
        let caller = mesh.builder("web").config(&format!("prefetch = [\"{service}\"]\n{entry}")).start();

        let mut client = node();
        client.arg("-e").arg(HTTP2_CLIENT).arg(caller.outbound().to_string()).arg(service);
        assert_eq!(run(client, Duration::from_secs(60)).success(), SEEN, "from HTTP/2 to {service}");

        let mut client = Command::new("/usr/bin/python3");
        client.arg("-c").arg(CLIENT).arg(door.local().to_string());
        let seen = run(client, Duration::from_secs(120)).success().to_owned();
        let told = ["subprotocol chat", "fragmented", "in order True", "64 MiB", "closed by it 4999 \u{fc}"];
        assert!(told.iter().all(|line| seen.contains(line)) && !seen.contains("False"), "to {service}: {seen}");
    }
}

/// HTTP/2's plain CONNECT (RFC 9113, 8.5) leads where that of HTTP/1.1 does.
#[test]
fn a_stream_of_http2_leads_to_the_app_of_a_tcp_service() {
    const CLIENT: &str = r#"
const http2 = require("http2");
const session = http2.connect("http://" + process.argv[1]);
const stream = session.request({ ":method": "CONNECT", ":authority": "store:6379" }, { endStream: false });
stream.on("response", (headers) => console.log(headers[":status"]));
let all = "";
stream.on("data", (data) => { all += data; });
stream.on("end", () => { console.log(all); session.close(); });
stream.write("one ");
stream.end("two");
"#;
    let app = RawApp::start(|mut stream| {
        let mut all = Vec::new();
        let _ = stream.write_all(b"ready ");
        if stream.read_to_end(&mut all).is_ok() {
            let _ = stream.write_all(&all);
        }
    });
    let mesh = Mesh::on_files();
    let _store = mesh.builder("store").tcp_app(app.address()).start();
    let caller = mesh.builder("web").config("prefetch = [\"store\"]").start();
    let mut client = node();
    client.arg("-e").arg(CLIENT).arg(caller.outbound().to_string());
    assert_eq!(run(client, PATIENCE).success(), "200\nready one two\n");
}
