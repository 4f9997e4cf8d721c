//! gRPC through two sidecars: calls of all four kinds, their metadata, deadlines, statuses, ends.

use pillion_tests::grpc::{Interop, Library, run_python, scenarios};
use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;

const PATIENCE: Duration = Duration::from_secs(20);
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// A caller's sidecar, also with a port bound to `greeter`, and one sidecar for the app.
struct Pair {
    caller: Sidecar,
    callee: Sidecar,
    door: Port,
    _mesh: Mesh,
}

impl Pair {
    fn new(app: SocketAddr, config: &str) -> Pair {
        let mesh = Mesh::on_files();
        let callee = mesh.builder("greeter").config(config).h2c_app(app).start();
        let door = Port::lease();
        let entry = format!("[[outbound]]\nlisten = \"{}\"\nservice = \"greeter\"", door.local());
        let caller = mesh.builder("web").config(&format!("prefetch = [\"greeter\"]\n{config}\n{entry}")).start();
        Pair { caller, callee, door, _mesh: mesh }
    }

    fn counted(&self, direction: &str, outcome: &str) -> f64 {
        let sidecar = if direction == "inbound" { &self.callee } else { &self.caller };
        let labels = [("service", "greeter"), ("direction", direction), ("outcome", outcome)];
        sidecar.metric("pillion_calls_total", &labels)
    }
}

/// What every script begins with: a channel to the target, and the calls on it.
const CALLS: &str = r#"
import sys, threading, time
import grpc
import interop_pb2 as messages

def calls(target, *options):
    channel = grpc.insecure_channel(target, options=[("grpc.enable_retries", 0), *options])
    def call(kind, name, request, response):
        return getattr(channel, kind)("/grpc.testing.TestService/" + name, request.SerializeToString, response.FromString)
    simple = (messages.SimpleRequest, messages.SimpleResponse)
    output = (messages.StreamingOutputCallRequest, messages.StreamingOutputCallResponse)
    return {
        "unary": call("unary_unary", "UnaryCall", *simple),
        "inspect": call("unary_unary", "Inspect", *simple),
        "output": call("unary_stream", "StreamingOutputCall", *output),
        "duplex": call("stream_stream", "FullDuplexCall", *output),
    }

def asked(size, interval_us=0):
    wanted = [messages.ResponseParameters(size=size, interval_us=interval_us)]
    return messages.StreamingOutputCallRequest(response_parameters=wanted)

def failure(run):
    try:
        run()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it did not fail")
"#;

#[track_caller]
fn script(text: &str, arguments: &[&str]) -> String {
    run_python(&format!("{CALLS}{text}"), arguments, RUN_LIMIT).success().to_owned()
}

#[track_caller]
fn interop(app: Library, caller: Library, expected: usize) {
    let app = Interop::start(app);
    let pair = Pair::new(app.address(), "");
    let seen = scenarios(caller, &pair.door.local().to_string(), None);
    println!("{}", seen.join("\n"));
    let failed: Vec<_> = seen.iter().filter(|line| !line.ends_with(" ok")).collect();
    assert!(failed.is_empty() && seen.len() == expected, "{failed:#?} of {seen:#?}");
}

#[test]
fn interoperability_python_to_python() {
    interop(Library::Python, Library::Python, 16);
}

#[test]
fn interoperability_node_to_python() {
    interop(Library::Python, Library::Node, 14);
}

#[test]
fn interoperability_python_to_node() {
    interop(Library::Node, Library::Python, 16);
}

#[test]
fn interoperability_node_to_node() {
    interop(Library::Node, Library::Node, 14);
}

#[test]
fn the_service_is_named_by_the_authority_or_by_metadata() {
    let app = Interop::start(Library::Python);
    let pair = Pair::new(app.address(), "");
    let outbound = pair.caller.outbound().to_string();
    let seen = script(
        r#"
target = sys.argv[1]
request = messages.SimpleRequest(response_size=3)
print(len(calls(target, ("grpc.default_authority", "greeter"))["unary"](request, timeout=20).payload.body))
print(len(calls(target)["unary"](request, timeout=20, metadata=(("x-pillion-service", "greeter"),)).payload.body))
error = failure(lambda: calls(target)["unary"](request, timeout=20))
print(error.code(), dict(error.trailing_metadata())["x-pillion-error"])
"#,
        &[&outbound],
    );
    assert_eq!(seen, "3\n3\nStatusCode.INVALID_ARGUMENT no-service-named\n");
}

