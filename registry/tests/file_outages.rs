//! What happens to a directory on a real machine.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use common::rig::TTL;
use common::{Changes, addresses, channel, endpoint, eventually, service};
use pillion_registry::{Cause, Change, Options, Source, open};

fn source(dir: &Path) -> (Arc<dyn Source>, Changes) {
    let (sender, changes) = channel();
    let url = format!("file://{}", dir.display()).parse().expect("a URL");
    (open(&url, Options { lease_ttl: TTL, ..Options::default() }, sender).expect("a source"), changes)
}

fn path(dir: &Path, relative: &str) -> PathBuf {
    dir.join("services").join(relative)
}

fn write(dir: &Path, relative: &str) {
    let path = path(dir, relative);
    fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
    fs::write(path, endpoint("pay/1.0.0/10.0.0.1:1").to_json()).expect("write");
}

#[tokio::test]
async fn the_directory_appears_later() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("not/there/yet");
    let (source, mut changes) = source(&dir);
    source.follow(&service("pay"));
    assert_eq!(changes.addresses("pay", &[]).await.cause, Cause::Listed);
    assert!(!dir.exists(), "looking makes nothing");
    let started = Instant::now();
    write(&dir, "pay/1.0.0/10.0.0.1:1");
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    assert!(started.elapsed() < Duration::from_secs(2), "seen by an event: {:?}", started.elapsed());
}

#[tokio::test]
async fn the_directory_is_deleted_and_made_again() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("registry");
    let (source, mut changes) = source(&dir);
    source.follow(&service("pay"));
    changes.addresses("pay", &[]).await;
    for round in 0..3 {
        write(&dir, "pay/1.0.0/10.0.0.1:1");
        write(&dir, "pay/2.0.0/10.0.0.2:2");
        changes.addresses("pay", &["10.0.0.1:1", "10.0.0.2:2"]).await;
        let gone = match round {
            0 => dir.clone(),
            1 => dir.join("services"),
            _ => dir.join("services/pay"),
        };
        fs::remove_dir_all(gone).expect("removed");
        changes.addresses("pay", &[]).await;
    }
    // The one registered writes itself again, directories and all.
    let own = endpoint("orders/1.0.0/10.0.0.9:9");
    source.register(own.clone());
    changes.registered().await;
    fs::remove_dir_all(&dir).expect("removed");
    eventually("put back", async || fs::read(path(&dir, "orders/1.0.0/10.0.0.9:9")).ok() == Some(own.to_json())).await;
}

#[tokio::test]
async fn a_version_directory_is_replaced_by_another_of_its_name() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path();
    write(dir, "pay/1.0.0/10.0.0.1:1");
    let (source, mut changes) = source(dir);
    source.follow(&service("pay"));
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    let started = Instant::now();
    fs::rename(path(dir, "pay/1.0.0"), path(dir, "old")).expect("renamed");
    write(dir, "pay/1.0.0/10.0.0.2:2");
    changes.addresses("pay", &["10.0.0.2:2"]).await;
    write(dir, "pay/1.0.0/10.0.0.3:3");
    changes.addresses("pay", &["10.0.0.2:2", "10.0.0.3:3"]).await;
    assert!(started.elapsed() < Duration::from_secs(2), "the new one is watched: {:?}", started.elapsed());
}

#[tokio::test]
async fn a_registry_that_cannot_be_read_leaves_what_is_known() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path();
    write(dir, "pay/1.0.0/10.0.0.1:1");
    let (source, mut changes) = source(dir);
    source.follow(&service("pay"));
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    // A file where a directory should be: unreadable for root too, for whom modes say nothing.
    fs::rename(dir.join("services"), dir.join("kept")).expect("renamed");
    fs::write(dir.join("services"), "x").expect("write");
    let error = changes.disconnected().await;
    assert!(error.contains("services"), "{error}");
    assert!(source.list().await.is_err());
    fs::remove_file(dir.join("services")).expect("removed");
    fs::rename(dir.join("kept"), dir.join("services")).expect("renamed");
    changes.connected().await;
}

