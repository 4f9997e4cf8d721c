//! What a sidecar is told: precedence, checks, and what it shows of it.

use pillion_tests::prelude::*;
use pillion_tests::process::{Output, run};
use std::process::Command;

fn check(toml: &str) -> Output {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("pillion.toml");
    std::fs::write(&path, toml).expect("write");
    let mut command = Command::new(pillion_tests::binaries::pillion());
    command.args(["check", "--config"]).arg(&path);
    run(command, Duration::from_secs(10))
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let (file, variable, flag) = (Port::lease(), Port::lease(), Port::lease());
    let registry = RegistryDir::new();
    let listens = |port: &Port| std::net::TcpStream::connect(port.local()).is_ok();
    // The harness passes --outbound, so the precedence is shown on what it does not pass: the version, and workers.
    let app = App::start("payments-1");
    let sidecar = Sidecar::builder("payments")
        .app(app.address())
        .registry(&registry.url())
        .config("version = \"1.1.1\"\nworkers = 1\n")
        .env("PILLION_VERSION", "2.2.2")
        .env("PILLION_WORKERS", "2")
        .arg("--version")
        .arg("3.3.3")
        .start();
    let shown = sidecar.admin_get("/config").text();
    assert!(shown.contains("3.3.3") && !shown.contains("2.2.2") && !shown.contains("1.1.1"), "{shown}");
    let threads = sidecar.metric("pillion_process_threads", &[]);
    assert!(threads >= 3.0, "two workers and a control thread, seen: {threads}");
    drop(sidecar);

    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("pillion.toml");
    let text = format!("[listen]\noutbound = \"{}\"\n", file.local());
    std::fs::write(&path, text).expect("write");
    let (inbound, admin) = (Port::lease(), Port::lease());
    for (with_variable, with_flag, wanted) in [(false, false, &file), (true, false, &variable), (true, true, &flag)] {
        let mut command = Command::new(pillion_tests::binaries::pillion());
        command.args(["run", "--insecure", "--registry", &registry.url(), "--service", "web", "--config"]).arg(&path);
        command.args(["--inbound", &inbound.local().to_string(), "--admin", &admin.local().to_string()]);
        if with_variable {
            command.env("PILLION_OUTBOUND", variable.local().to_string());
        }
        if with_flag {
            command.args(["--outbound", &flag.local().to_string()]);
        }
        let process = pillion_tests::process::Process::start("sidecar", command, &dir.path().join("log"));
        let bound = within(Duration::from_secs(10), || listens(wanted));
        let others = [&file, &variable, &flag].iter().filter(|port| listens(port)).count();
        assert!(bound && others == 1, "variable {with_variable}, flag {with_flag}\n{}", process.tail());
    }
}

#[test]
fn each_mistake_is_named_with_its_place() {
    let good = "service = \"orders\"\nregistry = \"static\"\ninsecure = true\n";
    check(good).success();
    let cases: &[(&str, &[&str])] = &[
        ("[limits]\nheader_byte = 1\n", &["5:1", "header_byte", "header_bytes"]),
        ("[timeouts]\nresponse = \"5 parsecs\"\n", &["5:", "response"]),
        ("[timeouts]\nresponse = 5\n", &["5:", "response"]),
        ("[[outbound]]\nlisten = \"127.0.0.1:9001\"\nservice = \"Not A Name\"\n", &["6:", "service"]),
        ("[[outbound]]\nlisten = \"nowhere\"\nservice = \"payments\"\n", &["5:", "listen"]),
        ("workerz = 2\n", &["4:1", "workerz", "workers"]),
        ("[listen]\noutbound = \"0.0.0.0:4140\"\n", &["outbound", "allow_remote"]),
        ("this is not toml\n", &["4:"]),
    ];
    for (text, words) in cases {
        let output = check(&format!("{good}{text}"));
        let said = format!("{}{}", output.stdout, output.stderr);
        assert_eq!(output.code, Some(1), "{text:?} gave {said}");
        for word in *words {
            assert!(said.contains(word), "{text:?}: '{word}' is not in: {said}");
        }
    }
}

#[test]
fn the_example_config_is_valid() {
    let text =
        std::fs::read_to_string(pillion_tests::binaries::root().join("config.example.toml")).expect("the example");
    let mut command = Command::new(pillion_tests::binaries::pillion());
    command.args(["check", "--config"]).arg(pillion_tests::binaries::root().join("config.example.toml"));
    let output = run(command, Duration::from_secs(10));
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    assert!(text.contains("header_bytes"));
}

#[test]
fn secrets_are_not_shown() {
    let etcd = Etcd::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let secret = dir.path().join("password");
    std::fs::write(&secret, "very-secret-word").expect("write");
    let url = etcd.url();
    let sidecar = Sidecar::builder("web")
        .registry(&url)
        .config(&format!("[etcd]\nuser = \"somebody\"\npassword_file = \"{}\"\n", secret.display()))
        .spawn();
    let shown = until("the admin port", Duration::from_secs(10), || {
        pillion_tests::http::try_call(sidecar.admin(), &Request::get("localhost", "/config"))
    });
    assert!(!shown.text().contains("very-secret-word"), "{}", shown.text());
    assert!(!sidecar.log().contains("very-secret-word"), "{}", sidecar.log());
}
