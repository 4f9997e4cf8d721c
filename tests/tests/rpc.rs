//! Procedures called by their names: `/rpc/{service}/{method}`, JSON-RPC 2.0, and Dapr's service invocation with Dapr's own SDKs.

use pillion_tests::binaries::python;
use pillion_tests::grpc::node;
use pillion_tests::http::{call, try_call};
use pillion_tests::prelude::*;
use pillion_tests::process::run;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// A request to the sidecar itself.
fn to_itself(method: &str, path: &str) -> Request {
    Request::new(method, "127.0.0.1:4140", path)
}

fn json_rpc(caller: &Sidecar, service: &str, body: &Value) -> Response {
    call(caller.outbound(), &to_itself("POST", &format!("/jsonrpc/{service}")).body(body.to_string()))
}

#[test]
fn a_procedure_is_a_plain_post_to_the_app() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let request =
        to_itself("POST", "/rpc/payments/headers?dry=1").header("content-type", "application/json").body("[1,2]");
    let seen = call(caller.outbound(), &request).json();
    assert_eq!(
        (&seen["method"], &seen["target"], &seen["body"]),
        (&json!("POST"), &json!("/headers?dry=1"), &json!("[1,2]"))
    );
    let wrong = call(caller.outbound(), &to_itself("GET", "/rpc/payments/headers"));
    assert_eq!((wrong.status(), wrong.header("x-pillion-error")), (400, Some("bad-request")));
    let nobody = call(caller.outbound(), &to_itself("POST", "/rpc/nobody/x"));
    assert_eq!((nobody.status(), nobody.header("x-pillion-error")), (404, Some("unknown-service")));
    // A service that is named has paths of its own.
    let own = call(caller.outbound(), &Request::post("payments", "/rpc/nobody/x", "1"));
    assert_eq!((own.status(), own.text()), (200, "payments-1".to_owned()));
}

#[test]
fn json_rpc_keeps_to_its_specification() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let ask = |body: Value| json_rpc(&caller, "payments", &body);
    // The method gives back what it was called with.
    let one = ask(json!({"jsonrpc": "2.0", "method": "echo", "params": {"amount": 7}, "id": "a"}));
    assert_eq!((one.status(), one.header("content-type")), (200, Some("application/json")));
    assert_eq!(one.json(), json!({"jsonrpc": "2.0", "result": {"amount": 7}, "id": "a"}));
    let seen = ask(json!({"jsonrpc": "2.0", "method": "headers", "params": [1], "id": 1})).json();
    assert_eq!(
        (&seen["result"]["method"], &seen["result"]["target"], &seen["result"]["body"]),
        (&json!("POST"), &json!("/headers"), &json!("[1]"))
    );
    // A notification is carried, and not answered.
    let before = payments.app.requests();
    let silent = ask(json!({"jsonrpc": "2.0", "method": "echo", "params": []}));
    assert_eq!((silent.status(), silent.body.len()), (204, 0));
    assert_eq!(payments.app.requests(), before + 1);
    let code = |body: Value| ask(body).json()["error"]["code"].as_i64();
    for wrong in [
        json!({"jsonrpc": "1.0", "method": "echo", "id": 1}),
        json!({"jsonrpc": "2.0", "id": 1}),
        json!({"jsonrpc": "2.0", "method": 1, "id": 1}),
        json!({"jsonrpc": "2.0", "method": "echo", "params": "x", "id": 1}),
        json!({"jsonrpc": "2.0", "method": "echo", "id": {}}),
        json!([]),
        json!(1),
    ] {
        assert_eq!(code(wrong.clone()), Some(-32600), "{wrong}");
    }
    let request = to_itself("POST", "/jsonrpc/payments").body("{\"jsonrpc\": \"2.0\", \"method\"");
    assert_eq!(call(caller.outbound(), &request).json()["error"]["code"], -32700);
    assert_eq!(code(json!({"jsonrpc": "2.0", "method": "who", "id": 1})), Some(-32603), "an answer that is no JSON");
    // What the service's statuses mean, and what the sidecar itself has to say.
    let query = json!({"jsonrpc": "2.0", "method": "headers?a=1", "id": 1});
    assert_eq!(code(query), Some(-32603), "the method is one segment, and no query");
    let lost = json_rpc(&caller, "nobody", &json!({"jsonrpc": "2.0", "method": "echo", "id": 1})).json();
    assert_eq!((&lost["error"]["code"], &lost["error"]["data"]["code"]), (&json!(-32000), &json!("unknown-service")));
    assert_eq!(lost["error"]["data"]["executed"], "no");
    // A batch: each item's own answer, in their order, none for a notification.
    let batch = ask(json!([
        {"jsonrpc": "2.0", "method": "echo", "params": [1], "id": "x"},
        {"jsonrpc": "2.0", "method": "echo", "params": [2]},
        {"foo": "bar"},
        {"jsonrpc": "2.0", "method": "echo", "params": [3], "id": null},
    ]));
    assert_eq!(
        batch.json(),
        json!([
            {"jsonrpc": "2.0", "result": [1], "id": "x"},
            {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
            {"jsonrpc": "2.0", "result": [3], "id": null},
        ])
    );
    let notifications = ask(json!([{"jsonrpc": "2.0", "method": "echo"}, {"jsonrpc": "2.0", "method": "echo"}]));
    assert_eq!((notifications.status(), notifications.body.len()), (204, 0));
}

