//! What etcd is known to do to its clients, row by row, against a real one.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::etcd::Etcd;
use common::gate::Gate;
use common::rig::TTL;
use common::{Changes, PATIENCE, addresses, channel, endpoint, eventually, service};
use pillion_registry::{Cause, Change, Options, RegistryError, Source, open};

fn source(url: &str) -> (Arc<dyn Source>, Changes) {
    let (sender, changes) = channel();
    let options = Options { lease_ttl: TTL, ..Options::default() };
    (open(&url.parse().expect("a URL"), options, sender).expect("a source"), changes)
}

fn gated(gate: &Gate) -> (Arc<dyn Source>, Changes) {
    source(&format!("etcd://{}", gate.address()))
}

fn record(text: &str) -> Vec<u8> {
    endpoint(text).to_json()
}

fn empty_lists(changes: &Changes) -> usize {
    let empty = |change: &&Change| matches!(change, Change::Endpoints { list, .. } if list.is_empty());
    changes.seen.iter().filter(empty).count()
}

#[tokio::test]
async fn a_watch_that_was_compacted_away_is_listed_again() {
    let etcd = Etcd::start().await;
    let gate = Gate::to(&etcd.address()).await;
    etcd.put("pay/1.0.0/10.0.0.1:1", &record("pay/1.0.0/10.0.0.1:1")).await;
    etcd.put("pay/1.0.0/10.0.0.2:2", &record("pay/1.0.0/10.0.0.2:2")).await;
    let (source, mut changes) = gated(&gate);
    source.follow(&service("pay"));
    changes.addresses("pay", &["10.0.0.1:1", "10.0.0.2:2"]).await;
    gate.cut();
    changes.disconnected().await;
    etcd.delete("pay/1.0.0/10.0.0.1:1").await;
    etcd.put("pay/1.0.0/10.0.0.3:3", &record("pay/1.0.0/10.0.0.3:3")).await;
    for i in 0..20 {
        etcd.put("other/1.0.0/10.0.0.9:9", format!("{i}").as_bytes()).await;
    }
    etcd.compact().await;
    gate.mend();
    let told = changes.addresses("pay", &["10.0.0.2:2", "10.0.0.3:3"]).await;
    assert_eq!(told.cause, Cause::Listed);
    etcd.put("pay/1.0.0/10.0.0.4:4", &record("pay/1.0.0/10.0.0.4:4")).await;
    assert_eq!(changes.list("pay", |list| list.len() == 3).await.cause, Cause::Watched);
}

#[tokio::test]
async fn a_broken_watch_goes_on_where_it_was() {
    let etcd = Etcd::start().await;
    let gate = Gate::to(&etcd.address()).await;
    etcd.put("pay/1.0.0/10.0.0.1:1", &record("pay/1.0.0/10.0.0.1:1")).await;
    etcd.put("pay/1.0.0/10.0.0.2:2", &record("pay/1.0.0/10.0.0.2:2")).await;
    let (source, mut changes) = gated(&gate);
    source.follow(&service("pay"));
    changes.addresses("pay", &["10.0.0.1:1", "10.0.0.2:2"]).await;
    for _ in 0..3 {
        gate.cut();
        changes.disconnected().await;
        etcd.delete("pay/1.0.0/10.0.0.1:1").await;
        etcd.put("pay/1.0.0/10.0.0.3:3", &record("pay/1.0.0/10.0.0.3:3")).await;
        gate.mend();
        assert_eq!(changes.addresses("pay", &["10.0.0.2:2", "10.0.0.3:3"]).await.cause, Cause::Watched);
        etcd.put("pay/1.0.0/10.0.0.1:1", &record("pay/1.0.0/10.0.0.1:1")).await;
        etcd.delete("pay/1.0.0/10.0.0.3:3").await;
        assert_eq!(changes.addresses("pay", &["10.0.0.1:1", "10.0.0.2:2"]).await.cause, Cause::Watched);
    }
}