#[test]
fn the_app_sees_who_calls_the_time_that_is_left_and_the_metadata_as_it_was() {
    let app = Interop::start(Library::Python);
    let pair = Pair::new(app.address(), "");
    let seen = script(
        r#"
sent = (("x-pillion-peer", "spiffe://forged"), ("plain", "a value"), ("plain", "another"),
        ("bytes-bin", bytes(range(256))))
print(calls(sys.argv[1])["inspect"](messages.SimpleRequest(), timeout=9, metadata=sent).payload.body.decode())
"#,
        &[&pair.door.local().to_string()],
    );
    let values = |name: &str| -> Vec<&str> {
        seen.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
    };
    assert_eq!(values("x-pillion-peer").len(), 1, "{seen}");
    assert!(values("x-pillion-peer")[0].ends_with("/service/web"), "{seen}");
    // Equal names are one list to HTTP, and their order is kept.
    assert_eq!(values("plain").join(","), "a value,another", "{seen}");
    assert_eq!(values("bytes-bin"), ["the same"], "{seen}");
    let left: f64 = values("time-remaining")[0].parse().unwrap();
    // The C core rounds what it sends and what it hears.
    assert!(left > 5.0 && left < 9.5, "{left}");
    let ours = values("x-pillion-timeout");
    let ours: u64 = ours[0].strip_suffix("ms").unwrap().parse().unwrap();
    assert!((5_000..=9_500).contains(&ours), "{seen}");
}

#[test]
fn an_error_of_ours_is_a_status_with_details() {
    let app = Interop::start(Library::Python);
    let pair = Pair::new(app.address(), "");
    let outbound = pair.caller.outbound().to_string();
    let seen = script(
        r#"
error = failure(lambda: calls(sys.argv[1], ("grpc.default_authority", "nobody"))["unary"](messages.SimpleRequest(), timeout=20))
print(error.code(), error.details())
details = dict(error.trailing_metadata())["grpc-status-details-bin"]
print([word for word in (b"UNKNOWN_SERVICE", b"pillion", b"local-sidecar", b"executed", b"google.rpc.ErrorInfo") if word not in details])
"#,
        &[&outbound],
    );
    assert!(seen.starts_with("StatusCode.UNAVAILABLE unknown-service (local-sidecar, route, executed: no)"), "{seen}");
    assert!(seen.ends_with("\n[]\n"), "{seen}");
}

#[test]
fn a_callee_that_is_killed_ends_its_calls_with_a_status_and_the_metrics_tell() {
    let app = Interop::start(Library::Python);
    let mut pair = Pair::new(app.address(), "");
    let door = pair.door.local().to_string();
    let dir = tempfile::tempdir().unwrap();
    let answered = dir.path().join("answered");
    let told = answered.display().to_string();
    let running = std::thread::spawn(move || {
        script(
            r#"
answers = calls(sys.argv[1])["output"](messages.StreamingOutputCallRequest(response_parameters=[
    messages.ResponseParameters(size=1), messages.ResponseParameters(size=1, interval_us=60_000_000)]), timeout=50)
next(answers)
open(sys.argv[2], "w").close()
error = failure(lambda: next(answers))
print(error.code(), error.details())
"#,
            &[&door, &told],
        )
    });
    until("the first answer has come", PATIENCE, || if answered.exists() { Ok(()) } else { Err("not yet") });
    pair.callee.kill();
    let seen = running.join().unwrap();
    assert!(seen.starts_with("StatusCode.UNAVAILABLE channel-lost"), "{seen}");
}

#[test]
fn failures_of_the_app_count_as_such_and_cancelled_calls_as_cancelled() {
    let app = Interop::start(Library::Python);
    let pair = Pair::new(app.address(), "");
    script(
        r#"
calls = calls(sys.argv[1])
for code, count in [(0, 3), (13, 4), (5, 2)]:
    for _ in range(count):
        status = messages.EchoStatus(code=code, message="as wished")
        request = messages.SimpleRequest(response_status=status) if code else messages.SimpleRequest()
        if code:
            failure(lambda: calls["unary"](request, timeout=20))
        else:
            calls["unary"](request, timeout=20)
answers = calls["output"](asked(1, interval_us=60_000_000), timeout=50)
threading.Timer(0.2, answers.cancel).start()
assert failure(lambda: next(answers)).code() == grpc.StatusCode.CANCELLED
"#,
        &[&pair.door.local().to_string()],
    );
    for direction in ["outbound", "inbound"] {
        until("the calls are counted", PATIENCE, || {
            let seen = ["ok", "app_error", "cancelled"].map(|outcome| pair.counted(direction, outcome));
            // NOT_FOUND is an answer like any other.
            if seen == [5.0, 4.0, 1.0] { Ok(()) } else { Err((direction, seen)) }
        });
    }
}

#[test]
fn streams_outlive_every_timeout_that_is_not_theirs() {
    let limits = "[timeouts]\nconnect = \"900ms\"\nfirst_answer = \"900ms\"\nresponse = \"1s\"\nheader = \"1s\"\nidle = \"1s\"\napp_idle = \"1s\"";
    let app = Interop::start(Library::Python);
    let pair = Pair::new(app.address(), limits);
    let seen = script(
        r#"
calls = calls(sys.argv[1])
go_on = threading.Event()
def requests():
    yield asked(1)
    go_on.wait()
    yield asked(2)
# Silent in the middle of a stream, before the first answer of another, and in the request of neither.
talking = calls["duplex"](requests())
print(len(next(talking).payload.body))
waiting = calls["output"](asked(3, interval_us=5_000_000))
print(len(next(waiting).payload.body))
go_on.set()
print([len(answer.payload.body) for answer in talking])
"#,
        &[&pair.door.local().to_string()],
    );
    assert_eq!(seen, "1\n3\n[2]\n");
}