#[test]
fn an_app_that_speaks_json_rpc_gets_it() {
    let mesh = Mesh::on_files();
    let app = App::start("payments-1");
    let callee = mesh.builder("payments").arg("--app-jsonrpc").arg("/jsonrpc").app(app.address()).start();
    let caller = mesh.caller("orders");
    first_call(&caller, "payments");
    let rpc = |path: &str, body: &str| call(caller.outbound(), &to_itself("POST", path).body(body));
    let sum = rpc("/rpc/payments/add", "[1, 2, 39]");
    assert_eq!((sum.status(), sum.text().as_str()), (200, "42"), "{}", sum.summary());
    assert_eq!(rpc("/rpc/payments/add", "").text(), "0");
    let failed = rpc("/rpc/payments/fail", "{\"a\": 1}");
    assert_eq!(failed.status(), 500, "{}", failed.summary());
    assert_eq!(failed.json(), json!({ "code": 7, "message": "as asked", "data": { "a": 1 } }));
    let unknown = rpc("/rpc/payments/guess", "{}");
    assert_eq!((unknown.status(), unknown.json()["code"].clone()), (404, json!(-32601)), "{}", unknown.summary());
    let bad = rpc("/rpc/payments/add", "[1,");
    let seen = (bad.status(), bad.header("x-pillion-error"), bad.json()["executed"] == "no");
    assert_eq!(seen, (400, Some("bad-arguments"), true), "{}", bad.summary());

    // From JSON-RPC to JSON-RPC nothing is lost.
    let item = |method: &str, params: Value, id: u32| json!({ "jsonrpc": "2.0", "method": method, "params": params, "id": id });
    let batch = json!([item("add", json!([1, 2]), 1), item("fail", json!([true]), 2), item("guess", json!([]), 3)]);
    let answers = json_rpc(&caller, "payments", &batch).json();
    assert_eq!(
        answers,
        json!([
            { "jsonrpc": "2.0", "result": 3, "id": 1 },
            { "jsonrpc": "2.0", "error": { "code": 7, "message": "as asked", "data": [true] }, "id": 2 },
            { "jsonrpc": "2.0", "error": { "code": -32601, "message": "no such method here" }, "id": 3 },
        ])
    );
    // What is no procedure is what it always was.
    assert_eq!(get(caller.outbound(), "payments", "/who").text(), "payments-1");

    // Each is counted by its method, on both sides; what the service does not know is not worth a counter.
    for (sidecar, direction) in [(&caller, "outbound"), (&callee, "inbound")] {
        let counted = |method: &str, outcome: &str| {
            let labels = [("direction", direction), ("service", "payments"), ("method", method), ("outcome", outcome)];
            sidecar.metric("pillion_method_calls_total", &labels)
        };
        until("all are counted", PATIENCE, || {
            let counts = (counted("add", "ok"), counted("fail", "app_error"), counted("other", "ok"));
            if counts == (3.0, 2.0, 2.0) { Ok(()) } else { Err(counts) }
        });
        assert_eq!(counted("guess", "ok"), 0.0);
    }
}

#[test]
fn a_batch_of_a_thousand_is_balanced_item_by_item_and_answered_in_order() {
    const ITEMS: usize = 1_000;
    let mesh = Mesh::on_files();
    let instances: Vec<_> = (1..=3).map(|number| mesh.instance("payments", &format!("payments-{number}"))).collect();
    let caller = mesh.caller("orders");
    first_call(&caller, "payments");
    caller.wait_table(
        "payments",
        Duration::from_secs(20),
        &instances.iter().map(|instance| instance.sidecar.inbound()).collect::<Vec<_>>(),
    );
    let item = |number: usize| json!({"jsonrpc": "2.0", "method": "echo", "params": [number], "id": number});
    let before: Vec<u64> = instances.iter().map(|instance| instance.app.requests()).collect();
    let answers = json_rpc(&caller, "payments", &Value::from((0..ITEMS).map(item).collect::<Vec<_>>())).json();
    let want = |number: usize| json!({"jsonrpc": "2.0", "result": [number], "id": number});
    assert_eq!(answers, Value::from((0..ITEMS).map(want).collect::<Vec<_>>()));
    for (instance, before) in instances.iter().zip(before) {
        let share = instance.app.requests() - before;
        // A burst goes where answers come back soonest; what matters is that it is not one instance's.
        assert!((50..=800).contains(&share), "{share} of {ITEMS} came to one of three");
    }
    let counted = caller.metric("pillion_calls_total", &[("service", "payments"), ("outcome", "ok")]);
    assert!(counted >= ITEMS as f64, "{counted}");
    // More than may be is refused whole.
    let many = Value::from((0..5_000).map(item).collect::<Vec<_>>());
    assert_eq!(json_rpc(&caller, "payments", &many).json()["error"]["code"], -32600);
    let huge = to_itself("POST", "/jsonrpc/payments").body(vec![b' '; 5 << 20]);
    assert_eq!(call(caller.outbound(), &huge).status(), 400);
    // A tower of brackets is not climbed.
    let tower = to_itself("POST", "/jsonrpc/payments").body("[".repeat(1 << 20));
    assert_eq!(call(caller.outbound(), &tower).json()["error"]["code"], -32700);
    assert_eq!(get(caller.outbound(), "payments", "/status").status(), 200);
}

