//! Everything that is wrong gets its own clear error, and nothing else is disturbed.

use pillion_tests::http::call;
use pillion_tests::prelude::*;
use pillion_tests::rawapp::RawApp;

/// The fields that every generated error carries. `at`: the endpoint of the last attempt, if there was one.
#[track_caller]
fn check_error(answer: &Response, status: u16, code: &str, origin: &str, executed: &str, at: Option<SocketAddr>) {
    let seen = (answer.status(), answer.header("x-pillion-error"));
    assert_eq!(seen, (status, Some(code)), "{}", answer.summary());
    let json = answer.json();
    assert_eq!(json["code"], code, "{json}");
    assert_eq!(json["origin"], origin, "{json}");
    assert_eq!(json["executed"], executed, "{json}");
    assert_eq!(json["endpoint"], serde_json::json!(at.map(|address| address.to_string())), "{json}");
    let attempts = json["attempts"].as_u64().unwrap_or_else(|| panic!("no count of attempts in {json}"));
    assert_eq!(attempts > 0, at.is_some(), "an attempt has an endpoint, and the other way round: {json}");
    // What did not run may have been tried once more; what may have run was not.
    assert!(attempts <= if executed == "no" { 2 } else { 1 }, "{json}");
    let revision = json["revision"].as_u64().unwrap_or_else(|| panic!("no revision in {json}"));
    assert!(at.is_none() || revision > 0, "the table in which the endpoint stood has a revision: {json}");
    let phases = ["request", "route", "connect", "wait", "body"];
    assert!(json["phase"].as_str().is_some_and(|phase| phases.contains(&phase)), "{json}");
    assert!(json["hint"].as_str().is_some_and(|hint| hint.len() > 10), "{json}");
}

#[test]
fn each_wrong_thing_gets_its_own_error_and_nothing_else_is_disturbed() {
    let etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let (caller, _payments) = mesh.pair();
    let door = caller.outbound();
    let bystander = Load::gets(door, "payments", 2, Duration::from_millis(5));

    check_error(&get(door, "paymens", "/"), 404, "unknown-service", "local-sidecar", "no", None);
    check_error(&get(door, "-payments", "/"), 400, "bad-service-name", "local-sidecar", "no", None);
    let version = Request::get("payments", "/").header("x-pillion-version", "9.9.9");
    check_error(&call(door, &version), 503, "no-endpoints", "local-sidecar", "no", None);
    let oversized = Request::get("payments", "/").header("x-large", &"l".repeat(70 * 1024));
    let answer = call(door, &oversized);
    check_error(&answer, 431, "header-too-large", "local-sidecar", "no", None);
    assert!(answer.text().contains("limits.header_bytes"), "{}", answer.text());

    // Records that do not parse, beside a good one: skipped, counted, named; the good one serves.
    etcd.put("/pillion/services/payments/1.0.0/127.0.0.1:1", "this is not JSON");
    etcd.put("/pillion/services/payments/1.0.0/not-an-address", "{}");
    until("the records to be counted as rejected", Duration::from_secs(5), || {
        let rejected = caller.metric("pillion_registry_rejected_records_total", &[]);
        if rejected >= 2.0 { Ok(()) } else { Err(rejected) }
    });
    for key in ["payments/1.0.0/127.0.0.1:1", "payments/1.0.0/not-an-address"] {
        until(&format!("the log to name the record {key}"), Duration::from_secs(10), || {
            let log = caller.log();
            let named = log.split(|letter: char| letter.is_whitespace() || "\"'`=,".contains(letter));
            if named.into_iter().any(|word| word.trim_end_matches(':').ends_with(key)) { Ok(()) } else { Err(log) }
        });
    }
    for _ in 0..20 {
        assert_eq!(get(door, "payments", "/who").text(), "payments-1");
    }

    // An app that answers garbage, one that hangs up, and one that is down.
    let garbage_app = RawApp::answering(b"\x00\x01 this was never HTTP\r\n\r\n");
    let closing_app = RawApp::answering(b"");
    let garbage = mesh.builder("garbage").app(garbage_app.address()).start();
    let closing = mesh.builder("closing").app(closing_app.address()).start();
    let mut down = mesh.instance("down", "down-1");
    down.app.stop();
    let answer = |service: &str| {
        until("the service to be known", Duration::from_secs(5), || {
            let answer = call(door, &Request::post(service, "/", "x"));
            if answer.status() == 404 { Err(answer.summary()) } else { Ok(answer) }
        })
    };
    check_error(&answer("garbage"), 502, "app-bad-response", "app", "yes", Some(garbage.inbound()));
    let closed = answer("closing");
    let executed = closed.json()["executed"].as_str().unwrap_or_default().to_owned();
    check_error(&closed, 502, "app-closed", "app", &executed, Some(closing.inbound()));
    assert_ne!(executed, "no", "the app had the request: nobody may say that it did not run");
    check_error(&answer("down"), 503, "app-not-connected", "remote-sidecar", "no", Some(down.sidecar.inbound()));

    let errors = caller.metrics();
    for code in
        ["unknown-service", "no-endpoints", "header-too-large", "app-bad-response", "app-closed", "app-not-connected"]
    {
        assert!(errors.sum("pillion_errors_total", &[("code", code)]) >= 1.0, "{code} was not counted");
    }
    bystander.run_for(100, Duration::from_secs(20));
    bystander.stop().assert_clean(100);
}

#[test]
fn an_unknown_config_key_is_refused_with_its_place_and_a_suggestion() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("pillion.toml");
    std::fs::write(
        &path,
        "service = \"orders\"\nregistry = \"static\"\ninsecure = true\n\n[timeouts]\nrespons = \"5s\"\n",
    )
    .expect("write");
    for arguments in [["check", "--config"], ["run", "--config"]] {
        let mut command = std::process::Command::new(pillion_tests::binaries::pillion());
        command.args(arguments).arg(&path);
        let output = pillion_tests::process::run(command, Duration::from_secs(10));
        assert!(output.code.is_some_and(|code| code != 0), "{output:?}");
        let said = format!("{}{}", output.stdout, output.stderr);
        for word in ["6:1", "respons", "response"] {
            assert!(said.contains(word), "'{word}' is not in:\n{said}");
        }
    }
    std::fs::write(
        &path,
        "service = \"orders\"\nregistry = \"static\"\ninsecure = true\n\n[timeouts]\nresponse = \"5s\"\n",
    )
    .expect("write");
    let mut command = std::process::Command::new(pillion_tests::binaries::pillion());
    command.args(["check", "--config"]).arg(&path);
    pillion_tests::process::run(command, Duration::from_secs(10)).success();
}

#[test]
fn a_service_whose_last_instance_left_is_a_clear_error_soon() {
    let mesh = Mesh::on_files();
    let (caller, mut payments) = mesh.pair();
    assert!(payments.sidecar.term().success());
    let answer = until("the instance to be forgotten", Duration::from_secs(10), || {
        let answer = get(caller.outbound(), "payments", "/who");
        match answer.header("x-pillion-error") {
            Some("no-endpoints" | "unknown-service") => Ok(answer),
            _ => Err(answer.summary()),
        }
    });
    assert!([404, 503].contains(&answer.status()));
    // It comes back, and is served again.
    payments.sidecar.restart();
    first_call(&caller, "payments");
}