#[tokio::test]
async fn a_lease_that_is_gone_is_taken_anew() {
    let etcd = Etcd::start().await;
    let (source, mut changes) = source(&etcd.url());
    let own = endpoint("pay/1.0.0/10.0.0.1:1");
    source.register(own.clone());
    changes.registered().await;
    let lease = etcd.get("pay/1.0.0/10.0.0.1:1").await.expect("the record").lease();
    assert_ne!(lease, 0);
    etcd.client().await.lease_client().revoke(lease).await.expect("revoked");
    eventually("another lease", async || {
        etcd.get("pay/1.0.0/10.0.0.1:1").await.is_some_and(|kv| kv.lease() != lease && kv.value() == own.to_json())
    })
    .await;
    let lease = etcd.get("pay/1.0.0/10.0.0.1:1").await.expect("the record").lease();
    tokio::time::sleep(TTL + TTL / 2).await; // the new one is renewed: time itself is what is tested
    assert_eq!(etcd.get("pay/1.0.0/10.0.0.1:1").await.expect("the record").lease(), lease);
}

#[tokio::test]
async fn a_lease_that_lapsed_while_we_were_cut_off_is_taken_anew() {
    let etcd = Etcd::start().await;
    let gate = Gate::to(&etcd.address()).await;
    let (source, mut changes) = gated(&gate);
    let own = endpoint("pay/1.0.0/10.0.0.1:1");
    source.register(own.clone());
    changes.registered().await;
    gate.silence();
    let cut = Instant::now();
    let error = changes.unregistered().await;
    assert!(error.contains("lease") || error.contains("answer"), "{error}");
    assert!(cut.elapsed() < TTL + Duration::from_secs(3), "told when it may be over: {:?}", cut.elapsed());
    eventually("lapsed", async || etcd.get("pay/1.0.0/10.0.0.1:1").await.is_none()).await;
    gate.mend();
    assert_eq!(changes.registered().await, own.key);
    assert_eq!(etcd.get("pay/1.0.0/10.0.0.1:1").await.expect("the record").value(), own.to_json());
}

#[tokio::test]
async fn a_record_without_our_lease_is_put_under_it_again() {
    let etcd = Etcd::start().await;
    let (source, mut changes) = source(&etcd.url());
    let own = endpoint("pay/1.0.0/10.0.0.1:1");
    source.register(own.clone());
    changes.registered().await;
    let lease = etcd.get("pay/1.0.0/10.0.0.1:1").await.expect("the record").lease();
    etcd.put("pay/1.0.0/10.0.0.1:1", &own.to_json()).await;
    eventually("under the lease", async || {
        etcd.get("pay/1.0.0/10.0.0.1:1").await.is_some_and(|kv| kv.lease() == lease)
    })
    .await;
}

#[tokio::test]
async fn a_frozen_etcd_is_found_out_and_keeps_nobody_waiting() {
    let etcd = Etcd::start().await;
    etcd.put("pay/1.0.0/10.0.0.1:1", &record("pay/1.0.0/10.0.0.1:1")).await;
    let (source, mut changes) = source(&etcd.url());
    source.follow(&service("pay"));
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    let (registered, mut own_changes) = self::source(&etcd.url());
    registered.register(endpoint("orders/1.0.0/10.0.0.2:2"));
    own_changes.registered().await;
    etcd.freeze();
    let frozen = Instant::now();
    let (left, ()) = tokio::join!(registered.withdraw(), async {
        assert!(source.list().await.is_err());
        assert!(frozen.elapsed() < Duration::from_secs(16), "{:?}", frozen.elapsed());
    });
    assert!(matches!(left, Err(RegistryError::Timeout { .. } | RegistryError::Unavailable(_))), "{left:?}");
    changes.disconnected().await;
    assert!(frozen.elapsed() < Duration::from_secs(16), "{:?}", frozen.elapsed());
    // Following goes on being possible, and is answered later.
    source.follow(&service("late"));
    etcd.thaw();
    changes.connected().await;
    changes.addresses("late", &[]).await;
    etcd.put("pay/1.0.0/10.0.0.2:2", &record("pay/1.0.0/10.0.0.2:2")).await;
    changes.addresses("pay", &["10.0.0.1:1", "10.0.0.2:2"]).await;
    assert_eq!(empty_lists(&changes), 1, "only that of 'late'");
}

