//! Plain JSON calls of a gRPC app: by name, by annotation, by its own reflection; what they answer, how they fail, how they end.

use std::path::Path;
use std::process::Command;

use pillion_tests::grpc::{Shop, descriptors};
use pillion_tests::http::call;
use pillion_tests::prelude::*;
use pillion_tests::process::run;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// A caller's sidecar, and the one of an app that is registered under its gRPC service's name.
struct Pair {
    caller: Sidecar,
    mesh: Mesh,
    // Kept running.
    _callee: Sidecar,
    _shop: Shop,
}

impl Pair {
    fn new() -> Pair {
        Pair::named("shop.orders")
    }

    fn named(service: &str) -> Pair {
        let mesh = Mesh::on_files();
        let shop = Shop::start(&[]);
        let descriptors = shop.descriptors().display().to_string();
        let callee = mesh.builder(service).h2c_app(shop.address()).arg("--descriptors").arg(&descriptors).start();
        let caller = mesh.builder("web").config(&format!("prefetch = [\"{service}\"]")).start();
        Pair { caller, mesh, _callee: callee, _shop: shop }
    }

    /// POST with JSON, as `curl -d` sends it.
    #[track_caller]
    fn post(&self, path: &str, body: impl ToString) -> Response {
        let request = to_itself("POST", path).header("content-type", "application/x-www-form-urlencoded");
        call(self.caller.outbound(), &request.body(body.to_string()))
    }

    /// The result of a procedure that succeeds.
    #[track_caller]
    fn rpc(&self, method: &str, body: impl ToString) -> Value {
        let answer = self.post(&format!("/rpc/shop.Orders/{method}"), body);
        assert_eq!(
            (answer.status(), answer.header("content-type")),
            (200, Some("application/json")),
            "{}",
            answer.text()
        );
        answer.json()
    }

    /// Calls that run, and that were cancelled.
    #[track_caller]
    fn count(&self) -> (usize, usize) {
        let text = self.rpc("Count", "")["text"].as_str().unwrap_or("0 0").to_owned();
        let (running, cancelled) = text.split_once(' ').unwrap();
        (running.parse().unwrap(), cancelled.parse().unwrap())
    }

    #[track_caller]
    fn until_count(&self, want: (usize, usize)) {
        until("the app to count its calls so", PATIENCE, || match self.count() {
            seen if seen == want => Ok(()),
            seen => Err(seen),
        });
    }

    #[track_caller]
    fn until_running(&self, want: usize) {
        until("so many calls to run in the app", PATIENCE, || match self.count() {
            (running, _) if running == want => Ok(()),
            seen => Err(seen),
        });
    }
}

fn to_itself(method: &str, path: &str) -> Request {
    Request::new(method, "127.0.0.1:4140", path)
}

/// The error that a sidecar generated, by its status, its code and its detail.
#[track_caller]
fn refused(answer: &Response, status: u16, code: &str, detail: &str) {
    assert_eq!((answer.status(), answer.header("x-pillion-error")), (status, Some(code)), "{}", answer.text());
    let body = answer.json();
    assert!(body["detail"].as_str().is_some_and(|text| text.contains(detail)), "{body} lacks {detail}");
    assert_eq!((&body["origin"], &body["executed"]), (&json!("remote-sidecar"), &json!("no")), "{body}");
}

#[test]
fn curl_calls_a_typed_service() {
    let pair = Pair::new();
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--fail-with-body",
        "--max-time",
        "20",
        "-d",
        r#"{"customer": "ann", "items": [{"product": "tea", "count": 2}]}"#,
    ]);
    curl.arg(format!("http://{}/rpc/shop.Orders/Place", pair.caller.outbound()));
    let answer: Value = serde_json::from_str(run(curl, PATIENCE).success()).unwrap();
    let order = json!({"customer": "ann", "items": [{"product": "tea", "count": 2}]});
    assert_eq!(answer, json!({"order": order, "totalCount": 2}));
}