#[test]
fn a_page_in_a_browser_calls_nobody() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let before = payments.app.requests();
    for path in ["/jsonrpc/payments", "/rpc/payments/echo", "/v1.0/invoke/payments/method/echo"] {
        let request = to_itself("POST", path).header("origin", "http://evil.example").body("{}");
        let answer = call(caller.outbound(), &request);
        assert_eq!((answer.status(), answer.header("x-pillion-error")), (403, Some("forbidden-origin")), "{path}");
    }
    assert_eq!(payments.app.requests(), before);
}

#[test]
fn daprs_interface_is_there_and_its_health_is_no_call() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let counted = || caller.metric("pillion_calls_total", &[("direction", "outbound")]);
    // The first call's answer is here before it is counted.
    let before = until("the first call is counted", PATIENCE, || match counted() {
        0.0 => Err("none is"),
        count => Ok(count),
    });
    for path in ["/v1.0/healthz", "/v1.0/healthz/outbound"] {
        assert_eq!(call(caller.outbound(), &to_itself("GET", path)).status(), 204);
    }
    let metadata = call(caller.outbound(), &to_itself("GET", "/v1.0/metadata")).json();
    assert_eq!((&metadata["id"], &metadata["actors"]), (&json!("orders"), &json!([])));
    assert_eq!(counted(), before);
    let seen = call(caller.outbound(), &to_itself("PUT", "/v1.0/invoke/payments/method/headers?a=1").body("x")).json();
    assert_eq!((&seen["method"], &seen["target"], &seen["body"]), (&json!("PUT"), &json!("/headers?a=1"), &json!("x")));
    let by_header = to_itself("GET", "/who").header("dapr-app-id", "payments");
    assert_eq!(call(caller.outbound(), &by_header).text(), "payments-1");
    let unknown = try_call(caller.outbound(), &to_itself("GET", "/v1.0/state/store/key")).unwrap();
    assert_eq!(unknown.header("x-pillion-error"), Some("no-service-named"));
}

const DAPR_PYTHON: &str = r#"
import json, os, sys
os.environ["DAPR_RUNTIME_HOST"], os.environ["DAPR_HTTP_PORT"] = sys.argv[1].split(":")
os.environ["DAPR_HEALTH_TIMEOUT"] = "10"
from dapr.clients import DaprClient

with DaprClient() as client:
    answer = client.invoke_method("payments", "echo", data=json.dumps({"amount": 7}), http_verb="POST", content_type="application/json")
    print(answer.json(), answer.status_code)
    answer = client.invoke_method("payments", "headers", data=b"", http_verb="GET", http_querystring=[("a", "1")])
    print(answer.json()["target"])
    try:
        client.invoke_method("nobody", "echo", data=b"", http_verb="GET")
        print("nobody answered")
    except Exception as error:
        print(type(error).__name__)
"#;

const DAPR_NODE: &str = r#"
const { DaprClient, HttpMethod } = require("@dapr/dapr");
const [host, port] = process.argv[1].split(":");
async function main() {
  const client = new DaprClient({ daprHost: host, daprPort: port, logger: { level: "error" } });
  console.log(JSON.stringify(await client.invoker.invoke("payments", "echo", HttpMethod.POST, { amount: 7 })));
  console.log((await client.invoker.invoke("payments", "headers?a=1", HttpMethod.GET)).target);
  console.log(await client.invoker.invoke("nobody", "echo", HttpMethod.GET).then(() => "nobody answered", () => "refused"));
  await client.stop();
}
main();
"#;

#[test]
fn daprs_sdk_for_python_invokes_services() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let mut command = python();
    command.arg("-c").arg(DAPR_PYTHON).arg(caller.outbound().to_string());
    let seen = run(command, Duration::from_secs(60));
    let lines: Vec<_> = seen.success().lines().collect();
    assert_eq!(lines[..2], ["{'amount': 7} 200", "/headers?a=1"], "{seen:?}");
    assert!(lines[2].ends_with("Error"), "{seen:?}");
}

#[test]
fn daprs_sdk_for_javascript_invokes_services() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let mut command = node();
    command.arg("-e").arg(DAPR_NODE).arg(caller.outbound().to_string());
    let seen = run(command, Duration::from_secs(60));
    assert_eq!(seen.success(), "{\"amount\":7}\n/headers?a=1\nrefused\n");
}
