//! The example `examples/chat`: services in two languages over WebSocket, gRPC and JSON-RPC, and two people in real browsers.

use pillion_tests::binaries::{pillion, root, target_dir};
use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;
use pillion_tests::process::Process;
use std::process::Command;

/// Its own waits are shorter and say more: this is for what hangs without one.
const LIMIT: Duration = Duration::from_secs(300);
/// Five for each of its six sidecars.
const PORTS: usize = 30;

#[test]
fn two_people_in_browsers_chat_on_while_an_instance_is_killed() {
    let _turn = heavy();
    let ports: Vec<Port> = (0..PORTS).map(|_| Port::lease()).collect();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(root().join("examples/chat/run.sh"));
    command
        .env("ONCE", "1")
        .env("EXAMPLE_BIN", pillion().parent().expect("a file has a directory"))
        .env("EXAMPLE_PORTS", ports.iter().map(|port| port.number().to_string()).collect::<Vec<_>>().join(" "))
        .env("CARGO_TARGET_DIR", target_dir())
        .env("TMPDIR", dir.path());
    let mut process = Process::start("examples/chat", command, &dir.path().join("log"));
    let status = process.wait(LIMIT);
    let report = process.log();
    println!("{report}");
    assert!(status.success(), "{report}");

    let numbers = |of: &str| -> Vec<u32> {
        let line = report.lines().find(|line| line.contains(of)).unwrap_or_else(|| panic!("no {of:?} in {report}"));
        let words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '-');
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let [messages, failed, errors] = numbers("messages, seen by both")[..] else { panic!("{report}") };
    assert!(messages >= 62 && failed == 0 && errors == 0, "three phases of twenty at least, and two: {report}");
    let answered: Vec<u32> = (1..=3).flat_map(|number| numbers(&format!("logic-{number}: "))).collect();
    // One of the three has two lives.
    assert!(answered.len() == 4 && answered.iter().all(|&count| count > 0), "{answered:?}: {report}");
    assert!(answered.iter().sum::<u32>() >= messages, "{answered:?}: {report}");
    let [cut, streams, posts] = numbers("cut by the kill")[..] else { panic!("{report}") };
    assert!(cut >= 2 && streams >= 1 && posts >= 1, "a stream and a post were in flight: {report}");
}
