//! The real binary, where no sidecar needs to run: exit codes and what is printed where.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
};

fn pillion(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillion"));
    command.args(args).env_clear();
    command
}

fn output(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = pillion(args).output().expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("utf-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn check_is_fine_with_the_example() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../config.example.toml");
    let (code, stdout, stderr) = output(&["check", "--config", example]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("fine") && stdout.lines().count() == 1, "{stdout}");
}

#[test]
fn check_and_run_name_every_mistake_with_its_place() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("bad.toml");
    fs::write(&path, "regsitry = \"static\"\n[timeouts]\nconnect = 1\n").expect("write");
    let path = path.to_str().expect("utf-8");
    for verb in ["check", "run"] {
        let (code, stdout, stderr) = output(&[verb, "--config", path, "--insecure"]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{verb}");
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{verb}: {stderr}");
        assert_eq!(lines[0], format!("{path}:1:1: unknown key `regsitry`, did you mean `registry`?"));
        assert!(lines[1].starts_with(&format!("{path}:3:11: timeouts.connect: ")), "{stderr}");
    }
}

#[test]
fn wrong_usage_is_code_2_and_the_version_is_the_binarys() {
    assert_eq!(output(&["run", "--nonsense"]).0, Some(2));
    assert_eq!(output(&[]).0, Some(2));
    let (code, stdout, _) = output(&["--version"]);
    assert_eq!((code, stdout), (Some(0), format!("pillion {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn wait_is_code_1_at_its_timeout_with_the_reason() {
    // Bound and closed again: nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let admin = listener.local_addr().expect("address").to_string();
    drop(listener);
    let (code, stdout, stderr) = output(&["wait", "--admin", &admin, "--timeout", "100ms"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("not ready after 100ms: ") && stderr.contains("refused"), "{stderr}");
}

/// A client-only sidecar in wrapper mode, which needs nothing but a directory.
fn wrapped(dir: &tempfile::TempDir, script: &str) -> Command {
    let registry = format!("file://{}", dir.path().display());
    let args = ["run", "--insecure", "--registry", &registry, "--outbound", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut command = pillion(&args);
    command.args(["--", "/bin/sh", "-c", script]).stdin(Stdio::null());
    command
}

#[test]
fn the_exit_code_is_the_apps() {
    let dir = tempfile::tempdir().expect("dir");
    for (script, code) in [("exit 0", 0), ("exit 37", 37), ("kill -9 $$", 137), ("exec /no/such/program", 127)] {
        let output = wrapped(&dir, script).output().expect("runs");
        assert_eq!(output.status.code(), Some(code), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_app_dies_with_a_sidecar_that_is_killed() {
    let dir = tempfile::tempdir().expect("dir");
    let mut sidecar = wrapped(&dir, "echo started; exec sleep 600")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(sidecar.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("read"), "started");
    sidecar.kill().expect("kill -9");
    sidecar.wait().expect("wait");
    // The app holds the pipe's other end: its end is the end of the output, or this hangs and fails the run.
    assert!(lines.next().is_none());
}