#[tokio::test]
async fn a_silent_watch_is_found_out_though_nothing_is_registered() {
    let etcd = Etcd::start().await;
    let gate = Gate::to(&etcd.address()).await;
    let (source, mut changes) = gated(&gate);
    changes.connected().await;
    gate.silence();
    let silent = Instant::now();
    // Nothing is followed: still there is a stream, and pings on it.
    changes.disconnected().await;
    assert!(silent.elapsed() < Duration::from_secs(18), "{:?}", silent.elapsed());
    gate.mend();
    changes.connected().await;
    drop(source);
}

#[tokio::test]
async fn a_quiet_connection_stays() {
    let etcd = Etcd::start().await;
    let (source, mut changes) = source(&etcd.url());
    changes.connected().await;
    // Several pings long: etcd sends away who pings too often.
    tokio::time::sleep(Duration::from_secs(25)).await;
    changes.drain();
    assert_eq!(changes.seen.len(), 1, "{:?}", changes.seen);
    drop(source);
}

#[tokio::test]
async fn killed_and_restarted_with_its_data() {
    let mut etcd = Etcd::start().await;
    etcd.put("pay/1.0.0/10.0.0.1:1", &record("pay/1.0.0/10.0.0.1:1")).await;
    let (source, mut changes) = source(&etcd.url());
    source.follow(&service("pay"));
    let own = endpoint("pay/1.0.0/10.0.0.9:9");
    source.register(own.clone());
    changes.addresses("pay", &["10.0.0.1:1", "10.0.0.9:9"]).await;
    etcd.kill();
    changes.disconnected().await;
    assert!(source.list().await.is_err());
    assert!(etcd.restart().await, "etcd starts again");
    changes.connected().await;
    etcd.put("pay/1.0.0/10.0.0.2:2", &record("pay/1.0.0/10.0.0.2:2")).await;
    let told = changes.list("pay", |list| list.len() == 3).await;
    assert_eq!(told.cause, Cause::Watched);
    let new_cluster = |change: &Change| matches!(change, Change::Endpoints { cause: Cause::NewCluster, .. });
    assert!(!changes.seen.iter().any(new_cluster));
    assert_eq!(empty_lists(&changes), 0);
    assert_eq!(etcd.get("pay/1.0.0/10.0.0.9:9").await.expect("our record").value(), own.to_json());
}

#[tokio::test]
async fn killed_and_restarted_empty() {
    let mut etcd = Etcd::start().await;
    etcd.put("pay/1.0.0/10.0.0.1:1", &record("pay/1.0.0/10.0.0.1:1")).await;
    let (source, mut changes) = source(&etcd.url());
    source.follow(&service("pay"));
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    let own = endpoint("orders/1.0.0/10.0.0.9:9");
    source.register(own.clone());
    changes.registered().await;
    etcd.kill();
    etcd.forget();
    changes.disconnected().await;
    // Long enough for the waits between attempts to have grown.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(etcd.restart().await, "etcd starts again");
    let restarted = Instant::now();
    let mut registered = false;
    let mut told = false;
    while !(registered && told) {
        changes
            .until("registered again, and listed as of a new cluster", |change| {
                match change {
                    Change::Registered { .. } => registered = true,
                    Change::Endpoints { list, cause: Cause::NewCluster, .. } => {
                        assert!(list.is_empty());
                        told = true;
                    }
                    // The lease need not be known as gone before it is found out: then there is only the record.
                    _ => {}
                }
                (told && registered).then_some(())
            })
            .await;
    }
    assert!(restarted.elapsed() < Duration::from_secs(15), "{:?}", restarted.elapsed());
    assert_eq!(etcd.get("orders/1.0.0/10.0.0.9:9").await.expect("our record").value(), own.to_json());
    etcd.put("pay/1.0.0/10.0.0.1:1", &record("pay/1.0.0/10.0.0.1:1")).await;
    assert_eq!(changes.addresses("pay", &["10.0.0.1:1"]).await.cause, Cause::Watched);
}

