//! One contract for every kind of registry: each case runs over all of them that it can hold for.

mod common;

use std::time::{Duration, Instant};

use common::rig::{Rig, TTL};
use common::{addresses, endpoint, eventually, service};
use pillion_registry::{Cause, Change, Endpoint, Options};

/// `all`: etcd, file and static; `live`: those that somebody can write to.
macro_rules! contract {
    (all: $($case:ident),* ; live: $($live:ident),* $(,)?) => {
        mod etcd {
            $(#[tokio::test] async fn $case() { super::$case(super::Rig::etcd().await).await; })*
            $(#[tokio::test] async fn $live() { super::$live(super::Rig::etcd().await).await; })*
        }
        mod file {
            $(#[tokio::test] async fn $case() { super::$case(super::Rig::file().await).await; })*
            $(#[tokio::test] async fn $live() { super::$live(super::Rig::file().await).await; })*
        }
        mod fixed {
            $(#[tokio::test] async fn $case() { super::$case(super::Rig::fixed().await).await; })*
        }
    };
}

contract! {
    all:
        a_service_without_instances_is_an_empty_list,
        following_gives_the_whole_list_once,
        a_service_is_not_the_beginning_of_another,
        unfollowed_is_silent_and_followed_again_answers,
        reconcile_lists_every_followed_service,
        list_gives_everything_sorted,
        ten_thousand_are_one_change,
        registering_and_leaving_is_told,
        leaving_without_having_registered_is_no_error;
    live:
        who_registers_is_seen_and_who_leaves_is_gone,
        events_that_concern_nobody_are_silent,
        a_burst_is_gathered,
        a_record_that_does_not_parse_is_named_and_the_rest_stands,
        a_deleted_record_is_put_back,
        leaving_takes_out_only_what_is_ours,
        who_dies_is_gone_within_the_lease,
        saying_something_else_leaves_no_gap,
        another_registration_takes_the_place_of_the_first,
        a_lease_is_renewed,
        an_older_run_at_the_same_address_is_replaced,
        two_at_one_address_do_not_fight,
        registering_what_breaks_the_limits_is_told,
        all_deleted_at_once_is_told_as_empty,
}

async fn a_service_without_instances_is_an_empty_list(rig: Rig) {
    let (source, mut changes) = rig.open();
    source.follow(&service("pay"));
    let told = changes.list("pay", |_| true).await;
    assert!(told.list.is_empty());
    assert_eq!(told.cause, Cause::Listed);
    assert!(changes.seen.iter().any(|change| matches!(change, Change::Connected)), "connected comes first");
}

async fn following_gives_the_whole_list_once(mut rig: Rig) {
    let mut records = vec![
        endpoint("pay/1.0.0/10.0.0.9:4143"),
        endpoint("pay/1.0.0/10.0.0.7:4143"),
        endpoint("pay/2.0.0/[2001:db8::1]:4143"),
    ];
    records[1].metadata.insert("zone".into(), "a".into());
    rig.write(&records).await;
    let (source, mut changes) = rig.open_with(Options { lease_ttl: Duration::from_secs(60), ..Options::default() });
    source.follow(&service("pay"));
    source.follow(&service("pay"));
    let told = changes.list("pay", |_| true).await;
    assert_eq!(told.cause, Cause::Listed);
    assert_eq!(addresses(&told.list), ["10.0.0.7:4143", "10.0.0.9:4143", "[2001:db8::1]:4143"]);
    assert_eq!(told.list[0], records[1]);
    source.follow(&service("pay"));
    // Something later, to know that nothing came before it.
    source.follow(&service("other"));
    changes.list("other", |_| true).await;
    assert_eq!(changes.lists_of("pay"), 1);
}

async fn a_service_is_not_the_beginning_of_another(mut rig: Rig) {
    rig.write(&[endpoint("pay/1.0.0/10.0.0.1:1"), endpoint("payments/1.0.0/10.0.0.2:2")]).await;
    rig.write(&[endpoint("pay.eu/1.0.0/10.0.0.3:3")]).await;
    let (source, mut changes) = rig.open_with(Options { lease_ttl: Duration::from_secs(60), ..Options::default() });
    source.follow(&service("pay"));
    source.follow(&service("payments"));
    assert_eq!(addresses(&changes.list("pay", |_| true).await.list), ["10.0.0.1:1"]);
    source.reconcile();
    assert_eq!(addresses(&changes.list("payments", |_| true).await.list), ["10.0.0.2:2"]);
}

async fn unfollowed_is_silent_and_followed_again_answers(mut rig: Rig) {
    rig.write(&[endpoint("pay/1.0.0/10.0.0.1:1")]).await;
    let (source, mut changes) = rig.open_with(Options { lease_ttl: Duration::from_secs(60), ..Options::default() });
    source.follow(&service("pay"));
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    source.unfollow(&service("pay"));
    source.unfollow(&service("pay"));
    source.follow(&service("other"));
    changes.list("other", |_| true).await;
    let before = changes.lists_of("pay");
    source.reconcile();
    changes.list("other", |_| true).await;
    changes.drain();
    assert_eq!(changes.lists_of("pay"), before);
    // At once one after the other: the answer must come all the same.
    source.follow(&service("pay"));
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    source.unfollow(&service("pay"));
    source.follow(&service("pay"));
    assert_eq!(changes.addresses("pay", &["10.0.0.1:1"]).await.cause, Cause::Listed);
}

async fn reconcile_lists_every_followed_service(mut rig: Rig) {
    rig.write(&[endpoint("pay/1.0.0/10.0.0.1:1"), endpoint("orders/1.0.0/10.0.0.2:2")]).await;
    let (source, mut changes) = rig.open_with(Options { lease_ttl: Duration::from_secs(60), ..Options::default() });
    source.follow(&service("pay"));
    changes.list("pay", |list| list.len() == 1).await;
    source.follow(&service("orders"));
    changes.list("orders", |list| list.len() == 1).await;
    source.reconcile();
    let mut missing = vec!["pay", "orders"];
    while !missing.is_empty() {
        let (name, cause) = changes
            .until("list of every service", |change| match change {
                Change::Endpoints { service, cause, list, .. } => {
                    assert_eq!(list.len(), 1);
                    Some((service.as_str().to_owned(), *cause))
                }
                _ => None,
            })
            .await;
        assert_eq!(cause, Cause::Listed);
        missing.retain(|other| *other != name);
    }
}

async fn list_gives_everything_sorted(mut rig: Rig) {
    rig.write(&[endpoint("pay/2.0.0/10.0.0.1:1"), endpoint("orders/1.0.0/10.0.0.2:2")]).await;
    rig.write(&[endpoint("pay/1.0.0/10.0.0.3:3")]).await;
    let (source, _changes) = rig.open_with(Options { lease_ttl: Duration::from_secs(60), ..Options::default() });
    let list = source.list().await.expect("a list");
    let keys: Vec<_> = list.iter().map(|endpoint| endpoint.key.to_string()).collect();
    assert_eq!(keys, ["orders/1.0.0/10.0.0.2:2", "pay/1.0.0/10.0.0.3:3", "pay/2.0.0/10.0.0.1:1"]);
}

async fn ten_thousand_are_one_change(mut rig: Rig) {
    let records: Vec<Endpoint> =
        (0..10_000).map(|i| endpoint(&format!("pay/1.0.0/10.1.{}.{}:4143", i / 200, i % 200 + 1))).collect();
    rig.write(&records).await;
    let (source, mut changes) = rig.open_with(Options { lease_ttl: Duration::from_secs(120), ..Options::default() });
    source.follow(&service("pay"));
    let told = changes.list("pay", |_| true).await;
    assert_eq!(told.list.len(), 10_000);
    assert!(told.list.windows(2).all(|pair| pair[0].key < pair[1].key), "sorted");
    source.follow(&service("other"));
    changes.list("other", |_| true).await;
    assert_eq!(changes.lists_of("pay"), 1);
    assert_eq!(source.list().await.expect("a list").len(), 10_000);
}

async fn registering_and_leaving_is_told(rig: Rig) {
    let (source, mut changes) = rig.open();
    let own = endpoint("pay/1.0.0/10.0.0.1:1");
    source.register(own.clone());
    source.register(own.clone());
    assert_eq!(changes.registered().await, own.key);
    source.withdraw().await.expect("left");
    changes.unregistered().await;
    source.withdraw().await.expect("left twice is left");
    source.register(own.clone());
    assert_eq!(changes.registered().await, own.key);
}

async fn leaving_without_having_registered_is_no_error(rig: Rig) {
    let (source, _changes) = rig.open();
    source.withdraw().await.expect("nothing to do");
}

async fn who_registers_is_seen_and_who_leaves_is_gone(rig: Rig) {
    let (caller, mut seen) = rig.open();
    caller.follow(&service("pay"));
    seen.addresses("pay", &[]).await;
    let (one, mut one_seen) = rig.open();
    let (two, mut two_seen) = rig.open();
    let mut own = endpoint("pay/1.0.0/10.0.0.1:1");
    own.metadata.insert("zone".into(), "b".into());
    let asked = Instant::now();
    one.register(own.clone());
    one_seen.registered().await;
    let told = seen.addresses("pay", &["10.0.0.1:1"]).await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(told.cause, Cause::Watched);
    assert_eq!(told.list, [own]);
    two.register(endpoint("pay/1.1.0/10.0.0.2:2"));
    two_seen.registered().await;
    let later = seen.addresses("pay", &["10.0.0.1:1", "10.0.0.2:2"]).await;
    assert!(later.revision > told.revision);
    one.withdraw().await.expect("left");
    let last = seen.addresses("pay", &["10.0.0.2:2"]).await;
    assert!(last.revision > later.revision);
    assert_eq!(rig.read("pay/1.0.0/10.0.0.1:1").await, None);
}

async fn events_that_concern_nobody_are_silent(mut rig: Rig) {
    let (source, mut changes) = rig.open();
    source.follow(&service("pay"));
    changes.addresses("pay", &[]).await;
    for i in 1..=50 {
        rig.write(&[endpoint(&format!("payments/1.0.0/10.0.0.{i}:1"))]).await;
    }
    rig.write(&[endpoint("pay/1.0.0/10.0.0.1:1")]).await;
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    let lists = changes.seen.iter().filter(|change| matches!(change, Change::Endpoints { .. })).count();
    assert_eq!(lists, 2, "{:?}", changes.seen);
}

async fn a_burst_is_gathered(mut rig: Rig) {
    let (source, mut changes) = rig.open_with(Options { lease_ttl: Duration::from_secs(60), ..Options::default() });
    source.follow(&service("pay"));
    changes.addresses("pay", &[]).await;
    let records: Vec<Endpoint> =
        (0..2_000).map(|i| endpoint(&format!("pay/1.0.0/10.1.{}.{}:4143", i / 200, i % 200 + 1))).collect();
    rig.write(&records).await;
    changes.list("pay", |list| list.len() == 2_000).await;
    assert!(changes.lists_of("pay") < 100, "{} lists for 2,000 events", changes.lists_of("pay"));
}

async fn a_record_that_does_not_parse_is_named_and_the_rest_stands(mut rig: Rig) {
    let (good, bad) = ("pay/1.0.0/10.0.0.1:1", "pay/1.0.0/10.0.0.2:2");
    rig.write(&[endpoint(good)]).await;
    rig.write_raw(&[
        (bad.to_owned(), b"{\"schema\":1,\"inst".to_vec()),
        ("pay/1.0.0/nonsense".to_owned(), endpoint(good).to_json()),
        ("pay/1.0.0/0.0.0.0:80".to_owned(), endpoint(good).to_json()),
        ("pay/1.0.0/10.0.0.3:3".to_owned(), b"{\"schema\":99}".to_vec()),
        ("pay/1.0.0/10.0.0.4:4".to_owned(), vec![b' '; 20_000]),
    ])
    .await;
    let (source, mut changes) = rig.open_with(Options { lease_ttl: Duration::from_secs(60), ..Options::default() });
    source.follow(&service("pay"));
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    changes.drain();
    let reason_of = |part: &str| {
        changes.seen.iter().find_map(|change| match change {
            Change::Rejected { key, reason } if key.ends_with(part) => Some(reason.clone()),
            _ => None,
        })
    };
    for part in [bad, "nonsense", "0.0.0.0:80", "10.0.0.3:3", "10.0.0.4:4"] {
        assert!(reason_of(part).is_some(), "{part} is named: {:?}", changes.seen);
    }
    assert!(reason_of("10.0.0.3:3").is_some_and(|reason| reason.contains("schema 99")));
    let (listed, _) = (source.list().await.expect("a list"), ());
    assert_eq!(addresses(&listed), ["10.0.0.1:1"]);
    // While watching: a new bad one is named, a bad one that becomes good is in, a good one that becomes bad is out.
    rig.write_raw(&[("pay/1.0.0/10.0.0.5:5".to_owned(), b"[]".to_vec())]).await;
    changes.rejected("10.0.0.5:5").await;
    rig.write(&[endpoint(bad)]).await;
    changes.addresses("pay", &["10.0.0.1:1", "10.0.0.2:2"]).await;
    rig.write_raw(&[(good.to_owned(), b"gone bad".to_vec())]).await;
    changes.addresses("pay", &["10.0.0.2:2"]).await;
}

async fn a_deleted_record_is_put_back(rig: Rig) {
    let (caller, mut seen) = rig.open();
    caller.follow(&service("pay"));
    let (source, mut changes) = rig.open();
    let own = endpoint("pay/1.0.0/10.0.0.1:1");
    source.register(own.clone());
    changes.registered().await;
    seen.addresses("pay", &["10.0.0.1:1"]).await;
    for _ in 0..3 {
        rig.delete("pay/1.0.0/10.0.0.1:1").await;
        eventually("put back", async || rig.read("pay/1.0.0/10.0.0.1:1").await == Some(own.to_json())).await;
    }
    rig.write_raw(&[("pay/1.0.0/10.0.0.1:1".to_owned(), b"garbage".to_vec())]).await;
    eventually("put back over garbage", async || rig.read("pay/1.0.0/10.0.0.1:1").await == Some(own.to_json())).await;
    // And the one put back still has our heartbeat behind it: it goes when we go.
    source.withdraw().await.expect("left");
    assert_eq!(rig.read("pay/1.0.0/10.0.0.1:1").await, None);
}

async fn leaving_takes_out_only_what_is_ours(mut rig: Rig) {
    let (source, mut changes) = rig.open();
    source.register(endpoint("pay/1.0.0/10.0.0.1:1"));
    changes.registered().await;
    let other = endpoint("pay/1.0.0/10.0.0.1:1");
    rig.write(std::slice::from_ref(&other)).await;
    source.withdraw().await.expect("left");
    assert_eq!(rig.read("pay/1.0.0/10.0.0.1:1").await, Some(other.to_json()));
}

async fn who_dies_is_gone_within_the_lease(rig: Rig) {
    let (caller, mut seen) = rig.open();
    caller.follow(&service("pay"));
    let (one, mut one_seen) = rig.open();
    let (two, mut two_seen) = rig.open();
    one.register(endpoint("pay/1.0.0/10.0.0.1:1"));
    two.register(endpoint("pay/1.0.0/10.0.0.2:2"));
    one_seen.registered().await;
    two_seen.registered().await;
    seen.addresses("pay", &["10.0.0.1:1", "10.0.0.2:2"]).await;
    drop(one);
    let died = Instant::now();
    seen.addresses("pay", &["10.0.0.2:2"]).await;
    // etcd looks for leases that are over twice a second.
    assert!(died.elapsed() < TTL + Duration::from_secs(3), "{:?}", died.elapsed());
}

async fn saying_something_else_leaves_no_gap(rig: Rig) {
    let (caller, mut seen) = rig.open();
    caller.follow(&service("pay"));
    let (source, mut changes) = rig.open();
    let mut own = endpoint("pay/1.0.0/10.0.0.1:1");
    source.register(own.clone());
    changes.registered().await;
    seen.addresses("pay", &["10.0.0.1:1"]).await;
    own.weight = 7;
    source.register(own);
    let mut gap = false;
    seen.list("pay", |list| {
        gap |= list.is_empty();
        list.first().is_some_and(|endpoint| endpoint.weight == 7)
    })
    .await;
    assert!(!gap);
}

async fn another_registration_takes_the_place_of_the_first(rig: Rig) {
    let (source, mut changes) = rig.open();
    source.register(endpoint("pay/1.0.0/10.0.0.1:1"));
    changes.registered().await;
    let other = endpoint("pay/1.0.0/10.0.0.2:2");
    source.register(other.clone());
    assert_eq!(changes.registered().await, other.key);
    assert_eq!(rig.read("pay/1.0.0/10.0.0.1:1").await, None);
    assert_eq!(rig.read("pay/1.0.0/10.0.0.2:2").await, Some(other.to_json()));
}

async fn a_lease_is_renewed(rig: Rig) {
    let (caller, mut seen) = rig.open();
    caller.follow(&service("pay"));
    let (source, mut changes) = rig.open();
    source.register(endpoint("pay/1.0.0/10.0.0.1:1"));
    changes.registered().await;
    seen.addresses("pay", &["10.0.0.1:1"]).await;
    // The one place where time itself is what is tested: two leases long nothing may happen.
    tokio::time::sleep(TTL * 2 + TTL / 2).await;
    seen.drain();
    changes.drain();
    assert_eq!(addresses(&caller.list().await.expect("a list")), ["10.0.0.1:1"]);
    let last = seen.seen.iter().rev().find_map(|change| match change {
        Change::Endpoints { list, .. } => Some(addresses(list)),
        _ => None,
    });
    assert_eq!(last, Some(vec!["10.0.0.1:1".to_owned()]));
    assert!(seen.lists_of("pay") <= 2, "a heartbeat is no change: {:?}", seen.seen);
    assert!(!changes.seen.iter().any(|change| matches!(change, Change::Unregistered { .. })), "{:?}", changes.seen);
}

async fn an_older_run_at_the_same_address_is_replaced(mut rig: Rig) {
    rig.write(&[endpoint("pay/1.0.0/10.0.0.1:1")]).await;
    let (caller, mut seen) = rig.open_with(Options { lease_ttl: Duration::from_secs(60), ..Options::default() });
    caller.follow(&service("pay"));
    seen.addresses("pay", &["10.0.0.1:1"]).await;
    let (source, mut changes) = rig.open();
    let own = endpoint("pay/1.0.0/10.0.0.1:1");
    source.register(own.clone());
    changes.registered().await;
    seen.list("pay", |list| list == [own.clone()]).await;
}

async fn two_at_one_address_do_not_fight(mut rig: Rig) {
    let (source, mut changes) = rig.open();
    let own = endpoint("pay/1.0.0/10.0.0.1:1");
    source.register(own.clone());
    changes.registered().await;
    let other = endpoint("pay/1.0.0/10.0.0.1:1");
    rig.write(std::slice::from_ref(&other)).await;
    let error = changes.unregistered().await;
    assert!(error.contains(other.instance.as_str()), "{error}");
    assert_eq!(rig.read("pay/1.0.0/10.0.0.1:1").await, Some(other.to_json()));
    rig.delete("pay/1.0.0/10.0.0.1:1").await;
    assert_eq!(changes.registered().await, own.key);
    assert_eq!(rig.read("pay/1.0.0/10.0.0.1:1").await, Some(own.to_json()));
}

async fn registering_what_breaks_the_limits_is_told(rig: Rig) {
    let (source, mut changes) = rig.open();
    let mut own = endpoint("pay/1.0.0/10.0.0.1:1");
    own.metadata.insert("large".into(), "x".repeat(20_000));
    source.register(own);
    let error = changes.unregistered().await;
    assert!(error.contains("metadata"), "{error}");
}

async fn all_deleted_at_once_is_told_as_empty(mut rig: Rig) {
    rig.write(&[endpoint("pay/1.0.0/10.0.0.1:1"), endpoint("pay/1.0.0/10.0.0.2:2")]).await;
    let (source, mut changes) = rig.open_with(Options { lease_ttl: Duration::from_secs(60), ..Options::default() });
    source.follow(&service("pay"));
    changes.list("pay", |list| list.len() == 2).await;
    rig.delete_all().await;
    assert_eq!(changes.addresses("pay", &[]).await.cause, Cause::Watched);
    rig.write(&[endpoint("pay/1.0.0/10.0.0.3:3")]).await;
    changes.addresses("pay", &["10.0.0.3:3"]).await;
}
