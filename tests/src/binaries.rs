//! Where the product's binaries are. They are built once a test process, so that a suite never tests yesterday's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// The sidecar.
#[must_use]
pub fn pillion() -> &'static Path {
    &built().pillion
}

/// The operator's tool.
#[must_use]
pub fn pillionctl() -> &'static Path {
    &built().pillionctl
}

/// The harness's app as a process of its own.
#[must_use]
pub fn test_app() -> &'static Path {
    &built().test_app
}

/// The root of the workspace.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

/// A directory below target/ for what outlives one run (results).
#[must_use]
pub fn target_dir() -> PathBuf {
    profile_dir().parent().expect("a profile lies in the target directory").to_owned()
}

/// Debian's Python with the libraries of PyPI that tests/setup.sh installs.
#[must_use]
pub fn python() -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.env("PYTHONPATH", target_dir().join("test-tools/python"));
    command
}

#[derive(Debug)]
struct Built {
    pillion: PathBuf,
    pillionctl: PathBuf,
    test_app: PathBuf,
}

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = profile_dir();
        // The same selection of packages as `cargo test --workspace` has, so that features and thus dependencies
        // agree and nothing is compiled twice.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        if std::env::var_os("TESTS_WITHOUT_BUILD").is_none() {
            let mut command = Command::new(cargo);
            command
                .current_dir(root())
                .args(["build", "--quiet", "--workspace", "--bins"])
                .env("CARGO_TARGET_DIR", target_dir());
            if dir.ends_with("release") {
                command.arg("--release");
            }
            crate::process::run(command, Duration::from_secs(1200)).success();
        }
        Built {
            pillion: dir.join("pillion"),
            pillionctl: dir.join("pillionctl"),
            test_app: dir.join("pillion-test-app"),
        }
    })
}

/// target/debug or target/release: a test binary lies in its deps/.
fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("own path");
    let dir = exe.parent().expect("a file has a directory");
    if dir.ends_with("deps") { dir.parent().expect("deps/ has a parent").to_owned() } else { dir.to_owned() }
}