#[tokio::test]
async fn restarted_empty_and_already_further_than_before() {
    let mut etcd = Etcd::start().await;
    let gate = Gate::to(&etcd.address()).await;
    etcd.put("pay/1.0.0/10.0.0.1:1", &record("pay/1.0.0/10.0.0.1:1")).await;
    let (first, mut first_changes) = source(&etcd.url());
    first.register(endpoint("orders/1.0.0/10.0.0.9:9"));
    first_changes.registered().await;
    eventually("the cluster is marked", async || {
        let marker = etcd.client().await.get("/pillion/cluster", None).await.expect("get");
        !marker.kvs().is_empty()
    })
    .await;
    let (source, mut changes) = gated(&gate);
    source.follow(&service("pay"));
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    let before = etcd.revision().await;
    gate.cut();
    changes.disconnected().await;
    etcd.kill();
    etcd.forget();
    assert!(etcd.restart().await, "etcd starts again");
    first_changes.registered().await;
    // Its revision alone would no longer tell it from the one before.
    while etcd.revision().await <= before + 10 {
        etcd.put("other/1.0.0/10.0.0.9:9", b"x").await;
    }
    gate.mend();
    let told = changes.list("pay", <[_]>::is_empty).await;
    assert_eq!(told.cause, Cause::NewCluster);
}

#[tokio::test]
async fn one_of_two_members_is_dead() {
    let etcd = Etcd::start().await;
    let dead = Etcd::later();
    etcd.put("pay/1.0.0/10.0.0.1:1", &record("pay/1.0.0/10.0.0.1:1")).await;
    for url in [
        format!("etcd://{},{}", dead.address(), etcd.address()),
        format!("etcd://{},{}", etcd.address(), dead.address()),
    ] {
        for i in 1..=4 {
            let (source, mut changes) = source(&url);
            source.follow(&service("pay"));
            changes.addresses("pay", &["10.0.0.1:1"]).await;
            source.register(endpoint(&format!("orders/1.0.0/10.0.0.{i}:1")));
            changes.registered().await;
            assert_eq!(source.list().await.expect("a list").len(), 2);
            source.withdraw().await.expect("left");
            let lost = |change: &Change| matches!(change, Change::Disconnected { .. });
            assert!(!changes.seen.iter().any(lost), "{:?}", changes.seen);
        }
    }
}

#[tokio::test]
async fn the_next_member_takes_over() {
    let etcd = Etcd::start().await;
    let gates = [Gate::to(&etcd.address()).await, Gate::to(&etcd.address()).await];
    let (source, mut changes) = source(&format!("etcd://{},{}", gates[0].address(), gates[1].address()));
    source.follow(&service("pay"));
    source.register(endpoint("pay/1.0.0/10.0.0.1:1"));
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    for (i, (gone, other)) in [(0, 1), (1, 0), (0, 1)].into_iter().enumerate() {
        gates[other].mend();
        gates[gone].cut();
        let text = format!("pay/1.0.0/10.0.1.{i}:1");
        etcd.put(&text, &record(&text)).await;
        changes.list("pay", |list| list.len() == i + 2).await;
    }
    assert!(empty_lists(&changes) <= 1, "only before we registered ourselves: {:?}", changes.seen);
    let lost = |change: &Change| matches!(change, Change::Disconnected { .. } | Change::Unregistered { .. });
    assert!(!changes.seen.iter().any(lost), "{:?}", changes.seen);
}

#[tokio::test]
async fn etcd_that_comes_up_later() {
    let mut etcd = Etcd::later();
    let (source, mut changes) = source(&etcd.url());
    source.follow(&service("pay"));
    let own = endpoint("pay/1.0.0/10.0.0.1:1");
    source.register(own.clone());
    changes.disconnected().await;
    let asked = Instant::now();
    source.withdraw().await.expect("nothing was ever put");
    assert!(asked.elapsed() < Duration::from_secs(4));
    source.register(own.clone());
    assert!(etcd.restart().await, "etcd starts");
    assert_eq!(changes.registered().await, own.key);
    changes.addresses("pay", &["10.0.0.1:1"]).await;
}