#[test]
fn an_app_is_registered_when_it_says_that_it_serves() {
    let app = Interop::python(
        r#"
import sys, threading
from concurrent import futures
import grpc

asked = 0
def check(request, context):
    # HealthCheckResponse: NOT_SERVING the first three times.
    global asked
    asked += 1
    return b"\x08\x02" if asked < 4 else b"\x08\x01"

def count(request, context):
    return str(asked).encode()

server = grpc.server(futures.ThreadPoolExecutor(4))
raw = lambda handler: grpc.unary_unary_rpc_method_handler(handler)
server.add_generic_rpc_handlers((
    grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": raw(check)}),
    grpc.method_handlers_generic_handler("test.Test", {"Count": raw(count)}),
))
server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
server.wait_for_termination()
"#,
    );
    let pair = Pair::new(app.address(), "");
    let seen = run_python(
        r#"
import sys, grpc
channel = grpc.insecure_channel(sys.argv[1])
# Through the sidecars it is a service like any other.
print(channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20))
print(int(channel.unary_unary("/test.Test/Count")(b"", timeout=20)) >= 5)
"#,
        &[&pair.door.local().to_string()],
        RUN_LIMIT,
    );
    assert_eq!(seen.success(), "b'\\x08\\x01'\nTrue\n");
}

/// A thousand streams that each say something now and then, on one connection; half-way one of them asks for much and reads
/// nothing. Prints the 99th percentile of an answer's time before and after that, in milliseconds.
const STREAMS: &str = r#"
import asyncio, sys, time
import grpc
import interop_pb2 as messages

STREAMS, SECONDS = 1000, float(sys.argv[2])

def asked(size):
    return messages.StreamingOutputCallRequest(response_parameters=[messages.ResponseParameters(size=size)])

async def main():
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        duplex = channel.stream_stream(
            "/grpc.testing.TestService/FullDuplexCall",
            messages.StreamingOutputCallRequest.SerializeToString,
            messages.StreamingOutputCallResponse.FromString,
        )
        streams = [duplex() for _ in range(STREAMS)]
        async def ping(stream):
            began = time.monotonic()
            await stream.write(asked(8))
            answer = await stream.read()
            assert len(answer.payload.body) == 8
            return time.monotonic() - began
        await asyncio.gather(*(ping(stream) for stream in streams))
        async def phase():
            times, end = [], time.monotonic() + SECONDS
            async def talk(stream, delay):
                await asyncio.sleep(delay)
                while time.monotonic() < end:
                    times.append(await ping(stream))
                    await asyncio.sleep(3)
            await asyncio.gather(*(talk(stream, 3 * index / STREAMS) for index, stream in enumerate(streams)))
            times.sort()
            return len(times), 1000 * times[len(times) * 99 // 100]
        print(*await phase())
        stalled = duplex()
        for _ in range(64):
            await stalled.write(asked(1 << 20))
        print(*await phase())
        stalled.cancel()
        for stream in streams:
            await stream.done_writing()
            assert await stream.read() == grpc.aio.EOF

asyncio.run(main())
"#;

const STREAMS_APP: &str = r#"
import asyncio, sys
import grpc
import interop_pb2 as messages

async def duplex(requests, context):
    async for request in requests:
        for wanted in request.response_parameters:
            yield messages.StreamingOutputCallResponse(payload=messages.Payload(body=bytes(wanted.size)))

async def main():
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(
        duplex, messages.StreamingOutputCallRequest.FromString, messages.StreamingOutputCallResponse.SerializeToString)
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler("grpc.testing.TestService", {"FullDuplexCall": handler}),))
    server.add_insecure_port("127.0.0.1:" + sys.argv[1])
    await server.start()
    await server.wait_for_termination()

asyncio.run(main())
"#;

#[test]
fn a_thousand_streams_share_a_connection_and_one_that_stalls_holds_up_none() {
    let _turn = heavy();
    // PILLION_TEST_STREAMS_SECONDS=150: five minutes.
    let seconds = std::env::var("PILLION_TEST_STREAMS_SECONDS").unwrap_or_else(|_| "4".to_owned());
    let app = Interop::python(STREAMS_APP);
    let pair = Pair::new(app.address(), "");
    let limit = Duration::from_secs_f64(60.0 + 3.0 * seconds.parse::<f64>().unwrap());
    let seen = run_python(STREAMS, &[&pair.door.local().to_string(), &seconds], limit);
    println!("{}", seen.success());
    let phases: Vec<(f64, f64)> = seen
        .success()
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(count, p99)| (count.parse().unwrap(), p99.parse().unwrap()))
        .collect();
    let [(before, alone), (after, beside)] = phases[..] else { panic!("{seen:?}") };
    assert!(before >= 1_000.0 && after >= 1_000.0, "{phases:?}");
    // Python's own scheduling is the most of it.
    assert!(beside < 2.0 * alone + 20.0, "{phases:?}");
}