#[test]
fn a_method_is_called_by_every_name_it_has() {
    let pair = Pair::new();
    let order = json!({"id": "9007199254740993", "placed_at": "2026-01-02T03:04:05.678Z"});
    let placed = json!({"order": {"id": "9007199254740993", "placedAt": "2026-01-02T03:04:05.678Z"}});
    for path in ["/rpc/shop.Orders/Place", "/rpc/shop.orders/Place", "/rpc/SHOP.ORDERS/shop.Orders.Place"] {
        let answer = pair.post(path, &order);
        assert_eq!((answer.status(), answer.json()), (200, placed.clone()), "{path}");
    }
    // By the service's own paths, whatever names the service.
    let named = |method: &str, path: &str, body: &str| {
        call(pair.caller.outbound(), &Request::new(method, "shop.orders", path).body(body.to_owned()))
    };
    assert_eq!(named("POST", "/shop.Orders/Place", &order.to_string()).json(), placed);
    assert_eq!(named("POST", "/shop.Carts/Clear", "").json(), json!({"text": "cleared"}));
    assert_eq!(named("POST", "/v1/orders", &order.to_string()).json(), placed);
    assert_eq!(named("PUT", "/v1/orders/7", r#"{"customer": "ann"}"#).json(), json!({"id": "7", "customer": "ann"}));
    let got = named("GET", "/v1/orders/7?urgent=true", "");
    assert_eq!(got.json(), json!({"order": {"id": "7", "customer": "ann"}, "urgent": true}));
    // In the service that has the process's name, though another has one of that name too.
    refused(&pair.post("/rpc/shop.Orders/Clear", "{}"), 404, "unknown-method", "no method 'Clear' in shop.Orders");
    refused(&named("DELETE", "/v1/orders/7", ""), 404, "unknown-method", "the path is for GET, PUT");
    refused(&named("GET", "/metrics", ""), 404, "unknown-method", "no method is called by GET /metrics");
    // By Dapr's invocation.
    let invoked = call(pair.caller.outbound(), &to_itself("GET", "/v1.0/invoke/shop.Orders/method/v1/orders/8"));
    assert_eq!(invoked.json()["order"]["id"], "8");
}

#[test]
fn under_another_name_a_method_is_looked_for_in_all_services() {
    let pair = Pair::named("store");
    assert_eq!(pair.post("/rpc/store/Clear", "").json(), json!({"text": "cleared"}));
    refused(&pair.post("/rpc/store/Place", "{}"), 404, "unknown-method", "shop.Carts.Place, shop.Orders.Place");
    assert_eq!(pair.post("/rpc/store/shop.Carts.Place", r#"{"id": 1}"#).json(), json!({"order": {"id": "1"}}));
    let nobody = pair.post("/rpc/shop.Orders/Place", "{}");
    assert_eq!((nobody.status(), nobody.header("x-pillion-error")), (404, Some("unknown-service")));
}

#[test]
fn json_rpc_calls_typed_methods() {
    let pair = Pair::new();
    let ask = |body: Value| pair.post("/jsonrpc/shop.Orders", body).json();
    let item =
        |method: &str, params: Value, id: u32| json!({"jsonrpc": "2.0", "method": method, "params": params, "id": id});
    let batch = json!([
        item("Place", json!({"id": 1}), 1),
        item("shop.Orders.Place", json!({"id": 2}), 2),
        item("shop.Carts/Place", json!({"id": 3}), 3),
        item("Nobody", json!({}), 4),
        item("Place", json!({"id": true}), 5),
        item("Get", json!({"id": 404}), 6),
        {"jsonrpc": "2.0", "method": "Count", "id": 7},
    ]);
    let answers = ask(batch);
    for (index, id) in [(0, "1"), (1, "2"), (2, "3")] {
        assert_eq!(answers[index]["result"], json!({"order": {"id": id}}), "{answers}");
    }
    assert_eq!(answers[3]["error"]["code"], -32601, "{answers}");
    assert_eq!(answers[4]["error"]["code"], -32602, "{answers}");
    assert!(
        answers[4]["error"]["data"]["detail"].as_str().unwrap().starts_with("id: invalid type: boolean"),
        "{answers}"
    );
    assert_eq!(
        (&answers[5]["error"]["code"], &answers[5]["error"]["data"]["body"]["code"]),
        (&json!(-32601), &json!(5)),
        "{answers}"
    );
    assert_eq!(answers[6]["result"]["text"], "0 0", "{answers}");
}

#[test]
fn what_is_no_message_is_refused_with_its_place() {
    let pair = Pair::new();
    let bad = |body: &str, detail: &str| {
        refused(&pair.post("/rpc/shop.Orders/Place", body), 400, "bad-arguments", detail);
    };
    bad(r#"{"items": [{"count": 1}, {"count": -1}]}"#, "items[1].count: ");
    bad("{\n \"items\": [{\"prodct\": \"tea\"}]\n}", "items[0].prodct: unknown field at line 2 column 20");
    bad(r#"{"placedAt": "yesterday"}"#, "placedAt: invalid rfc3339 timestamp");
    bad(r#"{"id": 1"#, "EOF while parsing an object at line 1 column 8");
    bad("id=1", "line 1 column 1");
    let get = |target: &str| call(pair.caller.outbound(), &Request::get("shop.orders", target));
    refused(&get("/v1/orders/seven"), 400, "bad-arguments", "id: ");
    refused(&get("/v1/orders/7?urgnt=1"), 400, "bad-arguments", "urgnt: shop.GetOrder has no field `urgnt`");
    let zipped = to_itself("POST", "/rpc/shop.Orders/Place").header("content-encoding", "gzip").body("{}");
    refused(&call(pair.caller.outbound(), &zipped), 400, "bad-arguments", "gzip");
    let long = format!(r#"{{"customer": "{}"}}"#, "x".repeat(4 << 20));
    refused(&pair.post("/rpc/shop.Orders/Place", long), 413, "arguments-too-large", "4194304 bytes");
    let fits = format!(r#"{{"customer": "{}"}}"#, "x".repeat((4 << 20) - 32));
    assert_eq!(pair.rpc("Place", fits)["order"]["customer"].as_str().map(str::len), Some((4 << 20) - 32));
    let deep = format!(r#"{{"items": {}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    refused(&pair.post("/rpc/shop.Orders/Place", deep), 400, "bad-arguments", "items[0]");
}

#[test]
fn an_answer_is_bounded() {
    let pair = Pair::new();
    let text = pair.rpc("Blob", json!({"bytes": 4_000_000}));
    assert_eq!(text["text"].as_str().map(str::len), Some(4_000_000));
    let long = pair.post("/rpc/shop.Orders/Blob", json!({"bytes": 5_000_000}));
    assert_eq!((long.status(), long.header("x-pillion-error")), (502, Some("app-bad-response")), "{}", long.text());
    assert!(long.text().contains("a message of 50000"), "{}", long.text());
    assert_eq!(pair.rpc("Count", "")["text"], "0 0", "the next call is not touched by it");
}

#[test]
fn a_status_of_the_app_is_one_of_http_with_its_details() {
    let pair = Pair::new();
    let expected = [
        (1, 499),
        (2, 500),
        (3, 400),
        (4, 504),
        (5, 404),
        (6, 409),
        (7, 403),
        (8, 429),
        (9, 400),
        (10, 409),
        (11, 400),
        (12, 501),
        (13, 500),
        (14, 503),
        (15, 500),
        (16, 401),
    ];
    for (code, http) in expected {
        let answer = pair.post("/rpc/shop.Orders/Fail", json!({"status": code, "message": "for 100 % – ✓"}));
        assert_eq!((answer.status(), answer.header("x-pillion-error")), (http, None), "{code}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("x-why"), Some("asked"), "metadata behind the answer");
        assert_eq!(answer.json(), json!({"code": code, "message": "for 100 % – ✓", "details": []}));
        assert!(!answer.head.headers.iter().any(|(name, _)| name.starts_with("grpc-")), "{:?}", answer.head);
    }
    let detailed = pair.post("/rpc/shop.Orders/Fail", json!({"status": 9, "details": true})).json();
    assert_eq!(
        detailed["details"],
        json!([
            {"@type": "type.googleapis.com/shop.Order", "customer": "bob"},
            {"@type": "type.googleapis.com/no.Body", "value": "Af8="},
        ])
    );
    let missing = call(pair.caller.outbound(), &Request::get("shop.orders", "/v1/orders/404"));
    assert_eq!((missing.status(), &missing.json()["message"]), (404, &json!("no order 404 – not one")));
}

#[test]
fn fields_are_metadata_both_ways_and_the_deadline_is_the_apps() {
    let pair = Pair::new();
    let request = to_itself("POST", "/rpc/shop.Orders/Inspect")
        .header("x-pillion-timeout", "9s")
        .header("x-pillion-peer", "spiffe://forged")
        .header("grpc-status", "0")
        .header("accept-encoding", "gzip")
        .header("authorization", "Bearer 1")
        .header("x-own", "a value");
    let answer = call(pair.caller.outbound(), &request);
    assert_eq!(
        (answer.status(), answer.header("x-initial"), answer.header("x-trailing")),
        (200, Some("first"), Some("last"))
    );
    let seen = answer.json()["text"].as_str().unwrap().to_owned();
    let values = |name: &str| -> Vec<&str> {
        seen.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
    };
    assert_eq!((values("x-own"), values("authorization")), (vec!["a value"], vec!["Bearer 1"]), "{seen}");
    assert_eq!(values("x-pillion-peer").len(), 1, "{seen}");
    assert!(values("x-pillion-peer")[0].ends_with("/service/web"), "{seen}");
    for name in ["grpc-status", "accept-encoding", "content-length"] {
        assert!(values(name).is_empty(), "{name} in {seen}");
    }
    let left: f64 = values("time-remaining")[0].parse().unwrap();
    assert!(left > 3.0 && left < 9.5, "{left}");
    // And it ends the call at both sides.
    let hanging = to_itself("POST", "/rpc/shop.Orders/Hang").header("x-pillion-timeout", "300ms");
    let late = call(pair.caller.outbound(), &hanging);
    assert_eq!(late.status(), 504, "{}", late.text());
    pair.until_count((0, 1));
}

#[test]
fn a_stream_is_lines_and_each_arrives_as_it_comes() {
    let pair = Pair::new();
    let mut conn = Conn::connect(pair.caller.outbound()).unwrap();
    conn.set_patience(PATIENCE);
    conn.write(&to_itself("POST", "/rpc/shop.Orders/Watch").body(r#"{"count": 3, "atOnce": 1}"#).encode()).unwrap();
    let head = conn.read_head().unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/x-ndjson")));
    assert_eq!(head.header("x-watched"), Some("yes"), "metadata before the first message");
    let mut read = 0;
    for number in 0..3_u32 {
        let line = conn.next_piece(&head, read).unwrap().expect("a line");
        read += line.len() as u64;
        let want = if number == 0 { "{}\n".to_owned() } else { format!("{{\"number\":{number}}}\n") };
        assert_eq!(String::from_utf8_lossy(&line), want);
        // The app has not gone on before the line was here.
        if number < 2 {
            pair.rpc("Next", "");
        }
    }
    assert!(conn.next_piece(&head, read).unwrap().is_none(), "the end");
    let by_annotation = call(pair.caller.outbound(), &Request::get("shop.orders", "/v1/events?count=2&at_once=2"));
    assert_eq!(by_annotation.text(), "{}\n{\"number\":1}\n");
    let none = pair.post("/rpc/shop.Orders/Watch", "{}");
    assert_eq!((none.status(), none.text()), (200, String::new()));
    // An error behind the head is the last line.
    let broken = pair.post("/rpc/shop.Orders/Watch", json!({"count": 1, "atOnce": 1, "status": 9}));
    let lines: Vec<Value> = broken.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [json!({}), json!({"error": {"code": 9, "message": "as it was asked to", "details": []}})]);
}

#[test]
fn a_stream_of_requests_is_lines_too() {
    let pair = Pair::new();
    let lines = "{\"items\": [{\"count\": 1}]}\n\n{\"items\": [{\"count\": 2}, {\"count\": 3}]}";
    assert_eq!(pair.rpc("Gather", lines), json!({"totalCount": 6}));
    assert_eq!(pair.rpc("Gather", ""), json!({}));
    let chat = pair.post("/rpc/shop.Orders/Chat", "{\"id\": 1}\n{\"id\": 2}\n");
    assert_eq!(chat.text(), "{\"order\":{\"id\":\"1\"}}\n{\"order\":{\"id\":\"2\"}}\n");
    refused(
        &pair.post("/rpc/shop.Orders/Gather", "{}\n{\"id\": []}\n"),
        400,
        "bad-arguments",
        "the body's line 2: id: ",
    );

    // Bit by bit: what is wrong in a later line ends the call, and the caller is told what it was.
    let begin = |method: &str| {
        let mut conn = Conn::connect(pair.caller.outbound()).unwrap();
        conn.set_patience(PATIENCE);
        let head =
            format!("POST /rpc/shop.Orders/{method} HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n");
        conn.write(head.as_bytes()).unwrap();
        conn.write_chunk(b"{\"id\": 1}\n{\"id\"").unwrap();
        conn
    };
    let mut conn = begin("Gather");
    pair.until_running(1);
    conn.write_chunk(b": true}\n").unwrap();
    refused(&conn.read_response(false).unwrap(), 400, "bad-arguments", "the body's line 2: id: invalid type");
    // The caller has not ended its body: only a cancelled call ends.
    pair.until_running(0);

    let mut conn = begin("Chat");
    let head = conn.read_head().unwrap();
    let first = conn.next_piece(&head, 0).unwrap().expect("the answer to the first line, before there is a second");
    assert_eq!(String::from_utf8_lossy(&first), "{\"order\":{\"id\":\"1\"}}\n");
    conn.write_chunk(b": 2}\n").unwrap();
    let second = conn.next_piece(&head, first.len() as u64).unwrap().expect("a second answer");
    assert_eq!(String::from_utf8_lossy(&second), "{\"order\":{\"id\":\"2\"}}\n");
    conn.write_chunk(b"no JSON\n").unwrap();
    let error = conn.next_piece(&head, (first.len() + second.len()) as u64).unwrap().expect("a last line");
    let error: Value = serde_json::from_slice(&error).unwrap();
    assert_eq!(error["error"]["code"], 3, "{error}");
    assert!(error["error"]["message"].as_str().unwrap().contains("the body's line 3"), "{error}");
    pair.until_running(0);
}

#[test]
fn a_caller_that_leaves_ends_the_apps_call() {
    let pair = Pair::new();
    for (method, body, reads_head) in [("Hang", "", false), ("Watch", r#"{"count": 2, "atOnce": 1}"#, true)] {
        let (_, cancelled) = pair.count();
        let mut conn = Conn::connect(pair.caller.outbound()).unwrap();
        conn.set_patience(PATIENCE);
        conn.write(&to_itself("POST", &format!("/rpc/shop.Orders/{method}")).body(body).encode()).unwrap();
        if reads_head {
            conn.read_head().unwrap();
        }
        pair.until_count((1, cancelled));
        drop(conn);
        pair.until_count((0, cancelled + 1));
    }
}

#[test]
fn grpc_passes_as_it_is_beside_json() {
    let pair = Pair::new();
    let door = Port::lease();
    let entry = format!("[[outbound]]\nlisten = \"{}\"\nservice = \"shop.orders\"", door.local());
    let _typed = pair.mesh.builder("typed").config(&entry).start();
    let script = r#"
import sys, grpc
call = grpc.insecure_channel(sys.argv[1]).unary_unary("/shop.Orders/Get", lambda data: data, lambda data: data)
print(call(b"\x08\x07", timeout=20).hex())
try:
    call(b"\x08\x94\x03", timeout=20)
except grpc.RpcError as error:
    print(error.code())
"#;
    let seen = pillion_tests::grpc::run_python(script, &[&door.local().to_string()], PATIENCE);
    assert_eq!(seen.success(), "0a0708071203616e6e\nStatusCode.NOT_FOUND\n");
}

#[test]
fn an_app_may_tell_its_methods_itself() {
    for versions in [&["v1"][..], &["v1alpha"], &["v1", "v1alpha"]] {
        let mesh = Mesh::on_files();
        let mut shop = Shop::start(versions);
        let callee = mesh.builder("shop.orders").h2c_app(shop.address()).arg("--descriptors").arg("reflection").start();
        let caller = mesh.builder("web").config("prefetch = [\"shop.orders\"]").start();
        let place = |method: &str| {
            let request = to_itself("POST", &format!("/rpc/shop.Orders/{method}")).body(r#"{"id": 7}"#);
            call(caller.outbound(), &request)
        };
        assert_eq!(place("Place").json(), json!({"order": {"id": "7"}}), "{versions:?}\n{}", callee.log());
        let got = call(caller.outbound(), &Request::get("shop.orders", "/v1/orders/7"));
        assert_eq!(got.json()["order"]["customer"], "ann", "annotations come with it");
        refused(&place("Later"), 404, "unknown-method", "no method 'Later'");
        if versions == ["v1"] {
            continue;
        }
        // The app comes back as another one: the sidecar asks again by itself.
        shop.kill();
        let proto = std::fs::read_to_string(shop_proto()).unwrap();
        shop.replace_descriptors(&proto.replace("rpc Count(", "rpc Later(Order) returns (Receipt);\n  rpc Count("));
        shop.restart();
        until("the new method to be known", PATIENCE, || match place("Later") {
            answer if answer.status() == 501 => Ok(()),
            answer => Err(answer.text()),
        });
    }
}

fn shop_proto() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/grpc/shop.proto"))
}

#[test]
fn an_app_without_reflection_is_not_registered_and_the_log_says_why() {
    let mesh = Mesh::on_files();
    let mut shop = Shop::start(&[]);
    let mut callee = mesh.builder("shop.orders").h2c_app(shop.address()).arg("--descriptors").arg("reflection").spawn();
    until("the log to say why", PATIENCE, || {
        let log = callee.log();
        if log.contains("not registered: its methods are not known: it has no server reflection") {
            Ok(())
        } else {
            Err(log)
        }
    });
    let ready = pillion_tests::http::try_call(callee.admin(), &Request::get("localhost", "/readyz")).unwrap();
    assert_eq!(ready.status(), 503, "{}", ready.text());
    // Turned on, it is found.
    shop.reflect(&["v1alpha"]);
    shop.restart();
    callee.wait_ready();
}

#[test]
fn descriptors_that_are_of_no_use_stop_the_start_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let check = |app: &str, file: &str, want: &str| {
        let mut command = Command::new(pillion_tests::binaries::pillion());
        let registry = format!("file://{}", dir.path().display());
        command.args([
            "run",
            "--insecure",
            "--service",
            "shop",
            "--app",
            app,
            "--registry",
            &registry,
            "--descriptors",
            file,
        ]);
        command.args(["--outbound", "127.0.0.1:0", "--inbound", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let output = run(command, PATIENCE);
        assert_eq!(output.code, Some(1), "{}", output.stderr);
        assert!(output.stderr.contains(want), "{} lacks {want}", output.stderr);
    };
    let h2c = "h2c://127.0.0.1:1";
    check(h2c, "/nowhere/shop.pb", "descriptors /nowhere/shop.pb: No such file");
    check(h2c, &write("text", b"syntax = \"proto3\";"), "not a serialized FileDescriptorSet");
    let alone = write("alone", &descriptors(shop_proto(), false));
    check(h2c, &alone, "shop.proto imports google/api/annotations.proto, which is not there: protoc --include_imports");
    check("http://127.0.0.1:1", &alone, "descriptors are for an app that speaks gRPC, given as h2c://HOST:PORT");
}