#[tokio::test]
async fn pages_that_are_too_large_for_a_message_are_read_in_smaller_ones() {
    let etcd = Etcd::start_with(&["--max-txn-ops", "1024"]).await;
    // 8 MB of records that are too large to be records, and a few good ones among them.
    let large = vec![b'x'; 20_000];
    for i in 0..8u8 {
        let records: Vec<_> = (1..=50u8).map(|j| (format!("pay/1.0.0/10.0.{i}.{j}:1"), large.clone())).collect();
        etcd.put_many(&records).await;
        let good = format!("pay/1.0.0/10.0.{i}.200:1");
        etcd.put(&good, &record(&good)).await;
    }
    let (source, mut changes) = source(&etcd.url());
    source.follow(&service("pay"));
    let told = changes.list("pay", |_| true).await;
    assert_eq!(told.list.len(), 8);
    let named = changes.seen.iter().filter(|change| matches!(change, Change::Rejected { .. })).count();
    assert!((1..=20).contains(&named), "{named} of 400 are named");
    assert!(addresses(&source.list().await.expect("a list")).contains(&"10.0.7.200:1".to_owned()));
    // One transaction of more than a message: the watch gives it in fragments.
    let records: Vec<_> =
        (1..=100u8).map(|j| (format!("pay/2.0.0/10.1.0.{j}:1"), record("pay/1.0.0/10.0.0.1:1"))).collect();
    etcd.put_many(&records).await;
    changes.list("pay", |list| list.len() == 108).await;
}

#[tokio::test]
async fn what_happened_meanwhile_comes_in_pieces_that_can_be_read() {
    let etcd = Etcd::start().await;
    let gate = Gate::to(&etcd.address()).await;
    let (source, mut changes) = gated(&gate);
    source.follow(&service("pay"));
    changes.addresses("pay", &[]).await;
    gate.cut();
    changes.disconnected().await;
    // 8 MB of events; a message may have 4.
    let large = vec![b'x'; 20_000];
    for i in 0..8u8 {
        let records: Vec<_> = (1..=50u8).map(|j| (format!("pay/1.0.0/10.0.{i}.{j}:1"), large.clone())).collect();
        etcd.put_many(&records).await;
    }
    etcd.put("pay/1.0.0/10.0.0.200:1", &record("pay/1.0.0/10.0.0.200:1")).await;
    gate.mend();
    assert_eq!(changes.addresses("pay", &["10.0.0.200:1"]).await.cause, Cause::Watched);
}

#[tokio::test]
async fn many_services_are_followed_while_much_happens() {
    let etcd = Etcd::start().await;
    let (source, mut changes) = source(&etcd.url());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut writers = tokio::task::JoinSet::new();
    for i in 1..=32 {
        let (mut writer, stopped) = (etcd.client().await, stopped.clone());
        writers.spawn(async move {
            while !*stopped.borrow() {
                writer.put(format!("/pillion/services/busy/1.0.0/10.0.0.{i}:1"), "x", None).await.expect("put");
            }
        });
    }
    // Listings and events overtake each other: none may look like another cluster's.
    source.follow(&service("busy"));
    for i in 0..100 {
        source.follow(&service(&format!("s{i}")));
    }
    let mut missing: std::collections::BTreeSet<String> = (0..100).map(|i| format!("s{i}")).collect();
    changes
        .until("an answer for each", |change| {
            if let Change::Endpoints { service, cause, .. } = change {
                assert_eq!(*cause, Cause::Listed);
                missing.remove(service.as_str());
            }
            missing.is_empty().then_some(())
        })
        .await;
    for _ in 0..5 {
        source.reconcile();
        let mut again = 0;
        changes
            .until("an answer for each again", |change| {
                if let Change::Endpoints { cause, .. } = change {
                    assert_ne!(*cause, Cause::NewCluster);
                    again += usize::from(*cause == Cause::Listed);
                }
                (again == 101).then_some(())
            })
            .await;
    }
    stop.send_replace(true);
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer ends");
    }
    let lost = |change: &Change| matches!(change, Change::Disconnected { .. });
    assert!(!changes.seen.iter().any(lost), "{:?}", changes.seen);
}

#[tokio::test]
async fn a_reconcile_finds_what_is_there() {
    let etcd = Etcd::start().await;
    let (sender, mut changes) = channel();
    let options = Options { lease_ttl: TTL, reconcile: Duration::from_secs(1), ..Options::default() };
    let source = open(&etcd.url().parse().expect("a URL"), options, sender).expect("a source");
    source.follow(&service("pay"));
    let started = Instant::now();
    for _ in 0..4 {
        assert_eq!(changes.list("pay", |_| true).await.cause, Cause::Listed);
    }
    assert!(started.elapsed() > Duration::from_secs(2) && started.elapsed() < PATIENCE);
    etcd.put("pay/1.0.0/10.0.0.1:1", &record("pay/1.0.0/10.0.0.1:1")).await;
    changes.addresses("pay", &["10.0.0.1:1"]).await;
}