#[tokio::test]
async fn what_is_no_record_is_named_and_the_rest_stands() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path();
    write(dir, "pay/1.0.0/10.0.0.1:1");
    fs::create_dir_all(path(dir, "pay/1.0.0/10.0.0.2:2")).expect("a directory where a file should be");
    fs::write(path(dir, "pay/2.0.0"), "x").expect("a file where a directory should be");
    fs::create_dir_all(path(dir, "pay/3.0.0")).expect("mkdir");
    std::os::unix::fs::symlink("/etc/passwd", path(dir, "pay/3.0.0/10.0.0.3:3")).expect("a link");
    std::os::unix::fs::symlink("4.0.0", path(dir, "pay/4.0.0")).expect("a link to itself");
    assert!(
        std::process::Command::new("mkfifo").arg(path(dir, "pay/3.0.0/10.0.0.4:4")).status().expect("mkfifo").success()
    );
    fs::write(path(dir, "pay/1.0.0/.10.0.0.5:5.123.tmp"), "half a rec").expect("one in the making");
    let (source, mut changes) = source(dir);
    source.follow(&service("pay"));
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    let named: Vec<_> = changes
        .seen
        .iter()
        .filter_map(|change| match change {
            Change::Rejected { key, .. } => Some(key.rsplit('/').next().expect("a name").to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(named, ["10.0.0.2:2", "2.0.0", "10.0.0.3:3", "10.0.0.4:4", "4.0.0"]);
    // Each is named once.
    write(dir, "pay/1.0.0/10.0.0.6:6");
    changes.addresses("pay", &["10.0.0.1:1", "10.0.0.6:6"]).await;
    assert_eq!(changes.seen.iter().filter(|change| matches!(change, Change::Rejected { .. })).count(), 5);
    assert_eq!(addresses(&source.list().await.expect("a list")), ["10.0.0.1:1", "10.0.0.6:6"]);
}

#[tokio::test]
async fn old_files_are_nobody_and_one_that_is_touched_again_is_back() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path();
    let set = |relative: &str, time: SystemTime| {
        fs::File::open(path(dir, relative)).expect("open").set_modified(time).expect("touch");
    };
    write(dir, "pay/1.0.0/10.0.0.1:1");
    write(dir, "pay/1.0.0/10.0.0.2:2");
    write(dir, "pay/1.0.0/10.0.0.3:3");
    set("pay/1.0.0/10.0.0.2:2", SystemTime::now() - Duration::from_secs(3_600));
    set("pay/1.0.0/10.0.0.3:3", SystemTime::now() + Duration::from_secs(3_600));
    let (source, mut changes) = source(dir);
    source.follow(&service("pay"));
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    let lapsed = Instant::now();
    changes.addresses("pay", &[]).await;
    assert!(lapsed.elapsed() < TTL + Duration::from_millis(1_500), "when it lapses, not later: {:?}", lapsed.elapsed());
    set("pay/1.0.0/10.0.0.2:2", SystemTime::now());
    changes.addresses("pay", &["10.0.0.2:2"]).await;
}

#[tokio::test]
async fn who_registers_clears_away_what_the_dead_left() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path();
    for name in ["10.0.0.2:2", ".10.0.0.3:3.77.tmp", "notes.txt", "10.0.0.4:4"] {
        write(dir, &format!("pay/1.0.0/{name}"));
        let age = if name.ends_with(":4") { TTL * 2 } else { Duration::from_secs(3_600) };
        fs::File::open(path(dir, &format!("pay/1.0.0/{name}")))
            .expect("open")
            .set_modified(SystemTime::now() - age)
            .expect("touch");
    }
    let (source, mut changes) = source(dir);
    source.register(endpoint("pay/1.0.0/10.0.0.1:1"));
    changes.registered().await;
    let mut left: Vec<_> = fs::read_dir(path(dir, "pay/1.0.0"))
        .expect("list")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    assert_eq!(left, ["10.0.0.1:1", "10.0.0.4:4", "notes.txt"], "what is no record's, or young, stays");
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_said_and_tried_again() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("registry");
    fs::write(&dir, "a file where the directory should be").expect("write");
    let (source, mut changes) = source(&dir);
    let own = endpoint("pay/1.0.0/10.0.0.1:1");
    source.register(own.clone());
    let error = changes.unregistered().await;
    assert!(error.contains("10.0.0.1:1"), "{error}");
    source.withdraw().await.expect("nothing to take out");
    source.register(own.clone());
    fs::remove_file(&dir).expect("removed");
    assert_eq!(changes.registered().await, own.key);
}
