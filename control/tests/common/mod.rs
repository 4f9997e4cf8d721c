//! Runs the real binary, with none of our own environment's settings.

use std::process::{Command, Output};

/// The binary under test.
pub(crate) fn pillionctl() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillionctl"));
    for name in ["REGISTRY", "ETCD_PASSWORD", "ETCD_CA", "ETCD_CERT", "ETCD_KEY"] {
        command.env_remove(format!("PILLION_{name}"));
    }
    command
}

/// Standard output of a command that must succeed.
pub(crate) fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {status}: {stderr}");
    String::from_utf8(stdout).unwrap()
}

/// A command that must fail with `code` and all `words` on standard error.
pub(crate) fn check_fails(command: &mut Command, code: i32, words: &[&str]) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(code), "{command:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{command:?}: {word:?} is not in {stderr:?}");
    }
}
