//! A source that was cut off again and again has no more tasks and no more descriptors than before, and one that was
//! dropped has none. A binary of its own: others would open descriptors meanwhile.

mod common;

use common::etcd::Etcd;
use common::gate::Gate;
use common::rig::TTL;
use common::{Changes, channel, endpoint, eventually, service};
use pillion_registry::{Change, Options, open};

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("our descriptors").count()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

async fn registered_and_listed(changes: &mut Changes) {
    let (mut registered, mut listed) = (false, false);
    changes
        .until("registered and listed", |change| {
            registered |= matches!(change, Change::Registered { .. });
            listed |= matches!(change, Change::Endpoints { list, .. } if !list.is_empty());
            (registered && listed).then_some(())
        })
        .await;
}

#[tokio::test]
async fn nothing_is_left_behind() {
    let etcd = Etcd::start().await;
    let gate = Gate::to(&etcd.address()).await;
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { lease_ttl: TTL, ..Options::default() };
    let (tasks_before, descriptors_before) = (tasks(), descriptors());
    {
        let (sender, mut changes) = channel();
        let url = format!("etcd://{}", gate.address()).parse().expect("a URL");
        let source = open(&url, options.clone(), sender).expect("a source");
        source.follow(&service("pay"));
        source.register(endpoint("pay/1.0.0/10.0.0.1:1"));
        registered_and_listed(&mut changes).await;
        let (tasks_first, descriptors_first) = (tasks(), descriptors());
        for i in 0..12 {
            gate.cut();
            eventually("cut off", async || tasks() < tasks_first).await;
            gate.mend();
            source.follow(&service(&format!("s{i}")));
            changes.addresses(&format!("s{i}"), &[]).await;
            source.unfollow(&service(&format!("s{i}")));
        }
        eventually("as many tasks and descriptors as at first", async || {
            tasks() <= tasks_first + 1 && descriptors() <= descriptors_first + 2
        })
        .await;
    }
    eventually("nothing after the etcd source", async || {
        tasks() <= tasks_before && descriptors() <= descriptors_before
    })
    .await;
    {
        let (sender, mut changes) = channel();
        let url = format!("file://{}", dir.path().display()).parse().expect("a URL");
        let source = open(&url, options, sender).expect("a source");
        source.follow(&service("pay"));
        source.register(endpoint("pay/1.0.0/10.0.0.1:1"));
        registered_and_listed(&mut changes).await;
        let descriptors_first = descriptors();
        for i in 0..100 {
            source.follow(&service(&format!("s{i}")));
            changes.addresses(&format!("s{i}"), &[]).await;
            source.unfollow(&service(&format!("s{i}")));
        }
        assert!(descriptors() <= descriptors_first + 2, "{} {descriptors_first}", descriptors());
    }
    eventually("nothing after the file source", async || {
        tasks() <= tasks_before && descriptors() <= descriptors_before
    })
    .await;
}
