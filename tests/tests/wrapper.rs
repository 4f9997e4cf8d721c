//! `pillion run … -- CMD`: the app's life is the sidecar's life.

use nix::sys::signal::Signal;
use pillion_tests::prelude::*;

fn log_contains(sidecar: &Sidecar, text: &str) -> Result<(), String> {
    let log = sidecar.log();
    if log.contains(text) { Ok(()) } else { Err(log) }
}

#[test]
fn the_first_call_of_the_wrapped_app_succeeds_and_its_exit_code_is_passed_on() {
    let mesh = Mesh::on_files();
    let _payments = mesh.instance("payments", "payments-1");
    let job = mesh.builder("job");
    // The app calls at once: the sidecar must be ready before it starts it.
    let script = format!(
        "curl -sS -f --noproxy '*' --max-time 20 -H 'Host: payments' http://{}/who >&2 && exit 7; exit 99",
        job.outbound()
    );
    let mut sidecar = job.config("prefetch = [\"payments\"]\n").command(&["sh", "-c", &script]).spawn();
    let status = sidecar.process().wait(Duration::from_secs(40));
    assert_eq!(status.code(), Some(7), "{}", sidecar.log());
    assert!(sidecar.log().contains("payments-1"), "{}", sidecar.log());
}

#[test]
fn the_sidecar_ends_within_a_second_of_its_app() {
    let mesh = Mesh::on_files();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let app = App::start("job-1");
    // A machine that runs other tests may stall one end, and hardly three.
    let took: Vec<Duration> = (0..3)
        .map(|round| {
            let go = dir.path().join(format!("go-{round}"));
            let script = format!("while [ ! -e {} ]; do sleep 0.05; done; exit 3", go.display());
            let mut sidecar = mesh.builder("job").app(app.address()).command(&["sh", "-c", &script]).start();
            assert!(sidecar.process().try_wait().is_none());
            std::fs::write(&go, "").expect("write");
            let told = Instant::now();
            let status = sidecar.process().wait(Duration::from_secs(20));
            assert_eq!(status.code(), Some(3));
            told.elapsed()
        })
        .collect();
    assert!(took.iter().any(|took| *took < Duration::from_secs(1)), "it took {took:?}");
}

#[test]
fn a_signal_reaches_the_app_and_its_calls_work_until_it_exits() {
    let mesh = Mesh::on_files();
    let _payments = mesh.instance("payments", "payments-1");
    let web = mesh.builder("web");
    let script = format!(
        "trap 'sleep 0.7; curl -sS -f --noproxy \"*\" --max-time 20 -H \"Host: payments\" http://{}/who >&2 && exit 42; exit 99' TERM; \
         echo app-is-up >&2; while :; do sleep 0.05; done",
        web.outbound()
    );
    let mut sidecar = web.command(&["sh", "-c", &script]).spawn();
    until("the app to be up", Duration::from_secs(15), || log_contains(&sidecar, "app-is-up"));
    sidecar.process().signal(Signal::SIGTERM);
    let status = sidecar.process().wait(Duration::from_secs(40));
    assert_eq!(status.code(), Some(42), "{}", sidecar.log());
    assert!(sidecar.log().contains("payments-1"), "the app's call during shutdown failed:\n{}", sidecar.log());
}

#[test]
fn a_command_that_cannot_be_started_is_said_so() {
    let mesh = Mesh::on_files();
    let mut sidecar = mesh.builder("job").command(&["/no/such/program"]).spawn();
    let status = sidecar.process().wait(Duration::from_secs(10));
    assert!(!status.success());
    assert!(sidecar.log().contains("/no/such/program"), "{}", sidecar.log());
}

#[test]
fn pillion_wait_waits_for_readiness() {
    let mesh = Mesh::on_files();
    let web = mesh.builder("web");
    let admin = web.admin();
    let wait = |timeout: &str| {
        let mut command = std::process::Command::new(pillion_tests::binaries::pillion());
        command.args(["wait", "--admin", &admin.to_string(), "--timeout", timeout]);
        pillion_tests::process::run(command, Duration::from_secs(30))
    };
    let failed = wait("300ms");
    assert!(failed.code.is_some_and(|code| code != 0), "{failed:?}");
    assert!(failed.took < Duration::from_secs(3), "{failed:?}");
    let _sidecar = web.spawn();
    wait("20s").success();
}
